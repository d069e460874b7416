"""The AI Search target. key = prefix + path, ref = item id; only items of source "builtin" are ever ours."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog

from syncd.cloudflare.ai_search import PER_PAGE, AISearch
from syncd.cloudflare.content_types import SUPPORTED
from syncd.core.errors import Conflict, TargetMissing
from syncd.core.limits import Limits
from syncd.core.model import Content, Delete, Entry, IndexStatus, Put
from syncd.core.short_names import truncated
from syncd.targets.ai_search.index import IndexFollower
from syncd.targets.ai_search.items import INSTANCE, Items
from syncd.targets.ai_search.rows import OWNER, SHA256, ItemWritePolicy
from syncd.targets.ai_search.writing import ItemWriter
from syncd.targets.base import Advice, Fetched, Hit, Landmark, NewestPage, Noting, Read, Report
from syncd.targets.fetching import one_by_one
from syncd.targets.naming import NOWHERE, Names, Naming
from syncd.targets.refusals import refusals_halt

log = structlog.get_logger()

TURN = 1000
"""Puts handed over at a time. The line runs dry at the end of each turn; what presses ends one early (see Turn)."""
LAG_S = 60.0
"""Not documented for AI Search; the minute that Workers KV names is assumed."""
FOLDER_BYTES = 64
"""So much of a folder's name can be filtered by (AI Search changelog, 2026-08)."""


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """The limits of AI Search: characters and bytes as configured, the documented file types, no empty files."""
    return Limits(
        max_key_length, max_file_size, LAG_S, SUPPORTED, empty=False, turn=TURN, page=PER_PAGE, listed=PER_PAGE
    )


class AISearchTarget:
    """One mirror's view of one instance. concurrency: uploads whose content is held in memory at a time.

    shards: among how many the mirror is divided.
    """

    def __init__(
        self,
        api: AISearch,
        policy: ItemWritePolicy,
        limits: Limits,
        *,
        names: Names = NOWHERE,
        concurrency: int = 8,
        shards: int = 1,
    ) -> None:
        self.limits = limits
        self._api = api
        naming = Naming(limits, names)
        self._title = next((name for name, source in policy.fields.items() if source == "title"), "title")
        self._fields = {SHA256: "text", OWNER: "text"} | {name: _type(source) for name, source in policy.fields.items()}
        self._items = Items(api, policy, naming)
        self._index = IndexFollower(api, self._items, naming, shards)
        self._writer = ItemWriter(api, self._items, naming, policy, concurrency)

    def log_removals(self, noting: Noting) -> None:
        """Enter in the log of deletes what a put takes away."""
        self._writer.noting = noting

    # -- looking

    async def check(self) -> str:
        """One line on the instance. Raises TargetMissing if it is not there, Halt if it may not be used."""
        with refusals_halt(INSTANCE):
            instance = await self._api.read_instance()
        return f"AI Search instance {self._api.namespace}/{instance.id} is there"

    async def advice(self) -> Sequence[Advice]:
        """Fields that the instance was not told of: they are kept, but nothing can be filtered by them."""
        with refusals_halt(INSTANCE):
            declared = {name.lower() for name in (await self._api.read_instance()).custom_metadata}
        if not (missing := [name for name in self._fields if name not in declared]):
            return ()
        message = f"it does not declare {', '.join(missing)}: kept with the items, but searches cannot filter by them"
        types = ", ".join(f"{name} {self._fields[name]}" for name in missing)
        remedy = f"nothing, if that is fine. Else declare them ({types}), which indexes all anew, or let create = true"
        return (Advice(message, f"{remedy} make another instance"),)

    async def create(self) -> None:
        """Make the instance, and its namespace if that is missing too, with our marks and the mirror's fields declared.

        One that is there stays as it is: another schema would have all of it indexed anew.
        """
        with refusals_halt(INSTANCE):
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
            await self._api.create_instance(self._fields)
        except Conflict:
            return False
        return True

    def entries(self) -> AsyncIterator[Entry]:
        """Yield every uploaded item under the prefix, each id at least once, also if pages shift meanwhile."""
        return self._items.entries()

    @property
    def landmark(self) -> Landmark | None:
        """What the last listing came to; None if rows may have slipped through."""
        return self._items.landmark

    @property
    def unreadable_rows(self) -> Sequence[str]:
        """Messages about unreadable rows of the last listing."""
        return self._items.faults

    def newest(self) -> AsyncIterator[NewestPage]:
        """The listing from its top, row by row as it is, with the number of uploaded items."""
        return self._items.newest()

    async def counts(self) -> dict[IndexStatus, int] | None:
        """Items by index status, those of other sources too."""
        return await self._index.counts()

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

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Mapping[str, Entry | None]:
        """What counts, lists by status, the listing's newest pages and a few requests by id say of entries."""
        return await self._index.statuses(refs, fresh)

    async def why(self, ref: str) -> str | None:
        """The last error in the item's log."""
        return await self._index.why(ref)

    async def search(self, query: str, limit: int, folder: str = "") -> Sequence[Hit]:
        """The instance's own search. A folder is a range of the field that the service makes of every key."""
        hits = await self._api.search(query, max_num_results=limit, filters=_below(folder))
        found = [
            Hit(
                self._items.key(hit.key or "", hit.metadata),
                hit.score,
                hit.text,
                title=str(hit.metadata.get(self._title) or ""),
            )
            for hit in hits
        ]
        return [hit for hit in found if hit.key.startswith(folder)]

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


def _type(source: str) -> str:
    return "datetime" if source == "modified" else "text"


def _below(folder: str) -> dict[str, Any] | None:
    """A filter for a folder and all below it, or for the nearest above it whose name is short enough."""
    above = truncated(folder, len(folder), FOLDER_BYTES).rpartition("/")[0]
    # "0" is what follows the slash.
    return {"folder": {"$gte": f"{above}/", "$lt": f"{above}0"}} if above else None
