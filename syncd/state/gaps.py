"""Gaps in the search: how long a key could not be found because its entry had to be deleted before it was put again.

A gap begins with the answer to the delete. It has two ends: the key is stored again, and it is searchable again.
"""

import sqlite3
from typing import Any, NamedTuple

from syncd.paths import shown
from syncd.state.db import transaction
from syncd.targets.base import Stored

KEPT = 1000
"""So many gaps are remembered, the latest of as many keys."""


class Gap(NamedTuple):
    """One gap. began_at: seconds since the epoch; searchable_s is None while it is open."""

    key: str
    began_at: float
    stored_s: float
    searchable_s: float | None


class Gaps:
    """The gaps of one mirror."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror

    def stored(self, key: str, stored: Stored, now: float) -> Gap | None:
        """Note how a put ended: it may open a gap, and it may close one, which is returned."""
        if stored.gap_s is not None:
            self.opened(key, now, stored.gap_s)
        return self.closed(key, now) if stored.status == "completed" else None

    def opened(self, key: str, now: float, stored_s: float) -> None:
        """Note that the key is stored again, after `stored_s`. A gap that was still open then goes on."""
        with transaction(self._db):
            self._db.execute(
                "INSERT INTO gap VALUES (?, ?, ?, ?, NULL) ON CONFLICT (mirror, key) DO UPDATE SET"
                " began_at = CASE WHEN searchable_s IS NULL THEN began_at ELSE excluded.began_at END,"
                " stored_s = excluded.stored_s, searchable_s = NULL",
                (self._mirror, key, now - stored_s, stored_s),
            )
            self._db.execute(
                "DELETE FROM gap WHERE mirror = ?1 AND key IN"
                " (SELECT key FROM gap WHERE mirror = ?1 ORDER BY began_at DESC LIMIT -1 OFFSET ?2)",
                (self._mirror, KEPT),
            )

    def closed(self, key: str, now: float) -> Gap | None:
        """Note that the key's entry is searchable. Return the gap that ends so, if one was open."""
        row = self._db.execute(
            "UPDATE gap SET searchable_s = max(stored_s, ? - began_at)"
            " WHERE mirror = ? AND key = ? AND searchable_s IS NULL RETURNING key, began_at, stored_s, searchable_s",
            (now, self._mirror, key),
        ).fetchone()
        return Gap(*row) if row else None

    def of(self, key: str) -> Gap | None:
        """The last gap of a key."""
        return self._first("key = ?", key) if self._is_there() else None

    def last(self) -> Gap | None:
        """The latest gap that has ended."""
        return self._first("searchable_s IS NOT NULL")

    def summary(self) -> dict[str, Any] | None:
        """What `status` tells of all gaps, None if there was none. Seconds; open: keys that are not searchable yet."""
        if not self._is_there():
            return None
        longest, still = self._db.execute(
            "SELECT max(searchable_s), count(*) FILTER (WHERE searchable_s IS NULL AND EXISTS"
            " (SELECT 1 FROM record WHERE record.mirror = gap.mirror AND record.key = gap.key))"
            " FROM gap WHERE mirror = ?",
            (self._mirror,),
        ).fetchone()
        last = self.last()
        if not (last or still):
            return None
        return {
            "last_key": shown(last.key) if last else None,
            "last_stored_s": _tenths(last.stored_s if last else None),
            "last_searchable_s": _tenths(last.searchable_s if last else None),
            "longest_s": _tenths(longest),
            "open": still,
        }

    def _is_there(self) -> bool:
        """Whoever only looks may see a file that an older syncd wrote last."""
        return self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'gap'").fetchone() is not None

    def _first(self, condition: str, *values: str) -> Gap | None:
        row = self._db.execute(
            "SELECT key, began_at, stored_s, searchable_s FROM gap"  # noqa: S608 - two conditions, from above
            f" WHERE mirror = ? AND {condition} ORDER BY began_at DESC LIMIT 1",
            (self._mirror, *values),
        ).fetchone()
        return Gap(*row) if row else None


def _tenths(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
