"""The queue: the set of dirty keys, each with a due time. Event, retry and rescan are the same kind of row.

It is a set and not a list of jobs: a second mark changes the same row, and a mark that arrives while its key is
processed survives `done`.
"""

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from syncd.core.model import STORED_NOT_INDEXED
from syncd.state.db import transaction
from syncd.state.journal import Journal

FAR_S = 2 * 3600.0
"""Maximum seconds until a retry. A row that is due later was written under another clock."""
LATER_S = 30.0
"""Maximum seconds until another look at a key that waits without a failure."""
_NEVER_DUE = "due > ? + CASE WHEN attempts > 0 THEN ? ELSE ? END"
"""A row whose due time comes from another clock. A row without a failure is due after `settle_max` or LATER_S at most.
`_far` returns the values."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """A row of the queue: the key (a directory if subtree), its failed tries, and the sequence number of its mark."""

    key: str
    subtree: bool
    attempts: int
    seq: int


class QueueReader:
    """Reads the dirty keys of one mirror. The caller passes all times, in seconds since the epoch."""

    def __init__(self, db: sqlite3.Connection, mirror: str, settle: float, settle_max: float) -> None:
        self._db = db
        self._mirror = mirror
        self._settle = settle
        self._settle_max = settle_max

    def settled(self, now: float) -> list[Dirty]:
        """Return all due rows, sorted by key."""
        rows = self._db.execute(
            "SELECT key, subtree, attempts, seq FROM dirty"  # noqa: S608
            f" WHERE mirror = ? AND (due <= ? OR {_NEVER_DUE}) ORDER BY key",
            (self._mirror, now, *_far(now, self._settle_max)),
        )
        return [Dirty(key, bool(subtree), attempts, seq) for key, subtree, attempts, seq in rows]

    def every(self) -> list[Dirty]:
        """Return all rows, due or not, sorted by key. A full pass processes them all."""
        rows = self._db.execute(
            "SELECT key, subtree, attempts, seq FROM dirty WHERE mirror = ? ORDER BY key", (self._mirror,)
        )
        return [Dirty(key, bool(subtree), attempts, seq) for key, subtree, attempts, seq in rows]

    def marked(self, now: float) -> list[tuple[Dirty, float]]:
        """Return the rows that were marked and not processed since, each with its due time."""
        rows = self._db.execute(
            "SELECT key, subtree, attempts, seq, due FROM dirty WHERE mirror = ? AND attempts = 0 AND first_seen <= ?",
            (self._mirror, now),
        )
        return [(Dirty(key, bool(subtree), attempts, seq), due) for key, subtree, attempts, seq, due in rows]

    def failed(self, limit: int) -> list[str]:
        """Return keys that wait for another try, the next ones first."""
        rows = self._db.execute(
            "SELECT key FROM dirty WHERE mirror = ? AND attempts > 0 AND NOT subtree ORDER BY due LIMIT ?",
            (self._mirror, limit),
        )
        return [key for (key,) in rows]

    def recently_marked(self, now: float) -> bool:
        """Return whether a key was marked less than `settle` seconds ago, so that more marks may follow."""
        row = self._db.execute(
            "SELECT 1 FROM dirty WHERE mirror = ? AND attempts = 0 AND due > ? AND due <= ? LIMIT 1",
            (self._mirror, now, now + self._settle),
        ).fetchone()
        return row is not None

    def next_due(self, now: float, *, fresh: bool = False) -> float | None:
        """Return the seconds until a row is due (0 if one is due), None if there is none.

        fresh: only rows without a failure.
        """
        row = self._db.execute(
            f"SELECT min(due), max({_NEVER_DUE}) FROM dirty WHERE mirror = ? AND (attempts = 0 OR NOT ?)",  # noqa: S608
            (*_far(now, self._settle_max), self._mirror, fresh),
        ).fetchone()
        return None if row[0] is None else 0.0 if row[1] else max(0.0, row[0] - now)

    def attempts(self, key: str) -> int:
        """Return how often the key has failed since its last change."""
        row = self._db.execute(
            "SELECT attempts FROM dirty WHERE mirror = ? AND key = ?", (self._mirror, key)
        ).fetchone()
        return int(row[0]) if row else 0

    def next_try(self, key: str) -> float | None:
        """Return when the key is due, or None if it is not in the queue."""
        row = self._db.execute("SELECT due FROM dirty WHERE mirror = ? AND key = ?", (self._mirror, key)).fetchone()
        return float(row[0]) if row else None

    def first_seen(self, key: str) -> float | None:
        """Return when the key was first marked since it was last in step, or None."""
        row = self._db.execute(
            "SELECT first_seen FROM dirty WHERE mirror = ? AND key = ?", (self._mirror, key)
        ).fetchone()
        return float(row[0]) if row else None

    def oldest(self) -> float | None:
        """Return when the row that waits longest was first marked, or None."""
        row = self._db.execute("SELECT min(first_seen) FROM dirty WHERE mirror = ?", (self._mirror,)).fetchone()
        return None if row[0] is None else float(row[0])

    def counts(self) -> tuple[int, int]:
        """Return the number of rows without a failure, and the number of rows that wait after a failure."""
        row = self._db.execute(
            "SELECT count(*) FILTER (WHERE attempts = 0), count(*) FILTER (WHERE attempts > 0)"
            " FROM dirty WHERE mirror = ?",
            (self._mirror,),
        ).fetchone()
        return int(row[0]), int(row[1])


class Queue(QueueReader):
    """Reads and changes the dirty keys of one mirror."""

    def mark(self, hints: Iterable[tuple[str, bool]], now: float) -> None:
        """Mark each (key, subtree) as changed. It is due `settle` after its last mark, `settle_max` after its first."""
        rows = [(self._mirror, key, subtree, now, now + self._settle) for key, subtree in hints]
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO dirty VALUES (?, ?, ?, ?, ?, 0, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
                " subtree = max(subtree, excluded.subtree), seq = seq + 1, attempts = 0,"
                # A mark replaces a waiting retry, and a row from a clock that was ahead.
                " first_seen = CASE WHEN attempts > 0 OR first_seen > excluded.first_seen"
                "   THEN excluded.first_seen ELSE first_seen END,"
                " due = min(excluded.due, ? + CASE WHEN attempts > 0 OR first_seen > excluded.first_seen"
                "   THEN excluded.first_seen ELSE first_seen END)",
                [(*row, self._settle_max) for row in rows],
            )

    def retry(self, key: str, due: float, attempts: int, *, subtree: bool = False) -> None:
        """Schedule another look at `key` after `attempts` failed tries. A later mark brings it forward."""
        self._db.execute(
            "INSERT INTO dirty VALUES (?, ?, ?, ?, ?, ?, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
            " due = excluded.due, attempts = excluded.attempts, seq = seq + 1,"
            " subtree = max(subtree, excluded.subtree)",
            (self._mirror, key, subtree, due, due, attempts),
        )

    def reschedule(self, rows: Iterable[Dirty], due: float) -> None:
        """Set the due time of processed rows, except of rows that were marked since."""
        with transaction(self._db):
            self._db.executemany(
                "UPDATE dirty SET due = ?, seq = seq + 1 WHERE mirror = ? AND key = ? AND seq = ?",
                [(due, self._mirror, row.key, row.seq) for row in rows],
            )

    def later(self, keys: Iterable[str], due: float) -> None:
        """Schedule another look at keys that did not fail, at most LATER_S from now. A mark brings it forward."""
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO dirty VALUES (?, ?, 0, ?, ?, 0, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
                " first_seen = excluded.first_seen, due = excluded.due, attempts = 0, seq = seq + 1",
                # A mark in the meantime starts a new settling, as after a retry.
                [(self._mirror, key, due, due) for key in keys],
            )

    def done(self, rows: Iterable[Dirty]) -> None:
        """Remove processed rows, except those that were marked again since they were read."""
        with transaction(self._db):
            self._db.executemany(
                "DELETE FROM dirty WHERE mirror = ? AND key = ? AND seq = ?",
                [(self._mirror, row.key, row.seq) for row in rows],
            )

    def restart_settling(self, key: str, now: float) -> None:
        """Restart the settling of a key that was uploaded and may have been marked during the upload."""
        self._db.execute(
            "UPDATE dirty SET first_seen = ?, due = ? WHERE mirror = ? AND key = ? AND attempts = 0",
            (now, now + self._settle, self._mirror, key),
        )

    def clear(self, key: str) -> None:
        """Remove the retry of a key that was processed without its row."""
        self._db.execute("DELETE FROM dirty WHERE mirror = ? AND key = ? AND attempts > 0", (self._mirror, key))

    def make_due(self, keys: Iterable[str] | None, now: float) -> None:
        """Make the given keys, or all rows (None), due now."""
        if keys is None:
            self._db.execute("UPDATE dirty SET due = ?, seq = seq + 1 WHERE mirror = ?", (now, self._mirror))
            return
        with transaction(self._db):
            self._db.executemany(
                "INSERT INTO dirty VALUES (?, ?, 0, ?, ?, 0, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
                " due = excluded.due, seq = seq + 1",
                [(self._mirror, key, now, now) for key in keys],
            )


def _far(now: float, settle_max: float) -> tuple[float, float, float]:
    return now, FAR_S + settle_max, max(settle_max, LATER_S)


def retry_problems(journal: Journal, queue: Queue, keys: Collection[str] | None, now: float) -> int:
    """Make the failed and rejected items of a mirror due, only those of `keys` if they are given. Return their number.

    An entry that could not be indexed is indexed again, without an upload. now: seconds since the epoch.
    """

    def is_chosen(key: str) -> bool:
        return keys is None or key in keys

    problems = {problem.key: problem for problem in journal.problems.all() if is_chosen(problem.key)}
    for key in problems:
        journal.problems.unpark(key)
    # A name that cannot be a key has no row in the queue. An entry that was deleted because it could not be indexed has
    # no record any more, so its file is uploaded again.
    due = [
        key
        for key, problem in problems.items()
        if (journal.get(key) is None if problem.kind in STORED_NOT_INDEXED else problem.kind != "invalid_key")
    ]
    queue.make_due(due, now)
    return len(due) + journal.reindexing.request(None if keys is None else is_chosen)
