"""Reading entries back, byte for byte: a few downloads side by side."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from syncd.core.errors import Halt, NotFound, SyncdError, Unreachable
from syncd.core.model import Entry
from syncd.targets.base import Fetched

AT_ONCE = 4
"""Contents that are held at a time, each read by a request of its own."""


async def one_by_one(
    entries: Sequence[Entry], read: Callable[[Entry], Awaitable[bytes]]
) -> AsyncIterator[tuple[Entry, Fetched]]:
    """Yield what `read` returns of every entry, in their order, at most AT_ONCE at a time."""
    waiting = iter(entries)
    running: deque[tuple[Entry, asyncio.Task[Fetched]]] = deque()
    try:
        while True:
            while len(running) < AT_ONCE and (entry := next(waiting, None)):
                running.append((entry, asyncio.ensure_future(_outcome(read(entry)))))
            if not running:
                return
            first, task = running[0]
            fetched = await task
            running.popleft()
            yield first, fetched
            del fetched, task
    finally:
        for _, task in running:
            task.cancel()
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)


async def _outcome(reading: Awaitable[bytes]) -> Fetched:
    """What became of one entry; only what stops every other one too is raised."""
    try:
        return await reading
    except NotFound:
        return None
    except (Halt, Unreachable):
        raise
    except SyncdError as error:
        return error
