"""Long lists end in a command that shows the rest, and a dry run ends with its summary."""

import re
from pathlib import Path

from tests.e2e.harness import Ended, Workspace, open_workspace


def rest(workspace: Workspace, answer: Ended) -> Ended:
    """Run the command that a list names for its rest."""
    found = re.search(r"(?:more|each file): syncd (.+)$", answer.out, re.MULTILINE)
    assert found, answer.out
    return workspace.syncd(*found[1].split())


def test_a_dry_run_ends_with_its_summary_and_the_bytes(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("guides/a.md", "x" * 1536)
        workspace.write("guides/b.md", "x" * 2560)
        seen = workspace.syncd("reconcile", "-n")
        assert "put  new  guides/a.md  1.5 KiB" in seen.out
        last = seen.out.splitlines()[-1]
        assert last.startswith("docs → ai-search:default/docs: would be 2 put (4 KiB), 0 unchanged; about ")
        assert last.endswith("at the present rate limit")
        assert workspace.syncd("reconcile").code == 0
        assert workspace.syncd("reconcile", "-n").out.splitlines()[-1].endswith("docs: 2 unchanged")


def test_a_long_plan_has_a_line_for_each_directory(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for number in range(150):
            workspace.write(f"guides/{number}.md", "x" * 1024)
            workspace.write(f"api/v1/{number}.md")
        workspace.write("top.md")
        seen = workspace.syncd("plan")
        assert [line.split() for line in seen.out.splitlines()[1:5]] == [
            ["size"],
            ["put", "1", "file", "./", "9", "B"],
            ["put", "150", "files", "api/v1/", "1.3", "KiB"],
            ["put", "150", "files", "guides/", "150", "KiB"],
        ]
        assert len(seen.out.splitlines()) < 12
        assert len(rest(workspace, seen).json()["mirrors"]["docs"]["actions"]) == 301


def test_the_rest_of_the_problems_is_one_command_away(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for number in range(25):
            workspace.write(f"empty-{number}.md", "")
        dry = workspace.syncd("reconcile", "--dry-run")
        assert "… and 5 more: syncd plan docs --json" in dry.out
        assert len(rest(workspace, dry).json()["mirrors"]["docs"]["problems"]) == 25
        for command in ("reconcile", "status"):
            seen = workspace.syncd(command)
            assert seen.out.count("empty-") == 20
            assert rest(workspace, seen).out.count("empty-") == 25


def test_a_list_shows_files_with_and_without_an_entry_by_key(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a/1.md")
        workspace.write("a/2.md", "")
        workspace.write("a/3.md")
        workspace.write("ab.md")
        assert workspace.syncd("reconcile").code == 0
        for arguments, keys in (
            ((), ["a/1.md", "a/2.md", "a/3.md", "ab.md"]),
            (("--folder", "a"), ["a/1.md", "a/2.md", "a/3.md"]),
        ):
            rows = workspace.syncd("ls", *arguments, "--json").json()["items"]
            assert [row["key"] for row in rows] == keys
            assert [row["state"] for row in rows[:3]] == ["synced", "rejected: empty", "synced"]
