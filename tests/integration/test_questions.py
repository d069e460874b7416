"""Questions that a person asks: why was it deleted, what happened to this file, what differs, is it found."""

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from syncd_process import Room, open_room

NAME = "deletes.jsonl"


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        yield room


def test_a_delete_is_logged_and_explained_with_why(room: Room) -> None:
    for name in ("a.md", "draft.md", "c.md"):
        room.write(name)
    room.syncd("reconcile")
    (room.docs / "a.md").unlink()
    room.configure(mirror='exclude = ["draft*"]')
    seen = room.syncd("-vv", "--log-format", "json", "reconcile", "--delete-excluded")
    assert seen.code == 0, seen.err
    done = {
        event["key"]: event["evidence"]
        for event in map(json.loads, seen.err.splitlines())
        if event["event"] == "delete.done"
    }
    assert done == {"a.md": "absent", "draft.md": "excluded"}
    logged = {line["key"]: line for line in map(json.loads, (room.state / NAME).read_text().splitlines())}
    assert {key: line["evidence"]["kind"] for key, line in logged.items()} == done
    assert logged["draft.md"]["evidence"]["rule"] == "exclude: draft*"
    assert logged["a.md"]["target"] == "ai-search:default/docs"
    assert stat.S_IMODE((room.state / NAME).stat().st_mode) == 0o600
    told = room.syncd("explain", "a.md").out
    assert "there is no such file" in told
    assert f"deleted    {logged['a.md']['time']} from ai-search:default/docs, because pass 2 read the whole" in told
    assert "agreed     --delete-excluded" in told
    # The state file is a cache; the log of deletes is none.
    for file in room.state.glob("state.db*"):
        file.unlink()
    assert "because pass 2 read the whole" in room.syncd("explain", "a.md").out


def test_explain_tells_rule_evidence_and_the_last_actions(room: Room) -> None:
    room.configure(mirror='include = ["*.md"]\nexclude = ["draft*"]')
    room.write(".syncdignore", "\n# kept all the same\n!draft-ok.md\nno*.md\n")
    for name in ("a.md", "draft.md", "draft-ok.md", "not.md", "id_rsa.md", "b.txt"):
        room.write(name)
    room.syncd("reconcile")
    room.write("a.md", "other text")
    room.syncd("reconcile")

    def rule(name: str) -> str:
        lines = room.syncd("explain", str(room.docs / name)).out.splitlines()
        return next(line for line in lines if line.startswith("rule")).split(maxsplit=1)[1]

    assert rule("a.md") == "taken by include: *.md"
    assert rule("draft.md") == "left out by exclude: draft*"
    assert rule("draft-ok.md") == "taken by .syncdignore line 3: !draft-ok.md"
    assert rule("not.md") == "left out by .syncdignore line 4: no*.md"
    assert rule("id_rsa.md") == "left out by built-in exclude: id_rsa*"
    assert rule("b.txt") == "left out by include: no pattern takes it"
    told = room.syncd("explain", str(room.docs / "a.md")).out
    assert "evidence   our sha-256 stands in the entry's own marks" in told
    history = [line for line in told.splitlines() if line.startswith("history")]
    assert [line.partition("Z  ")[2] for line in history] == ["put done, changed"]
    first = room.syncd("explain", str(room.docs / "draft-ok.md")).out
    assert "put or adopt done: first seen in step" in first


def combined(room: Room, *options: str) -> list[str]:
    seen = room.syncd("reconcile", "--combined", "list.txt", *options)
    assert seen.code in (0, 1), seen.err
    return (room.path / "list.txt").read_text().splitlines()


def test_the_list_in_the_notation_of_rclone_is_the_same_dry_and_not(room: Room) -> None:
    room.configure(mirror='key_prefix = "p/"\nexclude = ["draft*"]')
    for name in ("same.md", "changed.md", "gone.md", "sub/same.md", "draft.md"):
        room.write(name)
    room.syncd("reconcile")
    room.remote.upload("p/theirs.md", b"a stranger's", owner="other")
    room.remote.upload("p/new\nline.md", b"a stranger's")
    room.remote.upload("elsewhere.md", b"not under our prefix")
    room.write("changed.md", "other text")
    room.write("new.md")
    room.write("big.md", "x" * (4 * 1024 * 1024 + 1))
    room.write("empty.md", "")
    (room.docs / "gone.md").unlink()
    expected = [
        "! big.md",
        "* changed.md",
        "- gone.md",
        "+ new.md",
        "- new\\nline.md",
        "= same.md",
        "= sub/same.md",
        "- theirs.md",
    ]
    assert combined(room, "--dry-run") == expected
    shown = room.syncd("reconcile", "--dry-run", "--combined", "-")
    assert shown.out.splitlines() == expected
    assert "would be" in shown.err
    assert combined(room) == expected
    assert combined(room) == ["! big.md", *(f"= {name}.md" for name in ("changed", "new")), "- new\\nline.md",
                              "= same.md", "= sub/same.md", "- theirs.md"]  # fmt: skip


def test_the_list_names_the_mirrors_if_there_are_several_and_json_keeps_stdout(room: Room) -> None:
    (room.path / "more").mkdir()
    (room.path / "more" / "b.md").write_text("text")
    room.write("a.md")
    room.configure(
        more=f'[mirrors.more]\npath = "{room.path / "more"}"\n[mirrors.more.target]\ntype = "ai-search"\n'
        'instance = "more"\ncreate = true'
    )
    assert combined(room, "--dry-run") == ["+ docs:a.md", "+ more:b.md"]
    assert combined(room, "--dry-run", "docs") == ["+ a.md"]
    assert room.syncd("reconcile", "-n", "--json", "--combined", "list.txt").json()["exit_code"] == 0
    both = room.syncd("reconcile", "-n", "--json", "--combined", "-")
    assert (both.code, both.out) == (2, "")
    nowhere = room.syncd("reconcile", "-n", "--combined", "no/where.txt")
    assert (nowhere.code, nowhere.out) == (2, "")
