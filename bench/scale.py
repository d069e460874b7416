"""Many files: what passes over them cost, and what the daemon costs while nothing happens."""

import time
from pathlib import Path

from bench.table import Figure
from bench.world import Room, Sizes, Standin, room
from syncd.paths import Rules
from syncd.scan import Tree
from syncd.targets.base import Limits

MEMORY_MB = 80.0
CPU_PERCENT = 1.0
REST_S = 3.0
"""After the pass at the daemon's start: its first looks at the index are over, too."""


def many(sizes: Sizes) -> list[Figure]:
    """A first pass, one with nothing to do, then the daemon at rest; on a line without latency."""
    with Standin() as standin, room(standin, sizes.many, sizes.folders) as here:
        return [*_passes(here, sizes), *_idle(here, sizes)]


def _passes(here: Room, sizes: Sizes) -> list[Figure]:
    """Processor time per uploaded file: that of the first pass less that of the second."""
    first, second = here.reconcile(), here.reconcile()
    n = f"{sizes.many:,} files"
    return [
        Figure(f"scan of {n} alone", _scan_s(here.tree), "s"),
        Figure(f"first pass of {n}", first.elapsed_s, "s"),
        Figure("… processor time per uploaded file", (first.cpu_s - second.cpu_s) / sizes.many * 1e3, "ms"),
        Figure("… peak memory", first.peak_mb, "MB"),
        Figure(f"pass of {n}, nothing to do", second.elapsed_s, "s"),
        Figure("… processor time", second.cpu_s, "s"),
        Figure("… peak memory", second.peak_mb, "MB"),
    ]


def _idle(here: Room, sizes: Sizes) -> list[Figure]:
    """Resident memory after, and processor time over, so many seconds in which nothing happens."""
    with here.run() as daemon:
        daemon.wait_for("pass.done", scope="all")
        time.sleep(REST_S)
        began, before = time.monotonic(), daemon.cpu_s()
        time.sleep(sizes.idle_s)
        percent = (daemon.cpu_s() - before) / (time.monotonic() - began) * 100
        resident, peak = daemon.memory_mb()
    where = f"run at rest, {sizes.many:,} files"
    return [
        Figure(f"{where}: resident memory", resident, "MB", MEMORY_MB),
        Figure(f"{where}: peak memory", peak, "MB", MEMORY_MB),
        Figure(f"{where}: processor, over {sizes.idle_s:.0f} s", percent, "%", CPU_PERCENT),
    ]


def _scan_s(tree: Path) -> float:
    """Seconds for the sorted walk alone, the folder's names in the kernel's cache."""
    began = time.perf_counter()
    for _ in Tree(tree, Rules(), Limits()).walk():
        pass
    return time.perf_counter() - began
