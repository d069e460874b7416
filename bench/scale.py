"""Many files: the cost of passes, and the cost of an idle daemon."""

import time
from dataclasses import dataclass

from bench.process import Run
from bench.table import Figure
from bench.walk import seconds
from bench.workspace import HOUR_S, Sizes, Standin, Workspace, cool, workspace
from syncd.targets.kv.target import LAG_S

MEMORY_MB = 70.0
CPU_PERCENT = 0.5
NOTHING = 5
"""Most requests of a no-op pass over AI Search."""
NOTHING_AT_LEAST = 2
"""One request for the counts, one for the newest page."""
AUDIT_LAG_S = 61.0
"""Seconds after the last upload until syncd trusts the counts of the remote."""
REST_S = 3.0
"""Seconds after the first pass of the daemon, until its first polls of the index are over."""
MILLION_MB = 300.0
LINEAR = 1.1
"""Ten times the files may take eleven times the time."""
LONG_S = 3 * HOUR_S


def many(sizes: Sizes) -> list[Figure]:
    """Measure a first pass, the passes after it, and the idle daemon, without latency."""
    with Standin() as standin, workspace(standin, sizes.many, sizes.folders) as here:
        return [*_passes(standin, here, sizes), *_idle(here, sizes)]


def _passes(standin: Standin, here: Workspace, sizes: Sizes) -> list[Figure]:
    """Measure the first pass, the requests of the passes after it, and a pass that lists everything.

    The processor time for one file is the difference between the first and the second pass, which walk the same folder.
    """
    n = f"{sizes.many:,} files"
    first = here.reconcile()
    time.sleep(AUDIT_LAG_S)
    second, asked_second = _counted(standin, here)
    third, asked_third = _counted(standin, here)
    listing, asked_listing = _counted(standin, here, "--full")
    floor = seconds(here.tree)
    title = f"pass of {n}, nothing to do: requests"
    return [
        Figure(f"AI Search: first pass of {n} at 0 ms", first.elapsed_s, "s"),
        Figure("… processor time for one file", (first.cpu_s - second.cpu_s) / sizes.many * 1e3, "ms"),
        Figure("… peak memory", first.peak_mb, "MB"),
        Figure(f"AI Search: second {title}", asked_second, reach=NOTHING, exact=True, floor=NOTHING_AT_LEAST),
        *_cost(second, floor),
        Figure(f"AI Search: third {title}", asked_third, reach=NOTHING, exact=True, floor=NOTHING_AT_LEAST),
        *_cost(third, floor),
        Figure(f"AI Search: listing {title} (--full)", asked_listing),
        *_cost(listing, floor),
    ]


def _counted(standin: Standin, here: Workspace, *options: str) -> tuple[Run, int]:
    standin.reset()
    run = here.reconcile(*options)
    asked: int = standin.requests()["total"]
    return run, asked


def _cost(run: Run, floor: float) -> list[Figure]:
    return [
        Figure("… time", run.elapsed_s, "s", floor=floor),
        Figure("… processor time", run.cpu_s, "s"),
        Figure("… peak memory", run.peak_mb, "MB"),
    ]


def _idle(here: Workspace, sizes: Sizes) -> list[Figure]:
    """Return the memory and processor time of some idle seconds, and of one pass.

    The load of an hour is computed from the load at rest and from one pass. Here the pass comes sooner.
    """
    with here.run(interval=sizes.idle_s + 2 * REST_S) as daemon:
        daemon.wait_for("pass.done", scope="all")
        time.sleep(REST_S)
        began, before = time.monotonic(), daemon.cpu_s()
        time.sleep(sizes.idle_s)
        at_rest = (daemon.cpu_s() - before) / (time.monotonic() - began)
        before = daemon.cpu_s()
        daemon.wait_for("pass.done", times=2, scope="all")
        time.sleep(REST_S)
        one_pass = daemon.cpu_s() - before
        resident, peak = daemon.memory_mb()
    where = f"idle run, {sizes.many:,} files"
    hourly = (at_rest + one_pass / HOUR_S) * 100
    return [
        Figure(f"{where}: resident memory after a pass", resident, "MB", MEMORY_MB),
        Figure("… peak memory", peak, "MB", MEMORY_MB),
        Figure(f"{where}: processor, with a pass an hour", hourly, "%", CPU_PERCENT),
        Figure(f"… without one, over {sizes.idle_s:.0f} s", at_rest * 100, "%"),
        Figure("… processor time of one pass", one_pass, "s"),
    ]


def million(sizes: Sizes) -> list[Figure]:
    """Measure the first and the no-op pass over 100,000 and over 1,000,000 files in Workers KV, at 0 ms."""
    small, large = _both(sizes.million // 10), _both(sizes.million)
    n = f"{large.files:,} to {small.files:,} files"
    first, idle = large.first.elapsed_s / small.first.elapsed_s, large.idle.elapsed_s / small.idle.elapsed_s
    return [
        *small.figures(),
        *large.figures(),
        Figure(f"KV: time of a first pass, {n}", first, "x", LINEAR * 10, floor=10),
        Figure(f"KV: time of a no-op pass, {n}", idle, "x", LINEAR * 10, floor=10),
    ]


@dataclass(frozen=True, slots=True)
class _Size:
    """Return the seconds and MB of both passes over a number of files."""

    files: int
    first: Run
    idle: Run

    def figures(self) -> list[Figure]:
        n = f"{self.files:,} files at 0 ms"
        return [
            Figure(f"KV: first pass of {n}", self.first.elapsed_s, "s"),
            Figure("… peak memory", self.first.peak_mb, "MB", MILLION_MB),
            Figure(f"KV: no-op pass of {n}", self.idle.elapsed_s, "s"),
            Figure("… peak memory", self.idle.peak_mb, "MB", MILLION_MB),
        ]


def _both(files: int) -> _Size:
    with Standin() as standin, workspace(standin, files, folders=1_000, kind="kv") as here:
        cool(here.tree)
        first = here.reconcile(longest_s=LONG_S)
        # Shortly after a write, the journal counts more than the listing. In use, an hour lies between two passes.
        time.sleep(LAG_S + 1)
        return _Size(files, first, here.reconcile(longest_s=LONG_S))
