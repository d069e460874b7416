"""The content of a Vectorize index as far as it is known, and changes, which the index processes some seconds later."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from syncd.cloudflare.decoding import LISTINGS, CursorRefused
from syncd.cloudflare.vectorize import DELETE_LIMIT, GET_LIMIT, VectorizeIndex
from syncd.cloudflare.vectorize_lines import VectorLines
from syncd.cloudflare.vectorize_models import StoredVector
from syncd.core.errors import Halt, SyncdError, TargetMissing, Unreachable
from syncd.state.caches import EmbeddingCache, IndexChange
from syncd.targets.base import in_halves
from syncd.targets.vectorize.ids import HeldVectors, parse_ref

T = TypeVar("T")
log = structlog.get_logger()

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
"""Seconds between two requests for the progress of a change. A change takes seconds (Vectorize: asynchronous
mutations).
"""
SPREAD_S = 30.0
"""Maximum seconds by which two clocks of the remote differ. The number is an assumption."""
GIVE_UP_S = 600.0
"""Seconds after which a change counts as processed without a proof."""


@dataclass(frozen=True, slots=True)
class EncodedVector:
    """One vector to upsert. line: its line of ndjson."""

    id: str
    line: bytes


class VectorStore:
    """Reads and changes the vectors of one index, and remembers the ids of the last listing."""

    def __init__(self, api: VectorizeIndex, cache: EmbeddingCache) -> None:
        self.api = api
        self.mutations = PendingMutations(api, cache, self.read)
        self._held: HeldVectors | None = None
        self._dimensions: int | None = None

    async def relist(self) -> HeldVectors:
        """List all ids. Raises TargetMissing, and then forgets the index."""
        for number in range(1, LISTINGS + 1):
            try:
                self._held = await self._listed()
            except CursorRefused as error:
                if number == LISTINGS:
                    raise
                log.info("listing.again", why=str(error))
            except TargetMissing:
                self._held = self._dimensions = None
                raise
            else:
                return self._held
        raise AssertionError("the last listing ends with all ids or an error")

    async def _listed(self) -> HeldVectors:
        held, ids = HeldVectors(), []
        async for vector_id in self.api.iter_ids():
            ids.append(vector_id)
            if len(ids) == 1000:
                held.add_ids(ids)
                ids.clear()
        held.add_ids(ids)
        return held

    async def held(self) -> HeldVectors:
        """Return the vectors of the last listing with our changes since. Without a listing, make one."""
        return self._held if self._held is not None else await self.relist()

    async def dimensions(self) -> int | None:
        """Return the dimensions of the index, None if the remote does not give them."""
        if self._dimensions is None:
            self._dimensions = (await self.api.info()).dimensions
        return self._dimensions

    async def read(self, ids: Sequence[str]) -> list[StoredVector]:
        """Return the vectors of these ids. A vector that does not exist is absent."""
        found: dict[str, StoredVector] = {}
        for part in _slices(ids, GET_LIMIT):
            wanted = frozenset(part)
            found |= {vector.id: vector for vector in await self.api.get_by_ids(part) if vector.id in wanted}
        return list(found.values())

    async def upsert(self, vectors: Sequence[EncodedVector]) -> dict[str, SyncdError]:
        """Write vectors, and return the error of each id that failed. Raises Halt and Unreachable."""
        failed: dict[str, SyncdError] = {}

        async def send(part: Sequence[EncodedVector]) -> None:
            body = VectorLines()
            for vector in part:
                body.add(vector.line)
            probe = self._new_id([vector.id for vector in part])
            self.mutations.record(await self.api.upsert(body), probe, removes=probe is None)

        async for part, answer in in_halves(vectors, send):
            if isinstance(answer, SyncdError):
                failed |= {vector.id: answer for vector in part}
        return failed

    async def delete(self, refs: Iterable[str]) -> dict[str, SyncdError]:
        """Delete all vectors of each ref, and return the error of each ref that failed. Raises Halt and Unreachable.

        A ref may also be the id of a foreign vector.
        """
        failed: dict[str, SyncdError] = {}
        parsed = {text: parse_ref(text) for text in refs}
        pairs = [(text, vector_id) for text, ref in parsed.items() for vector_id in (ref.ids() if ref else [text])]
        for part in _slices(pairs, DELETE_LIMIT):
            try:
                self.mutations.record(await self.api.delete_by_ids([vector_id for _, vector_id in part]), removes=True)
            except (Halt, Unreachable):
                raise
            except SyncdError as error:
                failed |= {text: error for text, _ in part}
        for text, ref in parsed.items():
            if ref and self._held is not None and text not in failed:
                self._held.remove(ref)
        return failed

    def _new_id(self, ids: Sequence[str]) -> str | None:
        """Return an id that the index does not hold yet. Once the index shows it, the write is processed."""
        return next((vector_id for vector_id in ids if self._held is None or not self._held.holds(vector_id)), None)


class PendingMutations:
    """Remembers our last change, and finds out whether the index has processed it.

    read: reads vectors by id. clock: returns seconds since the epoch.
    """

    def __init__(
        self, api: VectorizeIndex, cache: EmbeddingCache, read: Callable[[Sequence[str]], Awaitable[list[StoredVector]]]
    ) -> None:
        self.clock: Callable[[], float] = time.time
        self.sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
        self._api = api
        self._cache = cache
        self._read = read

    def record(self, mutation: str | None, probe: str | None = None, *, removes: bool) -> None:
        """Remember a change.

        mutation: its id, if the remote gives one. probe: the id of a new vector. removes: it may remove vectors.
        """
        before, now = self._cache.last_change(), self.clock()
        since, removed = (before.since, before.removes) if before else (now, False)
        # An earlier delete may not be processed yet, so the index may still show the old vector of this id.
        shown = None if removed else probe
        self._cache.changed(
            IndexChange(mutation, shown, now, since, self._api.transport.their_time, removed or removes)
        )

    async def processed(self, patience_s: float = 0.0) -> bool:
        """Return whether the index has processed all our changes. patience_s: seconds to wait for that."""
        pause = FIRST_PAUSE_S
        while (change := self._cache.last_change()) is not None:
            if await self._is_processed(change):
                # Another change may have been recorded during the request.
                if self._cache.last_change() == change:
                    self._cache.changed(None)
                continue
            if patience_s <= 0:
                return False
            await self.sleep(min(pause, patience_s))
            patience_s -= pause
            pause = min(pause * 2, LONGEST_PAUSE_S)
        return True

    def lag_s(self) -> float:
        """Return the seconds for which the index may not show a change of ours."""
        change = self._cache.last_change()
        return abs(self.clock() - change.since) + 1.0 if change else 0.0

    async def _is_processed(self, change: IndexChange) -> bool:
        info = await self._api.info()
        if change.mutation and info.processed_up_to_mutation == change.mutation:
            return True
        # The index may name a later change of another writer. Both times come from clocks of the remote.
        if info.processed_up_to and change.theirs and info.processed_up_to.timestamp() > change.theirs + SPREAD_S:
            return True
        if change.probe and await self._read([change.probe]):
            return True
        if (waited_s := abs(self.clock() - change.at)) > GIVE_UP_S:
            log.warning("mutation.lost", mutation=change.mutation, waited_s=round(waited_s))
            return True
        return False


def _slices(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
