"""File names, remote keys and remote text appear on a terminal and in a log as plain characters on one line."""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import syncd
from tests.e2e.harness import ACCOUNT, TOKEN, Workspace, on_a_terminal, open_workspace

BIDI = "invoice\u202egpj.md"
C1 = "c1\x9b31m\x85.md"
ESCAPE = "esc\x1b]0;owned\x07\x1b[2J.md"
LINES = 'line\n{"event": "put.done"}\r12:00:00 [error] forged\u2028.md'
NAMES = (BIDI, C1, ESCAPE, LINES, "zero\u200bwidth\u2066.md", "[bold red]markup[/] :skull: \\[x].md")
TEXT = "quarterly numbers \x1b]0;owned\x07 \x9b2J \u202e hidden \u2029 end"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path) as workspace:
        # A test that starts the program as a shell does must run the program under test.
        workspace.environment["PYTHONPATH"] = str(Path(syncd.__file__).parents[1])
        yield workspace


def plain(text: str) -> None:
    """Check for control characters except the line end, format characters, and other line breaks."""
    bad = {char for char in text if char != "\n" and unicodedata.category(char)[0] == "C"}
    bad |= {char for char in text if unicodedata.category(char) in ("Zl", "Zp")}
    assert not bad, f"{bad} in {text!r}"


def test_names_and_contents_forge_nothing_in_any_command(workspace: Workspace) -> None:
    for number, name in enumerate(NAMES):
        workspace.write(name, f"# Heading {number}\n\n{TEXT}")
    workspace.write(f"d\x1b[31m\u202e/{'k' * 120}.md", "too deep")
    workspace.remote.create("docs")
    workspace.configure(mirror='max_delete = "100%"')
    for name in NAMES:
        workspace.remote.upload(f"theirs-{name}", TEXT.encode(), owner="docs")
    forged = [name for name in NAMES if any(char in name for char in "\x1b\x9b\n")]
    seen = [workspace.syncd(*arguments) for arguments in (
        ("reconcile", "--dry-run"), ("-vv", "--log-format", "console", "reconcile"), ("reconcile", "--json"),
        ("status",), ("status", "--json"), ("ls",), ("ls", "--remote"), ("ls", "--json"), ("check",),
        ("search", "quarterly numbers"), ("search", "\u202e\x1b[2J quarterly"), ("verify",), ("verify", "--deep"),
        ("pull", "out"), ("retry",), *(("explain", str(workspace.docs / name)) for name in NAMES[:3]),
        ("explain", "\x1b[2J\u202e"), ("status", "\x1b[31mnothing"), ("pull", "out", "--mirror", "\x1b[31m\u202e"),
    )]  # fmt: skip
    for ended in seen:
        assert ended.code in (0, 1, 2, 6), ended.err
        plain(ended.out)
        plain(ended.err)
    assert "owned" in seen[9].out, "the hits were shown"
    shown = seen[3].out
    assert sum("invalid_key" in line for line in shown.splitlines()) >= len(forged), shown
    assert ":skull:" in seen[5].out
    assert "[bold red]markup[/]" in seen[5].out


def test_the_log_keeps_one_event_on_one_line(workspace: Workspace) -> None:
    with workspace.daemon("-vv") as daemon:
        daemon.saw("pass.done", scope="all")
        for name in NAMES:
            workspace.write(name, TEXT)
        workspace.write("last.md", "x")
        daemon.saw("put.done", key="last.md")
        daemon.stop()
        text = daemon.text()
    plain(text)
    assert text.isascii()
    for line in text.splitlines():
        assert json.loads(line)["event"]


def test_kv_entries_of_other_writers_forge_nothing(workspace: Workspace) -> None:
    made = workspace.syncd("kv", "create", "title \x1b[31m\u202e", "--json").json()["id"]
    base = f"{workspace.server.base_url}/accounts/{ACCOUNT}/storage/kv/namespaces/{made}"
    rows = [
        {"key": f"k-{name}", "value": TEXT, "metadata": {"a\x9b": f"b\u202e{TEXT}", "list": [TEXT]}} for name in NAMES
    ]
    rows.append({"key": "scalar", "value": TEXT, "metadata": f"\u202e{TEXT}"})
    httpx.put(f"{base}/bulk", json=rows, headers={"Authorization": f"Bearer {TOKEN}"}, verify=False).raise_for_status()
    for arguments in (
        ("namespaces",),
        ("keys",),
        ("meta", "scalar"),
        ("meta", f"k-{C1}"),
        ("meta", f"k-{BIDI}", "--json"),
        ("get", f"gone\x1b{BIDI}"),
        ("rm", f"gone\x1b[2J{BIDI}", "--json"),
        ("rename", made, "new \x9b\u202e title"),
    ):
        where = () if arguments[0] in ("namespaces", "rename") else ("--namespace", made)
        ended = workspace.syncd("kv", *arguments, *where)
        assert ended.code in (0, 1), ended.err
        plain(ended.out)
        plain(ended.err)
    assert workspace.really("kv", "get", "scalar", "--namespace", made).communicate()[0] == TEXT.encode()
    code, shown = on_a_terminal(workspace, "kv", "get", "scalar", "--namespace", made)
    assert code == 0
    assert "quarterly numbers" in shown
    plain(shown.replace("\r\n", "\n"))


def test_a_missing_root_with_a_hostile_name_is_printed_as_plain_text(workspace: Workspace) -> None:
    root = workspace.path / "\x1b[31m [bold]\u202e root"
    root.mkdir()
    (root / "a.md").write_text("x")
    workspace.config.write_text(workspace.config.read_text().replace(f'"{workspace.docs}"', json.dumps(str(root))))
    with workspace.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        root.rename(workspace.path / "away")
        daemon.saw("mirror.halted")
        ended = workspace.syncd("status")
        plain(ended.out)
        assert "[bold]" in ended.out
