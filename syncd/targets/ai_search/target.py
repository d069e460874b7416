"""The target of one instance, and the index status of its items.

key = prefix + path; ref = item id. Only items of source "builtin" belong to syncd.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import structlog

from syncd.cloudflare.ai_search import BUILTIN, PER_PAGE, AISearch
from syncd.cloudflare.ai_search_models import LogEntry, Stats, StoredItem
from syncd.cloudflare.error_codes import PAUSED
from syncd.cloudflare.file_types import LARGE, LARGE_WITH_OCR, MAX_FILE_SIZE, MAX_LARGE_FILE_SIZE, SUPPORTED
from syncd.cloudflare.instance_models import Instance
from syncd.core.errors import Conflict, NotFound, Park, PausedHalt, Retry, TargetMissing, Unreachable
from syncd.core.key_digests import truncated
from syncd.core.manners import Manners
from syncd.core.model import Entry, IndexStatus
from syncd.core.problems import Limits
from syncd.state.manners import LearnedManners
from syncd.targets.ai_search.access import readable_instance, search_advice
from syncd.targets.ai_search.items import INSTANCE, OWNER, SHA256, ItemReader, ItemWritePolicy, entry_of
from syncd.targets.ai_search.manners import MannersInUse
from syncd.targets.ai_search.probe import ItemProbe, is_leftover, is_old
from syncd.targets.ai_search.settings import settings_advice
from syncd.targets.ai_search.writing import ItemWriter
from syncd.targets.base import NO_KEYS, Advice, Fetched, Hit, KeySources, Landmark, Probe
from syncd.targets.shared import ShortNames, fetch_each, refusals_halt, title_field

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
TURN = 1000
"""Puts of one batch. No upload is under way at the end of a batch; hints end a batch early (see sync/apply.py)."""
LAG_S = 60.0
"""Seconds until a listing shows a write. AI Search documents none; this is the number of Workers KV."""
FOLDER_BYTES = 64
"""Bytes of a folder's name that the service compares in a filter (AI Search changelog, 2026-08)."""


# -- the index status


class IndexFollower:
    """Reads and repairs the index status of items of one instance.

    shards: the number of mirrors that share the work. The uploads of one mirror lie that thin in the listing.
    """

    def __init__(self, api: AISearch, items: ItemReader, names: ShortNames, shards: int) -> None:
        self._api = api
        self._items = items
        self._names = names
        self._shards = shards
        self._lists = StatusLists(api)

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Mapping[str, Entry | None]:
        """Return the entries of these refs, None for a deleted one. A ref without certain answer is absent.

        Fresh items come from the newest pages of the listing, other items from the lists by status, the last few from
        requests by id. fresh: refs that a listing may not show yet, so their absence proves nothing.
        """
        if not refs:
            return {}
        old = len(refs - fresh)
        few = old <= STRAGGLERS
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
            lines = (await self._api.logs(ref, LOGS)).entries
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
            item = await self._api.create_or_update(self._names.name(key))
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
            found |= {item.id: entry_of(item) for item in page.items if item.id in refs}
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
        self._left: frozenset[str] = frozenset()
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
        if counts == self._counts_before and refs <= self._left and self._same_looks < SAME_LOOKS:
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
        self._left = frozenset(ref for ref in refs if ref not in found or not _has_ended(found[ref]))
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
            if any(item.status != status for item in page.items):
                raise Park("failed", "the service does not list by status")
            if page.items or page.total_count:
                totals.add(page.total_count)
            seen |= {item.id: item for item in page.items}
            pages -= 1
            if pages == 0 or (until_none_of and not any(item.id in until_none_of for item in page.items)):
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


# -- the target


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """Return the limits of AI Search: the documented file types and their sizes, no empty files.

    Whether the instance takes large PDFs is decided when one is sent (see ItemWriter). max_key_length: characters, as
    configured. max_file_size: bytes, as configured; the limit of a type may be lower.
    """
    return Limits(
        max_key_length,
        max_file_size,
        LAG_S,
        SUPPORTED,
        empty=False,
        turn=TURN,
        page=PER_PAGE,
        listed=PER_PAGE,
        most_file_size=MAX_LARGE_FILE_SIZE,
        small_file_size=MAX_FILE_SIZE,
        large_extensions=LARGE | LARGE_WITH_OCR,
        small_remedy="make it smaller, or save it as plain text, of which AI Search takes 10 MiB",
    )


class AISearchTarget:
    """The target of one mirror in one instance.

    It implements all protocols of a target. Its reader, its index follower and its writer have most of the methods.
    concurrency: most uploads whose content is in memory at a time. shards: the number of mirrors that share the work.
    learned: the answers of `syncd check --probe`, by which the target goes.
    """

    def __init__(  # noqa: PLR0913 - the instance, the settings of a mirror, and the answers of a probe
        self,
        api: AISearch,
        policy: ItemWritePolicy,
        limits: Limits,
        *,
        keys: KeySources = NO_KEYS,
        concurrency: int = 8,
        shards: int = 1,
        learned: LearnedManners | None = None,
    ) -> None:
        self.limits = self._own_limits = limits
        self._api = api
        self._settings = policy.settings
        self._policy = policy
        self._manners = manners = MannersInUse(learned)
        names = ShortNames(limits, keys)
        self._title = title_field(policy.fields)
        self._fields = {SHA256: "text", OWNER: "text"} | {name: _type(source) for name, source in policy.fields.items()}
        self._items = items = ItemReader(api, policy, names, manners)
        self.newest = items.newest
        self.confirm, self.checksum = items.confirm, items.checksum
        index = IndexFollower(api, items, names, shards)
        self.statuses, self.counts, self.why, self.reindex = index.statuses, index.counts, index.why, index.reindex
        self._writer = writer = ItemWriter(api, items, names, policy, manners, concurrency)
        self.log_removals, self.apply = writer.log_removals, writer.apply
        manners.follow(self._go_by)
        manners.refresh()

    def _go_by(self, manners: Manners) -> None:
        """Work by what a probe learned of the instance."""
        lag_s = manners.lag_s
        self.limits = self._own_limits if lag_s is None else replace(self._own_limits, lag_s=lag_s)
        self._api.quoting = manners.names or "backslash"

    # -- the probe

    async def probe(self) -> Probe:
        """Learn how the instance answers where no document says it, with at most ten requests."""
        return await ItemProbe(self._api, self._policy).run()

    async def remove_leftovers(self, now: float) -> int:
        """Delete throw-away items of killed probes that the last listing showed."""
        removed = 0
        for item in self._items.leftovers:
            if is_leftover(item, self._policy.owner) and is_old(item, now):
                await self._writer.remove_leftover(item)
                removed += 1
        self._items.leftovers = []
        return removed

    # -- the instance

    async def check(self) -> str:
        """Return one line about the instance.

        Raises TargetMissing if it does not exist, PausedHalt if it is paused, Halt if access is refused.
        """
        with refusals_halt(INSTANCE):
            instance = await readable_instance(self._api)
        if instance.paused:
            raise PausedHalt(PAUSED)
        return f"AI Search instance {self._api.namespace}/{instance.id} is there"

    async def advice(self) -> Sequence[Advice]:
        """Make one search, and name undeclared metadata fields and settings that differ from the config."""
        with refusals_halt(INSTANCE):
            instance = await self._api.read_instance()
        settings = settings_advice(self._settings, instance)
        return (*self._metadata_advice(instance), *settings, await search_advice(self._api))

    def _metadata_advice(self, instance: Instance) -> Sequence[Advice]:
        declared = {name.lower() for name in instance.custom_metadata}
        if not (missing := [name for name in self._fields if name not in declared]):
            return ()
        message = f"it does not declare {', '.join(missing)}: kept with the items, but searches cannot filter by them"
        types = ", ".join(f"{name} {self._fields[name]}" for name in missing)
        remedy = f"nothing, if that is fine. Else declare them ({types}), which indexes all anew, or let create = true"
        return (Advice(message, f"{remedy} make another instance"),)

    async def create(self) -> None:
        """Create the instance, and its namespace if necessary, with the settings of the config.

        The instance declares the marks and the mirror's fields. An existing instance keeps its settings, because other
        fields would make the service index all items again.
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
            await self._api.create_instance(self._fields, self._settings)
        except Conflict:
            return False
        return True

    # -- reading

    @property
    def landmark(self) -> Landmark | None:
        """The summary of the last listing, None if it may have missed rows."""
        return self._items.landmark

    @property
    def unreadable_rows(self) -> Sequence[str]:
        """Messages about unreadable rows of the last listing."""
        return self._items.unreadable_rows

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield every uploaded item under the prefix (see ItemReader.entries)."""
        self._manners.refresh()
        async for entry in self._items.entries():
            yield entry

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
