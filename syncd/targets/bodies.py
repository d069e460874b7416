"""Bodies of bulk writes, two at a time: while one is on its way, the next is put together."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from syncd.cloudflare.kv_bulk import Pair
from syncd.targets.base import crew
from syncd.targets.bulk import BULK_BYTES, TRIES, Job, Jobs

Write = Callable[[Jobs, int], Coroutine[Any, Any, Jobs]]
"""Writes a body with so many tries (see in_parts), reports what came of it and returns what is to go again."""


@asynccontextmanager
async def bodies(write: Write) -> AsyncIterator["Bodies"]:
    """Bodies to put pairs into; all are written when the block ends well.

    Raises what `write` raises, wherever the block is by then. However it ends, no request is left under way.
    """
    async with crew() as group:
        made = Bodies(write, group)
        yield made
        await made.finish()


class Bodies:
    """One body on its way, one under construction. What is held of both is never more than one body may have."""

    def __init__(self, write: Write, group: asyncio.TaskGroup) -> None:
        self._write = write
        self._group = group
        self._next = Jobs()
        self._left = Jobs()
        """What goes again and has no room in the next body, which is full then."""
        self._away = Jobs()
        self._task: asyncio.Task[Jobs] | None = None

    async def add(self, job: Job, pair: Pair) -> None:
        """Take one more pair in. Until there is room for it, what is on its way is waited for and what is full sent."""
        tries = 1
        while not self._takes(job, pair):
            if self._task:
                await self.arrived()
            else:
                self._set_off(tries)
                # A remote that stores nothing would give back again and again what takes up the room.
                tries = TRIES

    async def arrived(self) -> None:
        """Wait until no body is on its way."""
        if self._task:
            left = await self._task
            self._task, self._away = None, Jobs()
            self._left = self._next.take(left)

    async def finish(self) -> None:
        """Send what is here, as often as it takes, and wait for it."""
        await self.arrived()
        while self._next.of:
            self._set_off(TRIES)
            await self.arrived()

    def _takes(self, job: Job, pair: Pair) -> bool:
        away = self._away
        # Of two puts of one key the one that arrived last would count.
        if self._task and (job.name in away.of or away.body.size + self._next.body.size + pair.size > BULK_BYTES):
            return False
        return self._next.add(job, pair)

    def _set_off(self, tries: int) -> None:
        self._away, self._next, self._left = self._next, self._left, Jobs()
        self._task = self._group.create_task(self._write(self._away, tries))
