"""The index status of the items of one instance: polled by lists, explained, and repaired."""

from collections.abc import Mapping

import structlog

from syncd.cloudflare.ai_search import BUILTIN, PER_PAGE, AISearch, LogEntry, Stats, StoredItem
from syncd.core.errors import NotFound, Park, Retry, Unreachable
from syncd.core.model import Entry, IndexStatus
from syncd.targets.ai_search.items import ItemReader, entry_of

log = structlog.get_logger()

Statuses = dict[str, Entry | None]
"""Entries by ref, None for an item that does not exist."""

FLOW: tuple[IndexStatus, ...] = ("outdated", "queued", "running", "error", "skipped")
"""All statuses except completed, in the order in which an item passes them.

The lists are read in this order, so an item that changes its status meanwhile appears in a later list.
"""
PAGES = 40
"""Maximum number of pages of lists by status in one look, 2,000 items. A longer backlog is not read to its end."""
STRAGGLERS = 10
"""Maximum number of requests by id in one look. The other items wait for the next look."""
SAME_LOOKS = 4
"""Maximum number of looks in a row that read the counts only, because the counts are the same as before."""
REASON_LENGTH = 300
"""Maximum characters of the remote's reason for a failure."""
LOGS = 20
"""Lines of an item's log that are read for the reason of a failure."""


class IndexFollower:
    """Reads and repairs the index status of items of one instance.

    shards: the number of mirrors that share the work. On average, one in `shards` rows of a listing is of this mirror.
    """

    def __init__(self, api: AISearch, items: ItemReader, shards: int) -> None:
        self._api = api
        self._items = items
        self._shards = shards
        self._lists = StatusLists(api)

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Mapping[str, Entry | None]:
        """Return the entries of these refs, None for a deleted one. A ref without certain answer is absent.

        Fresh items come from the newest pages of the listing, other items from the lists by status, the last few from
        requests by id. fresh: refs that a listing may not show yet, so their absence proves nothing.
        """
        if not refs:
            return {}
        few = len(refs - fresh) <= STRAGGLERS
        found = await self._newest(refs, self._page_count(fresh) if fresh else int(few))
        rest = refs - found.keys()
        if not few and rest - fresh:
            listed = await self._lists.statuses(rest - fresh)
            if listed is None:
                # The service has no lists by status, so the listing has to show the items.
                listed = await self._newest(rest, self._page_count(refs))
            else:
                rest &= fresh
            found |= listed
            rest -= listed.keys()
        for ref in sorted(rest)[:STRAGGLERS]:
            found[ref] = await _status(self._api, ref)
        return found

    async def counts(self) -> dict[IndexStatus, int] | None:
        """Return the number of items by status in the whole instance, None if the service does not count all."""
        try:
            stats = await self._api.stats()
        except Unreachable:
            raise
        except (Park, Retry):
            return None
        counts: dict[IndexStatus, int | None] = {status: getattr(stats, status) for status in (*FLOW, "completed")}
        known = {status: count for status, count in counts.items() if count is not None}
        return None if stats.degraded or len(known) < len(counts) else known

    async def why(self, ref: str) -> str | None:
        """Return the reason of the latest failure in the item's log, None without one."""
        try:
            lines = await self._api.logs(ref, LOGS)
        except NotFound:
            return None
        failures = [line for line in lines if line.error_type or line.action == "error"]
        if not failures:
            return None
        # The order of the log is not documented.
        latest: LogEntry = max(failures, key=lambda line: line.timestamp or "")
        reason = " ".join((latest.message or latest.error_type or "").split())
        return reason[:REASON_LENGTH] or None

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """Index an item's stored bytes again: by its id, or by its key if somebody has uploaded it anew."""
        try:
            item = await self._api.sync(ref)
        except NotFound:
            item = await self._api.create_or_update(self._items.names.name(key))
        return item.status or "queued"

    def _page_count(self, refs: frozenset[str]) -> int:
        """Return the number of newest pages that so many uploads probably fill, among the uploads of all shards."""
        return len(refs) * self._shards // PER_PAGE + 2

    async def _newest(self, refs: frozenset[str], pages: int) -> Statuses:
        """Return the items among the newest pages of the listing."""
        found: Statuses = {}
        if pages <= 0:
            return found
        async for page in self._items.pages():
            found |= {item.id: entry_of(item) for item in page.rows if item.id in refs}
            pages -= 1
            if pages == 0 or len(found) == len(refs):
                break
        return found


class StatusLists:
    """Reads the counts and lists by status of one instance, and remembers them between two looks."""

    def __init__(self, api: AISearch) -> None:
        self._api = api
        self._available = True
        """False after the service has refused to list by status. Then it is not asked again."""
        self._counts_before: Stats | None = None
        self._unfinished: frozenset[str] = frozenset()
        self._same_looks = 0

    async def statuses(self, refs: frozenset[str]) -> Statuses | None:
        """Return the items that the lists show, None if the service does not list by status."""
        try:
            return await self._look(refs) if self._available else None
        except Unreachable:
            raise
        except (Park, Retry) as error:
            # A refusal is permanent. A failure may succeed at the next look.
            self._available = isinstance(error, Retry)
            log.info("index.no_lists", instance=self._api.instance, why=str(error))
            return None

    async def _look(self, refs: frozenset[str]) -> Statuses:
        counts = await self._api.stats()
        if counts == self._counts_before and refs <= self._unfinished and self._same_looks < SAME_LOOKS:
            self._same_looks += 1
            return {}
        self._same_looks, self._counts_before = 0, None
        lengths = {status: getattr(counts, status) for status in FLOW}
        if counts.degraded or None in lengths.values():
            raise Retry("the service could not count its items")
        wanted = [status for status in FLOW if lengths[status]]
        if sum(-(-lengths[status] // PER_PAGE) for status in wanted) > PAGES:
            found = await self._latest(refs, counts)
            certain = True
        else:
            found, certain = await self._all(refs, wanted)
        self._unfinished = frozenset(ref for ref in refs if ref not in found or not _has_ended(found[ref]))
        self._counts_before = counts if certain else None
        return found

    async def _all(self, refs: frozenset[str], wanted: list[IndexStatus]) -> tuple[Statuses, bool]:
        """Read the lists of all statuses except completed. Return the items, and whether the answer is certain.

        If it is certain, an item in none of the lists is completed.
        """
        found: Statuses = {}
        certain = True
        for status in wanted:
            items, whole = await self._list(status)
            found |= {ref: entry_of(item) for ref, item in items.items() if ref in refs}
            certain = certain and whole
        absent = sorted(refs - found.keys())
        if certain and absent:
            # Counts may be old, filters may not work, an item may be deleted. Two requests by id check for that.
            checked = {ref: await _status(self._api, ref) for ref in {absent[0], absent[-1]}}
            certain = all(entry is not None and entry.status == "completed" for entry in checked.values())
            if certain:
                found |= {ref: Entry("", ref, status="completed") for ref in absent}
            found |= checked
        return found, certain

    async def _latest(self, refs: frozenset[str], counts: Stats) -> Statuses:
        """Read the newest items of each final status, because the backlog is too long to read."""
        found: Statuses = {}
        shares: tuple[tuple[IndexStatus, int], ...] = (
            ("error", PAGES // 8),
            ("skipped", PAGES // 8),
            ("completed", PAGES - 2 * (PAGES // 8)),
        )
        for status, pages in shares:
            if getattr(counts, status):
                items, _ = await self._list(status, pages, until_none_of=refs)
                found |= {ref: entry_of(item) for ref, item in items.items() if ref in refs}
        return found

    async def _list(
        self, status: IndexStatus, pages: int = PAGES, until_none_of: frozenset[str] | None = None
    ) -> tuple[Mapping[str, StoredItem], bool]:
        """Read at most so many pages of one status. Return the items, and whether they are all items of the status.

        until_none_of: stop after a page without any of these refs.
        """
        seen: dict[str, StoredItem] = {}
        totals: set[int | None] = set()
        async for page in self._api.iter_pages(source=BUILTIN, status=status, sort_by="modified_at"):
            if any(item.status != status for item in page.rows):
                raise Park("failed", "the service does not list by status")
            if page.rows or page.total_count:
                totals.add(page.total_count)
            seen |= {item.id: item for item in page.rows}
            pages -= 1
            if pages == 0 or (until_none_of and not any(item.id in until_none_of for item in page.rows)):
                break
        # Rows move up when items leave the list. A total that never changed proves that no row was missed.
        return seen, not totals or totals == {len(seen)}


async def _status(api: AISearch, ref: str) -> Entry | None:
    try:
        return entry_of(await api.get(ref))
    except NotFound:
        return None


def _has_ended(entry: Entry | None) -> bool:
    return entry is None or entry.status in ("completed", "error", "skipped")
