"""The AI Search target. key = prefix + path, ref = item id; only items of source "builtin" are ever ours."""

import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from syncd.cloudflare.ai_search import BUILTIN, PER_PAGE, AISearch
from syncd.cloudflare.ai_search_values import Item, ItemPage
from syncd.cloudflare.content_types import SUPPORTED, content_type
from syncd.errors import Conflict, Halt, NotFound, Park, Retry, SyncdError, TargetMissing, Unreachable
from syncd.model import Delete, Entry, IndexStatus, Put
from syncd.targets.aisearch_rows import OWNER, SHA256, digests, entry_of, stored, there
from syncd.targets.base import Content, Done, Fetched, Hit, Limits, Outcome, Read, Report, each
from syncd.targets.fetching import one_by_one

log = structlog.get_logger()

METADATA_REFUSED = 7056
LISTINGS = 3
"""How often a listing that shifts under us is read; what is still missing then is asked for by key."""
TURN = 1000
"""Puts handed over at a time. The line runs dry at the end of each turn; what presses ends one early (see Turn)."""
LAG_S = 60.0
"""Not documented for AI Search; the minute that Workers KV names is assumed."""
STRAGGLERS = 10
"""Requests by id for one look at the index; the rest waits for the next look."""


@dataclass(frozen=True, slots=True)
class Marks:
    """What this mirror writes on its items, and whether it may take over those of others."""

    owner: str
    prefix: str = ""
    takeover: bool = False


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
        self._marks = marks
        self._concurrency = concurrency
        self._metadata_refused = False
        self._listed_whole = True

    # -- looking

    async def check(self) -> str:
        """One line on the instance. Raises TargetMissing if it is not there, Halt if it may not be used."""
        with _refusals_halt():
            instance = await self._api.read_instance()
        return f"AI Search instance {self._api.namespace}/{instance.id} is there"

    async def create(self) -> None:
        """Make the instance, and its namespace if that is missing too, with our marks declared as text fields."""
        with _refusals_halt():
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

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield every uploaded item under the prefix, each id at least once, also if pages shift meanwhile."""
        seen: set[str] = set()
        self._listed_whole = False
        for _ in range(LISTINGS):
            totals: set[int | None] = set()
            async for page in self._pages():
                totals.add(page.total_count)
                for item in page.items:
                    if item.id not in seen and there(item) and item.key.startswith(self._marks.prefix):
                        yield entry_of(item)
                    # Rows that are not ours count too: total_count may speak of them.
                    seen.add(item.id)
            if len(totals) <= 1 and (totals <= {None} or len(seen) >= max(t or 0 for t in totals)):
                self._listed_whole = True
                return
            log.info("listing.shifted", seen=len(seen), totals=sorted(t or 0 for t in totals))

    async def _pages(self) -> AsyncIterator[ItemPage]:
        with _refusals_halt():
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
            item = await self._find(key)
        return entry_of(item) if item else None

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """The sha-256 of what is stored: from the item's own checksum if that is a known digest, else by download."""
        if content and entry.version and entry.version.lower() in digests(content.data):
            return content.checksum
        try:
            return hashlib.sha256(await self._api.download(entry.ref)).hexdigest()
        except NotFound:
            return None

    async def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Download items, a few at a time."""
        async for pair in one_by_one(entries, lambda entry: self._api.download(entry.ref)):
            yield pair

    async def statuses(self, refs: frozenset[str]) -> Mapping[str, Entry | None]:
        """Read the newest pages of the listing, where fresh uploads are, then ask for a few stragglers by id."""
        found: dict[str, Entry | None] = {}
        pages = len(refs) // PER_PAGE + 2
        async for page in self._pages():
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

        async def one(action: Put | Delete) -> None:
            report(action, await self._one(action, read))

        await each(batch, one, self._concurrency)

    async def _one(self, action: Put | Delete, read: Read) -> Outcome:
        try:
            if isinstance(action, Delete):
                await self._delete(action.ref)
                return Done()
            return await self._put(action, await read(action))
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            return error

    async def _delete(self, ref: str) -> None:
        try:
            await self._api.delete(ref)
        except NotFound:
            # Deleted by a request whose answer was lost, or by somebody else: gone is what was wanted.
            log.debug("delete.absent", ref=ref)

    async def _put(self, put: Put, content: Content) -> Done:
        """Upload, as often as it takes; after an ambiguous answer look first whether it was carried out.

        Look first, too, if the listing left something out: an overwriting remote takes the place of a stranger's item.
        """
        look_first = put.ref is None and not self._listed_whole
        async for attempt in self._api.attempts(key=put.key):
            with attempt:
                if look_first and (found := await self._find(put.key)):
                    if await self._holds(found, content):
                        return Done(stored(found, content))
                    self._check_replaceable(put, found)
                try:
                    return await self._upload(put, content)
                except Retry as error:
                    look_first = look_first or error.ambiguous
                    raise
        raise AssertionError("attempts end with a result or an error")

    async def _upload(self, put: Put, content: Content) -> Done:
        try:
            return Done(stored(await self._post(put, content), content))
        except Conflict:
            pass
        found = await self._find(put.key)
        if found is None:
            raise Retry("the remote says the key exists, but does not show it; it may still be on its way out")
        if await self._holds(found, content):
            return Done(stored(found, content), unchanged=True)
        self._check_replaceable(put, found)
        await self._delete(found.id)
        try:
            return Done(stored(await self._post(put, content), content))
        except Conflict as error:
            raise Retry("the deleted item is not gone yet") from error

    async def _post(self, put: Put, content: Content) -> Item:
        kind = content_type(put.key) or "application/octet-stream"
        marks = None if self._metadata_refused else {SHA256: content.checksum, OWNER: self._marks.owner}
        try:
            item = (await self._api.upload(put.key, content.data, kind, marks)).item
        except Park as error:
            if error.code != METADATA_REFUSED or marks is None:
                raise
            item = (await self._api.upload(put.key, content.data, kind)).item
            self._metadata_refused = True
            log.warning("metadata.refused", instance=self._api.instance, consequence="ownership is known locally only")
        if item.file_size and item.file_size != len(content.data) and not await self._holds(item, content):
            # 2xx without the new bytes: make room for them.
            self._check_replaceable(put, item)
            await self._delete(item.id)
            raise Retry("the remote kept the old content")
        return item

    async def _holds(self, item: Item, content: Content) -> bool:
        """True if the item has these bytes and is not marked as another's."""
        if (item.metadata or {}).get(OWNER, self._marks.owner) != self._marks.owner:
            return False
        checksum = (item.metadata or {}).get(SHA256)
        if checksum is not None:
            return bool(checksum == content.checksum)
        if item.file_size and item.file_size != len(content.data):
            return False
        return await self.checksum(entry_of(item), content) == content.checksum

    async def _find(self, key: str) -> Item | None:
        """The item that has this key, unless it is being deleted."""
        item = await self._api.find(key)
        return item if item and there(item) else None

    def _check_replaceable(self, put: Put, found: Item) -> None:
        """Park unless the item is ours: by its mark, or because it has none and its id is the one we know."""
        owner = entry_of(found).owner
        if not (self._marks.takeover or owner == self._marks.owner or (owner is None and found.id == put.ref)):
            raise Park("foreign", "the key is taken by an entry that is not this mirror's; syncd reconcile --takeover")

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """Index an item's stored bytes again: by its id, or by its key if somebody has put it there anew."""
        try:
            item = await self._api.sync(ref)
        except NotFound:
            item = await self._api.create_or_update(key)
        return item.status or "queued"

    async def aclose(self) -> None:
        """Nothing is held; the transport is shared."""


@contextmanager
def _refusals_halt() -> Iterator[None]:
    """What is refused here is no single item but the instance as a whole."""
    try:
        yield
    except Park as error:
        raise Halt(f"the AI Search instance cannot be used: {error}") from error
