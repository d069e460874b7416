"""The command line: global options on either side, mirrors by option or argument, durations, help of usage errors."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from syncd.cli.context import (
    Command,
    Duration,
    GlobalOptions,
    chosen_mirrors,
    command,
    mirrors_argument,
    one_mirror,
    program,
)
from syncd.cli.main import run
from syncd.config.schema import Config
from syncd.core.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from tests.unit.config.harness import MINIMAL, Place

SECOND = '[mirrors.wiki]\npath = "wiki"\n[mirrors.wiki.target]\ntype = "kv"\nnamespace_title = "wiki"\n'


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(program, info_name="syncd")
    for name in program.list_commands(context):
        found = program.get_command(context, name)
        assert found is not None
        yield name, found
        if isinstance(found, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in found.commands.items())


def _options(*arguments: str) -> GlobalOptions:
    """Return the global options that a command gets."""
    seen: list[GlobalOptions] = []

    @command()
    @click.pass_obj
    def probe(options: GlobalOptions) -> int:
        seen.append(options)
        return 0

    place = arguments.index("probe")
    with program.make_context("syncd", [*arguments[:place], "status"]) as context:
        context.invoked_subcommand = "status"
        assert program.callback is not None
        context.invoke(program.callback, **context.params)
        with probe.make_context("probe", list(arguments[place + 1 :]), parent=context) as inner:
            probe.invoke(inner)
    return seen[0]


def test_every_command_takes_the_global_options_after_its_name_and_shows_them_once() -> None:
    for name, each in _commands():
        assert isinstance(each, Command), f"{name}: decorate it with context.command"
        context = click.Context(each, info_name=name)
        taken = {text for param in each.get_params(context) for text in param.opts}
        assert {"-c", "--config", "-v", "--verbose", "-q", "--quiet", "--log-format", "--version"} <= taken, name
        shown = each.get_help(context)
        assert shown.count("--log-format") == 1, name
        assert "see: syncd --help" in shown
    assert click.Context(program).get_help().count("--log-format") == 1


def test_a_global_option_means_the_same_before_and_after_the_command() -> None:
    wanted = GlobalOptions(Path("x.toml"), 2, quiet=True, log_format="json")
    everything = ("-c", "x.toml", "-vv", "-q", "--log-format", "json")
    assert _options(*everything, "probe") == wanted
    assert _options("probe", *everything) == wanted
    assert _options("-v", "-c", "y.toml", "probe", "-v", "-c", "x.toml", "-q", "--log-format=json") == wanted
    assert _options("-q", "--log-format", "json", "-vv", "-c", "x.toml", "probe") == wanted


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("status --jsn", "see: syncd status --help"),
        ("kv put key file --metadata", "see: syncd kv put --help"),
        ("kv put key", "see: syncd kv put --help"),
        ("kv keys --namspace x", "see: syncd kv keys --help"),
        ("kv nothing", "see: syncd kv --help"),
        ("reconcile -c", "see: syncd reconcile --help"),
        ("-c", "see: syncd --help"),
        ("statsu", "Did you mean 'status'? (see: syncd --help)"),
        ("reconcile --wait=soon", "a duration such as"),
        ("emulate --index-delay=soon", "see: syncd emulate --help"),
        ("kv put key file --expiration-ttl 59s", "should be at least 60 seconds"),
    ],
)
def test_a_usage_error_is_one_line_that_names_the_right_help(
    line: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(line.split()) == EXIT_CONFIG
    answer = capsys.readouterr().err
    assert expected in answer
    assert len(answer.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "", "status"],
        ["status", "--config", ""],
        ["init", "", "--target", "kv:docs"],
        ["pull", ""],
        ["kv", "put", "key", ""],
        ["verify", "--queries", ""],
        ["emulate", "--store", ""],
    ],
)
def test_an_empty_path_is_not_the_current_directory(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == EXIT_CONFIG
    assert "the path is empty" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_durations_of_options_have_units() -> None:
    for text, found in (("2", 2.0), ("500ms", 0.5), ("1h", 3600.0)):
        assert Duration().convert(text, None, None) == found


# -- mirrors


def _config(tmp_path: Path, text: str = MINIMAL + SECOND) -> Config:
    return Place(tmp_path).load(text)


def _names(*arguments: str) -> tuple[str, ...]:
    @command()
    @mirrors_argument
    def probe(mirrors: tuple[str, ...]) -> int:
        raise AssertionError(mirrors)

    with probe.make_context(
        "probe", list(arguments), obj=GlobalOptions(None, 0, quiet=False, log_format="auto")
    ) as context:
        names: tuple[str, ...] = context.params["mirrors"]
        return names


def test_mirrors_are_arguments_or_values_of_an_option() -> None:
    assert _names() == ()
    assert _names("docs") == _names("-m", "docs") == _names("--mirror=docs", "docs") == ("docs",)
    assert set(_names("docs", "-m", "wiki")) == {"docs", "wiki"}
    assert _names("-m", "wiki", "-m", "docs") == ("wiki", "docs")


def test_the_only_mirror_need_not_be_named(tmp_path: Path) -> None:
    config = _config(tmp_path, MINIMAL)
    assert chosen_mirrors(config, ()) == ["docs"]
    assert one_mirror(config, ()) == "docs"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "which mirror? Name one of: docs, wiki, such as -m docs"),
        (("docs", "wiki"), "the command takes one mirror; name one of: docs, wiki, such as -m docs"),
        (("dosc",), "no mirror 'dosc' is configured; did you mean docs?"),
        (("xyz",), "no mirror 'xyz' is configured; there is: docs, wiki"),
    ],
)
def test_a_wrong_choice_names_the_mirrors(tmp_path: Path, names: tuple[str, ...], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        one_mirror(_config(tmp_path), names)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "variable", "check"),
    [
        (None, None, "syncd check"),
        (None, "other.toml", "syncd -c syncd.toml check"),
        ("syncd.toml", None, "syncd check"),
        ("a shop.toml", None, "syncd -c 'a shop.toml' check"),
        ("shop.toml", "shop.toml", "syncd check"),
    ],
)
def test_init_names_the_command_that_checks_the_config(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flag: str | None,
    variable: str | None,
    check: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", "a-token-of-the-test")
    if variable:
        monkeypatch.setenv("SYNCD_CONFIG", variable)
    assert run([*(["-c", flag] if flag else []), "init", str(tmp_path), "--target", "kv:docs"]) == 0
    assert f"next: {check} (the token needs" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ("search", "\udcff"),
        ("kv", "create", "\udcff"),
        ("kv", "rename", "docs", "\udcff"),
        ("kv", "delete", "\udcff"),
        ("kv", "keys", "--prefix", "\udcff"),
        ("kv", "keys", "--namespace", "\udcff"),
        ("kv", "get", "\udcff"),
        ("kv", "rm", "a", "\udcff"),
    ],
)
def test_a_text_that_cannot_be_sent_is_a_usage_error(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == EXIT_CONFIG
    assert "it is not valid UTF-8; write it in the encoding of this shell" in capsys.readouterr().err


@pytest.mark.parametrize("metadata", ['{"a": NaN}', '{"a": "\\ud800"}', "[" * 100_000])
def test_metadata_that_cannot_be_sent_is_a_usage_error(
    metadata: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Place(tmp_path).load()
    assert run(["kv", "put", "key", "syncd.toml", "--metadata", metadata]) == EXIT_CONFIG
    assert "--metadata should be a JSON object" in capsys.readouterr().err


def test_a_log_of_any_number_of_lines_can_be_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNCD_STATE_DIR", str(tmp_path / "state"))
    Place(tmp_path).load()
    assert run(["log", "--limit", "9" * 30]) == EXIT_OK


def test_a_status_that_is_watched_is_no_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--watch", "--json"]) == EXIT_CONFIG
    assert "repeat: syncd status --json" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["ai-search:a/b/c", "ai-search:/b", f"kv:{'t' * 513}", "kv:", "vectorize:a b"])
def test_init_refuses_a_target_that_the_config_would_refuse(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init", ".", "--target", target]) == EXIT_CONFIG
    assert "should be ai-search:NAMESPACE/INSTANCE" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "target", ["ai-search:docs", "ai-search:My_Team/docs", f"ai-search:{'N' * 64}/{'i' * 64}", f"kv:{'t' * 512}"]
)
def test_init_writes_a_config_that_commands_accept(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run(["init", str(tmp_path / "docs"), "--target", target]) == EXIT_CONFIG
    (tmp_path / "docs").mkdir()
    assert run(["init", str(tmp_path / "docs"), "--target", target]) == EXIT_OK
    assert GlobalOptions(None, 0, quiet=False, log_format="auto").load(level=None).mirrors["docs"].target.type


@pytest.mark.parametrize("arguments", [("init", "--target", "kv:docs"), ("demo",)])
@pytest.mark.parametrize("folder", ["/", "home", "."])
def test_a_folder_with_everything_of_a_user_is_refused_by_its_path(
    arguments: tuple[str, ...],
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert run([*arguments, folder]) == EXIT_CONFIG
    shown = "/" if folder == "/" else str(tmp_path / folder)
    assert capsys.readouterr().err == f"syncd: {shown} is too much to mirror; name a folder of documents inside it\n"
    assert [file.name for file in tmp_path.iterdir()] == ["home"]


@pytest.mark.parametrize("variables", [{}, {"COMP_WORDS": "syncd st"}, {"COMP_WORDS": "syncd st", "COMP_CWORD": "x"}])
def test_a_completion_without_the_variables_of_a_shell_is_a_usage_error(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in {"_SYNCD_COMPLETE": "bash_complete", **variables}.items():
        monkeypatch.setenv(name, text)
    assert run(["status"]) == EXIT_CONFIG
    assert capsys.readouterr().err.startswith("syncd: _SYNCD_COMPLETE is set, and ")


@pytest.mark.parametrize("options", [("--types", "--excludes"), ("--types", "--probe"), ("--excludes", "--probe")])
def test_check_leaves_out_no_option_in_silence(options: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", *options]) == EXIT_CONFIG
    assert "--excludes, --types and --probe stand alone; name one of them" in capsys.readouterr().err
