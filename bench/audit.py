"""What a full pass asks for when nothing has changed, over an instance of many items."""

import time

from bench.table import Figure
from bench.world import Sizes, Standin, room

MOST = 5
"""Requests of a pass that finds nothing changed, however many items there are."""
LAG_S = 61.0
"""So long after the last upload the remote's numbers are believed to know it."""


def idle(sizes: Sizes) -> list[Figure]:
    """The passes after a first one, by the stand-in's own count; then one that lists everything, to compare."""
    n = sizes.audited
    with Standin() as standin, room(standin, n, sizes.folders) as here:
        here.reconcile()
        time.sleep(LAG_S)
        figures = []
        for name, command in (("second", ()), ("third", ()), ("listing", ("--full",))):
            standin.reset()
            run = here.reconcile(*command)
            asked = standin.requests()
            limit = None if command else MOST
            figures += [
                Figure(f"requests, {name} pass of {n:,} files", asked["total"], limit=limit, exact=not command),
                Figure("… time", run.elapsed_s, "s"),
                Figure("… peak memory", run.peak_mb, "MB"),
            ]
    return figures
