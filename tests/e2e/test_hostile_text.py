"""No file name, remote key or remote text reaches a terminal or a log as anything but plain characters on its line."""

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import syncd
from tests.e2e.harness import ACCOUNT, TOKEN, Room, on_a_terminal, open_room

BIDI = "invoice\u202egpj.md"
C1 = "c1\x9b31m\x85.md"
ESCAPE = "esc\x1b]0;owned\x07\x1b[2J.md"
LINES = 'line\n{"event": "put.done"}\r12:00:00 [error] forged\u2028.md'
NAMES = (BIDI, C1, ESCAPE, LINES, "zero\u200bwidth\u2066.md", "[bold red]markup[/] :skull: \\[x].md")
TEXT = "quarterly numbers \x1b]0;owned\x07 \x9b2J \u202e hidden \u2029 end"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        # The very program under test, wherever it lies, also where a test starts it the way a shell does.
        room.environment["PYTHONPATH"] = str(Path(syncd.__file__).parents[1])
        yield room


def plain(text: str) -> None:
    """No control character but the line end, no format character, nothing that breaks a line."""
    bad = {char for char in text if char != "\n" and unicodedata.category(char)[0] == "C"}
    bad |= {char for char in text if unicodedata.category(char) in ("Zl", "Zp")}
    assert not bad, f"{bad} in {text!r}"


def test_names_and_contents_forge_nothing_in_any_command(room: Room) -> None:
    for number, name in enumerate(NAMES):
        room.write(name, f"# Heading {number}\n\n{TEXT}")
    room.write(f"d\x1b[31m\u202e/{'k' * 120}.md", "too deep")
    room.remote.create("docs")
    room.configure(mirror='max_delete = "100%"')
    for name in NAMES:
        room.remote.upload(f"theirs-{name}", TEXT.encode(), owner="docs")
    forged = [name for name in NAMES if any(char in name for char in "\x1b\x9b\n")]
    seen = [room.syncd(*arguments) for arguments in (
        ("reconcile", "--dry-run"), ("-vv", "--log-format", "console", "reconcile"), ("reconcile", "--json"),
        ("status",), ("status", "--json"), ("ls",), ("ls", "--remote"), ("ls", "--json"), ("check",),
        ("search", "quarterly numbers"), ("search", "\u202e\x1b[2J quarterly"), ("verify",), ("verify", "--deep"),
        ("pull", "out"), ("retry",), *(("explain", str(room.docs / name)) for name in NAMES[:3]),
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


def test_the_log_keeps_one_event_on_one_line(room: Room) -> None:
    with room.daemon("-vv") as daemon:
        daemon.saw("pass.done", scope="all")
        for name in NAMES:
            room.write(name, TEXT)
        room.write("last.md", "x")
        daemon.saw("put.done", key="last.md")
        daemon.stop()
        text = daemon.text()
    plain(text)
    assert text.isascii()
    for line in text.splitlines():
        assert json.loads(line)["event"]


def test_what_others_wrote_into_kv_forges_nothing(room: Room) -> None:
    made = room.syncd("kv", "create", "title \x1b[31m\u202e", "--json").json()["id"]
    base = f"{room.server.base_url}/accounts/{ACCOUNT}/storage/kv/namespaces/{made}"
    rows = [
        {"key": f"k-{name}", "value": TEXT, "metadata": {"a\x9b": f"b\u202e{TEXT}", "list": [TEXT]}} for name in NAMES
    ]
    rows.append({"key": "scalar", "value": TEXT, "metadata": f"\u202e{TEXT}"})
    httpx.put(f"{base}/bulk", json=rows, headers={"Authorization": f"Bearer {TOKEN}"}).raise_for_status()
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
        ended = room.syncd("kv", *arguments, *where)
        assert ended.code in (0, 1), ended.err
        plain(ended.out)
        plain(ended.err)
    assert room.really("kv", "get", "scalar", "--namespace", made).communicate()[0] == TEXT.encode()
    code, shown = on_a_terminal(room, "kv", "get", "scalar", "--namespace", made)
    assert code == 0
    assert "quarterly numbers" in shown
    plain(shown.replace("\r\n", "\n"))


def test_a_missing_root_with_a_hostile_name_is_told_plainly(room: Room) -> None:
    root = room.path / "\x1b[31m [bold]\u202e root"
    root.mkdir()
    (root / "a.md").write_text("x")
    room.config.write_text(room.config.read_text().replace(f'"{room.docs}"', json.dumps(str(root))))
    with room.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        root.rename(room.path / "away")
        daemon.saw("mirror.halted")
        ended = room.syncd("status")
        plain(ended.out)
        assert "[bold]" in ended.out
