"""The reference target: a dictionary that behaves like a remote, as an example for other targets."""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from syncd.core.errors import FileChanged, Halt, NotFound, SyncdError
from syncd.core.model import Content, Delete, Entry, IndexStatus, Put, Stored
from syncd.core.problems import Limits
from syncd.targets.base import (
    Advice,
    Done,
    Fetched,
    Hit,
    Landmark,
    Newest,
    NewestPage,
    Outcome,
    ReadContents,
    ReportOutcomes,
    Usage,
    read_one,
)

PAGE = 2
"""Rows of one page of the newest entries. The number is small, so that tests read several pages."""


@dataclass(slots=True)
class Held:
    """The entry of a key in the store."""

    ref: str
    data: bytes
    checksum: str
    owner: str | None
    version: str


@dataclass(frozen=True, slots=True)
class Indexed:
    """The progress of a key in the index. again: the answer to another indexing."""

    status: IndexStatus = "completed"
    error: str | None = None
    why: str | None = None
    again: IndexStatus = "queued"


@dataclass(slots=True)
class MemoryTarget:
    """Stores content in memory. marks: whether checksum and owner are stored with it, as metadata.

    index: what its index says of a key. reindexed: keys that were to be indexed again.
    """

    owner: str = "test"
    prefix: str = ""
    marks: bool = True
    limits: Limits = field(default_factory=Limits)
    store: dict[str, Held] = field(default_factory=dict)
    changes: int = 0
    landmark: Landmark | None = None
    unreadable_rows: Sequence[str] = ()
    index: defaultdict[str, Indexed] = field(default_factory=lambda: defaultdict(Indexed))
    reindexed: list[str] = field(default_factory=list)
    _ids: "count[int]" = field(default_factory=count)

    async def check(self) -> str:
        """Always there."""
        return "memory"

    async def advice(self) -> Sequence[Advice]:
        """Return no advice."""
        return ()

    async def usage(self, *, account: bool) -> Sequence[Usage]:
        """Return nothing, because memory has no plan."""
        del account
        return ()

    async def create(self) -> None:
        """Always there."""

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield the present entries."""
        self.landmark = self._landmark(len(self.store))
        for entry in self.listing():
            yield entry

    async def newest(self) -> AsyncIterator[NewestPage]:
        """Return the present entries, newest version first. Ids and versions are consecutive numbers."""
        entries = [self._entry(key, held) for key, held in self.store.items()]
        for page in self._pages(entries):
            yield page

    async def counts(self) -> dict[IndexStatus, int] | None:
        """Count all entries as completed."""
        return {"completed": len(self.store)}

    def _pages(self, entries: Sequence[Entry]) -> Iterator[NewestPage]:
        rows = sorted(entries, key=lambda entry: int((entry.version or "v0")[1:]), reverse=True)
        for start in range(0, len(rows), PAGE):
            page = [Newest(entry, float(entry.ref[1:])) for entry in rows[start : start + PAGE]]
            yield NewestPage(page, len(rows))

    def _landmark(self, rows: int) -> Landmark:
        return Landmark(rows, max((float(held.ref[1:]) for held in self.store.values()), default=0.0))

    def listing(self) -> list[Entry]:
        """Return the entries under the prefix as a listing shows them."""
        return [self._entry(key, held) for key, held in self.store.items() if key.startswith(self.prefix)]

    async def confirm(self, key: str, ref: str | None) -> Entry | None:  # noqa: ARG002 - keys are unique here
        """Return the entry of one key."""
        held = self.store.get(key)
        return self._entry(key, held) if held else None

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:  # noqa: ARG002 - it is at hand
        """Return the SHA-256 of the content under the entry's ref."""
        held = self.store.get(entry.key)
        return held.checksum if held and held.ref == entry.ref else None

    async def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Yield the content under each entry's ref."""
        for entry in entries:
            held = self.store.get(entry.key)
            yield entry, held.data if held and held.ref == entry.ref else None

    async def apply(self, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        """Apply one action after the other."""
        for action in batch:
            report({action: await self._one(action, read)})

    async def _one(self, action: Put | Delete, read: ReadContents) -> Outcome:
        try:
            if isinstance(action, Delete):
                held = self.store.get(action.key)
                if held and held.ref == action.ref:
                    self.changes += 1
                    del self.store[action.key]
                return Done()
            return Done(await self.put(action.key, await read_one(read, action)))
        except Halt:
            raise
        except (FileChanged, SyncdError) as error:
            return error

    async def put(self, key: str, content: Content) -> Stored:
        """Store content under a key, and replace the former content."""
        self.changes += 1
        before = self.store.get(key)
        held = Held(
            ref=before.ref if before else f"m{next(self._ids)}",
            data=content.data,
            checksum=content.checksum,
            owner=self.owner if self.marks else None,
            version=f"v{next(self._ids)}",
        )
        self.store[key] = held
        way = self.index[key]
        return Stored(
            ref=held.ref,
            checksum=held.checksum,
            size=len(held.data),
            version=held.version,
            remote_size=len(held.data),
            marked=self.marks,
            status=way.status,
            error=way.error,
        )

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Mapping[str, Entry | None]:
        """Return completed for every entry unless the test set another status for the key."""
        del fresh
        shown = {entry.ref: entry for entry in self.listing()}
        return {ref: shown.get(ref) for ref in refs}

    async def why(self, ref: str) -> str | None:
        """Return the reason that the test set."""
        return next((self.index[key].why for key, held in self.store.items() if held.ref == ref), None)

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """Queue an entry again unless the test set another answer for the key. Raise NotFound if it is missing."""
        held = self.store.get(key)
        if held is None:
            raise NotFound("the item is not there")
        del ref
        self.reindexed.append(key)
        return self.index[key].again

    async def search(
        self, query: str, limit: int, folder: str = "", filters: Mapping[str, Any] | None = None
    ) -> Sequence[Hit]:
        """Return the entries whose text contains the query. The entries have no metadata to filter by."""
        assert not filters
        found = [(key, held.data.decode(errors="replace")) for key, held in sorted(self.store.items())]
        return [Hit(key, 1.0, text) for key, text in found if query in text and key.startswith(folder)][:limit]

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """Return one request for each action."""
        del size
        return puts + deletes

    def _entry(self, key: str, held: Held) -> Entry:
        marked = held.owner is not None
        return Entry(
            key=key,
            ref=held.ref,
            checksum=held.checksum if marked else None,
            version=held.version,
            size=len(held.data),
            owner=held.owner,
            marked=marked,
            status=self.index[key].status,
            error=self.index[key].error,
        )
