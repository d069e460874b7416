"""What a delete waits for: an entry's heir, which takes its place in the index, is searchable before the entry goes.

A rename is a put and a delete of the same content. A search must find it all the time, so the delete waits while the
heir is on its way into the index. That is decided from the journal, anew each time the delete is planned.
"""

import logging
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import structlog

from syncd.core.keys import shown
from syncd.core.model import NOT_INDEXED, Delete, IndexStatus
from syncd.state.db import transaction
from syncd.state.journal import Journal
from syncd.state.pass_tables import PassTables
from syncd.state.queue import LATER_S
from syncd.sync.mirror import Mirror

log = structlog.get_logger()

PATIENCE_S = 600.0
"""So long after an heir was written nothing waits for it any more: an index that is stuck must not keep what is gone.
Indexing takes a minute or two; a queue that hung for half an hour has been seen once."""
FIRST_PAUSE_S = 0.25


class Replacement(NamedTuple):
    """An entry that is not searchable yet, or failed to become so. written_at: seconds since the epoch."""

    key: str
    ref: str
    checksum: str
    written_at: float
    status: IndexStatus


class Replacements:
    """Puts off deletes of one pass. waiting: how many so far."""

    def __init__(self, mirror: Mirror, tables: PassTables) -> None:
        self.waiting = 0
        self._mirror = mirror
        self._tables = tables
        self._began = mirror.now()
        self._due: float | None = None

    def awaited(self, turn: Sequence[tuple[int, Delete]]) -> list[tuple[int, Delete]]:
        """Return those of a turn that may be carried out; a later pass plans the others again."""
        mirror, now = self._mirror, self._mirror.now()
        waiting, kept = {}, set()
        for delete, heir in replacements_of(mirror.db, mirror.name, [delete for _, delete in turn]).items():
            if heir.status in NOT_INDEXED:
                kept.add(delete)
                continue
            waited_s = now - heir.written_at
            # Either way: a time from a clock that was ahead is of an unknown age.
            if abs(waited_s) <= PATIENCE_S:
                waiting[delete] = heir
            else:
                about = {"key": shown(delete.key), "heir": shown(heir.key), "waited_s": round(waited_s)}
                log.warning("delete.unawaited", mirror=mirror.name, **about)
        if waiting:
            self._put_off([seq for seq, delete in turn if delete in waiting], waiting, now)
        # The old content is found rather than none, until a full pass sees the new one searchable.
        self._tables.plan.remove("delete", [seq for seq, delete in turn if delete in kept])
        return [(seq, delete) for seq, delete in turn if delete not in waiting and delete not in kept]

    def _put_off(self, seqs: Sequence[int], waiting: dict[Delete, Replacement], now: float) -> None:
        mirror = self._mirror
        if self._due is None:
            # Once for the pass: the rows of a folder that was renamed stay together.
            self._due = now + pause_s(waiting.values(), now)
        with transaction(mirror.db):
            self._tables.plan.remove("delete", seqs)
            mirror.superseded.keep(delete for delete in waiting if delete.reason == "orphan")
            mirror.queue.later({delete.key for delete in waiting}, self._due)
        self.waiting += len(waiting)
        delete, heir = next(iter(waiting.items()))
        # Loud once: in the pass that has put an heir there.
        level = logging.INFO if any(each.written_at >= self._began for each in waiting.values()) else logging.DEBUG
        about = {"count": len(waiting), "key": shown(delete.key), "until_searchable": shown(heir.key)}
        log.log(level, "delete.waits", mirror=mirror.name, **about)


def replacements_of(db: sqlite3.Connection, mirror: str, deletes: Sequence[Delete]) -> dict[Delete, Replacement]:
    """Those of (at most some hundred) deletes that have an heir, the latest written one each.

    An heir has the content that goes under another key, or the key that goes as another entry; of its own key it is
    the heir also while it cannot be indexed.
    """
    keys = [delete.key for delete in deletes]
    checksums = [delete.checksum for delete in deletes if delete.checksum]
    rows = Journal(db, mirror).index.unsearchable(keys, checksums)
    going = {delete.ref for delete in deletes}
    # What is deleted at the same time is nobody's heir: two copies would wait for each other.
    heirs = [heir for heir in map(Replacement._make, rows) if heir.ref not in going]
    by_key = {heir.key: heir for heir in heirs}
    by_checksum = {heir.checksum: heir for heir in heirs if heir.status not in NOT_INDEXED}
    found = {delete: by_key.get(delete.key) or by_checksum.get(delete.checksum or "") for delete in deletes}
    return {delete: heir for delete, heir in found.items() if heir}


def pause_s(heirs: Iterable[Replacement], now: float) -> float:
    """Seconds until it is worth looking again: a quarter of the time that the youngest heir has been on its way."""
    youngest_s = min(abs(now - heir.written_at) for heir in heirs)
    return min(max(youngest_s / 4, FIRST_PAUSE_S), LATER_S)
