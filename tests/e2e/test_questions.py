"""Questions that a person asks: why was it deleted, what happened to this file, what differs, is it found."""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Room, on_a_terminal, open_room, until

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
    assert "evidence   the mark of the entry has this sha-256" in told
    history = [line for line in told.splitlines() if line.startswith("history")]
    assert [line.partition("Z  ")[2] for line in history] == ["put done, changed"]
    first = room.syncd("explain", str(room.docs / "draft-ok.md")).out
    assert "put or adopt done: first seen in step" in first


def verify(room: Room, *options: str, code: int) -> Any:
    seen = room.syncd("verify", "--json", *options)
    assert seen.code == code, seen.err + seen.out
    told: dict[str, Any] = seen.json()
    assert told["exit_code"] == code
    return told["mirrors"]["docs"]


def asking(*pairs: str) -> list[str]:
    names = ("--query", "--expect")
    return [word for number, text in enumerate(pairs) for word in (names[number % 2], text)]


def test_a_question_passes_if_its_file_is_among_the_hits(room: Room) -> None:
    room.configure(mirror='key_prefix = "p/"')
    room.write("token.md", "how to rotate the token")
    room.write("sub/ü.md", "bread and butter")
    room.write("more.md", "a differing file that nobody has sent yet, and no reason for a 6")
    room.syncd("reconcile", "--wait")
    room.write("more.md", "changed")
    for file in ("token.md", "docs/token.md", str(room.docs / "token.md"), "p/token.md"):
        seen = verify(room, *asking("rotate token", file), code=0)
        (answer,) = seen["queries"]
        assert (answer["expect"], answer["found"], answer["rank"], answer["why"]) == ("p/token.md", True, 1, None), file
        assert answer["score"] == answer["hits"][0]["score"]
        assert (seen["checked"], seen["differences"]) == (0, [])
    both = verify(room, *asking("rotate token", "sub/ü.md", "butter", "sub/ü.md"), code=6)["queries"]
    assert [(each["query"], each["found"]) for each in both] == [("rotate token", False), ("butter", True)]
    assert [hit["key"] for hit in both[0]["hits"]] == ["p/token.md"]
    assert both[0]["why"] == "it is in the index; the search ranks other text higher"
    deep = verify(room, "--deep", *asking("butter", "sub/ü.md"), code=6)
    assert (deep["checked"], [each["key"] for each in deep["differences"]]) == (3, ["p/more.md"])
    assert deep["queries"][0]["found"]
    shown = room.syncd("verify", *asking("rotate token", "sub/ü.md", "butter", "sub/ü.md"))
    assert "docs: 1 of 2 questions found their file" in shown.out
    assert "Instead came: p/token.md (1.00)" in shown.out
    assert "rank 1, score 1.00" in shown.out


def test_what_syncd_knows_of_the_file_is_the_reason(tmp_path: Path) -> None:
    with open_room(tmp_path, fail_index="bad") as room:
        room.configure(mirror='exclude = ["draft*"]')
        for name in ("bad.md", "good.md", "draft.md", "gone.md"):
            room.write(name, name)
        room.syncd("reconcile", "--wait")
        room.write("new.md")
        room.write("empty.md", "")
        room.write("good.md", "other text")
        (room.docs / "gone.md").unlink()
        wanted = {
            "bad.md": "it could not be indexed (",
            "draft.md": "left out by exclude: draft*",
            "no.md": "there is no such file",
            "new.md": "it was never uploaded",
            "empty.md": "empty: the file is empty",
            "good.md": "it has changed since it was sent",
            "gone.md": "there is no such file; the next pass removes its entry",
        }
        asked = verify(room, *asking(*(word for name in wanted for word in ("nothing like it", name))), code=6)
        for answer, (name, why) in zip(asked["queries"], wanted.items(), strict=True):
            assert answer["why"].startswith(why), name
            assert answer["hits"] == []


def test_what_is_still_queued_says_so(tmp_path: Path) -> None:
    with open_room(tmp_path, index_delay=600.0) as room:
        room.write("a.md", "some words")
        room.syncd("reconcile")
        (answer,) = verify(room, *asking("words", "a.md"), code=6)["queries"]
        assert "still on its way into the index" in answer["why"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--query", "q"), "1 --query and 0 --expect"),
        (("--expect", "a.md"), "0 --query and 1 --expect"),
        (asking(" ", "a.md"), "a --query is empty"),
        (asking("q", "/etc/hosts"), "lies in no folder that is verified"),
        (asking("q", "../hosts"), "lies in no folder that is verified"),
        (asking("q", ""), "lies in no folder that is verified"),
        ((*asking("q", "a.md"), "--top", "0"), "--top"),
        ((*asking("q", "a.md"), "other"), "other"),
    ],
)
def test_questions_that_cannot_be_asked_are_usage_errors(room: Room, options: Sequence[str], said: str) -> None:
    seen = room.syncd("verify", *options)
    assert (seen.code, seen.out, said in seen.err) == (2, "", True), seen.err


def test_a_target_without_a_search_is_a_usage_error(room: Room) -> None:
    room.configure()
    text = room.config.read_text().partition("[mirrors.docs.target]")[0]
    room.config.write_text(text + '[mirrors.docs.target]\ntype = "kv"\nnamespace_title = "docs"\ncreate = true\n')
    room.write("a.md")
    room.syncd("reconcile")
    for more in ((), ("--deep",), ("--json",)):
        seen = room.syncd("verify", *asking("q", "a.md"), *more)
        assert (seen.code, seen.out, "Workers KV has no search" in seen.err) == (2, "", True)


def test_check_says_what_a_first_pass_and_an_idle_one_take(room: Room) -> None:
    room.configure(cloudflare="tpslimit = 2.0")
    room.config.write_text(room.config.read_text().replace("tpslimit = 0\n", ""))

    def forecast() -> str:
        checks = room.syncd("check", "--json").json()["checks"]
        (told,) = [check for check in checks if check["what"] == "docs: forecast"]
        assert told["level"] == "ok"
        return str(told["message"])

    for number in range(9):
        room.write(f"{number}.md")
        os.utime(room.docs / f"{number}.md", (1e9, 1e9))
    assert forecast() == "first pass about 10 requests, 5 s at 2 requests/s; one with nothing to do: 1 request, 1 s"
    room.configure()
    room.syncd("reconcile")
    room.syncd("reconcile")
    assert forecast().startswith("nothing looks changed; a pass takes about 1 request")
    room.write("new.md")
    (room.docs / "1.md").unlink()
    assert forecast().startswith("1 to look at, 1 to delete: about 3 requests")


def test_the_forecast_of_a_dry_run_is_that_of_the_mirror_it_is_told_of(room: Room) -> None:
    for number in range(3):
        room.write(f"{number}.md")
    room.configure(
        more=f'[mirrors.kv]\npath = "{room.docs}"\n[mirrors.kv.target]\ntype = "kv"\nnamespace_title = "t"\n'
        "create = true"
    )
    mirrors = room.syncd("reconcile", "--dry-run", "--json").json()["mirrors"]
    assert {name: each["forecast"]["requests"] for name, each in mirrors.items()} == {"docs": 3, "kv": 1}


def test_a_pass_under_way_says_how_long_it_still_takes(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        for number in range(60):
            room.write(f"{number}.md")
        room.config.write_text(room.config.read_text().replace("tpslimit = 0\n", "tpslimit = 6.0\n"))
        with room.daemon() as daemon:
            daemon.saw("put.done")
            seen: dict[str, Any] = {}

            def says_so() -> bool:
                seen.update(room.status())
                return bool(seen.get("eta_s"))

            until(says_so, daemon.text)
            assert (seen["state"], 0 < seen["remaining"] < 60, 0 < seen["eta_s"] < 60) == ("syncing", True, True)
            watching = room.start("status", "--watch")
            until(lambda: "left: " in watching.out(), watching.out)
            assert "docs syncing, " in watching.out()
            watching.kill()


def test_hits_are_highlighted_on_a_terminal_and_live_status_is_a_table(room: Room) -> None:
    room.write("guide.md", "how to rotate the token")
    room.syncd("reconcile", "--wait")
    code, shown = on_a_terminal(room, "search", "token")
    assert (code, "\x1b[1;33mtoken\x1b[0m" in shown, str(room.docs / "guide.md") in shown) == (0, True, True)
    assert "\x1b" not in room.syncd("search", "token").out
    code, shown = on_a_terminal(room, "status", "--watch", end_at=b"last pass")
    assert (code, "Traceback" in shown, "mirror" in shown, "in step" in shown) == (130, False, True, True)
