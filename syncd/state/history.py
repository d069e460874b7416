"""The last actions of each key, with reason and outcome, for `explain`. A plain first upload leaves no row here."""

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from syncd.model import Action, Adopt
from syncd.state.db import transaction

LAST = 10
"""Actions kept of one key; older ones go."""
KEEP_S = 30 * 24 * 3600.0
"""Actions older than that are dropped by the next full pass."""
DETAIL = 500
"""Characters kept of an error, which may hold whatever the remote answered."""


class Happened(NamedTuple):
    """One action that ended. at: seconds since the epoch. outcome: done or failed. detail: why, or the error."""

    at: float
    action: str
    reason: str
    outcome: str
    detail: str


class History:
    """What happened to the keys of one mirror."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror

    def add(self, action: Action, now: float, outcome: str, detail: str = "") -> None:
        """Note how an action ended, and let go of what is more than LAST actions of its key ago."""
        key = {"mirror": self._mirror, "key": action.key}
        with transaction(self._db):
            (last,) = self._db.execute(
                "SELECT coalesce(max(number), 0) FROM history WHERE mirror = :mirror AND key = :key", key
            ).fetchone()
            self._db.execute(
                "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (self._mirror, action.key, last + 1, now, action.kind, action.reason, outcome, detail[:DETAIL]),
            )
            if last >= LAST:
                self._db.execute(
                    "DELETE FROM history WHERE mirror = :mirror AND key = :key AND number <= :old",
                    key | {"old": last + 1 - LAST},
                )

    def adopted(self, batch: Sequence[Adopt], now: float) -> None:
        """Note adopts, before their records are written: of keys that had one, and of content that was fetched for it.

        The others are those of a lost state file, all of them at once; their records tell as much.
        """
        for adopt in batch:
            if adopt.reason == "unverified" or self._known(adopt.key):
                self.add(adopt, now, "done")

    def _known(self, key: str) -> bool:
        found = self._db.execute("SELECT 1 FROM record WHERE mirror = ? AND key = ?", (self._mirror, key))
        return found.fetchone() is not None

    def of(self, key: str) -> list[Happened]:
        """What happened to a key, oldest first."""
        rows = self._db.execute(
            "SELECT at, action, reason, outcome, detail FROM history WHERE mirror = ? AND key = ? ORDER BY number",
            (self._mirror, key),
        )
        return [Happened(*row) for row in rows]

    def drop_before(self, moment: float) -> None:
        """Let go of what happened before that time."""
        self._db.execute("DELETE FROM history WHERE mirror = ? AND at < ?", (self._mirror, moment))
