"""A root that is removed, emptied or replaced under a running daemon causes no delete."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, Room, open_room, until


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Room, Daemon]]:
    with open_room(tmp_path) as room:
        # A halted mirror makes a full pass at every interval.
        room.configure(mirror="reconcile_interval = 2")
        for number in range(15):
            room.write(f"part/{number}.md", f"text {number}")
        with room.daemon() as daemon:
            room.in_step()
            room.remote.forget_requests()
            yield room, daemon


def test_a_root_that_is_away_for_a_while_causes_no_upload_and_no_delete(running: tuple[Room, Daemon]) -> None:
    room, daemon = running
    room.docs.rename(room.path / "away")
    daemon.saw("mirror.halted")
    halted = room.status()
    assert (halted["state"], "nothing was deleted" in halted["detail"]) == ("halted", True)
    assert room.remote.counted()["changing"] == 0
    (room.path / "away").rename(room.docs)
    room.write("new.md", "written after the return")
    room.in_step()
    assert room.remote.counted()["changing"] == 1


def test_an_emptied_root_halts_the_mirror_until_its_files_are_back(running: tuple[Room, Daemon]) -> None:
    room, daemon = running
    (room.docs / "part").rename(room.path / "part")
    daemon.saw("mirror.halted")
    assert "is empty, but 15 of its files are known" in room.status()["detail"]
    assert room.remote.counted()["changing"] == 0
    (room.path / "part").rename(room.docs / "part")
    until(lambda: room.status()["state"] == "idle")
    room.in_step()
    assert room.remote.counted()["changing"] == 0


def test_a_folder_that_is_renamed_into_place_is_followed(running: tuple[Room, Daemon]) -> None:
    room, daemon = running
    shutil.copytree(room.docs, room.path / "next")
    (room.path / "next/part/0.md").write_text("of the new release")
    (room.path / "next/part/1.md").unlink()
    room.docs.rename(room.path / "former")
    (room.path / "next").rename(room.docs)
    room.in_step()
    room.write("part/2.md", "edited in the new folder")
    room.in_step()
    assert daemon.events("mirror.halted") in ([], daemon.events("mirror.halted")[:1])


def test_a_file_in_place_of_the_root_halts_the_mirror(running: tuple[Room, Daemon]) -> None:
    room, daemon = running
    room.docs.rename(room.path / "away")
    room.docs.write_text("no folder")
    daemon.saw("mirror.halted")
    until(lambda: "is no directory" in str(room.status().get("detail")))
    assert room.remote.counted()["changing"] == 0
