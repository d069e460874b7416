"""The machine that these tests boot: whatever ends a test, nothing of it is left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.harness import until
from tests.system.machine import Machine, booted

pytestmark = pytest.mark.slow


def groups(pid: int) -> list[Path]:
    """The cgroups that a process has made for its machines."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if " cgroup2 " in line]
    return [found for mount in mounts for found in Path(mount).glob(f"syncd-test-{pid}.*")]


def test_a_test_that_fails_leaves_no_process_no_mount_and_no_cgroup(machine: Machine, tmp_path: Path) -> None:
    before = groups(os.getpid())

    def fails() -> None:
        with booted(tmp_path) as made:
            pids.append(made.pid)
            made.does("systemd-run", "-q", "sleep", "3600")
            assert len(groups(os.getpid())) == len(before) + 1
            raise ZeroDivisionError

    pids = [machine.pid]
    with pytest.raises(ZeroDivisionError):
        fails()
    assert [Path(f"/proc/{pid}").exists() for pid in pids] == [True, False]
    assert groups(os.getpid()) == before
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert list((tmp_path / "root").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.system.machine import booted
with booted(Path(sys.argv[1])) as made:
    print(os.getpid(), made.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_test_run_that_is_killed_takes_its_machine_along(machine: Machine, tmp_path: Path) -> None:
    del machine
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    killed, pid = map(int, ended.stdout.split())
    left = groups(killed)
    assert left
    until(lambda: not Path(f"/proc/{pid}").exists())
    (tmp_path / "next").mkdir()
    with booted(tmp_path / "next"):
        assert [group for group in left if group.exists()] == []
