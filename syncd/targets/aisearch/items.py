"""What an instance holds, as entries: the listing that shifts while it is read, and single items by id or by key."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import structlog

from syncd.cloudflare.ai_search import BUILTIN, AISearch
from syncd.cloudflare.ai_search_values import Item, ItemPage
from syncd.errors import Halt, NotFound, Park
from syncd.model import Entry
from syncd.targets.aisearch.rows import digests, entry_of, there
from syncd.targets.base import Content

log = structlog.get_logger()

LISTINGS = 3
"""How often a listing that shifts under us is read; what is still missing then is asked for by key."""


class Items:
    """The uploaded items of one instance. listed_whole: nothing can have slipped through the last listing."""

    def __init__(self, api: AISearch, prefix: str) -> None:
        self.listed_whole = True
        self._api = api
        self._prefix = prefix

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield every uploaded item under the prefix, each id at least once, also if pages shift meanwhile."""
        seen: set[str] = set()
        self.listed_whole = False
        for _ in range(LISTINGS):
            totals: set[int | None] = set()
            async for page in self.pages():
                totals.add(page.total_count)
                for item in page.items:
                    if item.id not in seen and there(item) and item.key.startswith(self._prefix):
                        yield entry_of(item)
                    # Rows that are not ours count too: total_count may speak of them.
                    seen.add(item.id)
            if len(totals) <= 1 and (totals <= {None} or len(seen) >= max(t or 0 for t in totals)):
                self.listed_whole = True
                return
            log.info("listing.shifted", seen=len(seen), totals=sorted(t or 0 for t in totals))

    async def pages(self) -> AsyncIterator[ItemPage]:
        """The pages of the listing, the latest changed first."""
        with refusals_halt():
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
        if item is None or item.key != key or not there(item):
            item = await self.find(key)
        return entry_of(item) if item else None

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """The sha-256 of what is stored: from the item's own checksum if that is a known digest, else by download."""
        if content and entry.version and entry.version.lower() in digests(content.data):
            return content.checksum
        try:
            return hashlib.sha256(await self._api.download(entry.ref)).hexdigest()
        except NotFound:
            return None

    async def find(self, key: str) -> Item | None:
        """The item that has this key, unless it is being deleted."""
        item = await self._api.find(key)
        return item if item and there(item) else None


@contextmanager
def refusals_halt() -> Iterator[None]:
    """What is refused here is no single item but the instance as a whole."""
    try:
        yield
    except Park as error:
        raise Halt(f"the AI Search instance cannot be used: {error}") from error
