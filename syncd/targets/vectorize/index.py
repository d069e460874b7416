"""One Vectorize index at work: what it holds, as far as we know, and changes to it, which it processes when it can."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from syncd.cloudflare.pages import LISTINGS, CursorRefused
from syncd.cloudflare.vectorize import DELETE_LIMIT, GET_LIMIT, VectorizeIndex
from syncd.cloudflare.vectorize_lines import VectorLines
from syncd.cloudflare.vectorize_models import StoredVector
from syncd.core.errors import Halt, SyncdError, TargetMissing, Unreachable
from syncd.state.caches import Change, Memory
from syncd.targets.halves import by_halves
from syncd.targets.vectorize.ids import parse_ref
from syncd.targets.vectorize.sets import Sets

T = TypeVar("T")
log = structlog.get_logger()

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
"""Between two questions whether a change is processed; it takes some seconds (Vectorize: asynchronous mutations)."""
SPREAD_S = 30.0
"""Clocks of the remote may be so far apart."""
GIVE_UP_S = 600.0
"""A change that has not been seen to be processed for so long is not waited for any more."""


@dataclass(frozen=True, slots=True)
class Line:
    """One vector to upsert: its id and its line of ndjson."""

    id: str
    text: bytes


class VectorStore:
    """What the target knows of its index. clock: seconds since the epoch."""

    def __init__(self, api: VectorizeIndex, memory: Memory) -> None:
        self.api = api
        self.clock: Callable[[], float] = time.time
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._memory = memory
        self._sets: Sets | None = None
        self._dimensions: int | None = None

    async def relist(self) -> Sets:
        """Read all ids. Raises TargetMissing, with which everything that was known is void."""
        for number in range(1, LISTINGS + 1):
            try:
                self._sets = await self._listed()
            except CursorRefused as error:
                if number == LISTINGS:
                    raise
                log.info("listing.again", why=str(error))
            except TargetMissing:
                self._sets = self._dimensions = None
                raise
            else:
                return self._sets
        raise AssertionError("the last listing ends with all ids or an error")

    async def _listed(self) -> Sets:
        sets, ids = Sets(), []
        async for vector_id in self.api.iter_ids():
            ids.append(vector_id)
            if len(ids) == 1000:
                sets.see(ids)
                ids.clear()
        sets.see(ids)
        return sets

    async def known(self) -> Sets:
        """What the last listing said, and our changes since; a listing is made if there was none."""
        return self._sets if self._sets is not None else await self.relist()

    async def dimensions(self) -> int | None:
        """How many numbers its vectors have, if it says so."""
        if self._dimensions is None:
            self._dimensions = (await self.api.info()).dimensions
        return self._dimensions

    async def read(self, ids: Sequence[str]) -> list[StoredVector]:
        """Read vectors; those that are not there are left out, and those that nobody asked for."""
        found: dict[str, StoredVector] = {}
        for part in _slices(ids, GET_LIMIT):
            wanted = frozenset(part)
            found |= {vector.id: vector for vector in await self.api.get_by_ids(part) if vector.id in wanted}
        return list(found.values())

    # -- changing

    async def upsert(self, lines: Sequence[Line]) -> dict[str, SyncdError]:
        """Write vectors, in as many requests as that takes; return id -> error of those that could not be."""
        failed: dict[str, SyncdError] = {}

        async def send(part: Sequence[Line]) -> None:
            body = VectorLines()
            for line in part:
                body.add(line.text)
            await self._change(self.api.upsert(body), self._fresh([line.id for line in part]))

        async for part, answer in by_halves(lines, send):
            if isinstance(answer, SyncdError):
                failed |= {line.id: answer for line in part}
        return failed

    async def drop(self, refs: Iterable[str]) -> dict[str, SyncdError]:
        """Delete all vectors of refs (or a vector that is none of syncd's, by its id); return ref -> error."""
        failed: dict[str, SyncdError] = {}
        parsed = {text: parse_ref(text) for text in refs}
        pairs = [(text, each) for text, ref in parsed.items() for each in (ref.ids() if ref else [text])]
        for part in _slices(pairs, DELETE_LIMIT):
            ids = [vector_id for _, vector_id in part]
            try:
                await self._change(self.api.delete_by_ids(ids))
            except (Halt, Unreachable):
                raise
            except SyncdError as error:
                failed |= {text: error for text, _ in part}
        for text, ref in parsed.items():
            if ref and self._sets is not None and text not in failed:
                self._sets.drop(ref)
        return failed

    def _fresh(self, ids: Sequence[str]) -> str | None:
        """One of the ids that was not there before: that it is there shows that it was written just now."""
        return next((each for each in ids if self._sets is None or not self._sets.holds(each)), None)

    async def _change(self, request: Awaitable[str | None], probe: str | None = None) -> None:
        """Make a change. probe: a vector it writes; without one it deletes."""
        mutation = await request
        before, now = self._memory.last_change(), self.clock()
        since, removes = (before.since, before.removes) if before else (now, False)
        # What an earlier change has yet to delete may be there still.
        shown = None if removes else probe
        theirs = self.api.transport.their_time
        self._memory.changed(Change(mutation, shown, now, since, theirs, removes or probe is None))

    # -- waiting

    async def processed(self, patience_s: float = 0.0) -> bool:
        """Whether the index shows all our changes by now, or within so many seconds."""
        pause = FIRST_PAUSE_S
        while (change := self._memory.last_change()) is not None:
            if await self._shows(change):
                # Another change may have come while we asked.
                if self._memory.last_change() == change:
                    self._memory.changed(None)
                continue
            if patience_s <= 0:
                return False
            await self.sleep(min(pause, patience_s))
            patience_s -= pause
            pause = min(pause * 2, LONGEST_PAUSE_S)
        return True

    async def _shows(self, change: Change) -> bool:
        info = await self.api.info()
        if change.mutation and info.processed_up_to_mutation == change.mutation:
            return True
        # Somebody else's later change may stand there by now; both times are by the remote's own clocks.
        if info.processed_up_to and change.theirs and info.processed_up_to.timestamp() > change.theirs + SPREAD_S:
            return True
        if change.probe and await self.read([change.probe]):
            return True
        if (waited_s := abs(self.clock() - change.at)) > GIVE_UP_S:
            log.warning("mutation.lost", mutation=change.mutation, waited_s=round(waited_s))
            return True
        return False

    def lag_s(self) -> float:
        """For how many seconds back our own changes may not show yet."""
        change = self._memory.last_change()
        return abs(self.clock() - change.since) + 1.0 if change else 0.0


def _slices(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
