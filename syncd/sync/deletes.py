"""Decides after the puts of a pass which of its deletes must wait, and counts the deletes that lose a content.

- A delete loses nothing if an entry that stays has its content: the file was moved, or has a copy.
- A delete waits while an upload that did not succeed may have the same content, so that a search finds the old entry.
  An upload may have the same content if its file has the same size.
- In `run` a file must have been gone for `delete_after`, so that a deploy that removes files and brings them back
  deletes nothing.
- A delete waits for a replacement, another entry with the same content or key, until the index has it. So a search
  finds the content at any time while a file is renamed. The journal decides this each time the delete is planned.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence

import structlog

from syncd.core.errors import SyncdError
from syncd.core.keys import shown
from syncd.core.model import NOT_INDEXED, Adopt, Delete, Item, Put, Record
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


class _Postponing:
    """Decides which deletes of a pass have to wait.

    lost: deletes that lose a content, and keys that earlier passes saw disappear and that are not due yet.
    young: deletes that wait for `delete_after`. postponed: the numbers of these, and of the deletes that wait for an
    upload, in the plan.
    """

    def __init__(self, current: Pass) -> None:
        tables, unsent = current.result.tables, current.result.unsent
        self._pass = current
        self._mirror = current.mirror
        # The uploads that did not succeed, and may have the content that a delete removes.
        self._by_checksum = {checksum: key for key, checksum in unsent.items() if self._is_expected(key)}
        self._by_size = {
            size: key for key, size in tables.plan.unfinished_puts() if key not in unsent and self._is_expected(key)
        }
        self._marked_due: float | None = None
        self.lost = self.young = 0
        self.postponed: list[int] = []

    async def look(self) -> None:
        """Look up the sizes of the files that earlier passes failed to put, and the keys that were marked since."""
        mirror, seen = self._mirror, {row.key: row.seq for row in self._pass.rows}
        if self._pass.options.approved is None:
            # A later pass has no approval, so an approved delete does not wait for files that no pass has looked at.
            marked = mirror.queue.marked(mirror.now())
            self._marked_due = min((row.due for row in marked if seen.get(row.key) != row.seq), default=None)
        keys = mirror.queue.failed(FAILED_AT_MOST)
        items = await asyncio.to_thread(lambda: [mirror.tree.look(key) for key in keys])
        self._by_size |= {item.size: item.key for item in items if isinstance(item, Item)}

    def decide(self, batch: Sequence[tuple[int, Delete]]) -> None:
        """Decide the deletes of a batch, and schedule another look at the keys of the deletes that wait."""
        mirror, result, delete_after = self._mirror, self._pass.result, self._pass.options.delete_after
        absences = mirror.absences.get([delete.key for _, delete in batch])
        checksums = {delete.checksum for _, delete in batch if delete.checksum}
        remaining = mirror.absences.remaining(checksums)
        refused = mirror.journal.problems.refused(checksums)
        replacements: dict[str, str | None] = {}
        for seq, delete in batch:
            gone = absences.get(delete.key) if delete.evidence in GONE else None
            age_s = mirror.age() - gone.since if gone else 0.0
            moved = delete.checksum in remaining
            if gone and not moved and (key := self._awaited_upload(delete, gone, refused, age_s)) is not None:
                replacements[delete.key] = key
                result.waiting += 1
                self.postponed.append(seq)
                continue
            if gone and gone.replacement is not None:
                replacements[delete.key] = None
            self.lost += delete.counted and gone is None
            if gone and age_s < delete_after:
                self.young += 1
                self.postponed.append(seq)
                # Only a full pass plans it again, because the journal does not know the entry.
                result.held_back |= delete.reason == "orphan"
                mirror.queue.later([delete.key], mirror.now() + min(delete_after - age_s, LATER_S))
        mirror.absences.set_replacements(replacements.items())

    def _awaited_upload(self, delete: Delete, gone: Absence, refused: Container[str], age_s: float) -> str | None:
        """Return the key of the upload that a delete waits for, _UNKNOWN if it is not known, None if it need not wait.

        Also schedule another look at a delete that waits.
        """
        queue, now = self._mirror.queue, self._mirror.now()
        if key := self._replacement(delete, gone):
            row = queue.get(key)
            due = min(max(row.due if row else now, now + SOON_S), now + LATER_S)
            if row and row.attempts:
                # Scheduled as a retry, so that `reconcile` does not wait for it to the end.
                queue.retry(delete.key, due, 1)
            else:
                queue.later([delete.key], due)
            return key
        if delete.checksum in refused:
            # The next full pass plans it again.
            return _UNKNOWN
        if self._marked_due is not None and age_s < self._mirror.settings.settle_max:
            queue.later([delete.key], min(max(self._marked_due, now + SOON_S), now + LATER_S))
            return _UNKNOWN
        return None

    def _replacement(self, delete: Delete, gone: Absence) -> str | None:
        """Return the key of an upload that may have the content that a delete removes."""
        known = gone.replacement
        if known and self._mirror.queue.get(known) and self._is_expected(known):
            return known
        same = self._by_checksum.get(delete.checksum or "")
        return same if same or delete.size is None else self._by_size.get(delete.size)

    def _is_expected(self, key: str) -> bool:
        """Return whether the file may still be uploaded. A file that is gone waits for its own delete instead."""
        return not self._mirror.absences.get([key])


async def postpone_deletes(current: Pass) -> int:
    """Remove the deletes that have to wait from the plan, and schedule another look at their keys.

    Return the number of deletes that lose a content, with the deletes that wait.
    """
    mirror, result, plan = current.mirror, current.result, current.result.tables.plan
    if not plan.counts["delete"]:
        return 0
    postponing = _Postponing(current)
    await postponing.look()
    for batch in plan.batches("delete"):
        postponing.decide(batch)
        await asyncio.sleep(0)
    plan.remove("delete", postponing.postponed)
    if postponing.postponed:
        log.info("delete.postponed", mirror=mirror.name, waiting=result.waiting, young=postponing.young)
    return postponing.lost + mirror.absences.count_lost()


async def coming_contents(mirror: Mirror, tables: PassTables) -> Counter[str]:
    """Return the checksums that a plan puts or adopts, with their number. Reads the files that have a deleted size."""
    deletes: list[Delete] = list(tables.plan.all("delete"))
    sizes = {delete.size for delete in deletes}
    # An adopted entry is not the new copy of an entry that has no record either.
    orphans = {delete.checksum for delete in deletes if delete.reason == "orphan"}
    adopts: list[Adopt] = [adopt for adopt in tables.plan.all("adopt") if adopt.size in sizes]
    puts: list[Put] = [put for put in tables.plan.all("put") if put.size in sizes]

    def read() -> Iterator[str]:
        for put in puts:
            # A file that cannot be read has no content that counts.
            with contextlib.suppress(SyncdError):
                yield mirror.tree.read(put.path)[0].checksum

    adopted = Counter(adopt.checksum for adopt in adopts if adopt.checksum not in orphans)
    return adopted + await asyncio.to_thread(lambda: Counter(read()))


def count_losses(mirror: Mirror, tables: PassTables, coming: Mapping[str, int]) -> int:
    """Return the number of deletes of a plan that lose a content. coming: the result of `coming_contents`."""
    other = sum(delete.counted and delete.evidence not in GONE for delete in tables.plan.all("delete"))
    return mirror.absences.count_lost(coming) + int(other)


# -- replacements


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
        waiting: dict[Delete, Record] = {}
        kept: set[Delete] = set()
        for delete, replacement in replacements_of(mirror.journal, [delete for _, delete in batch]).items():
            if replacement.status in NOT_INDEXED:
                kept.add(delete)
                continue
            waited_s = now - replacement.written_at
            # The limit holds in both directions, because a time in the future does not show the age.
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

    def _postpone(self, seqs: Sequence[int], waiting: Mapping[Delete, Record], now: float) -> None:
        mirror = self._mirror
        if self._due is None:
            # One time for the whole pass, so that the rows of a renamed folder stay together.
            # A quarter of the time since the newest replacement was written.
            newest_s = min(abs(now - replacement.written_at) for replacement in waiting.values())
            self._due = now + min(max(newest_s / 4, FIRST_PAUSE_S), LATER_S)
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


def replacements_of(journal: Journal, deletes: Sequence[Delete]) -> dict[Delete, Record]:
    """Return the newest replacement of each delete that has one. At most some hundred deletes.

    A replacement is an entry that is not searchable yet, of the same key, or of another key with the same content. An
    entry whose indexing failed replaces only an entry of its own key.
    """
    keys = [delete.key for delete in deletes]
    checksums = [delete.checksum for delete in deletes if delete.checksum]
    deleted_refs = {delete.ref for delete in deletes}
    # An entry that is deleted too is no replacement. Otherwise two copies would wait for each other.
    candidates = [
        candidate for candidate in journal.index.unsearchable(keys, checksums) if candidate.ref not in deleted_refs
    ]
    by_key = {candidate.key: candidate for candidate in candidates}
    by_checksum = {candidate.checksum: candidate for candidate in candidates if candidate.status not in NOT_INDEXED}
    replacements = {delete: by_key.get(delete.key) or by_checksum.get(delete.checksum or "") for delete in deletes}
    return {delete: replacement for delete, replacement in replacements.items() if replacement}
