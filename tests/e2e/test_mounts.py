"""If the root or a folder in it is a mount that vanishes, returns empty or uncovers another, nothing is deleted."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.parametrize("child", ["mounts_child.py", "inner_mounts_child.py"])
def test_an_unmount_and_a_new_mount_delete_nothing(tmp_path: Path, child: str) -> None:
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare, so no mounts of our own")
    own = ["-m"] if os.geteuid() == 0 else ["-Urm"]
    ended = subprocess.run(
        [unshare, *own, sys.executable, str(HERE / child), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{HERE.parents[1]}:{HERE}"},
    )
    if ended.returncode == 3 or "unshare" in ended.stderr.split(":")[0]:
        pytest.skip(f"no mounts of our own: {(ended.stdout + ended.stderr).strip()}")
    assert (ended.returncode, ended.stdout) == (0, "done\n"), ended.stderr
