"""The daemon waits while the machine has no descriptors left, at its start and at work. A command ends and says why."""

import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from syncd.core.errors import EXIT_HALT
from tests.e2e.harness import PATIENCE_S, Workspace, open_workspace, until

_, HARD = resource.getrlimit(resource.RLIMIT_NOFILE)


@contextmanager
def daemon_with(workspace: Workspace, limit: int) -> Iterator[subprocess.Popen[str]]:
    """Run a daemon that may open few files."""
    command = ["sh", "-c", f'ulimit -S -n {limit}; exec "$@"', "sh", *workspace.command("--log-format", "json", "run")]
    log = (workspace.path / "log").open("w")
    with log, subprocess.Popen(command, env=workspace.env(), cwd=workspace.path, stderr=log, text=True) as daemon:
        try:
            yield daemon
        finally:
            daemon.kill()


@pytest.mark.slow
@pytest.mark.parametrize("limit", [10, 13, 16])
def test_a_daemon_that_starts_without_descriptors_begins_once_there_are_some(tmp_path: Path, limit: int) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md", "text")
        log = workspace.path / "log"
        with daemon_with(workspace, limit) as daemon:
            until(lambda: any(text in log.read_text() for text in ("Too many open files", "limit of open files")))
            resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (HARD, HARD))
            until(lambda: workspace.syncd("status").code == 0)
            workspace.in_step()
            daemon.send_signal(signal.SIGTERM)
            assert daemon.wait(PATIENCE_S) == 0
        assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_a_command_without_descriptors_ends_as_halted_with_the_remedy(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md", "text")
        assert workspace.syncd("reconcile").code == 0
        for limit in (6, 8, 10, 12, 13, 14, 16, 20):
            line = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *workspace.command("reconcile")]
            done = subprocess.run(
                line, env=workspace.env(), cwd=workspace.path, capture_output=True, text=True, check=False
            )
            assert done.returncode in (0, 1, EXIT_HALT), (limit, done)
            if done.returncode == EXIT_HALT:
                assert "raise the limit of open files" in done.stderr, (limit, done)
            assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("start", ["time.sleep(999)", "raise_error()"])
def test_a_signal_ends_a_process_that_cannot_start_a_thread(start: str) -> None:
    """Without memory, Thread.start waits forever for a thread that has died, or raises RuntimeError."""
    code = f"""
import _thread, threading, time
from syncd.service import signals
def raise_error(): raise RuntimeError("can't start new thread")
def refuse(*_): {start}
signals.install(print)
if "raise" in {start!r}: _thread.start_new_thread = refuse
threading.Thread.start = refuse
while True:
    try:
        print("ready", flush=True)
        while True: time.sleep(1)
    except signals.Interrupted: pass
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.wait(8) == 128 + signal.SIGTERM
        finally:
            process.kill()
