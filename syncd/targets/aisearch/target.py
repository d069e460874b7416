"""The AI Search target. key = prefix + path, ref = item id; only items of source "builtin" are ever ours."""

from collections.abc import AsyncIterator, Mapping, Sequence

import structlog

from syncd.cloudflare.ai_search import PER_PAGE, AISearch
from syncd.cloudflare.content_types import SUPPORTED
from syncd.errors import Conflict, TargetMissing
from syncd.model import Delete, Entry, IndexStatus, Put
from syncd.targets.aisearch.index import Index
from syncd.targets.aisearch.items import Items, refusals_halt
from syncd.targets.aisearch.rows import OWNER, SHA256, Marks
from syncd.targets.aisearch.writing import Writer
from syncd.targets.base import Content, Fetched, Hit, Limits, Read, Report
from syncd.targets.fetching import one_by_one

log = structlog.get_logger()

TURN = 1000
"""Puts handed over at a time. The line runs dry at the end of each turn; what presses ends one early (see Turn)."""
LAG_S = 60.0
"""Not documented for AI Search; the minute that Workers KV names is assumed."""


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """The limits of AI Search: characters and bytes as configured, the documented file types, no empty files."""
    return Limits(
        max_key_length, max_file_size, LAG_S, SUPPORTED, empty=False, turn=TURN, page=PER_PAGE, listed=PER_PAGE
    )


class AISearchTarget:
    """One mirror's view of one instance. concurrency: uploads whose content is held in memory at a time."""

    def __init__(self, api: AISearch, marks: Marks, limits: Limits, *, concurrency: int = 8) -> None:
        self.limits = limits
        self._api = api
        self._items = Items(api, marks.prefix)
        self._index = Index(api, self._items)
        self._writer = Writer(api, self._items, marks, concurrency)

    # -- looking

    async def check(self) -> str:
        """One line on the instance. Raises TargetMissing if it is not there, Halt if it may not be used."""
        with refusals_halt():
            instance = await self._api.read_instance()
        return f"AI Search instance {self._api.namespace}/{instance.id} is there"

    async def create(self) -> None:
        """Make the instance, and its namespace if that is missing too, with our marks declared as text fields."""
        with refusals_halt():
            try:
                made = await self._make()
            except TargetMissing:
                await self._api.create_namespace()
                made = await self._make()
        if made:
            log.info("target.created", namespace=self._api.namespace, instance=self._api.instance)

    async def _make(self) -> bool:
        """Make the instance; False if it is there already."""
        try:
            await self._api.create_instance({SHA256: "text", OWNER: "text"})
        except Conflict:
            return False
        return True

    def entries(self) -> AsyncIterator[Entry]:
        """Yield every uploaded item under the prefix, each id at least once, also if pages shift meanwhile."""
        return self._items.entries()

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Ask for one item by id, then by key."""
        return await self._items.confirm(key, ref)

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """The sha-256 of what is stored: from the item's own checksum if that is a known digest, else by download."""
        return await self._items.checksum(entry, content)

    async def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Download items, a few at a time."""
        async for pair in one_by_one(entries, lambda entry: self._api.download(entry.ref)):
            yield pair

    async def statuses(self, refs: frozenset[str]) -> Mapping[str, Entry | None]:
        """What the listing's newest pages, and a few requests by id, say of entries on their way."""
        return await self._index.statuses(refs)

    async def search(self, query: str, limit: int) -> Sequence[Hit]:
        """The instance's own search."""
        hits = await self._api.search(query, max_num_results=limit)
        return [Hit(hit.key or "", hit.score, hit.text) for hit in hits]

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """There is no bulk endpoint: one request for each."""
        del size
        return puts + deletes

    # -- changing

    async def apply(self, batch: Sequence[Put | Delete], read: Read, report: Report) -> None:
        """Carry out a batch, `concurrency` actions at a time."""
        await self._writer.apply(batch, read, report)

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """Index an item's stored bytes again: by its id, or by its key if somebody has put it there anew."""
        return await self._index.reindex(key, ref)

    async def aclose(self) -> None:
        """Nothing is held; the transport is shared."""
