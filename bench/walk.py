"""The minimum of every scan: the names of all files and an lstat of each."""

import os
import time
from collections.abc import Iterator
from pathlib import Path


def seconds(root: Path) -> float:
    """Return the seconds of a scan with a warm kernel cache."""
    began = time.perf_counter()
    for _ in _files(str(root)):
        pass
    return time.perf_counter() - began


def _files(folder: str) -> Iterator[os.stat_result]:
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)
            else:
                yield entry.stat(follow_symlinks=False)
