"""A daemon that was stopped, flooded with events or given a whole tree ends with the exact folder."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from tests.e2e.harness import Workspace, until

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


@pytest.mark.skipif(not QUEUE.exists(), reason="no inotify here")
def test_a_daemon_that_lost_events_ends_with_the_exact_folder(workspace: Workspace) -> None:
    for number in range(12):
        workspace.write(f"old/{number}.md", f"text {number}")
    noise = [workspace.write("noise/1.md", "x"), workspace.write("noise/2.md", "x")]
    with workspace.daemon() as daemon:
        workspace.in_step()
        daemon.send(signal.SIGSTOP)
        until(lambda: Path(f"/proc/{daemon.pid}/stat").read_text().split()[2] == "T")
        # Alternating files, because the kernel merges an event with an equal one before it.
        for number in range(int(QUEUE.read_text()) + 1_000):
            os.utime(noise[number % 2])
        shutil.rmtree(workspace.docs / "noise")
        workspace.write("old/3.md", "edited unseen")
        (workspace.docs / "old/4.md").unlink()
        (workspace.docs / "old/5.md").rename(workspace.docs / "moved.md")
        workspace.write("made/unseen/a.md", "new")
        daemon.send(signal.SIGCONT)
        daemon.saw("watch.overflow")
        workspace.in_step()
        workspace.write("made/unseen/b.md", "after the rebuild")
        workspace.in_step()
    workspace.nothing_left_to_do()


def test_a_tree_that_is_made_under_a_running_daemon_is_uploaded(workspace: Workspace) -> None:
    # Few files. 50,000 were tested by hand, and their uploads take minutes.
    workspace.write("first.md")
    with workspace.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        for number in range(200):
            workspace.write(f"n{number % 4}/s{number % 20}/x{number % 100}/{number}.md", f"text {number}")
        workspace.in_step(very_bytes=False)
        assert daemon.events("mirror.halted") == []
    workspace.nothing_left_to_do()
