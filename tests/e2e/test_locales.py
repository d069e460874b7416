"""Keys are the bytes of the disk, read as UTF-8, in every locale. A name that is not UTF-8 protects entries."""

import json
import os
import shutil
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.harness import ACCOUNT, Preloaded, Workspace, lose_state, until

ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
PLACES = ("ascii", "latin-1", "big5")
KINDS = ("ai-search", "kv", "vectorize")
FORM = unicodedata.normalize("NFD", "ünter/é.md")


def _locale(folder: Path, place: str) -> dict[str, str]:
    """Return the environment of a locale. Few machines have all locales, so the test compiles them."""
    if place == "utf-8":
        return {}
    if place == "ascii":
        return ASCII
    language, charset = {"latin-1": ("de_DE", "ISO-8859-1"), "big5": ("zh_HK", "BIG5-HKSCS")}[place]
    name = f"{language}.{charset}"
    if shutil.which("localedef") is None:
        pytest.skip("no localedef, which makes a locale")
    made = subprocess.run(["localedef", "-i", language, "-f", charset, folder / name], capture_output=True, check=False)
    if made.returncode > 1:
        pytest.skip(f"localedef cannot make {name} here")
    return {"LOCPATH": str(folder), "LC_ALL": name, "PYTHONUTF8": "0"}


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Preloaded]]:
    """Yield a function that returns the process of a locale."""
    folder = tmp_path_factory.mktemp("locales")
    with ExitStack() as stack:

        @cache
        def started(place: str) -> Preloaded:
            return stack.enter_context(closing(Preloaded(_locale(folder, place))))

        yield started


@pytest.fixture
def utf8(locales: Callable[[str], Preloaded]) -> Preloaded:
    return locales("utf-8")


@pytest.fixture(params=PLACES)
def locale(request: pytest.FixtureRequest, locales: Callable[[str], Preloaded]) -> Preloaded:
    started: Preloaded = locales(request.param)
    return started


def plan(workspace: Workspace, locale: Preloaded) -> dict[str, int]:
    code, out, err = locale.run(workspace, "reconcile", "--json")
    assert code == 0, (out, err)
    found: dict[str, int] = json.loads(out)["mirrors"]["docs"]["plan"]
    return found


def until_keys(workspace: Workspace, keys: set[str]) -> None:
    until(lambda: {each["key"] for each in workspace.remote.items()} == keys, workspace.remote.items)


def configure(workspace: Workspace, kind: str, folder: str = "docs") -> None:
    where = {"ai-search": 'instance = "docs"', "kv": 'namespace_title = "docs"', "vectorize": 'index = "docs"'}[kind]
    workspace.config.write_text(
        f'state_dir = "zustände"\n[cloudflare]\naccount_id = "{ACCOUNT}"\nbase_url = "{workspace.server.base_url}"\n'
        'quota = ""\n'
        f'tpslimit = 0\nretry_for = 5\n[mirrors.docs]\npath = "{folder}"\nsettle = 0.05\nmax_delete = "100%"\n'
        f'exclude = ["geheimnisträger.md"]\n[mirrors.docs.target]\ntype = "{kind}"\n{where}\ncreate = true\n',
        encoding="utf-8",
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_pass_in_another_locale_finds_all_in_step(
    workspace: Workspace, kind: str, locale: Preloaded, utf8: Preloaded
) -> None:
    if kind != "kv" and "PYTHONIOENCODING" not in locale.env:
        pytest.skip("one target shows it for the further locales")
    configure(workspace, kind, "bücher")
    for name in ("über.md", "日本/語.md", FORM, "geheimnisträger.md", "plain.md", "表.md"):
        path = workspace.path / "bücher" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n\ntext of {name}")
    assert plan(workspace, utf8)["put"] == 5
    assert plan(workspace, locale) == {"put": 0, "delete": 0, "adopt": 0, "forget": 0, "unchanged": 5}
    lose_state(workspace.path / "zustände")
    (workspace.path / "bücher" / "nähe.md").write_text("near")
    first = plan(workspace, locale)
    assert (first["put"], first["delete"], first["adopt"]) == (1, 0, 5)
    assert plan(workspace, utf8)["unchanged"] == 6
    (workspace.path / "bücher" / "nähe.md").unlink()
    assert plan(workspace, locale)["delete"] == 1


def test_every_command_works_in_another_locale(workspace: Workspace, locale: Preloaded) -> None:
    configure(workspace, "kv", "bücher")
    (workspace.path / "bücher").mkdir()
    (workspace.path / "bücher" / "ünïcode.md").write_text("---\ntitle: Überblick\n---\n# Größe")
    (workspace.path / "bücher" / os.fsdecode(b"caf\xe9\n.md")).write_text("x")
    code, out, err = locale.run(workspace, "reconcile")
    assert code == 1, (out, err)
    for command in (
        ("-vv", "ls", "--remote"), ("explain", "bücher/ünïcode.md"), ("kv", "put", "größe", "bücher/ünïcode.md"),
        ("kv", "get", "größe"), ("check",), ("pull", "zurück"), ("verify",), ("init", "bücher", "--target", "kv:ü"),
    ):  # fmt: skip
        code, out, err = locale.run(workspace, *command)
        assert code in (0, 1, 2, 6), (command, out, err)
        assert b"Traceback" not in err, (command, err)
    assert (workspace.path / "zurück" / "ünïcode.md").is_file()
    _, out, _ = locale.run(workspace, "explain", "ünïcode.md")
    assert b"taken" in out, out
    _, out, _ = locale.run(workspace, "status", "--json")
    assert json.loads(out)["mirrors"]["docs"]["path"] == str(workspace.path / "bücher")


@pytest.mark.parametrize("watch", ["inotify", "poll"])
def test_the_daemon_follows_edits_in_another_locale(workspace: Workspace, watch: str) -> None:
    configure(workspace, "ai-search")
    lines = f'watch = "{watch}"\npoll_interval = 0.2\ndelete_after = 0\nsettle ='
    workspace.config.write_text(workspace.config.read_text().replace("settle =", lines))
    (workspace.docs).mkdir(exist_ok=True)
    workspace.write("über.md", "one")
    with workspace.really("--log-format", "json", "run", env=ASCII) as daemon:
        try:
            until_keys(workspace, {"über.md"})
            workspace.write("größe/ä.md", "two")
            until_keys(workspace, {"über.md", "größe/ä.md"})
            (workspace.docs / "über.md").unlink()
            until_keys(workspace, {"größe/ä.md"})
        finally:
            daemon.terminate()
            daemon.communicate(timeout=20)
    assert daemon.returncode == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strange", [b"\xfcber.md", b"b\xfccher"])
def test_a_name_that_is_not_utf8_protects_the_entries_that_it_may_stand_for(
    workspace: Workspace, utf8: Preloaded, kind: str, strange: bytes
) -> None:
    configure(workspace, kind)
    for name in ("über.md", "bücher/a.md", "plain.md", "sub/ä.md"):
        workspace.write(name, name)
    plan(workspace, utf8)
    name = strange.decode("latin-1")
    (workspace.docs / name).rename(workspace.docs / os.fsdecode(strange))
    (workspace.docs / "plain.md").unlink()
    (workspace.docs / "sub" / "ä.md").unlink()
    code, out, err = utf8.run(workspace, "reconcile", "--json")
    assert code == 1, (out, err)
    answer = json.loads(out)["mirrors"]["docs"]
    assert sorted(each["key"] for each in answer["actions"]) == ["plain.md", "sub/ä.md"]
    kept = next(each for each in answer["problems"] if each["key"] in ("über.md", "bücher/a.md"))
    assert "not valid UTF-8" in kept["message"]
