"""A target in memory with the faults of real remotes.

Listings show our own latest writes late (within `lag_s`), leave rows of ours out and repeat others. Writes get lost,
are carried out without saying so, or the process dies in their midst. What it hides is only what we did ourselves:
against a stranger who comes between a listing and a write nothing helps but a remote with conditional requests.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from syncd.core.errors import Retry, SyncdError
from syncd.core.model import Content, Delete, Entry, IndexStatus, Put
from syncd.targets.base import Done, NewestPage, Outcome, ReadContents, ReportOutcomes, read_one
from tests.memory_target import Held, MemoryTarget

Fault = Literal["lost", "ambiguous", "crash before", "crash after"]


class Crash(BaseException):
    """The process is killed here."""


@dataclass(slots=True)
class LyingTarget(MemoryTarget):
    """faults: the faults of the next writes, one each (None: no fault). unanswered: number of next reads that fail."""

    clock: "list[float]" = field(default_factory=lambda: [0.0])
    chance: Random = field(default_factory=lambda: Random(0))
    lagging: bool = False
    shifting: bool = False
    unanswered: int = 0
    faults: list[Fault | None] = field(default_factory=list)
    past: list[tuple[float, str, Entry | None]] = field(default_factory=list)
    strangers: dict[str, Held] = field(default_factory=dict)

    # -- what a stranger does

    def stranger_puts(self, key: str, text: str, checksum: str, owner: str | None) -> None:
        before = self.store.get(key)
        ref = before.ref if before else f"s{next(self._ids)}"
        held = Held(ref, text.encode(), checksum, owner, f"v{next(self._ids)}")
        self.store[key] = self.strangers[key] = held

    def stranger_deletes(self, key: str) -> None:
        self.store.pop(key, None)
        self.strangers.pop(key, None)

    # -- what it says

    async def entries(self) -> AsyncIterator[Entry]:
        rows = self._shown()
        whole = self._landmark(len(rows))
        self.landmark = None
        left_out = False
        for key, entry in rows.items():
            if self.shifting and key not in self.strangers and self.chance.random() < 0.3:
                left_out = True
                continue
            yield entry
            if self.shifting and self.chance.random() < 0.3:
                yield entry
        # The listing contains the total, so a missing row is noticed.
        self.landmark = None if left_out else whole

    async def newest(self) -> AsyncIterator[NewestPage]:
        for page in self._pages(list(self._shown().values())):
            rows = [row for row in page.rows for _ in range(self._times(row.entry.key))]
            yield NewestPage(rows, page.total)

    async def counts(self) -> dict[IndexStatus, int] | None:
        return {"completed": len(self._shown())}

    def _shown(self) -> dict[str, Entry]:
        rows = {entry.key: entry for entry in self.listing()}
        if self.lagging:
            for when, key, before in reversed(self.past):
                if self.clock[0] - when <= self.limits.lag_s and key not in self.strangers:
                    rows.pop(key, None)
                    if before:
                        rows[key] = before
        return rows

    def _times(self, key: str) -> int:
        """Return how often a row is listed. The newest rows move more often than they are missing."""
        if not self.shifting:
            return 1
        return 0 if key not in self.strangers and self.chance.random() < 0.1 else 2

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        self._answer()
        return await MemoryTarget.confirm(self, key, ref)

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        self._answer()
        return await MemoryTarget.checksum(self, entry, content)

    def _answer(self) -> None:
        if self.unanswered:
            self.unanswered -= 1
            raise Retry("busy")

    # -- what it does

    async def apply(self, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        names = [(action.key, action.ref if isinstance(action, Delete) else None) for action in batch]
        assert len(set(names)) == len(names), "a key is planned once"
        for action in batch:
            fault = self.faults.pop(0) if self.faults else None
            if fault == "crash before":
                raise Crash
            if fault == "lost":
                report({action: Retry("lost")})
                continue
            outcome = await self._carry_out(action, read)
            if fault == "crash after":
                raise Crash
            if fault == "ambiguous" and isinstance(outcome, Done):
                outcome = Retry("connection lost", ambiguous=True)
            report({action: outcome})

    async def _carry_out(self, action: Put | Delete, read: ReadContents) -> Outcome:
        before = self.store.get(action.key)
        shown = self._entry(action.key, before) if before else None
        try:
            if isinstance(action, Put):
                outcome = Done(await self.put(action.key, await read_one(read, action)))
            else:
                if before and before.ref == action.ref:
                    del self.store[action.key]
                outcome = Done()
        except SyncdError as error:
            return error
        if self.store.get(action.key) is not before:
            self.past.append((self.clock[0], action.key, shown))
        return outcome
