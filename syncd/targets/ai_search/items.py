"""What an instance holds, as entries: the listing that shifts while it is read, and single items by id or by key."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from syncd.cloudflare.ai_search import BUILTIN, AISearch
from syncd.cloudflare.ai_search_models import ItemPage, StoredItem
from syncd.core.errors import NotFound
from syncd.core.model import Content, Entry
from syncd.core.short_names import FULL_KEY_FIELD
from syncd.targets.ai_search.rows import ItemWritePolicy, digests, entry_of, there
from syncd.targets.base import Landmark, Newest, NewestPage
from syncd.targets.naming import Naming
from syncd.targets.refusals import refusals_halt

log = structlog.get_logger()

INSTANCE = "the AI Search instance"
LISTINGS = 3
"""How often a listing that shifts under us is read; what is still missing then is asked for by key."""


class Items:
    """The uploaded items of one instance. listed_whole: nothing can have slipped through the last listing."""

    def __init__(self, api: AISearch, policy: ItemWritePolicy, naming: Naming) -> None:
        self.listed_whole = True
        self.landmark: Landmark | None = None
        self.faults: list[str] = []
        self._api = api
        self._prefix = policy.prefix
        self._naming = naming

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield every uploaded item under the prefix, each id at least once, also if pages shift meanwhile.

        Additions and changes move rows down or to the top: some show twice, and one that slipped by is found by reading
        from the top again, until as many were seen as there were when that reading began. It is a row that goes which
        pulls another one over to a page that was read already; so once the number fell, a reading proves nothing, and
        what was seen before counts no longer.
        """
        seen: set[str] = set()
        self.listed_whole, self.landmark = False, None
        self.faults = []
        self._naming.forget()
        count = _Count(seen)
        for reading in range(LISTINGS):
            count.begin()
            async for page in self.pages():
                self.faults += [] if reading else page.faults
                for item in page.items:
                    if item.id not in seen and there(item):
                        entry = await self._entry(item)
                        if entry.key.startswith(self._prefix):
                            yield entry
                    seen.add(item.id)
                # Rows that are not ours count too: total_count speaks of them.
                count.add(page)
                if reading and count.complete:
                    break
            if count.complete or count.total is None:
                self.listed_whole, self.landmark = True, count.landmark
                return
            log.info("listing.shifted", seen=len(seen), total=count.total)

    async def newest(self) -> AsyncIterator[NewestPage]:
        """The same pages as they are: every row, ours or not."""
        async for page in self.pages():
            rows = [Newest(await self._entry(item), _made(item), there(item)) for item in page.items]
            yield NewestPage(rows, page.total_count)

    async def pages(self) -> AsyncIterator[ItemPage]:
        """The pages of the listing, the latest changed first."""
        with refusals_halt(INSTANCE):
            async for page in self._api.iter_pages(source=BUILTIN, sort_by="modified_at"):
                yield page

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Ask for one item by id, then by key."""
        item = None
        if ref is not None:
            try:
                item = await self._api.get(ref)
            except NotFound:
                item = None
        if item is None or not self.is_of(item, key) or not there(item):
            item = await self.find(key)
        return entry_of(item)._replace(key=key) if item else None

    def key(self, name: str, metadata: Mapping[str, Any] | None) -> str:
        """The key of an item with this name, as far as its own metadata says and the name proves."""
        return self._naming.key(name, (metadata or {}).get(FULL_KEY_FIELD))

    def is_of(self, item: StoredItem, key: str) -> bool:
        """Whether it is an item of this key. One that does not say goes by its name."""
        says = self.key(item.key, item.metadata)
        return says == key or (says == item.key == self._naming.name(key))

    async def _entry(self, item: StoredItem) -> Entry:
        key = self.key(item.key, item.metadata)
        if self._naming.unproved(item.key, key):
            key = await self._naming.known(item.key)
        return entry_of(item) if key == item.key else entry_of(item)._replace(key=key)

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """The sha-256 of what is stored: from the item's own checksum if that is a known digest, else by download."""
        if content and entry.version and entry.version.lower() in digests(content.data):
            return content.checksum
        try:
            return hashlib.sha256(await self._api.download(entry.ref)).hexdigest()
        except NotFound:
            return None

    async def find(self, key: str) -> StoredItem | None:
        """The item that has this key, unless it is being deleted."""
        item = await self.named(self._naming.name(key))
        return item if item and self.is_of(item, key) else None

    async def named(self, name: str) -> StoredItem | None:
        """The item that has this name, whatever its key, unless it is being deleted."""
        item = await self._api.find(name)
        return item if item and there(item) else None


class _Count:
    """Whether a listing that shifts is complete, from how many rows there are and which of them were seen."""

    def __init__(self, seen: set[str]) -> None:
        self.total: int | None = None
        self._seen = seen
        self._begun: int | None = None
        self._fell = False
        self._empty = True
        self._newest: float | None = 0.0

    def begin(self) -> None:
        """A reading begins, from the top."""
        self._begun, self._fell = None, False

    def add(self, page: ItemPage) -> None:
        """Count the rows of the next page."""
        self._empty = self._empty and not (page.items or page.faults)
        if self.total is not None and page.total_count is not None and page.total_count < self.total:
            self._seen = set()
            self._fell = True
        self.total = page.total_count
        self._begun = page.total_count if self._begun is None else self._begun
        for item in page.items:
            made = _made(item)
            self._newest = None if made is None or self._newest is None else max(self._newest, made)
            self._seen.add(item.id)

    @property
    def complete(self) -> bool:
        """As many were seen as there are, or as there were when a reading began in which none went."""
        if self.total is None or self._begun is None:
            return False
        return len(self._seen) >= (self.total if self._fell else min(self.total, self._begun))

    @property
    def landmark(self) -> Landmark | None:
        """What the listing came to; None if the remote's number is not that of its rows."""
        rows = 0 if self._empty else self.total
        return Landmark(rows, self._newest) if rows is not None and rows == len(self._seen) else None


def _made(item: StoredItem) -> float | None:
    """When an item was made, by the remote's clock."""
    try:
        made = datetime.fromisoformat(item.created_at or "")
    except ValueError:
        return None
    return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()
