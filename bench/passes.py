"""Whole passes: how many requests they make, and how long they take when every request has to be waited for."""

import sys

from bench.table import Figure
from bench.world import Sizes, Standin, measured, room

LATENCY_S = 0.02
TRANSFERS = 8
EXTRA = 1.05
"""A first pass may make 5 % more requests than there are files."""
SLACK = 1.2


def counted(sizes: Sizes) -> list[Figure]:
    """Requests of a first and a second pass, by the stand-in's own count; files read, by syncd's log."""
    n = sizes.files
    with Standin() as standin, room(standin, n) as here:
        standin.reset()
        here.reconcile()
        first = standin.requests()["total"]
        standin.reset()
        run = here.reconcile(log=True)
        second = standin.requests()
    return [
        Figure(f"requests, first pass of {n:,} files", first, limit=n * EXTRA, exact=True),
        Figure("changing requests, second pass", second["changing"], limit=0, exact=True),
        Figure("files read, second pass", run.last("pass.done")["files_read"], limit=0, exact=True),
        Figure("requests, second pass (the listing)", second["total"]),
    ]


def bulk(sizes: Sizes) -> list[Figure]:
    """The same for Workers KV, where one request carries a thousand files: counts by the stand-in, memory of syncd."""
    n = sizes.bulk_files
    with Standin() as standin, room(standin, n, folders=100, kind="kv") as here:
        first_run = here.reconcile()
        first = standin.requests()
        standin.reset()
        run = here.reconcile(log=True)
        second = standin.requests()
    return [
        Figure(f"KV: changing requests, first pass of {n:,} files", first["changing"], limit=n * 1.5e-3, exact=True),
        Figure("KV: requests, second pass", second["total"], limit=n / 1000 + 2, exact=True),
        Figure("KV: changing requests, second pass", second["changing"], limit=0, exact=True),
        Figure("KV: files read, second pass", run.last("pass.done")["files_read"], limit=0, exact=True),
        Figure(f"KV: first pass of {n:,} files", first_run.elapsed_s, "s"),
        Figure("KV: second pass", run.elapsed_s, "s"),
        Figure("KV: … peak memory", run.peak_mb, "MB"),
    ]


def timed(sizes: Sizes) -> list[Figure]:
    """A first pass over a slow line, beside what the line alone takes with eight requests in flight.

    Start-up is the time of a pass of one file that has nothing to do, on the same line. Of each the best of a few
    rounds, one after the other: whatever else the machine does only ever adds. Beside it a bare HTTP loop with the
    same library and no sync around it shows what the machine and the stand-in leave of the line.
    """
    n = sizes.files
    starts, passes, cpus, bare = [], [], [], []
    with Standin(latency=LATENCY_S) as standin, room(standin, n) as full, room(standin, 1) as single:
        single.reconcile()
        for _ in range(sizes.rounds):
            starts.append(single.reconcile().elapsed_s)
            run = full.reconcile()
            passes.append(run.elapsed_s)
            cpus.append(run.cpu_s)
            bare.append(measured([sys.executable, "-m", "bench.bare", full.target(), str(full.tree)]).elapsed_s)
            full.fresh()
    limit = SLACK * n / TRANSFERS * LATENCY_S + min(starts)
    return [
        Figure(f"first pass of {n:,} files at {LATENCY_S * 1e3:.0f} ms", min(passes), "s", limit),
        Figure("… of which start-up (no-op pass of 1 file)", min(starts), "s"),
        Figure("… processor time", min(cpus), "s"),
        Figure("… beside it: a bare HTTP loop, same uploads", min(bare), "s"),
    ]
