"""The delete guard in a running daemon and over restarts, and journals of another folder or target."""

import shutil
import time
from pathlib import Path

import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import serve
from tests.e2e.harness import Workspace, open_workspace, until


def fill(workspace: Workspace, files: int = 60) -> None:
    for number in range(files):
        workspace.write(f"d{number % 6}/{number}.md", f"text {number}")


@pytest.mark.slow
def test_a_slow_rm_of_most_files_is_refused_as_one_plan_and_over_a_restart(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.config.write_text(workspace.config.read_text().replace("settle = 0.05", "settle = 0.4"))
        fill(workspace, 48)
        with workspace.daemon() as daemon:
            workspace.in_step(very_bytes=False)
            # A slow rm -r takes longer than `settle` in all, and never that long between two files.
            for path in sorted(workspace.docs.rglob("*.md"))[:32]:
                path.unlink()
                time.sleep(0.04)
            daemon.saw("mirror.halted")
            assert len(workspace.remote.items()) >= 38, "at most the ten deletes that are always allowed"
            detail = workspace.status()["detail"]
            for part in ("max_delete = 25%", "syncd plan docs", "syncd approve docs-"):
                assert part in detail
            left = len(workspace.remote.items())
        assert workspace.status()["state"] == "halted", "also without a daemon"
        shutil.rmtree(workspace.docs / "d5")
        with workspace.daemon() as daemon:
            daemon.saw("mirror.halted")
            assert len(workspace.remote.items()) == left
            assert workspace.status()["state"] == "halted"
        dry = workspace.syncd("reconcile", "--dry-run", "docs")
        assert "a run would refuse the deletes" in dry.out
        assert workspace.syncd("reconcile", "docs").code == 4
        assert workspace.syncd("reconcile", "--force", "docs").code == 0
        assert workspace.status()["state"] == "idle"
        assert len(workspace.remote.items()) == len(list(workspace.docs.rglob("*.md")))


def test_entries_of_excluded_files_are_deleted_on_request_only(workspace: Workspace) -> None:
    fill(workspace, 12)
    assert workspace.syncd("reconcile").code == 0
    for rules in ('exclude = ["d1/"]', 'include = ["d0/**"]', 'exclude = ["d1/"]\nprune = "all"'):
        workspace.configure(mirror=rules)
        assert workspace.syncd("reconcile").code == 0
        assert len(workspace.remote.items()) == 12, rules
    workspace.configure(mirror='exclude = ["d1/"]\nprune = "never"')
    assert workspace.syncd("reconcile", "--delete-excluded").code == 0
    assert len(workspace.remote.items()) == 12
    workspace.configure(mirror='exclude = ["d1/"]')
    assert workspace.syncd("reconcile", "--delete-excluded").code == 0
    assert {item["key"].partition("/")[0] for item in workspace.remote.items()} == {"d0", "d2", "d3", "d4", "d5"}


def test_another_folder_causes_no_mass_delete_and_a_copy_no_upload(workspace: Workspace) -> None:
    fill(workspace, 20)
    assert workspace.syncd("reconcile").code == 0
    workspace.remote.forget_requests()
    other = workspace.path / "other"
    other.mkdir()
    (other / "one.md").write_text("another folder")
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace(f'path = "{workspace.docs}"', f'path = "{other}"'))
    ended = workspace.syncd("reconcile")
    assert (ended.code, "root.changed" in ended.err) == (4, True)
    assert workspace.remote.counted()["changing"] == 1, (
        "the file of the other folder is uploaded, and nothing is deleted"
    )
    copy = workspace.path / "copy"
    shutil.copytree(workspace.docs, copy)
    workspace.config.write_text(config.replace(f'path = "{workspace.docs}"', f'path = "{copy}"'))
    assert workspace.syncd("reconcile").code == 0
    assert workspace.remote.counted()["changing"] == 2, "and its entry is deleted again"


def test_after_a_change_of_base_url_the_journal_is_not_used(workspace: Workspace) -> None:
    fill(workspace, 12)
    assert workspace.syncd("reconcile").code == 0
    with serve(EmulatorOptions(index_delay=0.0)) as elsewhere:
        config = workspace.config.read_text()
        workspace.config.write_text(config.replace(workspace.server.base_url, elsewhere.base_url))
        assert "first pass about" in workspace.syncd("check").out
        ended = workspace.syncd("reconcile", "--json")
        seen = ended.json()["mirrors"]["docs"]
        assert "journal.rebound" in ended.err
        assert {action["reason"] for action in seen["actions"]} == {"new"}, (
            "not missing, because nobody deleted them there"
        )
    workspace.config.write_text(config)
    workspace.remote.forget_requests()
    back = workspace.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert {action["action"] for action in back["actions"]} == {"adopt"}
    assert workspace.remote.counted()["changing"] == 0


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('instance = "docs"', 'instance = "other"'),
        ('instance = "docs"', 'instance = "docs"\nnamespace = "other"'),
        ("settle = 0.05", 'settle = 0.05\nkey_prefix = "p/"'),
        ("0123456789abcdef0123456789abcdef", "f123456789abcdef0123456789abcdef"),
    ],
)
def test_a_change_of_target_and_back_causes_no_delete_and_no_upload(workspace: Workspace, was: str, now: str) -> None:
    fill(workspace, 12)
    assert workspace.syncd("reconcile").code == 0
    config = workspace.config.read_text()
    workspace.config.write_text(config.replace(was, now))
    seen = workspace.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert {(action["action"], action["reason"]) for action in seen["actions"]} == {("put", "new")}
    workspace.config.write_text(config)
    workspace.remote.forget_requests()
    back = workspace.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert "put" not in {action["action"] for action in back["actions"]}, back
    wanted = {f"d{number % 6}/{number}.md" for number in range(12)}
    assert wanted <= {item["key"] for item in workspace.remote.items()}


def test_a_second_process_on_the_same_state_is_refused(workspace: Workspace) -> None:
    fill(workspace, 3)
    with workspace.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        ended = workspace.syncd("run")
        assert (ended.code, str(daemon.pid) in ended.err) == (11, True)
    until(lambda: workspace.syncd("reconcile").code == 0)
