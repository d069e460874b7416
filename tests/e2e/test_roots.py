"""A root that is removed, emptied or replaced under a running daemon causes no delete."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, Workspace, open_workspace, until


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Workspace, Daemon]]:
    with open_workspace(tmp_path) as workspace:
        # A halted mirror makes a full pass at every interval.
        workspace.configure(mirror="reconcile_interval = 2")
        for number in range(15):
            workspace.write(f"part/{number}.md", f"text {number}")
        with workspace.daemon() as daemon:
            workspace.in_step()
            workspace.remote.forget_requests()
            yield workspace, daemon


@pytest.mark.slow
def test_a_root_that_is_away_for_a_while_causes_no_upload_and_no_delete(running: tuple[Workspace, Daemon]) -> None:
    workspace, daemon = running
    workspace.docs.rename(workspace.path / "away")
    daemon.saw("mirror.halted")
    halted = workspace.status()
    assert (halted["state"], "nothing was deleted" in halted["detail"]) == ("halted", True)
    assert workspace.remote.counted()["changing"] == 0
    (workspace.path / "away").rename(workspace.docs)
    workspace.write("new.md", "written after the return")
    workspace.in_step()
    assert workspace.remote.counted()["changing"] == 1


@pytest.mark.slow
def test_an_emptied_root_halts_the_mirror_until_its_files_are_back(running: tuple[Workspace, Daemon]) -> None:
    workspace, daemon = running
    (workspace.docs / "part").rename(workspace.path / "part")
    daemon.saw("mirror.halted")
    assert "is empty, but 15 of its files are known" in workspace.status()["detail"]
    assert workspace.remote.counted()["changing"] == 0
    (workspace.path / "part").rename(workspace.docs / "part")
    until(lambda: workspace.status()["state"] == "idle")
    workspace.in_step()
    assert workspace.remote.counted()["changing"] == 0


def test_a_folder_that_is_renamed_into_place_is_followed(running: tuple[Workspace, Daemon]) -> None:
    workspace, daemon = running
    shutil.copytree(workspace.docs, workspace.path / "next")
    (workspace.path / "next/part/0.md").write_text("of the new release")
    (workspace.path / "next/part/1.md").unlink()
    workspace.docs.rename(workspace.path / "former")
    (workspace.path / "next").rename(workspace.docs)
    workspace.in_step()
    workspace.write("part/2.md", "edited in the new folder")
    workspace.in_step()
    assert daemon.events("mirror.halted") in ([], daemon.events("mirror.halted")[:1])


def test_a_file_in_place_of_the_root_halts_the_mirror(running: tuple[Workspace, Daemon]) -> None:
    workspace, daemon = running
    workspace.docs.rename(workspace.path / "away")
    workspace.docs.write_text("no folder")
    daemon.saw("mirror.halted")
    until(lambda: "is no directory" in str(workspace.status().get("detail")))
    assert workspace.remote.counted()["changing"] == 0
