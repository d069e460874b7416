"""Decides after the puts of a pass which of its deletes may go now, counts lost contents, and records the deletes.

- A delete loses nothing if an entry that stays has its content: the file was moved, or has a copy.
- A delete waits while an upload that did not succeed may be of its content, so that a search finds the old entry. The
  size of the file tells which upload that may be.
- In `run` a file must have been gone for `delete_after`, so that a deploy that removes files and brings them back
  deletes nothing.
- A delete waits for a replacement, another entry with the same content or key, until the index has it. So a search
  finds the content at any time while a file is renamed. The journal decides this each time the delete is planned.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import structlog

from syncd.core.errors import SyncdError
from syncd.core.keys import shown
from syncd.core.model import NOT_INDEXED, Adopt, Delete, IndexStatus, Item, Put
from syncd.state.db import transaction
from syncd.state.deletions import Absence
from syncd.state.journal import Journal
from syncd.state.pass_tables import PassTables
from syncd.state.queue import LATER_S
from syncd.sync.mirror import Mirror, Pass

log = structlog.get_logger()

GONE = frozenset({"absent", "seen_to_go", "orphan"})
"""Evidence of deletes whose file is gone, and may be elsewhere or come back."""
_UNKNOWN = ""
FAILED_AT_MOST = 10_000
"""Maximum number of earlier failed files whose size is looked up."""
SOON_S = 0.25
"""Minimum seconds until another look at a delete that waits for an upload."""
PATIENCE_S = 600.0
"""Seconds after which a delete no longer waits for a replacement, so that a stuck index does not keep old entries.
Indexing takes a minute or two. A queue that hung for half an hour was seen once."""
FIRST_PAUSE_S = 0.25


@dataclass(slots=True)
class DeleteDecision:
    """The decision about the deletes of a plan.

    lost: deletes that lose a content, and keys that earlier passes saw disappear and that are not due yet.
    due: deletes that may go. young: deletes that wait for `delete_after`. postponed: the numbers of these, and of the
    deletes that wait for an upload, in the plan.
    """

    lost: int = 0
    due: int = 0
    young: int = 0
    postponed: list[int] = field(default_factory=list)


class _Uploads:
    """The uploads that did not succeed, and may have the content that a delete removes.

    marked_due: the due time of the next marked file that this pass has not looked at.
    """

    def __init__(self, current: Pass) -> None:
        tables, unsent = current.result.tables, current.result.unsent
        self._mirror = current.mirror
        self._by_checksum = {checksum: key for key, checksum in unsent.items() if self._is_expected(key)}
        self._by_size = {
            size: key for key, size in tables.plan.unfinished_puts() if key not in unsent and self._is_expected(key)
        }
        self._seen = {row.key: row.seq for row in current.rows}
        self.marked_due: float | None = None

    async def look(self) -> None:
        """Look up the sizes of the files that earlier passes failed to put, and the keys that were marked since."""
        mirror = self._mirror
        marked = mirror.queue.marked(mirror.now())
        self.marked_due = min((row.due for row in marked if self._seen.get(row.key) != row.seq), default=None)
        keys = mirror.queue.failed(FAILED_AT_MOST)
        items = await asyncio.to_thread(lambda: [mirror.tree.look(key) for key in keys])
        self._by_size |= {item.size: item.key for item in items if isinstance(item, Item)}

    def replacement(self, delete: Delete, absence: Absence | None) -> str | None:
        """Return the key of an upload that may have the content that a delete removes."""
        if (
            absence
            and absence.replacement
            and self._mirror.queue.next_try(absence.replacement) is not None
            and self._is_expected(absence.replacement)
        ):
            return absence.replacement
        same = self._by_checksum.get(delete.checksum or "")
        return same if same or delete.size is None else self._by_size.get(delete.size)

    def _is_expected(self, key: str) -> bool:
        """Return whether the file may still be uploaded. A file that is gone waits for its own delete instead."""
        return not self._mirror.absences.get([key])


async def postpone_deletes(current: Pass) -> DeleteDecision:
    """Remove the deletes that have to wait from the plan, schedule another look at their keys, and count the losses."""
    mirror, result, tables = current.mirror, current.result, current.result.tables
    decision = DeleteDecision()
    if not tables.plan.counts["delete"]:
        return decision
    uploads = _Uploads(current)
    await uploads.look()
    if current.options.approved is not None:
        # A later pass has no approval, so an approved delete does not wait for files that no pass has looked at yet.
        uploads.marked_due = None
    for batch in tables.plan.batches("delete"):
        _decide_batch(current, decision, uploads, batch)
        await asyncio.sleep(0)
    decision.lost += mirror.absences.count_lost()
    tables.plan.remove("delete", decision.postponed)
    if decision.postponed:
        log.info("delete.postponed", mirror=mirror.name, waiting=result.waiting, young=decision.young)
    return decision


def _decide_batch(
    current: Pass, decision: DeleteDecision, uploads: _Uploads, batch: Sequence[tuple[int, Delete]]
) -> None:
    mirror, result, delete_after = current.mirror, current.result, current.options.delete_after
    absences = mirror.absences.get([delete.key for _, delete in batch])
    checksums = {delete.checksum for _, delete in batch if delete.checksum}
    remaining = mirror.absences.remaining(checksums)
    refused = mirror.journal.problems.refused(checksums)
    replacements: dict[str, str | None] = {}
    for seq, delete in batch:
        gone = absences.get(delete.key) if delete.evidence in GONE else None
        age_s = mirror.age() - gone.since if gone else 0.0
        moved = delete.checksum in remaining
        if gone and not moved and (key := _awaited_upload(mirror, uploads, delete, gone, refused, age_s)) is not None:
            replacements[delete.key] = key
            result.waiting += 1
            decision.postponed.append(seq)
            continue
        if gone and gone.replacement is not None:
            replacements[delete.key] = None
        decision.lost += delete.counted and gone is None
        if gone and age_s < delete_after:
            decision.young += 1
            decision.postponed.append(seq)
            # Only a full pass plans it again, because the journal does not know the entry.
            result.held_back |= delete.reason == "orphan"
            mirror.queue.later([delete.key], mirror.now() + min(delete_after - age_s, LATER_S))
        else:
            decision.due += 1
    mirror.absences.set_replacements(replacements.items())


def _awaited_upload(
    mirror: Mirror, uploads: _Uploads, delete: Delete, gone: Absence, refused: Container[str], age_s: float
) -> str | None:
    """Return the key of the upload that a delete waits for, _UNKNOWN if the key is not known, None if it need not wait.

    Also schedule another look at a delete that waits.
    """
    now = mirror.now()
    if key := uploads.replacement(delete, gone):
        due = min(max(mirror.queue.next_try(key) or now, now + SOON_S), now + LATER_S)
        if mirror.queue.attempts(key):
            # Scheduled as a retry, so that `reconcile` does not wait for it to the end.
            mirror.queue.retry(delete.key, due, 1)
        else:
            mirror.queue.later([delete.key], due)
        return key
    if delete.checksum in refused:
        # The next full pass plans it again.
        return _UNKNOWN
    if uploads.marked_due is not None and age_s < mirror.settings.settle_max:
        mirror.queue.later([delete.key], min(max(uploads.marked_due, now + SOON_S), now + LATER_S))
        return _UNKNOWN
    return None


async def coming_contents(mirror: Mirror, tables: PassTables) -> Counter[str]:
    """Return the checksums that a plan puts or adopts, with their number. Reads the files that have a deleted size."""
    deletes: list[Delete] = [delete for batch in tables.plan.batches("delete") for _, delete in batch]
    sizes = {delete.size for delete in deletes}
    # An adopted entry is not the new copy of an entry that has no record either.
    orphans = {delete.checksum for delete in deletes if delete.reason == "orphan"}
    adopts: list[Adopt] = [adopt for batch in tables.plan.batches("adopt") for _, adopt in batch if adopt.size in sizes]
    puts: list[Put] = [put for batch in tables.plan.batches("put") for _, put in batch if put.size in sizes]

    def read() -> Iterator[str]:
        for put in puts:
            # A file that cannot be read has no content that counts.
            with contextlib.suppress(SyncdError):
                yield mirror.tree.read(put.path)[0].checksum

    adopted = Counter(adopt.checksum for adopt in adopts if adopt.checksum not in orphans)
    return adopted + await asyncio.to_thread(lambda: Counter(read()))


def count_losses(mirror: Mirror, tables: PassTables, coming: Mapping[str, int]) -> int:
    """Return the number of deletes of a plan that lose a content. coming: the result of `coming_contents`."""
    other = sum(
        delete.counted and delete.evidence not in GONE for batch in tables.plan.batches("delete") for _, delete in batch
    )
    return mirror.absences.count_lost(coming) + int(other)


# -- replacements


class Replacement(NamedTuple):
    """An entry that is not searchable yet, or whose indexing failed. written_at: seconds since the epoch."""

    key: str
    ref: str
    checksum: str
    written_at: float
    status: IndexStatus


class Replacements:
    """Postpones deletes of one pass until their content is searchable again."""

    def __init__(self, current: Pass) -> None:
        self._mirror = current.mirror
        self._result = current.result
        self._began = current.started
        self._due: float | None = None

    def without_waiting(self, batch: Sequence[tuple[int, Delete]]) -> list[tuple[int, Delete]]:
        """Return the deletes of a batch that need not wait. A later pass plans the others again."""
        mirror, now = self._mirror, self._mirror.now()
        waiting: dict[Delete, Replacement] = {}
        kept: set[Delete] = set()
        for delete, replacement in replacements_of(mirror.db, mirror.name, [delete for _, delete in batch]).items():
            if replacement.status in NOT_INDEXED:
                kept.add(delete)
                continue
            waited_s = now - replacement.written_at
            # The limit holds in both directions, because a time in the future tells nothing about the age.
            if abs(waited_s) <= PATIENCE_S:
                waiting[delete] = replacement
            else:
                about = {"key": shown(delete.key), "replacement": shown(replacement.key), "waited_s": round(waited_s)}
                log.warning("delete.unawaited", mirror=mirror.name, **about)
        if waiting:
            self._postpone([seq for seq, delete in batch if delete in waiting], waiting, now)
        # A search finds the old content until a full pass sees that the new content is searchable.
        self._result.tables.plan.remove("delete", [seq for seq, delete in batch if delete in kept])
        return [(seq, delete) for seq, delete in batch if delete not in waiting and delete not in kept]

    def _postpone(self, seqs: Sequence[int], waiting: Mapping[Delete, Replacement], now: float) -> None:
        mirror = self._mirror
        if self._due is None:
            # One time for the whole pass, so that the rows of a renamed folder stay together.
            self._due = now + pause_s(waiting.values(), now)
        with transaction(mirror.db):
            self._result.tables.plan.remove("delete", seqs)
            mirror.superseded.keep(delete for delete in waiting if delete.reason == "orphan")
            mirror.queue.later({delete.key for delete in waiting}, self._due)
        self._result.waiting += len(waiting)
        delete, replacement = next(iter(waiting.items()))
        # The level is info only in the pass that has written a replacement.
        is_new = any(replacement.written_at >= self._began for replacement in waiting.values())
        about = {"count": len(waiting), "key": shown(delete.key), "until_searchable": shown(replacement.key)}
        log.log(logging.INFO if is_new else logging.DEBUG, "delete.waits", mirror=mirror.name, **about)


def replacements_of(db: sqlite3.Connection, mirror: str, deletes: Sequence[Delete]) -> dict[Delete, Replacement]:
    """Return the newest replacement of each delete that has one. At most some hundred deletes.

    A replacement is an entry of the same key, or of another key with the same content. An entry whose indexing failed
    replaces only an entry of its own key.
    """
    keys = [delete.key for delete in deletes]
    checksums = [delete.checksum for delete in deletes if delete.checksum]
    deleted_refs = {delete.ref for delete in deletes}
    # An entry that is deleted too is no replacement. Otherwise two copies would wait for each other.
    candidates = [
        candidate
        for candidate in map(Replacement._make, Journal(db, mirror).index.unsearchable(keys, checksums))
        if candidate.ref not in deleted_refs
    ]
    by_key = {candidate.key: candidate for candidate in candidates}
    by_checksum = {candidate.checksum: candidate for candidate in candidates if candidate.status not in NOT_INDEXED}
    replacements = {delete: by_key.get(delete.key) or by_checksum.get(delete.checksum or "") for delete in deletes}
    return {delete: replacement for delete, replacement in replacements.items() if replacement}


def pause_s(replacements: Iterable[Replacement], now: float) -> float:
    """Return the seconds until the next look: a quarter of the time since the newest replacement was written."""
    newest_s = min(abs(now - replacement.written_at) for replacement in replacements)
    return min(max(newest_s / 4, FIRST_PAUSE_S), LATER_S)
