"""The journal: records of what we wrote, tombstones of what we deleted, refused content, and problems."""

import sqlite3
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from operator import attrgetter

from syncd.core.model import STORED_NOT_INDEXED, Problem, Record
from syncd.state.db import transaction
from syncd.state.journal_index import COLUMNS, FIELDS, IndexRows, Reindexing, record_of

HOUR_S = 3600.0
_AT_ONCE = 500
"""Maximum keys in one query."""
_ABOUT_ENTRIES = (
    *("record", "tombstone", "parked", "problem", "dirty"),
    *("reindex", "index_try", "superseded", "history", "absence", "claim"),
)
_STILL_GONE = (
    "NOT EXISTS (SELECT 1 FROM record WHERE record.mirror = tombstone.mirror AND record.key = tombstone.key"
    " AND record.ref = tombstone.ref)"
)
"""A ref can be a name, as in KV. Then an entry can exist again after its delete."""
_STORED_NOT_INDEXED = ", ".join(f"'{kind}'" for kind in sorted(STORED_NOT_INDEXED))
_VALUES = attrgetter(*FIELDS)
LAST = "\U0010ffff"
"""Sorts after every key, because no key starts with it."""


class Journal:
    """The records of one mirror, with its index status, tombstones and problems. Times are seconds since the epoch.

    The class has more than twelve methods, because it has all queries on the table `record` that concern no index.
    """

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror
        self.index = IndexRows(db, mirror)
        self.reindexing = Reindexing(db, mirror)
        self.tombstones = Tombstones(db, mirror)
        self.problems = Problems(db, mirror)

    def get(self, key: str) -> Record | None:
        """Return the record of a key, or None."""
        row = self._db.execute(
            f"SELECT {COLUMNS} FROM record WHERE mirror = ? AND key = ?",  # noqa: S608
            (self._mirror, key),
        ).fetchone()
        return record_of(row) if row else None

    def after(self, key: str, upto: str, limit: int, but: Container[str] = ()) -> list[Record]:
        """Return up to `limit` records with key < record key < upto, by key, without the keys in `but`."""
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM record WHERE mirror = ? AND key > ? AND key < ? ORDER BY key LIMIT ?",  # noqa: S608
            (self._mirror, key, upto, limit),
        )
        return [record_of(row) for row in rows if row[0] not in but]

    def key_after(self, key: str, upto: str, number: int) -> str | None:
        """Return the `number`-th recorded key between key and upto, None if there are fewer."""
        row = self._db.execute(
            "SELECT key FROM record WHERE mirror = ? AND key > ? AND key < ? ORDER BY key LIMIT 1 OFFSET ?",
            (self._mirror, key, upto, number - 1),
        ).fetchone()
        return row[0] if row else None

    def written(self, keys: Sequence[str], after: float, upto: float) -> set[str]:
        """Return the keys whose record was written after one time and not after the other."""
        written: set[str] = set()
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            rows = self._db.execute(
                f"SELECT key FROM record WHERE mirror = ? AND written_at > ? AND written_at <= ? AND key IN ({marks})",  # noqa: S608
                (self._mirror, after, upto, *some),
            )
            written.update(key for (key,) in rows)
        return written

    def keys(self) -> Iterator[str]:
        """Return every key that has a record."""
        return (key for (key,) in self._db.execute("SELECT key FROM record WHERE mirror = ?", (self._mirror,)))

    def put(self, record: Record) -> None:
        """Store what the remote holds under the key now, and remove an older refusal of the key."""
        marks = ", ".join("?" * len(FIELDS))
        with transaction(self._db):
            self._db.execute(
                f"INSERT OR REPLACE INTO record (mirror, {COLUMNS}) VALUES (?, {marks})",  # noqa: S608
                (self._mirror, *_VALUES(record)),
            )
            self.problems.unpark(record.key)

    def forget(self, key: str) -> None:
        """Delete the record of a key and its wanted indexing."""
        with transaction(self._db):
            for table in ("record", "reindex", "index_try"):
                self._db.execute(f"DELETE FROM {table} WHERE mirror = ? AND key = ?", (self._mirror, key))  # noqa: S608

    def count(self) -> int:
        """Return the number of records."""
        row = self._db.execute("SELECT count(*) FROM record WHERE mirror = ?", (self._mirror,)).fetchone()
        return int(row[0])

    def in_step(self) -> int:
        """Return the number of entries that equal their files, without entries that the index refused or left out."""
        row = self._db.execute(
            "SELECT count(*) FROM record WHERE mirror = ? AND status IN ('error', 'skipped')", (self._mirror,)
        ).fetchone()
        return self.stored() - int(row[0])

    def stored(self) -> int:
        """Return the number of records without a waiting change and without a problem that prevents the upload."""
        # Subtracting the few others from the count is ten times as fast as testing each record.
        row = self._db.execute(
            "SELECT count(*) FROM (SELECT key FROM dirty WHERE mirror = ?1"  # noqa: S608
            f" UNION SELECT key FROM problem WHERE mirror = ?1 AND kind NOT IN ({_STORED_NOT_INDEXED})"
            " UNION SELECT key FROM absence WHERE mirror = ?1) AS out_of_step"
            " CROSS JOIN record AS r ON r.mirror = ?1 AND r.key = out_of_step.key",
            (self._mirror,),
        ).fetchone()
        return self.count() - int(row[0])

    def count_written(self, first: float, last: float) -> int:
        """Return the number of records that were written between two times."""
        row = self._db.execute(
            "SELECT count(*) FROM record WHERE mirror = ? AND written_at BETWEEN ? AND ?", (self._mirror, first, last)
        ).fetchone()
        return int(row[0])

    def expired(self, now: float, ttl: float) -> int:
        """Return the number of entries that live for `ttl` seconds and were not written within that time."""
        row = self._db.execute(
            "SELECT count(*) FROM record WHERE mirror = ? AND abs(? - written_at) >= ?", (self._mirror, now, ttl)
        ).fetchone()
        return int(row[0])

    def clear(self, but: Container[str] = ()) -> None:
        """Delete all rows of the mirror, which points somewhere else now. The next full pass adopts what is there.

        but: tables that stay.
        """
        with transaction(self._db):
            for table in (name for name in _ABOUT_ENTRIES if name not in but):
                self._db.execute(f"DELETE FROM {table} WHERE mirror = ?", (self._mirror,))  # noqa: S608


class Tombstones:
    """The deletes of one mirror."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror

    def record_delete(self, key: str, ref: str, now: float, *, consented: bool, age: float | None = None) -> None:
        """Record a delete, and remove the record, the absence and the refusal of its key.

        consented: the brake does not count the delete, because a person forced it or no content is lost. age: the age
        of the state file (see `Age`), by which the brake counts; default: `now`.
        """
        with transaction(self._db):
            self._db.execute(
                "INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?, ?, ?, ?)",
                (self._mirror, ref, key, now, consented, now if age is None else age),
            )
            self._db.execute("DELETE FROM absence WHERE mirror = ? AND key = ?", (self._mirror, key))
            for table in ("record", "superseded"):
                self._db.execute(
                    f"DELETE FROM {table} WHERE mirror = ? AND key = ? AND ref = ?",  # noqa: S608
                    (self._mirror, key, ref),
                )
            self._db.execute("DELETE FROM parked WHERE mirror = ? AND key = ?", (self._mirror, key))

    def deleted_at(self, ref: str) -> float | None:
        """Return when we deleted this entry, None if there is no tombstone or the entry was written again."""
        row = self._db.execute(
            f"SELECT deleted_at FROM tombstone WHERE mirror = ? AND ref = ? AND {_STILL_GONE}",  # noqa: S608
            (self._mirror, ref),
        ).fetchone()
        return None if row is None else float(row[0])

    def count_within(self, now: float, within_s: float) -> int:
        """Return the number of deletes up to `within_s` seconds before or after now."""
        row = self._db.execute(
            "SELECT count(*) FROM tombstone WHERE mirror = ? AND abs(? - deleted_at) <= ?",
            (self._mirror, now, within_s),
        ).fetchone()
        return int(row[0])

    def deleted_about(self, refs: Sequence[str], now: float, within_s: float) -> set[str]:
        """Return the entries (of at most some hundred) that we deleted up to `within_s` seconds before or after now.

        A delete after now comes from a clock that was ahead. Its real time is unknown, and it must not hide an entry
        for days.
        """
        marks = ", ".join("?" * len(refs))
        rows = self._db.execute(
            "SELECT ref FROM tombstone WHERE mirror = ? AND deleted_at BETWEEN ? AND ?"  # noqa: S608
            f" AND ref IN ({marks}) AND {_STILL_GONE}",
            (self._mirror, now - within_s, now + within_s, *refs),
        )
        return {ref for (ref,) in rows}

    def any_about(self, now: float, within_s: float) -> bool:
        """Return whether we deleted any entry in that time, see `deleted_about`."""
        row = self._db.execute(
            "SELECT EXISTS (SELECT 1 FROM tombstone WHERE mirror = ? AND deleted_at BETWEEN ? AND ?)",
            (self._mirror, now - within_s, now + within_s),
        ).fetchone()
        return bool(row[0])

    def recent_deletes(self, age: float) -> int:
        """Return the number of keys that were deleted in the last hour without consent and did not come back.

        age: see `record_delete`.
        """
        row = self._db.execute(
            "SELECT count(DISTINCT key) FROM tombstone AS gone WHERE mirror = ? AND NOT consented AND age >= ?"
            " AND NOT EXISTS (SELECT 1 FROM record WHERE record.mirror = gone.mirror AND record.key = gone.key)",
            (self._mirror, age - HOUR_S),
        ).fetchone()
        return int(row[0])

    def drop_old(self, now: float, keep_s: float, age: float) -> None:
        """Delete tombstones that are more than `keep_s` away from now and that the brake does not count any more."""
        self._db.execute(
            "DELETE FROM tombstone WHERE mirror = ? AND deleted_at NOT BETWEEN ? AND ? AND age < ?",
            (self._mirror, now - keep_s, now + keep_s, age - HOUR_S),
        )


class Problems:
    """The obstacles to uploads of one mirror: problems, and content that the remote refused."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror

    def add(self, problems: Iterable[Problem], pass_id: int) -> None:
        """Store problems for status and explain."""
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO problem VALUES (?, ?, ?, ?, ?)",
                [(self._mirror, p.key, p.kind, p.message, pass_id) for p in problems],
            )

    def clear(self, key: str, *, subtree: bool) -> None:
        """Delete the problem of a key, and of all keys below it (subtree), before another look at them."""
        self._db.execute("DELETE FROM problem WHERE mirror = ? AND key = ?", (self._mirror, key))
        if subtree:
            first, upto = under(key.rstrip("/") + "/") if key else ("", LAST)
            self._db.execute(
                "DELETE FROM problem WHERE mirror = ? AND key >= ? AND key < ?", (self._mirror, first, upto)
            )

    def clear_before(self, pass_id: int) -> None:
        """After a full pass, delete the problems that it did not meet again."""
        self._db.execute("DELETE FROM problem WHERE mirror = ? AND pass < ?", (self._mirror, pass_id))

    def all(self, pass_id: int = 0, limit: int = -1) -> Iterator[Problem]:
        """Yield the problems of passes from `pass_id` on, by key, at most `limit` if that is not negative."""
        rows = self._db.execute(
            "SELECT key, kind, message FROM problem WHERE mirror = ? AND pass >= ? ORDER BY key LIMIT ?",
            (self._mirror, pass_id, limit),
        ).fetchall()
        return (Problem(*row) for row in rows)

    def counts(self, pass_id: int = 0) -> dict[str, int]:
        """Return the number of problems by kind, of passes from `pass_id` on."""
        rows = self._db.execute(
            "SELECT kind, count(*) FROM problem WHERE mirror = ? AND pass >= ? GROUP BY kind", (self._mirror, pass_id)
        )
        return {str(kind): int(count) for kind, count in rows}

    def park(self, problem: Problem, checksum: str) -> None:
        """Store that the remote refused this content. It is not sent again until it changes."""
        self._db.execute(
            "INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?)",
            (self._mirror, problem.key, checksum, problem.kind, problem.message),
        )

    def unpark(self, key: str | None) -> None:
        """Let refused content be sent again: of one key, or of all keys (None)."""
        if key is None:
            self._db.execute("DELETE FROM parked WHERE mirror = ?", (self._mirror,))
        else:
            self._db.execute("DELETE FROM parked WHERE mirror = ? AND key = ?", (self._mirror, key))

    def parked(self, first: str, last: str) -> dict[str, tuple[str, Problem]]:
        """Return key -> (checksum, problem) of refused content with first <= key <= last."""
        rows = self._db.execute(
            "SELECT key, checksum, kind, message FROM parked WHERE mirror = ? AND key BETWEEN ? AND ?",
            (self._mirror, first, last),
        )
        return {key: (checksum, Problem(key, kind, message)) for key, checksum, kind, message in rows}

    def refused(self, checksums: Collection[str]) -> set[str]:
        """Return the checksums (of at most some hundred) that the remote refused under a key that has a problem now."""
        marks = ", ".join("?" * len(checksums))
        rows = self._db.execute(
            f"SELECT checksum FROM parked WHERE mirror = ? AND checksum IN ({marks}) AND EXISTS"  # noqa: S608
            " (SELECT 1 FROM problem WHERE problem.mirror = parked.mirror AND problem.key = parked.key)",
            (self._mirror, *checksums),
        )
        return {checksum for (checksum,) in rows}

    def drop_leftovers(self) -> None:
        """After a full pass, delete refusals and checksums of files that have neither a record nor a problem."""
        self._db.execute(
            "DELETE FROM parked WHERE mirror = ?1 AND key NOT IN (SELECT key FROM problem WHERE mirror = ?1)",
            (self._mirror,),
        )
        # Ordered by key, so that SQLite walks each table once and does not search for each file.
        self._db.execute(
            "DELETE FROM file WHERE mirror = ?1 AND key IN (SELECT key FROM file WHERE mirror = ?1"
            " EXCEPT SELECT key FROM record WHERE mirror = ?1 EXCEPT SELECT key FROM problem WHERE mirror = ?1"
            " ORDER BY key)",
            (self._mirror,),
        )

    def count_dropped(self) -> int:
        """Return the number of keys that have an index error and no entry, because the remote removed the entry."""
        row = self._db.execute(
            "SELECT count(*) FROM problem AS p WHERE mirror = ? AND kind = 'index_error' AND NOT EXISTS"
            " (SELECT 1 FROM record AS r WHERE r.mirror = p.mirror AND r.key = p.key)",
            (self._mirror,),
        ).fetchone()
        return int(row[0])


def under(prefix: str) -> tuple[str, str]:
    """Return the key range (first, upto) of all keys below a directory key that ends with "/"."""
    return prefix, prefix[:-1] + chr(ord("/") + 1)
