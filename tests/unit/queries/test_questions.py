"""The file or folder that a question expects is found by a path of this machine, a path in the mirror, or a key."""

from pathlib import Path

import pytest

from syncd.config.schema import Config
from syncd.config.sources import load
from syncd.core.errors import ConfigError, ConfigFaults
from syncd.queries.questions import questions_of_file, questions_of_options

ACCOUNT = "0123456789abcdef0123456789abcdef"
KINDS = {"docs": 'type = "ai-search"\ninstance = "docs"', "kv": 'type = "kv"\nnamespace_title = "docs"'}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home directory, which is the current one, with a folder of files."""
    (tmp_path / "docs/sub/deep").mkdir(parents=True)
    for name in ("a.md", "sub/a.md", "sub/deep/ü.md"):
        (tmp_path / "docs" / name).touch()
    (tmp_path / "wiki").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(home: Path, *mirrors: str, prefix: str = "") -> Config:
    """Return a config. mirrors: "name folder kind"."""
    text = f'[cloudflare]\naccount_id = "{ACCOUNT}"\n'
    for mirror in mirrors or ("docs docs docs",):
        name, folder, kind = mirror.split()
        text += f'[mirrors.{name}]\npath = "{home}/{folder}"\nkey_prefix = "{prefix}"\nowner = "{name}"\n'
        text += f"[mirrors.{name}.target]\n{KINDS[kind]}\n"
    (home / "syncd.toml").write_text(text)
    (home / "syncd.toml").chmod(0o600)
    return load(home / "syncd.toml", {"HOME": str(home)})


def expected(config: Config, text: str, *names: str) -> tuple[str, str]:
    ((name, (question,)),) = questions_of_options(config, names, ["q"], [text]).items()
    return name, question.key


@pytest.mark.parametrize("prefix", ["", "p/", "sub/"])
@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("a.md", "a.md"),
        ("./a.md", "a.md"),
        ("docs/a.md", "a.md"),
        ("~/docs/a.md", "a.md"),
        ("sub/a.md", "sub/a.md"),
        ("sub", "sub/"),
        ("docs/sub", "sub/"),
        ("sub/deep/", "sub/deep/"),
        ("sub/deep/u\u0308.md", "sub/deep/ü.md"),
        ("gone.md", "gone.md"),
        ("gone/", "gone/"),
    ],
)
def test_a_path_names_a_file_or_a_folder(home: Path, prefix: str, text: str, key: str) -> None:
    assert expected(configured(home, prefix=prefix), text) == ("docs", prefix + key)


def test_a_key_names_its_file(home: Path) -> None:
    config = configured(home, prefix="p/")
    assert expected(config, "p/sub/a.md") == ("docs", "p/sub/a.md")
    assert expected(config, "p/sub") == ("docs", "p/sub/")


def test_a_file_that_is_there_wins_over_one_that_is_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home / "docs/sub")
    config = configured(home)
    assert expected(config, "a.md") == ("docs", "sub/a.md")
    assert expected(config, "sub/deep/ü.md") == ("docs", "sub/deep/ü.md")
    assert expected(config, "new.md") == ("docs", "sub/new.md")


@pytest.mark.parametrize("text", ["", ".", "./", "..", "../x", "/etc/hosts", "docs", "docs/../x.md"])
def test_a_place_outside_of_the_folder_is_refused(home: Path, text: str) -> None:
    config = configured(home, "docs docs docs", "wiki wiki docs", prefix="")
    with pytest.raises(ConfigError, match="lies in no folder that is verified"):
        expected(config, text)


def test_of_several_mirrors_the_one_with_the_path_and_a_search_is_asked(home: Path) -> None:
    config = configured(home, "kv docs kv", "docs docs docs")
    assert expected(config, "docs/a.md") == expected(config, "a.md") == ("docs", "a.md")
    assert expected(config, "a.md", "kv") == ("kv", "a.md")
    assert expected(configured(home, "kv docs kv"), "a.md") == ("kv", "a.md")
    with pytest.raises(ConfigError, match="name its mirror, too"):
        expected(config, "a.md", "kv", "docs")


def test_faults_of_the_file_and_of_its_paths_are_named_together(home: Path) -> None:
    (home / "q.csv").write_text("query,expect\na,../x\nb,\nc,a.md\n")
    with pytest.raises(ConfigFaults) as caught:
        questions_of_file(configured(home), (), Path("q.csv"))
    assert [line.partition(" ")[0] for line in caught.value.lines] == ["q.csv:2:", "q.csv:3:"]


def test_a_query_must_be_text(home: Path) -> None:
    for query, said in ((" ", "is empty"), ("\udcff", "not valid UTF-8")):
        with pytest.raises(ConfigError, match=said):
            questions_of_options(configured(home), (), [query], ["a.md"])
