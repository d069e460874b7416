"""Deletes that wait for a replacement: another entry with the same content or key that is not searchable yet.

A rename is a put and a delete of the same content. So that a search finds the content at any time, the delete waits
until the new entry is indexed. The journal decides this anew each time the delete is planned.
"""

import logging
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
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
"""Seconds after which a delete no longer waits for a replacement, so that a stuck index does not keep old entries.
Indexing takes a minute or two. A queue that hung for half an hour was seen once."""
FIRST_PAUSE_S = 0.25


class Replacement(NamedTuple):
    """An entry that is not searchable yet, or whose indexing failed. written_at: seconds since the epoch."""

    key: str
    ref: str
    checksum: str
    written_at: float
    status: IndexStatus


class Replacements:
    """Postpones the deletes of one pass. waiting: how many deletes it has postponed so far."""

    def __init__(self, mirror: Mirror, tables: PassTables) -> None:
        self.waiting = 0
        self._mirror = mirror
        self._tables = tables
        self._began = mirror.now()
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
            # The limit holds in both directions: a time from a clock that was ahead tells nothing about the age.
            if abs(waited_s) <= PATIENCE_S:
                waiting[delete] = replacement
            else:
                about = {"key": shown(delete.key), "replacement": shown(replacement.key), "waited_s": round(waited_s)}
                log.warning("delete.unawaited", mirror=mirror.name, **about)
        if waiting:
            self._postpone([seq for seq, delete in batch if delete in waiting], waiting, now)
        # A search finds the old content until a full pass sees that the new content is searchable.
        self._tables.plan.remove("delete", [seq for seq, delete in batch if delete in kept])
        return [(seq, delete) for seq, delete in batch if delete not in waiting and delete not in kept]

    def _postpone(self, seqs: Sequence[int], waiting: Mapping[Delete, Replacement], now: float) -> None:
        mirror = self._mirror
        if self._due is None:
            # One time for the whole pass, so that the rows of a renamed folder stay together.
            self._due = now + pause_s(waiting.values(), now)
        with transaction(mirror.db):
            self._tables.plan.remove("delete", seqs)
            mirror.superseded.keep(delete for delete in waiting if delete.reason == "orphan")
            mirror.queue.later({delete.key for delete in waiting}, self._due)
        self.waiting += len(waiting)
        delete, replacement = next(iter(waiting.items()))
        # Level info only in the pass that has written a replacement.
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
    # An entry that is deleted too replaces nothing: two copies would wait for each other.
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
