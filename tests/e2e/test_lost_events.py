"""A daemon that was stopped, flooded with events or given a whole tree ends with the exact folder."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Room, open_room, until

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        yield room


@pytest.mark.skipif(not QUEUE.exists(), reason="no inotify here")
def test_a_daemon_that_lost_events_ends_with_the_exact_folder(room: Room) -> None:
    for number in range(12):
        room.write(f"old/{number}.md", f"text {number}")
    noise = [room.write("noise/1.md", "x"), room.write("noise/2.md", "x")]
    with room.daemon() as daemon:
        room.in_step()
        daemon.send(signal.SIGSTOP)
        until(lambda: Path(f"/proc/{daemon.pid}/stat").read_text().split()[2] == "T")
        # Alternating files, because the kernel merges an event with an equal one before it.
        for number in range(int(QUEUE.read_text()) + 1_000):
            os.utime(noise[number % 2])
        shutil.rmtree(room.docs / "noise")
        room.write("old/3.md", "edited unseen")
        (room.docs / "old/4.md").unlink()
        (room.docs / "old/5.md").rename(room.docs / "moved.md")
        room.write("made/unseen/a.md", "new")
        daemon.send(signal.SIGCONT)
        daemon.saw("watch.overflow")
        room.in_step()
        room.write("made/unseen/b.md", "after the rebuild")
        room.in_step()
    room.nothing_left_to_do()


def test_a_tree_that_is_made_under_a_running_daemon_is_uploaded(room: Room) -> None:
    # Few files. 50,000 were tested by hand, and their uploads take minutes.
    room.write("first.md")
    with room.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        for number in range(200):
            room.write(f"n{number % 4}/s{number % 20}/x{number % 100}/{number}.md", f"text {number}")
        room.in_step(very_bytes=False)
        assert daemon.events("mirror.halted") == []
    room.nothing_left_to_do()
