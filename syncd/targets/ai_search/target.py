"""The target of one instance. key = prefix + path; ref = item id. Only items of source "builtin" belong to syncd."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import structlog

from syncd.cloudflare.ai_search import PER_PAGE, AISearch
from syncd.cloudflare.ai_search_models import SUPPORTED
from syncd.core.errors import Conflict, TargetMissing
from syncd.core.key_digests import truncated
from syncd.core.model import Content, Delete, Entry, IndexStatus, Put
from syncd.core.problems import Limits
from syncd.targets.ai_search.index import IndexFollower
from syncd.targets.ai_search.items import INSTANCE, OWNER, SHA256, ItemReader, ItemWritePolicy
from syncd.targets.ai_search.writing import ItemWriter
from syncd.targets.base import (
    NO_KEYS,
    Advice,
    Fetched,
    Hit,
    KeySources,
    Landmark,
    NewestPage,
    OpenRemovalLog,
    ReadContents,
    ReportOutcomes,
)
from syncd.targets.shared import ShortNames, fetch_each, refusals_halt

log = structlog.get_logger()

TURN = 1000
"""Puts of one batch. No upload is under way at the end of a batch; hints end a batch early (see sync/apply.py)."""
LAG_S = 60.0
"""Seconds until a listing shows a write. AI Search documents none; this is the number of Workers KV."""
FOLDER_BYTES = 64
"""Bytes of a folder's name that the service compares in a filter (AI Search changelog, 2026-08)."""


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """Return the limits of AI Search: the documented file types, no empty files.

    max_key_length: characters, as configured. max_file_size: bytes, as configured.
    """
    return Limits(
        max_key_length, max_file_size, LAG_S, SUPPORTED, empty=False, turn=TURN, page=PER_PAGE, listed=PER_PAGE
    )


class AISearchTarget:
    """The target of one mirror in one instance.

    It implements all protocols of a target and passes each call to its reader, its writer or its index follower.
    concurrency: most uploads whose content is in memory at a time. shards: the number of mirrors that share the work.
    """

    def __init__(
        self,
        api: AISearch,
        policy: ItemWritePolicy,
        limits: Limits,
        *,
        keys: KeySources = NO_KEYS,
        concurrency: int = 8,
        shards: int = 1,
    ) -> None:
        self.limits = limits
        self._api = api
        names = ShortNames(limits, keys)
        self._title = next((name for name, source in policy.fields.items() if source == "title"), "title")
        self._fields = {SHA256: "text", OWNER: "text"} | {name: _type(source) for name, source in policy.fields.items()}
        self._items = ItemReader(api, policy, names)
        self._index = IndexFollower(api, self._items, names, shards)
        self._writer = ItemWriter(api, self._items, names, policy, concurrency)

    # -- the instance

    async def check(self) -> str:
        """Return one line about the instance. Raises TargetMissing if it does not exist, Halt if access is refused."""
        with refusals_halt(INSTANCE):
            instance = await self._api.read_instance()
        return f"AI Search instance {self._api.namespace}/{instance.id} is there"

    async def advice(self) -> Sequence[Advice]:
        """Name the metadata fields that the instance does not declare, so that searches cannot filter by them."""
        with refusals_halt(INSTANCE):
            declared = {name.lower() for name in (await self._api.read_instance()).custom_metadata}
        if not (missing := [name for name in self._fields if name not in declared]):
            return ()
        message = f"it does not declare {', '.join(missing)}: kept with the items, but searches cannot filter by them"
        types = ", ".join(f"{name} {self._fields[name]}" for name in missing)
        remedy = f"nothing, if that is fine. Else declare them ({types}), which indexes all anew, or let create = true"
        return (Advice(message, f"{remedy} make another instance"),)

    async def create(self) -> None:
        """Create the instance, and its namespace if necessary, with the marks and the mirror's fields declared.

        An existing instance keeps its settings, because another schema would make the service index all items again.
        """
        with refusals_halt(INSTANCE):
            try:
                created = await self._create_instance()
            except TargetMissing:
                await self._api.create_namespace()
                created = await self._create_instance()
        if created:
            log.info("target.created", namespace=self._api.namespace, instance=self._api.instance)

    async def _create_instance(self) -> bool:
        """Create the instance. Return False if it exists."""
        try:
            await self._api.create_instance(self._fields)
        except Conflict:
            return False
        return True

    # -- reading

    def entries(self) -> AsyncIterator[Entry]:
        """Yield every uploaded item under the prefix, each id at least once, even if pages shift during the listing."""
        return self._items.entries()

    @property
    def landmark(self) -> Landmark | None:
        """The summary of the last listing, None if it may have missed rows."""
        return self._items.landmark

    @property
    def unreadable_rows(self) -> Sequence[str]:
        """Messages about unreadable rows of the last listing."""
        return self._items.unreadable_rows

    def newest(self) -> AsyncIterator[NewestPage]:
        """Yield the pages of the listing with the rows of all owners, the latest change first."""
        return self._items.newest()

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Return one item by id, else by key."""
        return await self._items.confirm(key, ref)

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """Return the sha-256 of the stored content, by the remote's checksum if possible, else by a download."""
        return await self._items.checksum(entry, content)

    async def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Download items, a few at a time."""
        async for pair in fetch_each(entries, lambda entry: self._api.download(entry.ref)):
            yield pair

    async def search(self, query: str, limit: int, folder: str = "") -> Sequence[Hit]:
        """Return the hits of the instance's own search. A folder filters by the service's own field `folder`."""
        hits = await self._api.search(query, max_num_results=limit, filters=_folder_filter(folder))
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

    # -- the index

    async def counts(self) -> dict[IndexStatus, int] | None:
        """Return the number of items by index status, items of other sources included."""
        return await self._index.counts()

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Mapping[str, Entry | None]:
        """Return the entries of these refs, by the counts, the lists by status, the listing and requests by id."""
        return await self._index.statuses(refs, fresh)

    async def why(self, ref: str) -> str | None:
        """Return the last error in the item's log."""
        return await self._index.why(ref)

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """Index an item's stored bytes again: by its id, or by its key if somebody has uploaded it anew."""
        return await self._index.reindex(key, ref)

    # -- writing

    def log_removals(self, open_log: OpenRemovalLog) -> None:
        """Set the log for items that the target deletes in addition to the deletes of a plan."""
        self._writer.log_removals(open_log)

    async def apply(self, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        """Apply a batch, at most `concurrency` actions at a time."""
        await self._writer.apply(batch, read, report)

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """Return one request for each action. AI Search has no bulk endpoint."""
        del size
        return puts + deletes

    async def aclose(self) -> None:
        """Do nothing. The target holds no resources, and the transport is shared."""


def _type(source: str) -> str:
    return "datetime" if source == "modified" else "text"


def _folder_filter(folder: str) -> dict[str, Any] | None:
    """Return a filter for a folder and its subfolders, or for its nearest parent with a short enough name."""
    above = truncated(folder, len(folder), FOLDER_BYTES).rpartition("/")[0]
    # "0" is the character after "/".
    return {"folder": {"$gte": f"{above}/", "$lt": f"{above}0"}} if above else None
