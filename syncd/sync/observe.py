"""What is there: local files, journal rows and remote entries, merged by key, a bounded block at a time.

A shard sees its own keys alone: the walk, the listing and the hints leave out all others. Journal rows of other shards
are dropped when the mirror is opened (session).
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from operator import attrgetter
from typing import NamedTuple

from syncd.core.model import Entry, Item, Local, Problem, Record
from syncd.core.plan import Source, entry_of
from syncd.core.sharding import WHOLE, Shard
from syncd.state.journal import LAST, under
from syncd.state.pass_tables import PassTables
from syncd.state.queue import Dirty
from syncd.sync.instep import NOTHING, InStep
from syncd.sync.mirror import Mirror

BLOCK = 512
"""Keys looked at together: bounds memory, and how long the loop is busy between two breaths."""
LISTING_BATCH = 1000
FAULTS_NAMED = 20
"""So many rows of a listing that cannot be read are named."""
FEW_KEYS = 20
"""So many unknown keys are asked for one by one, whatever a listing costs: with it the whole folder is looked at."""

_KEY = attrgetter("key")


class Triple(NamedTuple):
    """All that is known of one key. `others` are further entries under the same key, after the one that counts.

    A named tuple takes a third of the time of a frozen dataclass to make, and one is made of every key of a pass.
    """

    key: str
    local: Local
    record: Record | None
    entry: Entry | None
    seen: Source
    others: Sequence[Entry] = ()


async def listing(mirror: Mirror, tables: PassTables, tick: Callable[[], None]) -> None:
    """PassTables the remote listing of our shard, without entries that we deleted but that it may not know of yet.

    tick: called now and then.
    """
    started = mirror.now()
    batch: list[Entry] = []

    def put_down() -> None:
        # Only now: how far behind a listing is, its target may find out when it begins.
        lag_s = mirror.target.limits.lag_s
        deleted = mirror.journal.tombstones.deleted_about([entry.ref for entry in batch], started, lag_s)
        tables.listing.add(entry for entry in batch if entry.ref not in deleted)
        tables.listing.hidden += len(deleted)
        batch.clear()
        tick()

    async for entry in ours(mirror):
        batch.append(entry)
        if len(batch) >= LISTING_BATCH:
            put_down()
    put_down()
    if mirror.target.unreadable_rows:
        mirror.journal.problems.add(_faults(mirror.target.unreadable_rows), tables.pass_id)


def _faults(faults: Sequence[str]) -> list[Problem]:
    """A problem for each row of the remote's that nobody can read, up to a few. They are left alone."""
    named = list(dict.fromkeys(faults))[:FAULTS_NAMED]
    said = "the remote lists a row that cannot be read, and it is left alone; delete it there"
    return [Problem(f"(remote row: {fault})", "invalid_key", f"{said}: {fault}") for fault in named]


def ours(mirror: Mirror) -> AsyncIterator[Entry]:
    """What the target lists of the keys that this process answers for."""
    entries, shard = mirror.target.entries(), mirror.policy.shard
    return entries if shard == WHOLE else _held(entries, shard)


async def _held(entries: AsyncIterator[Entry], shard: Shard) -> AsyncIterator[Entry]:
    async for entry in entries:
        if shard.holds(entry.key):
            yield entry


class Wide(Exception):
    """The scope has so many keys that nobody knows, that a listing costs less than asking for each: look everywhere."""


async def whole(
    mirror: Mirror, tables: PassTables, lane: InStep | None = None, seen: Source = "listing"
) -> AsyncIterator[list[Triple]]:
    """Yield every key of the mirror in order: the tree merged with the journal and the listing in `tables`.

    Keys that the lane takes are left out; it counts them. seen: "journal" if what lies in `tables` is what the journal
    says; then raises Wide, as `dirty` does.
    """
    prefix, unknown = mirror.policy.prefix, 0
    async for block in _merge(mirror, "", (prefix, prefix + LAST), tables, lane):
        if seen == "listing":
            yield block
            continue
        unknown += _unknown(block)
        if too_many(mirror, unknown):
            raise Wide
        yield [triple._replace(seen=seen) for triple in block]


def _unknown(block: Sequence[Triple]) -> int:
    return sum(each.record is None and isinstance(each.local, Item) for each in block)


def too_many(mirror: Mirror, unknown: int) -> bool:
    """True if asking for so many keys one by one costs more than a listing."""
    page = mirror.target.limits.page
    # Few keys are never too many: then nothing is counted, as in each block of a pass in which nothing is new.
    if page is None or unknown <= FEW_KEYS:
        return False
    # A listing shows the other shards' entries, too.
    listed = mirror.journal.count() * mirror.policy.shard.count
    return unknown > FEW_KEYS + listed // page


async def dirty(mirror: Mirror, rows: Sequence[Dirty]) -> AsyncIterator[list[Triple]]:
    """Yield the keys of dirty rows, and all keys below those that are directories. R is what J says.

    Raises Wide before a block would cost too many questions.
    """
    unknown = 0
    async for block in _dirty(mirror, rows):
        unknown += _unknown(block)
        if too_many(mirror, unknown):
            raise Wide
        yield block


async def _dirty(mirror: Mirror, rows: Sequence[Dirty]) -> AsyncIterator[list[Triple]]:
    prefix, owner = mirror.policy.prefix, mirror.policy.owner
    rows = _without_covered(rows, prefix)
    for row in rows:
        if row.subtree:
            folder = row.key.removeprefix(prefix)
            reach = under(row.key + "/") if folder else (prefix, prefix + LAST)
            async for block in _merge(mirror, folder + "/" if folder else "", reach):
                yield block
    shard = mirror.policy.shard
    single = (row.key for row in rows if row.key != prefix and shard.holds(row.key))
    while keys_now := list(islice(single, BLOCK)):
        found = await asyncio.to_thread(lambda keys: [(key, mirror.tree.look(key)) for key in keys], keys_now)
        left = mirror.superseded.of(keys_now)
        yield [_remembered(owner, (key, local, mirror.journal.get(key)), left.get(key, ())) for key, local in found]


def _without_covered(rows: Sequence[Dirty], prefix: str) -> list[Dirty]:
    """Leave out rows below a directory that is looked at anyway: a key may be planned once only."""
    folders = {row.key for row in rows if row.subtree}

    def covered(key: str) -> bool:
        return key != prefix and (
            prefix in folders or any(key[:end] in folders for end, char in enumerate(key) if char == "/")
        )

    return [row for row in rows if not covered(row.key)]


async def _merge(
    mirror: Mirror, folder: str, keys: tuple[str, str], tables: PassTables | None = None, lane: InStep | None = None
) -> AsyncIterator[list[Triple]]:
    owner = mirror.policy.owner
    ahead = _Ahead(_walk(mirror, folder))
    after: str | None = keys[0]
    while after is not None:
        strays = await ahead.fill()
        ends = [
            ahead.end(),
            mirror.journal.key_after(after, keys[1], BLOCK),
            tables.listing.key_after(after, BLOCK) if tables else None,
        ]
        # Beyond the first source's end, that source may hold keys not fetched yet.
        end = min((each for each in ends if each is not None), default=None)
        found = ahead.take(end)
        taken = lane.take(after, end, found) if lane else NOTHING
        local = {each.key: each for each in found if each.key not in taken.keys}
        records = [] if taken.all else mirror.journal.after(after, keys[1], BLOCK, taken.keys)
        known = {record.key: record for record in records if end is None or record.key <= end}
        left = {} if tables else mirror.superseded.between(after, end, keys[1])
        entries = None if tables is None else {} if taken.all else tables.listing.entries(after, end, taken.keys)
        yield [*(Triple(stray.key, stray, None, None, "journal") for stray in strays)] + [
            _remembered(owner, (key, local.get(key), known.get(key)), left.get(key, ()))
            if entries is None
            else _listed(key, local.get(key), known.get(key), entries.get(key, ()), owner)
            for key in sorted({*local, *known, *left, *(entries or ())})
        ]
        after = end


def _walk(mirror: Mirror, folder: str) -> Iterator[Item | Problem]:
    """The files of our shard. A directory that cannot be read may hold some of every shard."""
    found, shard = mirror.tree.walk(folder), mirror.policy.shard
    if shard == WHOLE:
        return found
    return (each for each in found if shard.holds(each.key) or (type(each) is Problem and each.kind == "unreadable"))


class _Ahead:
    """The walk, read ahead in a thread, a block at a time."""

    def __init__(self, walk: Iterator[Item | Problem]) -> None:
        self._walk = walk
        self._waiting: list[Item | Problem] = []
        self._ended = False

    async def fill(self) -> list[Problem]:
        """Read on until a block waits or the walk ends; return the problems that have no place in the order."""
        strays: list[Problem] = []
        while len(self._waiting) < BLOCK and not self._ended:
            found = await asyncio.to_thread(lambda: list(islice(self._walk, BLOCK)))
            self._ended = len(found) < BLOCK
            for each in found:
                if type(each) is Problem and each.kind == "invalid_key":
                    strays.append(each)
                else:
                    self._waiting.append(each)
        return strays

    def end(self) -> str | None:
        """The last key that surely has nothing unread before it; None if all is read."""
        return None if self._ended else self._waiting[-1].key

    def take(self, end: str | None) -> list[Item | Problem]:
        """Hand over what waits up to and with `end`."""
        number = len(self._waiting) if end is None else bisect_right(self._waiting, end, key=_KEY)
        taken, self._waiting = self._waiting[:number], self._waiting[number:]
        return taken


def _remembered(owner: str, known: tuple[str, Local, Record | None], left: Sequence[Entry]) -> Triple:
    """R is what J says; what has to go beside it counts if there is nothing else."""
    key, local, record = known
    entries = [*([entry_of(record, owner)] if record else []), *left]
    return Triple(key, local, record, entries[0] if entries else None, "journal", entries[1:])


def _listed(key: str, local: Local, record: Record | None, entries: Sequence[Entry], owner: str) -> Triple:
    """The entry that counts is the one we wrote, else one with our mark; normally there is only one."""

    def merit(entry: Entry) -> tuple[bool, bool, bool]:
        return (
            record is not None and entry.ref == record.ref,
            entry.owner == owner,
            record is not None and entry.checksum == record.checksum,
        )

    first, *others = sorted(entries, key=merit, reverse=True) if len(entries) > 1 else entries or (None,)
    return Triple(key, local, record, first, "listing", others)
