"""The queue of dirty keys: the keys to look at again.

The queue is a set and not a list of jobs. Event, retry and rescan are the same kind of row, with a due time. A second
mark changes the same row, and a mark that arrives while its key is processed survives `done`.
"""

import sqlite3
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from syncd.core.model import STORED_NOT_INDEXED
from syncd.state.db import MirrorRows
from syncd.state.journal import Journal

FAR_S = 2 * 3600.0
"""Maximum seconds until a retry. A row that is due later was written under another clock."""
LATER_S = 30.0
"""Maximum seconds until another look at a key that waits without a failure."""
_NEVER_DUE = "due > ?2 + CASE WHEN attempts > 0 THEN ?3 ELSE ?4 END"
"""A condition for rows that were stored under another clock, because their due time is too far in the future. A row
without a failure is due after `settle_max` or LATER_S at most.
`Queue._far` returns the parameters 2 to 4."""
_INSERT_DUE = "INSERT INTO dirty VALUES (?1, ?2, 0, ?3, ?3, 0, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
"""Adds a row (mirror, key, due time), or changes the row of the key by the assignments that follow."""
_MARKED_SINCE = """
    CASE WHEN attempts > 0 OR first_seen > excluded.first_seen THEN excluded.first_seen ELSE first_seen END
"""
"""The time of the first mark. A mark replaces a waiting retry, and a first mark whose time lies in the future."""

# All statements consist of the constants above.
# ruff: noqa: S608


@dataclass(frozen=True, slots=True)
class Dirty:
    """A row of the queue: the key (a directory if subtree), its failed tries, and the sequence number of its mark.

    due, first_seen (when the key was first marked since it was last in step): seconds since the epoch.
    """

    key: str
    subtree: bool
    attempts: int
    seq: int
    due: float
    first_seen: float


class Queue(MirrorRows):
    """The dirty keys of one mirror. The caller passes all times, in seconds since the epoch.

    The class has more than twelve methods, because it has all queries on the table `dirty`.
    """

    def __init__(self, db: sqlite3.Connection, mirror: str, settle: float, settle_max: float) -> None:
        super().__init__(db, mirror)
        self._settle = settle
        self._settle_max = settle_max

    def get(self, key: str) -> Dirty | None:
        """Return the row of a key, None if it is not in the queue."""
        return next(iter(self._rows("key = ?", key)), None)

    def settled(self, now: float) -> list[Dirty]:
        """Return all due rows, sorted by key."""
        return self._rows(f"(due <= ?2 OR {_NEVER_DUE}) ORDER BY key", *self._far(now))

    def every(self) -> list[Dirty]:
        """Return all rows, due or not, sorted by key. A full pass processes them all."""
        return self._rows("true ORDER BY key")

    def marked(self, now: float) -> list[Dirty]:
        """Return the rows that were marked and have not been processed since their mark."""
        return self._rows("attempts = 0 AND first_seen <= ?", now)

    def _far(self, now: float) -> tuple[float, float, float]:
        return now, FAR_S + self._settle_max, max(self._settle_max, LATER_S)

    def _rows(self, condition: str, *values: object) -> list[Dirty]:
        rows = self._run(
            f"SELECT key, subtree, attempts, seq, due, first_seen FROM dirty WHERE mirror = ? AND {condition}", *values
        )
        return [Dirty(key, bool(subtree), *numbers) for key, subtree, *numbers in rows]

    def failed(self, limit: int) -> list[str]:
        """Return keys that wait for another try, the next ones first."""
        return [row.key for row in self._rows("attempts > 0 AND NOT subtree ORDER BY due LIMIT ?", limit)]

    def recently_marked(self, now: float) -> bool:
        """Return whether a key was marked less than `settle` seconds ago, so that more marks may follow."""
        recent = "SELECT 1 FROM dirty WHERE mirror = ? AND attempts = 0 AND due > ? AND due <= ? LIMIT 1"
        return self._value(recent, now, now + self._settle) is not None

    def next_due(self, now: float, *, fresh: bool = False) -> float | None:
        """Return the seconds until a row is due (0 if one is due), None if there is none.

        fresh: only rows without a failure.
        """
        due, never_due = self._run(
            f"SELECT min(due), max({_NEVER_DUE}) FROM dirty WHERE mirror = ?1 AND (attempts = 0 OR NOT ?5)",
            *self._far(now),
            fresh,
        ).fetchone()
        return None if due is None else 0.0 if never_due else max(0.0, due - now)

    def has_due(self, now: float) -> bool:
        """Return whether a row is due, in the same time for any number of rows."""
        # SQLite uses the index of due times for one condition at a time. The second one finds rows of another clock.
        rows = "SELECT 1 FROM dirty WHERE mirror = ?1 AND due"
        due = f"SELECT EXISTS ({rows} <= ?2) OR EXISTS ({rows} > ?2 + ?3)"
        return bool(self._value(due, now, FAR_S + self._settle_max))

    def oldest(self) -> float | None:
        """Return when the row that waits longest was first marked, or None."""
        return self._time("SELECT min(first_seen) FROM dirty WHERE mirror = ?")

    def counts(self) -> tuple[int, int]:
        """Return the number of rows without a failure, and the number of rows that wait after a failure."""
        fresh, failed = self._run(
            "SELECT count(*) FILTER (WHERE attempts = 0), count(*) FILTER (WHERE attempts > 0)"
            " FROM dirty WHERE mirror = ?"
        ).fetchone()
        return fresh, failed

    def mark(self, hints: Iterable[tuple[str, bool]], now: float) -> None:
        """Mark each (key, subtree) as changed. It is due `settle` after its last mark, `settle_max` after its first."""
        self._run_each(
            "INSERT INTO dirty VALUES (?1, ?2, ?3, ?4, ?5, 0, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
            " subtree = max(subtree, excluded.subtree), seq = seq + 1, attempts = 0,"
            f" first_seen = {_MARKED_SINCE}, due = min(excluded.due, ?6 + {_MARKED_SINCE})",
            ((key, subtree, now, now + self._settle, self._settle_max) for key, subtree in hints),
        )

    def retry(self, key: str, due: float, attempts: int, *, subtree: bool = False) -> None:
        """Schedule another look at `key` after `attempts` failed tries. A later mark makes it due earlier."""
        self._run(
            "INSERT INTO dirty VALUES (?1, ?2, ?3, ?4, ?4, ?5, 1) ON CONFLICT (mirror, key) DO UPDATE SET"
            " due = excluded.due, attempts = excluded.attempts, seq = seq + 1,"
            " subtree = max(subtree, excluded.subtree)",
            *(key, subtree, due, attempts),
        )

    def reschedule(self, rows: Iterable[Dirty], due: float) -> None:
        """Set the due time of processed rows, except of rows that were marked since."""
        self._run_each(
            "UPDATE dirty SET due = ?4, seq = seq + 1 WHERE mirror = ?1 AND key = ?2 AND seq = ?3",
            ((row.key, row.seq, due) for row in rows),
        )

    def later(self, keys: Iterable[str], due: float) -> None:
        """Schedule another look at keys that did not fail. A mark makes them due earlier.

        due: at most LATER_S from now.
        """
        # A later mark of the key starts a new settling, as after a retry.
        self._run_each(
            f"{_INSERT_DUE} first_seen = excluded.first_seen, due = excluded.due, attempts = 0, seq = seq + 1",
            ((key, due) for key in keys),
        )

    def done(self, rows: Iterable[Dirty]) -> None:
        """Remove processed rows, except rows that were marked again since they were read."""
        self._run_each(
            "DELETE FROM dirty WHERE mirror = ? AND key = ? AND seq = ?", ((row.key, row.seq) for row in rows)
        )

    def restart_settling(self, key: str, now: float) -> None:
        """Restart the settling of an uploaded key, because it may have been marked during the upload."""
        self._run(
            "UPDATE dirty SET first_seen = ?3, due = ?4 WHERE mirror = ?1 AND key = ?2 AND attempts = 0",
            *(key, now, now + self._settle),
        )

    def clear(self, key: str) -> None:
        """Remove the retry of a key that was processed without its row."""
        self._run("DELETE FROM dirty WHERE mirror = ? AND key = ? AND attempts > 0", key)

    def make_due(self, keys: Iterable[str] | None, now: float) -> None:
        """Make the given keys, or all rows (None), due now."""
        if keys is None:
            self._run("UPDATE dirty SET due = ?2, seq = seq + 1 WHERE mirror = ?1", now)
        else:
            self._run_each(f"{_INSERT_DUE} due = excluded.due, seq = seq + 1", ((key, now) for key in keys))


def retry_problems(journal: Journal, queue: Queue, keys: Collection[str] | None, now: float) -> int:
    """Make the failed and rejected items of a mirror due; with `keys`, only these items. Return their number.

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
