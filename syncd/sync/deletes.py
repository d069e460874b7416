"""Which deletes of a plan may go now, and how much is lost by them: decided when the puts of the pass are done.

- A delete is no loss if an entry that stays has its content: a file that was moved, or has a copy.
- A delete waits while an upload that did not end well may be that of its content: a search finds the old entry rather
  than none. Which upload that is, is told by the size of the file.
- In `run` a file must have been gone for `delete_after`: what a deploy takes away and brings back is no delete.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from syncd.core.errors import SyncdError
from syncd.core.model import Adopt, Delete, Item, Put
from syncd.state.absences import Absence
from syncd.state.pass_tables import PassTables
from syncd.state.queue import LATER_S, Dirty
from syncd.sync.mirror import Mirror

log = structlog.get_logger()

GONE = frozenset({"absent", "seen_to_go", "orphan"})
"""Evidence of deletes whose file is not there, and may be elsewhere or come back."""
_UNKNOWN = ""
FAILED_AT_MOST = 10_000
"""So many files that failed earlier are looked at, for the size that they have."""
SOON_S = 0.25
"""What waits for an upload that is tried again soon is not looked at more often than so."""


@dataclass(slots=True)
class Departures:
    """The deletes of a plan. lost: by which a content goes, those that earlier passes saw coming and that are not due
    yet among them. due: those that may go. waiting: those that wait for an upload, young: for their time. again: a full
    pass has to plan some of the young ones again, for the journal does not know them.
    """

    lost: int = 0
    due: int = 0
    waiting: int = 0
    young: int = 0
    again: bool = False
    held: list[int] = field(default_factory=list)


class _Uploads:
    """Uploads that have not ended well, and may carry what a delete takes away.

    sent: keys of files that were read, and could not be put -> the checksum. marked_due: when the next file that this
    pass has not looked at is looked at.
    """

    def __init__(self, mirror: Mirror, tables: PassTables, rows: Sequence[Dirty], sent: Mapping[str, str]) -> None:
        self._mirror = mirror
        self._by_checksum = {checksum: key for key, checksum in sent.items() if self._comes(key)}
        self._by_size = {
            size: key for key, size in tables.plan.unfinished_puts() if key not in sent and self._comes(key)
        }
        self._seen = {row.key: row.seq for row in rows}
        self.marked_due: float | None = None

    async def look(self) -> None:
        """Look at the files that wait for another try since an earlier pass, and at what was marked meanwhile."""
        mirror = self._mirror
        marked = mirror.queue.marked(mirror.now())
        self.marked_due = min((due for row, due in marked if self._seen.get(row.key) != row.seq), default=None)
        keys = mirror.queue.failed(FAILED_AT_MOST)
        found = await asyncio.to_thread(lambda: [mirror.tree.look(key) for key in keys])
        self._by_size |= {each.size: each.key for each in found if isinstance(each, Item)}

    def heir(self, delete: Delete, absence: Absence | None) -> str | None:
        """The key of an upload that may be that of the content which a delete takes away."""
        if (
            absence
            and absence.replacement
            and self._mirror.queue.next_try(absence.replacement) is not None
            and self._comes(absence.replacement)
        ):
            return absence.replacement
        same = self._by_checksum.get(delete.checksum or "")
        return same if same or delete.size is None else self._by_size.get(delete.size)

    def _comes(self, key: str) -> bool:
        """Whether it may still come: what has lost its file meanwhile waits for its own delete, and for no upload."""
        return not self._mirror.absences.get([key])


async def sift(
    mirror: Mirror, tables: PassTables, rows: Sequence[Dirty], delete_after: float, sent: Mapping[str, str]
) -> Departures:
    """Take the deletes that have to wait out of the plan, to be looked at again, and weigh the others.

    rows: what the pass looks at. sent: see _Uploads.
    """
    found = Departures()
    if not tables.plan.counts["delete"]:
        return found
    uploads = _Uploads(mirror, tables, rows, sent)
    await uploads.look()
    for turn in tables.plan.batches("delete"):
        _sift_turn(mirror, found, uploads, turn, delete_after)
        await asyncio.sleep(0)
    found.lost += mirror.absences.count_lost()
    tables.plan.remove("delete", found.held)
    if found.held:
        log.info("delete.put_off", mirror=mirror.name, waiting=found.waiting, young=found.young)
    return found


def _sift_turn(
    mirror: Mirror, found: Departures, uploads: _Uploads, turn: Sequence[tuple[int, Delete]], delete_after: float
) -> None:
    known = mirror.absences.get([delete.key for _, delete in turn])
    standing = mirror.absences.remaining({delete.checksum for _, delete in turn if delete.checksum})
    refused = mirror.journal.problems.refused({delete.checksum for _, delete in turn if delete.checksum})
    heirs: dict[str, str | None] = {}
    for seq, delete in turn:
        gone = known.get(delete.key) if delete.evidence in GONE else None
        age_s = mirror.age() - gone.since if gone else 0.0
        moved = delete.checksum in standing
        if gone and not moved and (heir := _heir(mirror, uploads, delete, gone, refused, age_s)) is not None:
            heirs[delete.key] = heir
            found.waiting += 1
            found.held.append(seq)
            continue
        if gone and gone.replacement is not None:
            heirs[delete.key] = None
        found.lost += delete.counted and gone is None
        if gone and age_s < delete_after:
            found.young += 1
            found.held.append(seq)
            found.again |= delete.reason == "orphan"
            mirror.queue.later([delete.key], mirror.now() + min(delete_after - age_s, LATER_S))
        else:
            found.due += 1
    mirror.absences.set_replacements(heirs.items())


def _heir(
    mirror: Mirror, uploads: _Uploads, delete: Delete, gone: Absence, refused: Container[str], age_s: float
) -> str | None:
    """The key of the file for which a delete waits, _UNKNOWN of one that has none yet; and see that it is looked at."""
    now = mirror.now()
    if heir := uploads.heir(delete, gone):
        due = min(max(mirror.queue.next_try(heir) or now, now + SOON_S), now + LATER_S)
        if mirror.queue.attempts(heir):
            # Not as something fresh, for which a single pass would wait to the end.
            mirror.queue.retry(delete.key, due, 1)
        else:
            mirror.queue.later([delete.key], due)
        return heir
    if delete.checksum in refused:
        # The next full pass plans it again.
        return _UNKNOWN
    if uploads.marked_due is not None and age_s < mirror.settings.settle_max:
        mirror.queue.later([delete.key], min(max(uploads.marked_due, now + SOON_S), now + LATER_S))
        return _UNKNOWN
    return None


async def to_come(mirror: Mirror, tables: PassTables) -> Counter[str]:
    """Contents that a plan puts, or adopts -> by how many files; files of the sizes that go are read for it."""
    deletes: list[Delete] = [delete for turn in tables.plan.batches("delete") for _, delete in turn]
    sizes = {delete.size for delete in deletes}
    # What is adopted is no later copy of what nobody knew of either.
    old = {delete.checksum for delete in deletes if delete.reason == "orphan"}
    adopts: list[Adopt] = [adopt for turn in tables.plan.batches("adopt") for _, adopt in turn if adopt.size in sizes]
    puts: list[Put] = [put for turn in tables.plan.batches("put") for _, put in turn if put.size in sizes]

    def read() -> Iterator[str]:
        for put in puts:
            # What cannot be read has no content to count with.
            with contextlib.suppress(SyncdError):
                yield mirror.tree.read(put.path)[0].checksum

    adopted = Counter(adopt.checksum for adopt in adopts if adopt.checksum not in old)
    return adopted + await asyncio.to_thread(lambda: Counter(read()))


def losses(mirror: Mirror, tables: PassTables, coming: Mapping[str, int]) -> int:
    """By how many deletes of a plan a content goes. coming: what it puts (see to_come)."""
    other = sum(
        delete.counted and delete.evidence not in GONE for turn in tables.plan.batches("delete") for _, delete in turn
    )
    return mirror.absences.count_lost(coming) + int(other)
