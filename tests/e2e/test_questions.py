"""Queries of a person: the reason of a delete, the history of a file, differences, search results."""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Workspace, on_a_terminal, open_workspace, until

NAME = "deletes.jsonl"


def test_a_delete_is_logged_and_explained_with_its_reason(workspace: Workspace) -> None:
    for name in ("a.md", "draft.md", "c.md"):
        workspace.write(name)
    workspace.syncd("reconcile")
    (workspace.docs / "a.md").unlink()
    workspace.configure(mirror='exclude = ["draft*"]')
    seen = workspace.syncd("-vv", "--log-format", "json", "reconcile", "--delete-excluded")
    assert seen.code == 0, seen.err
    done = {
        event["key"]: event["evidence"]
        for event in map(json.loads, seen.err.splitlines())
        if event["event"] == "delete.done"
    }
    assert done == {"a.md": "absent", "draft.md": "excluded"}
    logged = {line["key"]: line for line in map(json.loads, (workspace.state / NAME).read_text().splitlines())}
    assert {key: line["evidence"]["kind"] for key, line in logged.items()} == done
    assert logged["draft.md"]["evidence"]["rule"] == "exclude: draft*"
    assert logged["a.md"]["target"] == "ai-search:default/docs"
    assert stat.S_IMODE((workspace.state / NAME).stat().st_mode) == 0o600
    output = workspace.syncd("explain", "a.md").out
    assert "there is no such file" in output
    assert f"deleted    {logged['a.md']['time']} from ai-search:default/docs, because pass 2 read the whole" in output
    assert "agreed     --delete-excluded" in output
    # The state file is a cache. The log of deletes is not.
    for file in workspace.state.glob("state.db*"):
        file.unlink()
    assert "because pass 2 read the whole" in workspace.syncd("explain", "a.md").out


def test_explain_shows_rule_evidence_and_the_last_actions(workspace: Workspace) -> None:
    workspace.configure(mirror='include = ["*.md"]\nexclude = ["draft*"]')
    workspace.write(".syncdignore", "\n# kept all the same\n!draft-ok.md\nno*.md\n")
    for name in ("a.md", "draft.md", "draft-ok.md", "not.md", "id_rsa.md", "b.txt"):
        workspace.write(name)
    workspace.syncd("reconcile")
    workspace.write("a.md", "other text")
    workspace.syncd("reconcile")

    def rule(name: str) -> str:
        lines = workspace.syncd("explain", str(workspace.docs / name)).out.splitlines()
        return next(line for line in lines if line.startswith("rule")).split(maxsplit=1)[1]

    assert rule("a.md") == "taken by include: *.md"
    assert rule("draft.md") == "left out by exclude: draft*"
    assert rule("draft-ok.md") == "taken by .syncdignore line 3: !draft-ok.md"
    assert rule("not.md") == "left out by .syncdignore line 4: no*.md"
    assert rule("id_rsa.md") == "left out by built-in exclude: id_rsa*"
    assert rule("b.txt") == "left out by include: no pattern takes it"
    output = workspace.syncd("explain", str(workspace.docs / "a.md")).out
    assert "evidence   the mark of the entry has this sha-256" in output
    history = [line for line in output.splitlines() if line.startswith("history")]
    assert [line.partition("Z  ")[2] for line in history] == ["put done, new", "put done, changed"]
    first = workspace.syncd("explain", str(workspace.docs / "draft-ok.md")).out
    assert "put done, new" in first


def verify(workspace: Workspace, *options: str, code: int) -> Any:
    seen = workspace.syncd("verify", "--json", *options)
    assert seen.code == code, seen.err + seen.out
    output: dict[str, Any] = seen.json()
    assert output["exit_code"] == code
    return output["mirrors"]["docs"]


def asking(*pairs: str) -> list[str]:
    names = ("--query", "--expect")
    return [word for number, text in enumerate(pairs) for word in (names[number % 2], text)]


def test_a_question_passes_if_its_file_is_among_the_hits(workspace: Workspace) -> None:
    workspace.configure(mirror='key_prefix = "p/"')
    workspace.write("token.md", "how to rotate the token")
    workspace.write("sub/ü.md", "bread and butter")
    workspace.write("more.md", "a differing file that nobody has sent yet, and no reason for a 6")
    workspace.syncd("reconcile", "--wait")
    workspace.write("more.md", "changed")
    for file in ("token.md", "docs/token.md", str(workspace.docs / "token.md"), "p/token.md"):
        seen = verify(workspace, *asking("rotate token", file), code=0)
        (answer,) = seen["queries"]
        assert (answer["expect"], answer["found"], answer["rank"], answer["why"]) == ("p/token.md", True, 1, None), file
        assert answer["score"] == answer["hits"][0]["score"]
        assert (seen["checked"], seen["differences"]) == (0, [])
    both = verify(workspace, *asking("rotate token", "sub/ü.md", "butter", "sub/ü.md"), code=6)["queries"]
    assert [(each["query"], each["found"]) for each in both] == [("rotate token", False), ("butter", True)]
    assert [hit["key"] for hit in both[0]["hits"]] == ["p/token.md"]
    assert both[0]["why"] == "it is in the index; the search ranks other text higher"
    deep = verify(workspace, "--deep", *asking("butter", "sub/ü.md"), code=6)
    assert (deep["checked"], [each["key"] for each in deep["differences"]]) == (3, ["p/more.md"])
    assert deep["queries"][0]["found"]
    shown = workspace.syncd("verify", *asking("rotate token", "sub/ü.md", "butter", "sub/ü.md"))
    assert "docs: 1 of 2 questions found their file" in shown.out
    assert "Found instead: 1. p/token.md (1.00)" in shown.out
    assert "rank 1, score 1.00" in shown.out


def test_the_reason_comes_from_the_state_of_the_file(tmp_path: Path) -> None:
    with open_workspace(tmp_path, fail_index="bad") as workspace:
        workspace.configure(mirror='exclude = ["draft*"]')
        for name in ("bad.md", "good.md", "draft.md", "gone.md"):
            workspace.write(name, name)
        workspace.syncd("reconcile", "--wait")
        workspace.write("new.md")
        workspace.write("empty.md", "")
        workspace.write("good.md", "other text")
        (workspace.docs / "gone.md").unlink()
        wanted = {
            "bad.md": "it could not be indexed (",
            "draft.md": "left out by exclude: draft*",
            "no.md": "there is no such file",
            "new.md": "it was never uploaded",
            "empty.md": "empty: the file is empty",
            "good.md": "it has changed since it was sent",
            "gone.md": "there is no such file; the next pass removes its entry",
        }
        asked = verify(workspace, *asking(*(word for name in wanted for word in ("nothing like it", name))), code=6)
        for answer, (name, why) in zip(asked["queries"], wanted.items(), strict=True):
            assert answer["why"].startswith(why), name
            assert answer["hits"] == []


def test_a_queued_file_is_reported_as_queued(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_delay=600.0) as workspace:
        workspace.write("a.md", "some words")
        workspace.syncd("reconcile")
        (answer,) = verify(workspace, *asking("words", "a.md"), code=6)["queries"]
        assert "still on its way into the index" in answer["why"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--query", "q"), "1 --query and 0 --expect"),
        (("--expect", "a.md"), "0 --query and 1 --expect"),
        (asking(" ", "a.md"), "a --query is empty"),
        (asking("q", "/etc/hosts"), "lies in no folder of a mirror that is asked"),
        (asking("q", "../hosts"), "lies in no folder of a mirror that is asked"),
        (asking("q", ""), "lies in no folder of a mirror that is asked"),
        ((*asking("q", "a.md"), "--top", "0"), "--top"),
        ((*asking("q", "a.md"), "other"), "other"),
    ],
)
def test_invalid_queries_are_usage_errors(workspace: Workspace, options: Sequence[str], said: str) -> None:
    seen = workspace.syncd("verify", *options)
    assert (seen.code, seen.out, said in seen.err) == (2, "", True), seen.err


def test_a_target_without_a_search_is_a_usage_error(workspace: Workspace) -> None:
    workspace.configure()
    text = workspace.config.read_text().partition("[mirrors.docs.target]")[0]
    workspace.config.write_text(text + '[mirrors.docs.target]\ntype = "kv"\nnamespace_title = "docs"\ncreate = true\n')
    workspace.write("a.md")
    workspace.syncd("reconcile")
    for more in ((), ("--deep",), ("--json",)):
        seen = workspace.syncd("verify", *asking("q", "a.md"), *more)
        assert (seen.code, seen.out, "Workers KV has no search" in seen.err) == (2, "", True)


def test_check_forecasts_a_first_pass_and_an_idle_pass(workspace: Workspace) -> None:
    workspace.configure()
    workspace.config.write_text(workspace.config.read_text().replace("quota = ''\n", ""))

    def forecast() -> str:
        checks = workspace.syncd("check", "--json").json()["checks"]
        (output,) = [check for check in checks if check["what"] == "docs: forecast"]
        assert output["level"] == "ok"
        return str(output["message"])

    for number in range(9):
        workspace.write(f"{number}.md")
        os.utime(workspace.docs / f"{number}.md", (1e9, 1e9))
    assert (
        forecast()
        == "first pass about 10 requests, 1 s within 1,050 requests in 300 s; one with nothing to do: 1 request, 1 s"
    )
    workspace.configure()
    workspace.syncd("reconcile")
    workspace.syncd("reconcile")
    assert forecast().startswith("nothing looks changed; a pass takes about 1 request")
    workspace.write("new.md")
    (workspace.docs / "1.md").unlink()
    assert forecast().startswith("1 to look at, 1 to delete: about 3 requests")


def test_a_dry_run_forecasts_the_selected_mirror(workspace: Workspace) -> None:
    for number in range(3):
        workspace.write(f"{number}.md")
    workspace.configure(
        more=f'[mirrors.kv]\npath = "{workspace.docs}"\n[mirrors.kv.target]\ntype = "kv"\nnamespace_title = "t"\n'
        "create = true"
    )
    mirrors = workspace.syncd("reconcile", "--dry-run", "--json").json()["mirrors"]
    assert {name: each["forecast"]["requests"] for name, each in mirrors.items()} == {"docs": 3, "kv": 1}


@pytest.mark.slow
def test_a_running_pass_shows_its_remaining_time(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for number in range(60):
            workspace.write(f"{number}.md")
        workspace.config.write_text(workspace.config.read_text().replace("tpslimit = 0\n", "tpslimit = 6.0\n"))
        with workspace.daemon() as daemon:
            daemon.saw("put.done")
            seen: dict[str, Any] = {}

            def says_so() -> bool:
                seen.update(workspace.status())
                return bool(seen.get("eta_s"))

            until(says_so, daemon.text)
            assert (seen["state"], 0 < seen["remaining"] < 60, 0 < seen["eta_s"] < 60) == ("syncing", True, True)
            watching = workspace.start("status", "--watch")
            until(lambda: "left: " in watching.out(), watching.out)
            assert "docs syncing, " in watching.out()
            watching.kill()


def test_hits_are_highlighted_on_a_terminal_and_live_status_is_a_table(workspace: Workspace) -> None:
    workspace.write("guide.md", "how to rotate the token")
    workspace.syncd("reconcile", "--wait")
    code, shown = on_a_terminal(workspace, "search", "token")
    assert (code, "\x1b[33m\x1b[1mtoken\x1b[0m" in shown, str(workspace.docs / "guide.md") in shown) == (0, True, True)
    assert "\x1b" not in workspace.syncd("search", "token").out
    code, shown = on_a_terminal(workspace, "status", "--watch", end_at=b"last pass")
    assert (code, "Traceback" in shown, "mirror" in shown, "in step" in shown) == (130, False, True, True)
