"""The peak memory of a pass over many large files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FILES, SIZE = 100, 4_000_000


def test_a_pass_over_400_mb_of_binary_files_stays_below_200_mb(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 100_000_000:
        pytest.skip("less than 100 MB of disk are free")
    root = tmp_path / "root"
    root.mkdir()
    for number in range(FILES):
        # Sparse on disk; 0xff is no UTF-8, so every value travels as base64, a third larger than the file.
        with (root / f"{number}.bin").open("wb") as file:
            file.write(b"\xff%d" % number)
            file.truncate(SIZE)
    child = [sys.executable, str(Path(__file__).with_name("kv_child.py")), str(root), str(tmp_path / "state")]
    done = subprocess.run(child, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["put"] == FILES
    assert sum(result["bodies"]) > FILES * SIZE * 4 / 3
    assert max(result["bodies"]) <= 90_000_000
    assert result["peak_mb"] < 200
