"""check and a dry run say what the ceilings of the plans leave. They never refuse anything."""

from pathlib import Path

import pytest

from tests.e2e.harness import Workspace, open_workspace

KV = '[mirrors.docs.target]\ntype = "kv"\nnamespace_title = "docs"\ncreate = true\n'


def capacity(workspace: Workspace) -> list[tuple[str, str]]:
    """Return the level and the text of each line that check prints about a ceiling, in the words of a dry run."""
    checks = workspace.syncd("check", "--json").json()["checks"]
    whats = [line["what"] for line in checks]
    assert len(whats) == len(set(whats)), "no line repeats the name of another"
    return [
        (line["level"], line["message"] if line["what"] == "docs: capacity" else f"{line['what']}: {line['message']}")
        for line in checks
        if line["what"] == "docs: capacity" or line["what"].startswith(("AI Search", "KV"))
    ]


@pytest.mark.slow
def test_check_and_the_dry_run_say_what_is_left(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for number in range(3):
            workspace.write(f"{number}.md")
        files = (
            "files in the instance, with hybrid search: 0, 3 to come; free plan: 99,997 of 100,000 left; paid plan: "
        )
        files += "499,997 of 500,000 left"
        made = [
            ("ok", files),
            ("ok", "AI Search instances: 0, 1 to come; free plan: 99 of 100 left; paid plan: 4,999 of 5,000 left"),
            ("ok", "AI Search namespaces: 1; any plan: 99 of 100 left"),
        ]
        assert capacity(workspace) == made
        dry = workspace.syncd("reconcile", "--dry-run")
        assert all(f"  {line}\n" in dry.out for _, line in made)
        assert "capacity" not in workspace.syncd("reconcile", "--dry-run", "--json").json()["mirrors"]["docs"]
        assert workspace.remote.counted()["changing"] == 0
        workspace.syncd("reconcile")
        (workspace.docs / "0.md").unlink()
        workspace.write("3.md")
        workspace.write("1.md", "changed")
        assert capacity(workspace)[0][1].startswith(
            "files in the instance, with hybrid search: 3; free plan: 99,997 of"
        )
        assert "search: 3; free plan: 99,997 of" in workspace.syncd("reconcile", "-n").out


def test_a_folder_over_a_ceiling_is_warned_about_and_not_refused(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for number in range(1001):
            workspace.write(f"{number}.md", "x")
        workspace.configure()
        text = workspace.config.read_text().partition("[mirrors.docs.target]")[0]
        workspace.config.write_text(text + KV)
        line = "KV writes of today: an unknown number, 1,001 to come; free plan: 1,000"
        assert capacity(workspace) == [
            ("warn", line),
            ("ok", "KV namespaces: 0, 1 to come; any plan: 999 of 1,000 left"),
        ]
        dry = workspace.syncd("reconcile", "--dry-run", "--json").json()
        assert dry["exit_code"] == 0
        assert dry["mirrors"]["docs"]["capacity"][0] == {
            "what": "KV writes of today",
            "used": None,
            "to_come": 1001,
            "free_plan": 1000,
            "paid_plan": None,
        }
        assert workspace.syncd("reconcile").code == 0
        assert workspace.syncd("plan").out == "docs → kv:docs: 1001 unchanged\n"
