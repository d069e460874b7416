"""The observation of a pass: the keys that are not in step, each with its file, its record and its entries.

The walk fills a table of local files. The listing or the journal fills a table of remote entries. `FileReader` reads
the files whose checksum a decision needs. A shard observes only its own keys.
"""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

from syncd.core.errors import DiskRetry, FileChanged, Park, unexpected_error
from syncd.core.keys import LAST
from syncd.core.model import Content, Entry, Excluded, Item, Local, Problem, Record
from syncd.core.names import WHOLE
from syncd.core.plan import Source
from syncd.state.pass_tables import ChangeQuery, KeyRow, PassTables
from syncd.state.queue import Dirty
from syncd.sync.mirror import CONVERSIONS, Mirror, Pass

WALK_BATCH = 1000
"""The number of files that a walk reads before the event loop runs again."""
LISTING_BATCH = 250
"""The number of listed entries that one transaction stores.

With a larger number, the garbage collector visits more objects.
"""
FAULTS_NAMED = 20
"""The number of unreadable rows of a listing that are reported."""
FEW_KEYS = 20
"""Up to this number, a pass confirms unknown keys one by one. A full pass would also read the whole folder."""


class Observed(NamedTuple):
    """The observation of one key. entry: the entry that decisions use; others: further entries of the same key.

    A named tuple takes a third of the time of a frozen dataclass to create.
    """

    key: str
    local: Local
    record: Record | None
    entry: Entry | None
    seen: Source
    others: Sequence[Entry] = ()


class ScopeTooLarge(Exception):
    """Confirming each unknown key of the scope would take more requests than one listing."""


class Places(NamedTuple):
    """The places that a pass observes: directories ("" for the root, or "a/b/") and single keys."""

    folders: Sequence[str]
    keys: Sequence[str]


ROOT = Places([""], [])


def too_many(mirror: Mirror, unknown: int) -> bool:
    """Return whether confirming so many keys one by one costs more than a listing."""
    page = mirror.target.limits.page
    # This condition saves counting the records in a pass without new keys.
    if page is None or unknown <= FEW_KEYS:
        return False
    # A listing shows the entries of other shards, too.
    listed = mirror.journal.count() * mirror.policy.shard.count
    return unknown > FEW_KEYS + listed // page


def places(mirror: Mirror, rows: Sequence[Dirty]) -> Places:
    """Return the places of dirty rows, each key once. A row below a directory of another row is left out."""
    prefix, shard = mirror.policy.prefix, mirror.policy.shard
    subtrees = {row.key for row in rows if row.subtree}

    def covered(key: str) -> bool:
        return key != prefix and (
            prefix in subtrees or any(key[:end] in subtrees for end, char in enumerate(key) if char == "/")
        )

    left = [row for row in rows if not covered(row.key)]
    folders = [row.key.removeprefix(prefix) for row in left if row.subtree]
    keys = [row.key for row in left if row.key != prefix and shard.holds(row.key)]
    # Files whose entries would have the same name are not sent, so a change of one file concerns the others.
    rivals = (rival for key in keys for rival in mirror.target.limits.forms.rivals(key))
    keys = list(dict.fromkeys([*keys, *(rival for rival in rivals if shard.holds(rival) and not covered(rival))]))
    return Places([folder and folder + "/" for folder in folders], keys)


async def observe(
    mirror: Mirror, tables: PassTables, where: Places, seen: Source, *, full: bool = False
) -> AsyncIterator[list[Observed]]:
    """Look at `where` and yield the keys that are not in step, in blocks. A block can be empty.

    seen: "listing" if the remote table holds a listing; "journal" if the journal filled it. In the second case this
    raises ScopeTooLarge before a block would need too many questions. full: use no cached checksum.
    """
    async for problems in _fill_from_folder(mirror, tables, where):
        yield [Observed(problem.key, problem, None, None, "journal") for problem in problems]
        # A file without a record is unknown. The number of unknown files is at least this difference.
        if seen == "journal" and too_many(mirror, tables.local.files - tables.remote.recorded):
            raise ScopeTooLarge
    unknown = 0
    async for block in changed(mirror, tables, seen, full=full):
        if seen == "journal":
            unknown += sum(observed.record is None and isinstance(observed.local, Item) for observed in block)
            if too_many(mirror, unknown):
                raise ScopeTooLarge
        yield block


def fill_from_journal(mirror: Mirror, tables: PassTables, where: Places) -> None:
    """Fill the remote table of a pass over some places from the journal."""
    prefix = mirror.policy.prefix
    below = [(prefix + folder, prefix + folder + LAST) for folder in where.folders]
    tables.remote.add_records(mirror.name, mirror.policy.owner, [*below, *((key, key) for key in where.keys)])


async def fill_from_listing(current: Pass) -> None:
    """List the target, without entries that this mirror has deleted and that the listing may still show."""
    mirror, tables = current.mirror, current.result.tables
    started, tombstones = mirror.now(), mirror.journal.tombstones
    batch: list[Entry] = []
    any_deleted: bool | None = None

    def add_batch() -> None:
        nonlocal any_deleted
        # Some targets know the lag of their listing only after its start.
        lag_s = mirror.target.limits.lag_s
        if any_deleted is None:
            any_deleted = tombstones.any_about(started, lag_s)
        refs = [entry.ref for entry in batch] if any_deleted else []
        # A delete with a time in the future was stored under another clock. It must not hide an entry for days.
        deleted = tombstones.deleted_between(refs, started - lag_s, started + lag_s)
        tables.remote.add([entry for entry in batch if entry.ref not in deleted])
        tables.remote.hidden += len(deleted)
        batch.clear()
        current.tick()

    async for entry in shard_entries(mirror):
        batch.append(entry)
        if len(batch) >= LISTING_BATCH:
            add_batch()
    add_batch()
    if mirror.target.unreadable_rows:
        mirror.note(_row_problems(mirror.target.unreadable_rows), tables.pass_id)


def _row_problems(faults: Sequence[str]) -> list[Problem]:
    """Return a problem for each of the first unreadable rows. syncd leaves such rows alone."""
    named = list(dict.fromkeys(faults))[:FAULTS_NAMED]
    message = "the remote lists a row that cannot be read, and it is left alone; delete it there"
    return [Problem(f"(remote row: {fault})", "invalid_key", f"{message}: {fault}") for fault in named]


def shard_entries(mirror: Mirror) -> AsyncIterator[Entry]:
    """List the entries of the target whose keys belong to the shard of this mirror."""
    entries, shard = mirror.target.entries(), mirror.policy.shard
    return entries if shard == WHOLE else (entry async for entry in entries if shard.holds(entry.key))


async def changed(
    mirror: Mirror, tables: PassTables, seen: Source, *, full: bool = False
) -> AsyncIterator[list[Observed]]:
    """Yield the keys of filled tables that are not in step, in order; with `full`, yield all keys."""
    limits, prefix = mirror.target.limits, mirror.policy.prefix
    query = ChangeQuery(
        mirror=mirror.name,
        owner=mirror.policy.owner,
        first=prefix,
        last=prefix + LAST,
        listed=seen == "listing",
        cached=not full,
        now=mirror.now(),
        lag_s=limits.lag_s if limits.reads_lag else -1.0,
        renew_s=math.inf if limits.renew_s is None else limits.renew_s,
    )
    for rows in tables.changed(query):
        entries = tables.remote.entries([row.key for row in rows]) if rows else {}
        yield [_observed(row, entries.get(row.key, ()), mirror.policy.owner, seen) for row in rows]
        await asyncio.sleep(0)


async def _fill_from_folder(mirror: Mirror, tables: PassTables, where: Places) -> AsyncIterator[list[Problem]]:
    """Fill the local table; yield the problems of names that cannot be keys."""

    def has_key(problem: Problem) -> bool:
        # Neither the root nor an invalid name has a key. The text in its problem may equal the key of another file.
        return problem.kind != "invalid_key" and problem.key != mirror.policy.prefix

    for folder in where.folders:
        walk = _walk(mirror, folder)
        while found := await asyncio.to_thread(lambda walk: list(islice(walk, WALK_BATCH)), walk):
            tables.local.add([item for item in found if type(item) is Item])
            problems = [item for item in found if type(item) is Problem]
            tables.local.add_unusable((problem.key, problem) for problem in problems if has_key(problem))
            yield [problem for problem in problems if not has_key(problem)]
    keys = iter(where.keys)
    while some := list(islice(keys, WALK_BATCH)):
        looked = await asyncio.to_thread(lambda some: [(key, mirror.tree.look(key)) for key in some], some)
        tables.local.add([local for _, local in looked if isinstance(local, Item)])
        tables.local.add_unusable((key, local) for key, local in looked if isinstance(local, (Problem, Excluded)))
        yield []


def _walk(mirror: Mirror, folder: str) -> Iterator[Item | Problem]:
    """Walk the files of this shard. An unreadable directory may hold files of every shard."""
    found, shard = mirror.tree.walk(folder), mirror.policy.shard
    if shard == WHOLE:
        return found
    return (item for item in found if shard.holds(item.key) or (type(item) is Problem and item.kind == "unreadable"))


def _observed(row: KeyRow, entries: Sequence[Entry], owner: str, seen: Source) -> Observed:
    """Choose the entry that decisions use: the recorded one, else one with our mark, else one with our content."""
    record = row.record

    def rank(entry: Entry) -> tuple[bool, bool, bool]:
        return (
            record is not None and entry.ref == record.ref,
            entry.owner == owner,
            record is not None and entry.checksum == record.checksum,
        )

    first, *others = sorted(entries, key=rank, reverse=True) if len(entries) > 1 else entries or (None,)
    return Observed(row.key, row.local, record, first, seen, others)


# -- checksums of files


@dataclass(slots=True)
class FileReader:
    """Reads files for one pass, and counts them."""

    current: Pass
    converting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(CONVERSIONS))

    async def add_checksums(
        self, block: Sequence[Observed], refused: Collection[str]
    ) -> tuple[list[Observed], frozenset[str]]:
        """Return the block with the checksums that decisions need, and the keys of files that are changing right now.

        A file needs a checksum to be compared with a record, with an entry, or with content that the remote refused.
        """
        items = [
            observed.local
            for observed in block
            if isinstance(observed.local, Item)
            and observed.local.checksum is None
            and (observed.record or observed.entry or observed.key in refused)
        ]
        found, changing = await self.checksums(items)
        with_checksums = [
            observed._replace(local=found[observed.key]) if observed.key in found else observed for observed in block
        ]
        return with_checksums, changing

    async def checksums(self, items: Sequence[Item]) -> tuple[dict[str, Item | Problem], frozenset[str]]:
        """Hash files in a thread. Return the files with their checksums, and the keys of files that are changing."""
        if not items:
            return {}, frozenset()
        mirror = self.current.mirror
        tree = mirror.tree
        allow_changing = frozenset(item.key for item in items if mirror.settle_expired(item.key))
        found: dict[str, Item | Problem] = {}
        changing: set[str] = set()
        steady: list[tuple[str, os.stat_result, str]] = []

        def read_all() -> None:
            for item in items:
                try:
                    content, stat = tree.read(item.path, allow_changing=item.key in allow_changing)
                except FileChanged:
                    changing.add(item.key)
                except (Park, DiskRetry) as error:
                    found[item.key] = Problem(item.key, error.kind, str(error))
                except Exception as error:  # noqa: BLE001 - unexpected_error logs it
                    found[item.key] = Problem(item.key, "failed", str(unexpected_error(error, item.key)))
                else:
                    found[item.key] = item._replace(size=stat.st_size, checksum=content.checksum)
                    if item.key not in allow_changing:
                        steady.append((item.key, stat, content.checksum))

        await asyncio.to_thread(read_all)
        self.current.result.files_read += len(items)
        mirror.files.store(steady, time.time_ns())
        self._mark_links({key: (stat.st_ino, checksum) for key, stat, checksum in steady if stat.st_nlink > 1})
        return found, frozenset(changing)

    async def content(self, item: Item) -> Content:
        """Read one file, as it is sent. Raises FileChanged if it is changing right now.

        A target that keeps no files compares checksums only, so its files are not converted.
        """
        self.current.result.files_read += 1
        mirror = self.current.mirror
        allow_changing = mirror.settle_expired(item.key)

        def read() -> Content:
            content, _ = mirror.tree.read(item.path, allow_changing=allow_changing)
            limits = mirror.target.limits
            return mirror.convert(item.key, content, limits) if limits.keeps_files else content

        async with self.converting if mirror.target.limits.forms.of(item.key) == "convert" else nullcontext():
            return await asyncio.to_thread(read)

    def _mark_links(self, read: Mapping[str, tuple[int, str]]) -> None:
        """Mark the other hard links of changed files. The kernel reports only the name that was written to."""
        if self.current.scope.everything or not read:
            # A pass over the whole folder sees the other names itself.
            return
        mirror, checksums = self.current.mirror, dict(read.values())
        links = [
            (key, False)
            for key, inode in mirror.files.twins(checksums)
            if key not in read and (record := mirror.journal.get(key)) and record.checksum != checksums[inode]
        ]
        mirror.queue.mark(links, mirror.now())
