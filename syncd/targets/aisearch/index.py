"""How far items are on their way into the index, and having them indexed again."""

from collections.abc import Mapping

from syncd.cloudflare.ai_search import PER_PAGE, AISearch
from syncd.errors import NotFound
from syncd.model import Entry, IndexStatus
from syncd.targets.aisearch.items import Items
from syncd.targets.aisearch.rows import entry_of

STRAGGLERS = 10
"""Requests by id for one look at the index; the rest waits for the next look."""


class Index:
    """The index of one instance."""

    def __init__(self, api: AISearch, items: Items) -> None:
        self._api = api
        self._items = items

    async def statuses(self, refs: frozenset[str]) -> Mapping[str, Entry | None]:
        """Read the newest pages of the listing, where fresh uploads are, then ask for a few stragglers by id."""
        found: dict[str, Entry | None] = {}
        pages = len(refs) // PER_PAGE + 2
        async for page in self._items.pages():
            found |= {item.id: entry_of(item) for item in page.items if item.id in refs}
            pages -= 1
            if pages == 0 or len(found) == len(refs):
                break
        for ref in sorted(refs - found.keys())[:STRAGGLERS]:
            try:
                found[ref] = entry_of(await self._api.get(ref))
            except NotFound:
                found[ref] = None
        return found

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """Index an item's stored bytes again: by its id, or by its key if somebody has put it there anew."""
        try:
            item = await self._api.sync(ref)
        except NotFound:
            item = await self._api.create_or_update(key)
        return item.status or "queued"
