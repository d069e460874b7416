"""How far items are on their way into the index, why they did not get there, and having them indexed again."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from syncd.cloudflare.ai_search import BUILTIN, PER_PAGE, AISearch
from syncd.cloudflare.ai_search_models import LogEntry, Stats, StoredItem
from syncd.core.errors import NotFound, Park, Retry, Unreachable
from syncd.core.model import Entry, IndexStatus
from syncd.targets.ai_search.items import Items
from syncd.targets.ai_search.rows import entry_of
from syncd.targets.naming import Naming

log = structlog.get_logger()

Found = dict[str, Entry | None]

FLOW: tuple[IndexStatus, ...] = ("outdated", "queued", "running", "error", "skipped")
"""All states but completed, in the order in which an item passes them. Lists are read in this order, so that an item
that moves on while we read is met in a later one.
"""
PAGES = 40
"""Pages of lists by status for one look, 2,000 items; a longer backlog is not read to its end at every look."""
STRAGGLERS = 10
"""Requests by id for one look at the index; the rest waits for the next look."""
SAME_LOOKS = 4
"""So many looks in a row may end with the counts, if these are what they were; then the lists are read all the same."""
REASON_LENGTH = 300
"""Characters of the service's own reason that are kept."""
LOGS = 20
"""Lines of an item's log that are read for it."""


@dataclass(frozen=True, slots=True)
class _List:
    """The items of one state. whole: none can have slipped through."""

    items: Mapping[str, StoredItem]
    whole: bool


class IndexFollower:
    """The index of one instance. shards: among how many the mirror is divided, and so how thin our uploads lie."""

    def __init__(self, api: AISearch, items: Items, naming: Naming, shards: int) -> None:
        self._api = api
        self._items = items
        self._naming = naming
        self._shards = shards
        self._tells = True
        """Whether the service counts and lists by status; one that once did not is not asked again."""
        self._before: Stats | None = None
        self._left: frozenset[str] = frozenset()
        self._same = 0

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str]) -> Mapping[str, Entry | None]:
        """Find out about fresh items from the newest pages of the listing, of others from the lists by status.

        fresh: those that a listing may not know of yet. Of them, absence says nothing. The last few are asked by id.
        """
        if not refs:
            return {}
        old = len(refs - fresh)
        few = old <= STRAGGLERS
        found = await self._newest(refs, self._pages_of(fresh) if fresh else int(few))
        rest = refs - found.keys()
        if not few and rest - fresh:
            told = await self._by_status(rest - fresh)
            if told is None:
                # There is no cheap way, so the pages have to show it.
                told = await self._newest(rest, self._pages_of(refs))
            else:
                rest &= fresh
            found |= told
            rest -= told.keys()
        for ref in sorted(rest)[:STRAGGLERS]:
            found[ref] = await self._ask(ref)
        return found

    def _pages_of(self, refs: frozenset[str]) -> int:
        """How many pages so many uploads are likely to fill, among those of all shards."""
        return len(refs) * self._shards // PER_PAGE + 2

    async def counts(self) -> dict[IndexStatus, int] | None:
        """Items by status in the whole instance; None if it does not say, or not all of it."""
        try:
            stats = await self._api.stats()
        except Unreachable:
            raise
        except (Park, Retry):
            return None
        counts: dict[IndexStatus, int | None] = {
            "queued": stats.queued,
            "running": stats.running,
            "completed": stats.completed,
            "error": stats.error,
            "skipped": stats.skipped,
            "outdated": stats.outdated,
        }
        known = {status: count for status, count in counts.items() if count is not None}
        return None if stats.degraded or len(known) < len(counts) else known

    async def why(self, ref: str) -> str | None:
        """The reason that the item's latest failure has in its log."""
        try:
            lines = (await self._api.logs(ref, LOGS)).entries
        except NotFound:
            return None
        failures = [line for line in lines if line.error_type or line.action == "error"]
        if not failures:
            return None
        # Which end of the log is the newest, nobody documents.
        latest: LogEntry = max(failures, key=lambda line: line.timestamp or "")
        said = " ".join((latest.message or latest.error_type or "").split())
        return said[:REASON_LENGTH] or None

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """Index an item's stored bytes again: by its id, or by its key if somebody has put it there anew."""
        try:
            item = await self._api.sync(ref)
        except NotFound:
            item = await self._api.create_or_update(self._naming.name(key))
        return item.status or "queued"

    async def _newest(self, refs: frozenset[str], pages: int) -> Found:
        """What the newest pages of the listing show, where fresh uploads are."""
        found: Found = {}
        if pages <= 0:
            return found
        async for page in self._items.pages():
            found |= {item.id: entry_of(item) for item in page.items if item.id in refs}
            pages -= 1
            if pages == 0 or len(found) == len(refs):
                break
        return found

    async def _ask(self, ref: str) -> Entry | None:
        try:
            return entry_of(await self._api.get(ref))
        except NotFound:
            return None

    # -- by status

    async def _by_status(self, refs: frozenset[str]) -> Found | None:
        """What counts and lists by status tell; None if the service has no such thing."""
        try:
            return await self._told(refs) if self._tells else None
        except Unreachable:
            raise
        except (Park, Retry) as error:
            # What was refused is not offered; what failed may work the next time.
            self._tells = isinstance(error, Retry)
            log.info("index.no_lists", instance=self._api.instance, why=str(error))
            return None

    async def _told(self, refs: frozenset[str]) -> Found:
        counts = await self._api.stats()
        if counts == self._before and refs <= self._left and self._same < SAME_LOOKS:
            self._same += 1
            return {}
        self._same, self._before = 0, None
        lengths = {status: getattr(counts, status) for status in FLOW}
        if counts.degraded or None in lengths.values():
            raise Retry("the service could not count its items")
        wanted = [status for status in FLOW if lengths[status]]
        if sum(-(-lengths[status] // PER_PAGE) for status in wanted) > PAGES:
            found = await self._shown(refs, counts)
            sure = True
        else:
            found, sure = await self._read(refs, wanted)
        self._left = frozenset(ref for ref in refs if ref not in found or not _ended(found[ref]))
        self._before = counts if sure else None
        return found

    async def _read(self, refs: frozenset[str], wanted: list[IndexStatus]) -> tuple[Found, bool]:
        """Read the lists of all states but completed: whoever is in none of them is completed, if that is sure."""
        found: Found = {}
        sure = True
        for status in wanted:
            read = await self._list(status)
            found |= {ref: entry_of(item) for ref, item in read.items.items() if ref in refs}
            sure = sure and read.whole
        absent = sorted(refs - found.keys())
        if sure and absent:
            # Counts may be old, filters may not work, an item may have been removed: the first and the last are asked.
            checked = {ref: await self._ask(ref) for ref in {absent[0], absent[-1]}}
            sure = all(entry is not None and entry.status == "completed" for entry in checked.values())
            if sure:
                found |= {ref: Entry("", ref, status="completed") for ref in absent}
            found |= checked
        return found, sure

    async def _shown(self, refs: frozenset[str], counts: Stats) -> Found:
        """So many are on their way that only those are looked for that arrived lately: the newest of each end."""
        found: Found = {}
        ends: tuple[tuple[IndexStatus, int], ...] = (
            ("error", PAGES // 8),
            ("skipped", PAGES // 8),
            ("completed", PAGES - 2 * (PAGES // 8)),
        )
        for status, pages in ends:
            if getattr(counts, status):
                read = await self._list(status, pages, until_none_of=refs)
                found |= {ref: entry_of(item) for ref, item in read.items.items() if ref in refs}
        return found

    async def _list(
        self, status: IndexStatus, pages: int = PAGES, until_none_of: frozenset[str] | None = None
    ) -> _List:
        """So many pages of one state at most; only to the first without any of some refs, if they are given."""
        seen: dict[str, StoredItem] = {}
        totals: set[int | None] = set()
        async for page in self._api.iter_pages(source=BUILTIN, status=status, sort_by="modified_at"):
            if any(item.status != status for item in page.items):
                raise Park("failed", "the service does not list by status")
            if page.items or page.total_count:
                totals.add(page.total_count)
            seen |= {item.id: item for item in page.items}
            pages -= 1
            if pages == 0 or (until_none_of and not any(item.id in until_none_of for item in page.items)):
                break
        # Rows move up when others leave: as many as were counted, all the time, means that none was passed over.
        return _List(seen, not totals or totals == {len(seen)})


def _ended(entry: Entry | None) -> bool:
    return entry is None or entry.status in ("completed", "error", "skipped")
