"""Finds out whether the remote can be reached while no mirror has a request to send.

Each look is a connection without a request, so it costs nothing of the quota.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

import structlog

from syncd.cloudflare.connection import Fault
from syncd.service.worker import MirrorWorker

READ_EVERY_S = 2.0
"""Seconds between two looks while a person reads the state, on the page or by `status`."""
READER_S = 5.0
"""Seconds after the last reading of the state for which a person counts as a reader."""
FAULT_EVERY_S = 10.0
"""Seconds between two looks without a reader, after a fault."""
IDLE_EVERY_S = 60.0
"""Seconds between two looks without a reader, if the remote can be reached."""
FRESH_S = 1.0
"""Minimum seconds from the end of a look to the next look."""
LIMIT_S = 2.0
"""Maximum seconds of a name lookup, and of a connection. A lost packet is sent again after a second."""
RETRY_PAUSE_S = 0.3
"""A connection that fails sooner than FRESH_S is tried once more after this pause in seconds."""

log = structlog.get_logger()


class IdleLook:
    """Looks for all mirrors of a config. find_fault: makes a connection. clock: returns seconds of a steady clock."""

    def __init__(
        self,
        find_fault: Callable[[], Awaitable[Fault | None]],
        workers: Sequence[MirrorWorker],
        clock: Callable[[], float],
    ) -> None:
        self._find_fault = find_fault
        self._workers = workers
        self._clock = clock
        self._fault: str | None = None
        # The first pass looks by itself.
        self._looked_at = clock()
        self._read_at = -math.inf
        self._looking = asyncio.Lock()

    def note_reader(self) -> None:
        """Note that a person reads the state."""
        self._read_at = self._clock()

    async def run(self) -> None:
        """Look when it is time, until cancelled."""
        while True:
            if self._clock() - self._looked_at >= self._pause_s():
                await self.look()
            await asyncio.sleep(FRESH_S)

    async def look(self) -> None:
        """Look now, unless the last look is fresh, and show the result in the states of the mirrors at rest."""
        async with self._looking:
            if self._clock() - self._looked_at < FRESH_S:
                return
            resting = [worker for worker in self._workers if worker.status.at_rest]
            fault = await self._find_lasting() if resting else None
            self._looked_at = self._clock()
            if not resting:
                return
            if fault != self._fault:
                self._log(fault)
            self._fault = fault
            for worker in resting:
                # The answer to a request that was sent in the meantime is newer.
                if worker.status.at_rest:
                    worker.status.contact.looked(fault, self._pause_s())
                    worker.status.look()

    async def _find_lasting(self) -> str | None:
        """Return a fault that lasts, None if the remote can be reached."""
        began = self._clock()
        fault = await self._find_fault()
        if fault and not self._fault and self._clock() - began < FRESH_S:
            await asyncio.sleep(RETRY_PAUSE_S)
            fault = await self._find_fault()
        return f"could not connect: {fault.message}" if fault else None

    def _has_reader(self) -> bool:
        return self._clock() - self._read_at < READER_S

    def _pause_s(self) -> float:
        if self._has_reader():
            return READ_EVERY_S
        return FAULT_EVERY_S if self._fault else IDLE_EVERY_S

    def _log(self, fault: str | None) -> None:
        if fault:
            log.warning("remote.unreachable", why=fault, consequence="it is tried again; idle mirrors are degraded")
        elif self._fault:
            log.info("remote.reachable")
