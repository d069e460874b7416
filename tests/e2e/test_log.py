"""`log` shows each action with its reason, beside the daemon, after a kill and after a restart."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Workspace, open_workspace

ACTION = {"time", "mirror", "kind", "key", "reason", "outcome", "detail", "pass"}
PASS = {"time", "mirror", "kind", "began", "scope", "outcome", "detail", "counts", "times", "pass"}


def entries(workspace: Workspace, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = workspace.syncd("log", "--json", *options).json()["entries"]
    return found


def actions(workspace: Workspace, *options: str) -> list[tuple[str, str, str]]:
    return [(entry["kind"], entry["key"], entry["reason"]) for entry in entries(workspace, *options) if "key" in entry]


def test_the_log_goes_on_over_a_kill_and_a_restart(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        assert workspace.syncd("log").out == "nothing was done; to make a pass: syncd reconcile\n"
        with workspace.daemon() as daemon:
            daemon.saw("pass.done", scope="all")
            workspace.write("a.md", "changed")
            daemon.saw("put.done", reason="changed")
            assert actions(workspace) == [("put", "a.md", "new"), ("put", "a.md", "changed")]
        # The end of the block kills the daemon.
        (workspace.docs / "a.md").unlink()
        workspace.write("big.md", b"x" * (10 * 1024 * 1024 + 1))
        with workspace.daemon() as daemon:
            daemon.saw("delete.done")
            daemon.saw("pass.done", scope="all")
            daemon.stop()
        assert actions(workspace) == [
            ("put", "a.md", "new"),
            ("put", "a.md", "changed"),
            ("problem", "big.md", "too_large"),
            ("delete", "a.md", "stale"),
        ]
        every = entries(workspace, "--since", "1h", "-m", "docs")
        assert {frozenset(entry) for entry in every} == {frozenset(ACTION), frozenset(PASS)}
        full = [entry for entry in every if entry["kind"] == "pass" and entry["scope"] == "all"]
        assert [entry["counts"].get("put", 0) for entry in full] == [1, 0]
        assert (full[-1]["outcome"], full[-1]["counts"]["delete"], full[-1]["times"]) == ("done", 1, 1)
        assert actions(workspace, "--kind", "delete, problem") == actions(workspace)[2:]
        assert actions(workspace, "--kind", "pass") == []
        assert entries(workspace, "--since", "0") == []


def test_long_logs_end_in_a_command_that_shows_the_rest(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for number in range(120):
            workspace.write(f"{number:03d}.md", f"text {number}")
        workspace.syncd("reconcile")
        *shown, last = workspace.syncd("log", "--kind", "put", "--since", "90m").out.splitlines()
        assert len(shown) == 101
        assert last == "… and 20 earlier: syncd log --since 90m --kind put --limit 0"
        rest = workspace.syncd(*shlex.split(last.partition(": syncd ")[2])).out.splitlines()
        assert (len(rest), rest[-1]) == (121, shown[-1])
        one = r"\S+Z  put   \d{3}\.md  new     done"
        assert all(re.fullmatch(one, line) for line in rest[1:])
        few = workspace.syncd("log", "--limit", "1").out.splitlines()
        assert few[1].endswith("120 put, in " + few[1].rpartition("in ")[2])
        assert few[2] == "… and 120 earlier: syncd log --limit 0"
        counted = workspace.syncd("log", "--json", "--limit", "1").json()
        assert (len(counted["entries"]), counted["earlier"]) == (1, 120)


def test_the_log_names_why_a_pass_stopped(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        workspace.syncd("reconcile")
        workspace.docs.rename(tmp_path / "gone")
        for _ in range(2):
            assert workspace.syncd("reconcile").code == 3
        line = workspace.syncd("log").out.splitlines()[-1]
        assert "pass" in line
        assert "stopped: path" in line
        assert "(2 times since " in line


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--kind", "upload"), "'upload' is not one of: put, delete, adopt, forget, problem, pass"),
        (("--since", "yesterday"), "'yesterday': should be a number of seconds, or a duration"),
        (("--limit", "-1"), "-1 is not in the range"),
        (("-m", "nothing"), "nothing"),
    ],
)
def test_wrong_options_are_usage_errors(tmp_path: Path, options: tuple[str, ...], why: str) -> None:
    with open_workspace(tmp_path) as workspace:
        ended = workspace.syncd("log", *options)
        assert (ended.code, ended.out) == (2, "")
        assert why in ended.err
