"""The dirty set: which keys to look at, and from when on. Event, retry and rescan are the same row.

A set, not a list of jobs: marking twice is marking once, and a mark made while its key is worked on survives `done`.
"""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from syncd.state.db import transaction

FAR_S = 2 * 3600.0
"""No later try is ever due later than this from now; one that seems to be was written under another clock."""
LATER_S = 30.0
"""What waits without having failed is looked at again after so many seconds at most."""
_NEVER_DUE = "due > ? + CASE WHEN attempts > 0 THEN ? ELSE ? END"
"""A row that has not failed yet is due `settle_max` after its mark at the latest, or in LATER_S: the same goes for it.
The values are those of `_far`."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """A settled row: the key (or the directory, if subtree), its failed tries, and the mark's sequence number."""

    key: str
    subtree: bool
    attempts: int
    seq: int


class Queue:
    """The dirty set of one mirror. All times are seconds since the epoch, given by the caller."""

    def __init__(self, db: sqlite3.Connection, mirror: str, settle: float, settle_max: float) -> None:
        self._db = db
        self._mirror = mirror
        self._settle = settle
        self._settle_max = settle_max

    def mark(self, hints: Iterable[tuple[str, bool]], now: float) -> None:
        """Note that something happened at each (key, subtree): due after `settle` of quiet, at most `settle_max`."""
        rows = [(self._mirror, key, subtree, now, now + self._settle) for key, subtree in hints]
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO dirty VALUES (?, ?, ?, ?, ?, 0, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
                " subtree = max(subtree, excluded.subtree), seq = seq + 1, attempts = 0,"
                # A retry that waits gives way to the news; so does a row from a clock that was ahead.
                " first_seen = CASE WHEN attempts > 0 OR first_seen > excluded.first_seen"
                "   THEN excluded.first_seen ELSE first_seen END,"
                " due = min(excluded.due, ? + CASE WHEN attempts > 0 OR first_seen > excluded.first_seen"
                "   THEN excluded.first_seen ELSE first_seen END)",
                [(*row, self._settle_max) for row in rows],
            )

    def retry(self, key: str, due: float, attempts: int, *, subtree: bool = False) -> None:
        """Look at `key` again at `due`, after `attempts` failed tries, unless news came in the meantime."""
        self._db.execute(
            "INSERT INTO dirty VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
            " due = excluded.due, attempts = excluded.attempts, seq = seq + 1,"
            " subtree = max(subtree, excluded.subtree)",
            (self._mirror, key, subtree, due, due, attempts),
        )

    def reschedule(self, rows: Iterable[Dirty], due: float) -> None:
        """Look at rows that were taken again at `due`, but for those marked anew since."""
        with transaction(self._db):
            self._db.executemany(
                "UPDATE dirty SET due = ?, seq = seq + 1 WHERE mirror = ? AND key = ? AND seq = ?",
                [(due, self._mirror, row.key, row.seq) for row in rows],
            )

    def later(self, keys: Iterable[str], due: float) -> None:
        """Look at keys again at `due`, LATER_S from now at most, without a failure. News of them does not wait."""
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO dirty VALUES (?, ?, 0, ?, ?, 0, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
                " first_seen = excluded.first_seen, due = excluded.due, attempts = 0, seq = seq + 1",
                # As of a retry: what comes back meanwhile is news, and no file that never rests.
                [(self._mirror, key, due, due) for key in keys],
            )

    def attempts(self, key: str) -> int:
        """How often the key has failed since it last changed."""
        row = self._db.execute(
            "SELECT attempts FROM dirty WHERE mirror = ? AND key = ?", (self._mirror, key)
        ).fetchone()
        return int(row[0]) if row else 0

    def next_try(self, key: str) -> float | None:
        """When the key is due, or None if it is not waiting."""
        row = self._db.execute("SELECT due FROM dirty WHERE mirror = ? AND key = ?", (self._mirror, key)).fetchone()
        return float(row[0]) if row else None

    def settled(self, now: float) -> list[Dirty]:
        """Everything that is due, sorted by key."""
        rows = self._db.execute(
            "SELECT key, subtree, attempts, seq FROM dirty"  # noqa: S608
            f" WHERE mirror = ? AND (due <= ? OR {_NEVER_DUE}) ORDER BY key",
            (self._mirror, now, *self._far(now)),
        )
        return [Dirty(key, bool(subtree), attempts, seq) for key, subtree, attempts, seq in rows]

    def every(self) -> list[Dirty]:
        """All rows, due or not, sorted by key: what a full pass answers for."""
        rows = self._db.execute(
            "SELECT key, subtree, attempts, seq FROM dirty WHERE mirror = ? ORDER BY key", (self._mirror,)
        )
        return [Dirty(key, bool(subtree), attempts, seq) for key, subtree, attempts, seq in rows]

    def marked(self, now: float) -> list[tuple[Dirty, float]]:
        """What something happened to and that has not been looked at since, each with when it is due."""
        rows = self._db.execute(
            "SELECT key, subtree, attempts, seq, due FROM dirty WHERE mirror = ? AND attempts = 0 AND first_seen <= ?",
            (self._mirror, now),
        )
        return [(Dirty(key, bool(subtree), attempts, seq), due) for key, subtree, attempts, seq, due in rows]

    def failed(self, limit: int) -> list[str]:
        """Keys that wait for another try, the next ones first."""
        rows = self._db.execute(
            "SELECT key FROM dirty WHERE mirror = ? AND attempts > 0 AND NOT subtree ORDER BY due LIMIT ?",
            (self._mirror, limit),
        )
        return [key for (key,) in rows]

    def first_seen(self, key: str) -> float | None:
        """When the key was first marked since it was last in step, or None."""
        row = self._db.execute(
            "SELECT first_seen FROM dirty WHERE mirror = ? AND key = ?", (self._mirror, key)
        ).fetchone()
        return float(row[0]) if row else None

    def next_due(self, now: float) -> float | None:
        """Seconds until something is due (0 if something is), or None if nothing waits."""
        return self._next(now, "")

    def next_fresh(self, now: float) -> float | None:
        """Seconds until a row that has not failed yet is due, or None if there is none."""
        return self._next(now, "AND attempts = 0")

    def _next(self, now: float, condition: str) -> float | None:
        row = self._db.execute(
            f"SELECT min(due), max({_NEVER_DUE}) FROM dirty WHERE mirror = ? {condition}",  # noqa: S608
            (*self._far(now), self._mirror),
        ).fetchone()
        return None if row[0] is None else 0.0 if row[1] else max(0.0, row[0] - now)

    def _far(self, now: float) -> tuple[float, float, float]:
        return now, FAR_S + self._settle_max, max(self._settle_max, LATER_S)

    def recently_marked(self, now: float) -> bool:
        """Whether something was marked less than `settle` ago, so that more of the same may be on its way."""
        row = self._db.execute(
            "SELECT 1 FROM dirty WHERE mirror = ? AND attempts = 0 AND due > ? AND due <= ? LIMIT 1",
            (self._mirror, now, now + self._settle),
        ).fetchone()
        return row is not None

    def done(self, rows: Iterable[Dirty]) -> None:
        """Forget rows that were looked at, but for those marked anew since they were taken."""
        with transaction(self._db):
            self._db.executemany(
                "DELETE FROM dirty WHERE mirror = ? AND key = ? AND seq = ?",
                [(self._mirror, row.key, row.seq) for row in rows],
            )

    def taken(self, key: str, now: float) -> None:
        """A key was brought up, and may have been marked meanwhile: for how long it has been changing counts anew."""
        self._db.execute(
            "UPDATE dirty SET first_seen = ?, due = ? WHERE mirror = ? AND key = ? AND attempts = 0",
            (now, now + self._settle, self._mirror, key),
        )

    def clear(self, key: str) -> None:
        """Forget a key that came to its end by another way than its row."""
        self._db.execute("DELETE FROM dirty WHERE mirror = ? AND key = ? AND attempts > 0", (self._mirror, key))

    def oldest(self) -> float | None:
        """When the longest-waiting row was first seen, or None."""
        row = self._db.execute("SELECT min(first_seen) FROM dirty WHERE mirror = ?", (self._mirror,)).fetchone()
        return None if row[0] is None else float(row[0])

    def counts(self) -> tuple[int, int]:
        """(rows waiting for their first try, rows waiting after a failure)."""
        row = self._db.execute(
            "SELECT count(*) FILTER (WHERE attempts = 0), count(*) FILTER (WHERE attempts > 0)"
            " FROM dirty WHERE mirror = ?",
            (self._mirror,),
        ).fetchone()
        return int(row[0]), int(row[1])

    def make_due(self, keys: Iterable[str] | None, now: float) -> None:
        """Make the given keys, or all waiting ones, due now."""
        if keys is None:
            self._db.execute("UPDATE dirty SET due = ?, seq = seq + 1 WHERE mirror = ?", (now, self._mirror))
            return
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO dirty VALUES (?, ?, 0, ?, ?, 0, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
                " due = excluded.due, seq = seq + 1",
                [(self._mirror, key, now, now) for key in keys],
            )
