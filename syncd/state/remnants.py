"""Entries of ours that have to go and that no record speaks of: what a pass over single keys would not know of.

A listing shows them, too; without this a delete of one that has to wait would wait for the next full pass.
"""

import sqlite3
from collections.abc import Iterable, Sequence

from syncd.model import Delete, Entry
from syncd.state.db import transaction


class Remnants:
    """The remnants of one mirror. owner: the mark that they carry."""

    def __init__(self, db: sqlite3.Connection, mirror: str, owner: str) -> None:
        self._db = db
        self._mirror = mirror
        self._owner = owner

    def keep(self, deletes: Iterable[Delete]) -> None:
        """Remember what these deletes are to remove, until the journal buries it."""
        rows = [(self._mirror, delete.key, delete.ref, delete.checksum) for delete in deletes]
        with transaction(self._db):
            self._db.executemany("INSERT OR REPLACE INTO remnant VALUES (?, ?, ?, ?)", rows)

    def of(self, keys: Sequence[str]) -> dict[str, list[Entry]]:
        """Key -> entries, for the given keys; without one that by now is the recorded one of its key."""
        return self._found(f"key IN ({', '.join('?' * len(keys))})", *keys)

    def between(self, after: str, upto: str | None, before: str) -> dict[str, list[Entry]]:
        """The same for after < key <= upto (None: to the end) and key < before."""
        return self._found("key > ? AND key <= ? AND key < ?", after, before if upto is None else upto, before)

    def _found(self, condition: str, *values: str) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        rows = self._db.execute(
            f"SELECT key, ref, checksum FROM remnant AS left WHERE mirror = ? AND {condition}"  # noqa: S608
            " AND NOT EXISTS (SELECT 1 FROM record"
            " WHERE record.mirror = left.mirror AND record.key = left.key AND record.ref = left.ref)",
            (self._mirror, *values),
        )
        for key, ref, checksum in rows:
            found.setdefault(key, []).append(Entry(key, ref, checksum, owner=self._owner, marked=True))
        return found
