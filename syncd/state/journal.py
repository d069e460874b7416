"""The journal: records of our entries, tombstones of our deletes, refused content, and problems."""

import sqlite3
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from operator import attrgetter

from syncd.core.model import STORED_NOT_INDEXED, IndexStatus, Problem, Record
from syncd.state.db import MirrorRows, in_parts, marks, transaction
from syncd.state.journal_index import COLUMNS, FIELDS, IndexRows, RecordRows, Reindexing

# All statements consist of constants.
# ruff: noqa: S608

HOUR_S = 3600.0
_ABOUT_ENTRIES = (
    *("record", "tombstone", "parked", "problem", "dirty"),
    *("reindex", "index_try", "superseded", "history", "pass", "absence", "claim"),
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


class Journal(RecordRows):
    """The records of one mirror, with its index status, tombstones and problems. Times are seconds since the epoch.

    The class has more than twelve methods, because it has all queries on the table `record` that concern no index.
    """

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        super().__init__(db, mirror)
        self.index = IndexRows(db, mirror)
        self.reindexing = Reindexing(db, mirror)
        self.tombstones = Tombstones(db, mirror)
        self.problems = Problems(db, mirror)

    def get(self, key: str) -> Record | None:
        """Return the record of a key, or None."""
        return next(iter(self._records("record WHERE mirror = ? AND key = ?", key)), None)

    def after(self, key: str, upto: str, limit: int) -> list[Record]:
        """Return up to `limit` records with key < record key < upto, by key."""
        return self._records("record WHERE mirror = ? AND key > ? AND key < ? ORDER BY key LIMIT ?", key, upto, limit)

    def has_between(self, key: str, upto: str) -> bool:
        """Return whether there is a record with key < record key < upto."""
        return (
            self._value("SELECT 1 FROM record WHERE mirror = ? AND key > ? AND key < ? LIMIT 1", key, upto) is not None
        )

    def written(self, keys: Sequence[str], after: float, upto: float) -> set[str]:
        """Return the keys whose record was written after one time and not after the other."""
        return {
            key
            for part in in_parts(keys)
            for (key,) in self._run(
                "SELECT key FROM record WHERE mirror = ? AND written_at > ? AND written_at <= ?"
                f" AND key IN ({marks(part)})",
                *(after, upto, *part),
            )
        }

    def keys(self) -> Iterator[str]:
        """Return every key that has a record."""
        return (key for (key,) in self._run("SELECT key FROM record WHERE mirror = ?"))

    def put(self, record: Record) -> None:
        """Store the record of the present entry of a key, and remove an older refusal of the key."""
        with transaction(self._db):
            self._run(
                f"INSERT OR REPLACE INTO record (mirror, {COLUMNS}) VALUES (?, {marks(FIELDS)})", *_VALUES(record)
            )
            self.problems.unpark(record.key)

    def forget(self, key: str) -> None:
        """Delete the record of a key and the request to index it again."""
        with transaction(self._db):
            for table in ("record", "reindex", "index_try"):
                self._run(f"DELETE FROM {table} WHERE mirror = ? AND key = ?", key)

    def count(self) -> int:
        """Return the number of records."""
        return self._count("SELECT count(*) FROM record WHERE mirror = ?")

    def count_below(self, prefix: str) -> dict[IndexStatus | None, int]:
        """Return the number of records whose key begins with a prefix, by index status."""
        return dict(
            self._run(
                "SELECT status, count(*) FROM record WHERE mirror = ? AND key >= ? AND key < ? GROUP BY status",
                *keys_below(prefix),
            ).fetchall()
        )

    def in_step(self) -> int:
        """Return the number of entries that equal their files, without entries that the index refused or left out."""
        return self.stored() - self._count(
            "SELECT count(*) FROM record WHERE mirror = ? AND status IN ('error', 'skipped')"
        )

    def stored(self) -> int:
        """Return the number of records without a waiting change and without a problem that prevents the upload."""
        # Subtracting the few others from the count is ten times as fast as testing each record.
        return self.count() - self._count(
            "SELECT count(*) FROM (SELECT key FROM dirty WHERE mirror = ?1"
            f" UNION SELECT key FROM problem WHERE mirror = ?1 AND kind NOT IN ({_STORED_NOT_INDEXED})"
            " UNION SELECT key FROM absence WHERE mirror = ?1) AS out_of_step"
            " CROSS JOIN record AS r ON r.mirror = ?1 AND r.key = out_of_step.key"
        )

    def count_written(self, first: float, last: float) -> int:
        """Return the number of records that were written between two times."""
        return self._count("SELECT count(*) FROM record WHERE mirror = ? AND written_at BETWEEN ? AND ?", first, last)

    def expired(self, now: float, ttl: float) -> int:
        """Return the number of entries that live for `ttl` seconds and were not written within that time."""
        return self._count("SELECT count(*) FROM record WHERE mirror = ? AND abs(? - written_at) >= ?", now, ttl)

    def clear(self, but: Container[str] = ()) -> None:
        """Delete all rows of a mirror that has another target or prefix now. The next full pass adopts its entries.

        but: tables that stay.
        """
        with transaction(self._db):
            for table in (name for name in _ABOUT_ENTRIES if name not in but):
                self._run(f"DELETE FROM {table} WHERE mirror = ?")


class Tombstones(MirrorRows):
    """The deletes of one mirror."""

    def record_delete(self, key: str, ref: str, now: float, *, consented: bool, age: float | None = None) -> None:
        """Record a delete, and remove the record, the absence and the refusal of its key.

        consented: the brake does not count the delete, because a person forced it or no content is lost. age: the age
        of the state file (see `Age`), by which the brake counts; default: `now`.
        """
        with transaction(self._db):
            self._run(
                "INSERT OR REPLACE INTO tombstone VALUES (?, ?, ?, ?, ?, ?)",
                *(ref, key, now, consented, now if age is None else age),
            )
            for table in ("absence", "parked"):
                self._run(f"DELETE FROM {table} WHERE mirror = ? AND key = ?", key)
            for table in ("record", "superseded"):
                self._run(f"DELETE FROM {table} WHERE mirror = ? AND key = ? AND ref = ?", key, ref)

    def deleted_at(self, ref: str) -> float | None:
        """Return when we deleted this entry, None if there is no tombstone or the entry was written again."""
        return self._time(f"SELECT deleted_at FROM tombstone WHERE mirror = ? AND ref = ? AND {_STILL_GONE}", ref)

    def deleted_about(self, refs: Sequence[str], now: float, within_s: float) -> set[str]:
        """Return the entries (of at most some hundred) that we deleted up to `within_s` seconds before or after now.

        A delete after now comes from a clock that was ahead. Its real time is unknown, and it must not hide an entry
        for days.
        """
        rows = self._run(
            "SELECT ref FROM tombstone WHERE mirror = ? AND deleted_at BETWEEN ? AND ?"
            f" AND ref IN ({marks(refs)}) AND {_STILL_GONE}",
            *(now - within_s, now + within_s, *refs),
        )
        return {ref for (ref,) in rows}

    def deleted_between(self, refs: Sequence[str], first: float, last: float) -> set[str]:
        """Return the entries that we deleted in a time, and that were not written again."""
        return {
            ref
            for part in in_parts(refs)
            for (ref,) in self._run(
                "SELECT ref FROM tombstone WHERE mirror = ? AND deleted_at BETWEEN ? AND ?"
                f" AND ref IN ({marks(part)}) AND {_STILL_GONE}",
                *(first, last, *part),
            )
        }

    def any_about(self, now: float, within_s: float) -> bool:
        """Return whether we deleted any entry in that time, see `deleted_about`."""
        deleted = "SELECT 1 FROM tombstone WHERE mirror = ? AND deleted_at BETWEEN ? AND ? LIMIT 1"
        return self._value(deleted, now - within_s, now + within_s) is not None

    def recent_deletes(self, age: float) -> int:
        """Return the number of keys that were deleted in the last hour without consent and did not come back.

        age: see `record_delete`.
        """
        return self._count(
            "SELECT count(DISTINCT key) FROM tombstone AS gone WHERE mirror = ? AND NOT consented AND age >= ?"
            " AND NOT EXISTS (SELECT 1 FROM record WHERE record.mirror = gone.mirror AND record.key = gone.key)",
            age - HOUR_S,
        )

    def drop_old(self, now: float, keep_s: float, age: float) -> None:
        """Delete tombstones that are more than `keep_s` away from now and that the brake does not count any more."""
        self._run(
            "DELETE FROM tombstone WHERE mirror = ? AND deleted_at NOT BETWEEN ? AND ? AND age < ?",
            *(now - keep_s, now + keep_s, age - HOUR_S),
        )


class Problems(MirrorRows):
    """The problems of one mirror, and the contents that the remote refused."""

    def add(self, problems: Iterable[Problem], pass_id: int) -> None:
        """Store problems for status and explain."""
        self._run_each(
            "INSERT OR REPLACE INTO problem VALUES (?, ?, ?, ?, ?)",
            ((p.key, p.kind, p.message, pass_id) for p in problems),
        )

    def clear(self, key: str, *, subtree: bool) -> None:
        """Delete the problem of a key, and of all keys below it (subtree), before another look at them."""
        self._run("DELETE FROM problem WHERE mirror = ? AND key = ?", key)
        if subtree:
            first, upto = under(key.rstrip("/") + "/") if key else ("", LAST)
            self._run("DELETE FROM problem WHERE mirror = ? AND key >= ? AND key < ?", first, upto)

    def clear_before(self, pass_id: int) -> None:
        """After a full pass, delete the problems that it did not meet again."""
        self._run("DELETE FROM problem WHERE mirror = ? AND pass < ?", pass_id)

    def all(self, pass_id: int = 0, limit: int = -1) -> Iterator[Problem]:
        """Yield the problems of passes from `pass_id` on, by key, at most `limit` if that is not negative."""
        rows = self._run(
            "SELECT key, kind, message FROM problem WHERE mirror = ? AND pass >= ? ORDER BY key LIMIT ?", pass_id, limit
        ).fetchall()
        return (Problem(*row) for row in rows)

    def find(self, kind: str, text: str, limit: int, offset: int) -> tuple[list[Problem], int]:
        """Return problems of a kind whose key or message contains a text (in either case), by key, and their number."""
        condition = "mirror = ? AND kind = ? AND instr(lower(key || char(10) || message), lower(?))"
        found = self._count(f"SELECT count(*) FROM problem WHERE {condition}", kind, text)
        rows = self._run(
            f"SELECT key, kind, message FROM problem WHERE {condition} ORDER BY key LIMIT ? OFFSET ?",
            *(kind, text, limit, offset),
        ).fetchall()
        return [Problem(*row) for row in rows], found

    def counts(self, pass_id: int = 0) -> dict[str, int]:
        """Return the number of problems by kind, of passes from `pass_id` on."""
        return dict(
            self._run(
                "SELECT kind, count(*) FROM problem WHERE mirror = ? AND pass >= ? GROUP BY kind", pass_id
            ).fetchall()
        )

    def park(self, problem: Problem, checksum: str) -> None:
        """Store that the remote refused this content. It is not sent again until it changes."""
        self._run(
            "INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?)",
            *(problem.key, checksum, problem.kind, problem.message),
        )

    def unpark(self, key: str) -> None:
        """Let the refused content of a key be sent again."""
        self._run("DELETE FROM parked WHERE mirror = ? AND key = ?", key)

    def parked(self, first: str, last: str) -> dict[str, tuple[str, Problem]]:
        """Return key -> (checksum, problem) of refused content with first <= key <= last."""
        rows = self._run(
            "SELECT key, checksum, kind, message FROM parked WHERE mirror = ? AND key BETWEEN ? AND ?", first, last
        )
        return {key: (checksum, Problem(key, kind, message)) for key, checksum, kind, message in rows}

    def refused(self, checksums: Collection[str]) -> set[str]:
        """Return the checksums (of at most some hundred) that the remote refused under a key that has a problem now."""
        rows = self._run(
            f"SELECT checksum FROM parked WHERE mirror = ? AND checksum IN ({marks(checksums)}) AND EXISTS"
            " (SELECT 1 FROM problem WHERE problem.mirror = parked.mirror AND problem.key = parked.key)",
            *checksums,
        )
        return {checksum for (checksum,) in rows}

    def drop_leftovers(self) -> None:
        """After a full pass, delete refusals and checksums of files that have neither a record nor a problem."""
        self._run("DELETE FROM parked WHERE mirror = ?1 AND key NOT IN (SELECT key FROM problem WHERE mirror = ?1)")
        # Ordered by key, so that SQLite walks each table once and does not search for each file.
        self._run(
            "DELETE FROM file WHERE mirror = ?1 AND key IN (SELECT key FROM file WHERE mirror = ?1"
            " EXCEPT SELECT key FROM record WHERE mirror = ?1 EXCEPT SELECT key FROM problem WHERE mirror = ?1"
            " ORDER BY key)"
        )

    def count_dropped(self) -> int:
        """Return the number of keys with a problem of the index and without an entry, because the remote removed it."""
        return self._count(
            f"SELECT count(*) FROM problem AS p WHERE mirror = ? AND kind IN ({_STORED_NOT_INDEXED}) AND NOT EXISTS"
            " (SELECT 1 FROM record AS r WHERE r.mirror = p.mirror AND r.key = p.key)"
        )


def keys_below(prefix: str) -> tuple[str, str]:
    """Return the key range (first, upto) of all keys that begin with any prefix, also with the empty one."""
    return (prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1)) if prefix else ("", LAST)


def under(prefix: str) -> tuple[str, str]:
    """Return the key range (first, upto) of all keys below a directory key that ends with "/"."""
    return prefix, prefix[:-1] + chr(ord("/") + 1)
