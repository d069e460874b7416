"""The journal: records of the entries of a mirror, their index status, requests to index again, and problems."""

import sqlite3
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from syncd.core.keys import keys_below
from syncd.core.model import NOT_INDEXED, ON_THE_WAY, STORED_NOT_INDEXED, Entry, IndexStatus, Problem, Record
from syncd.core.problems import FULL, LATER, LATER_TRIES_S, NOT_TRIED, TRIES_S, tries_of
from syncd.state.db import REPORTED, MirrorRows, in_parts, placeholders, transaction
from syncd.state.deletions import Tombstones

FIELDS = tuple(field.name for field in fields(Record))
COLUMNS = ", ".join(FIELDS)
_MARKED = FIELDS.index("marked")


def _in(values: Iterable[str]) -> str:
    return "IN ({})".format(", ".join(f"'{value}'" for value in sorted(values)))


_ON_THE_WAY = f"status {_in(ON_THE_WAY)}"
_NOT_INDEXED = f"status {_in(NOT_INDEXED)}"
_SINCE = "coalesce(requeued_at, written_at)"
_TEMPORARY_ERROR = f"status = 'error' AND coalesce(error, '') NOT {_in(NOT_TRIED)}"
_SCHEDULES = (
    (TRIES_S, f"{_TEMPORARY_ERROR} AND coalesce(error, '') NOT {_in(LATER)}"),
    (LATER_TRIES_S, f"status = 'error' AND error {_in(LATER)}"),
)
"""(seconds before each try, SQL condition of the records with this schedule)."""

_BY_STATUS = "record INDEXED BY record_status"
"""A FROM clause with this index. Without it SQLite would read all records to find the few with an error."""

# All statements consist of constants.
# ruff: noqa: S608

STUCK_S = 1800.0
"""Seconds after which an unindexed entry is reported as stuck. AI Search was seen to hang for 30 minutes or hours."""
_ABOUT_ENTRIES = (
    *("record", "tombstone", "parked", "problem", "dirty"),
    *("reindex", "index_try", "superseded", "history", "pass", "absence", "claim"),
)
"""Tables with rows about the entries of one target."""
_VALUES = attrgetter(*FIELDS)


class RecordRows(MirrorRows):
    """Reads the records of one mirror."""

    def _records(self, source: str, *values: object) -> list[Record]:
        """Return the records of a source: the text of a query after FROM."""
        return [record_of(row) for row in self._run(f"SELECT {COLUMNS} FROM {source}", *values)]


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

    def written(self, keys: Sequence[str], after: float, upto: float) -> set[str]:
        """Return the keys among `keys` whose record was written at a time with after < time <= upto."""
        return {
            key
            for part in in_parts(keys)
            for (key,) in self._run(
                "SELECT key FROM record WHERE mirror = ? AND written_at > ? AND written_at <= ?"
                f" AND key IN ({placeholders(part)})",
                *(after, upto, *part),
            )
        }

    def keys(self) -> Iterator[str]:
        """Yield every key that has a record."""
        return (key for (key,) in self._run("SELECT key FROM record WHERE mirror = ?"))

    def put(self, record: Record) -> None:
        """Store the record of the present entry of a key, and remove an older refusal of the key."""
        with transaction(self._db):
            self._run(
                f"INSERT OR REPLACE INTO record (mirror, {COLUMNS}) VALUES (?, {placeholders(FIELDS)})",
                *_VALUES(record),
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
            )
        )

    def in_step(self) -> int:
        """Return `stored()` without the records of entries that the index refused or left out."""
        return self.stored() - self._count(f"SELECT count(*) FROM record WHERE mirror = ? AND {_NOT_INDEXED}")

    def stored(self) -> int:
        """Return the number of records without a waiting change and without a problem that prevents the upload."""
        # It is ten times as fast to subtract the few other records from all as to test each record.
        return self.count() - self._count(
            "SELECT count(*) FROM (SELECT key FROM dirty WHERE mirror = ?1"
            f" UNION SELECT key FROM problem WHERE mirror = ?1 AND kind NOT {_in(STORED_NOT_INDEXED)}"
            " UNION SELECT key FROM absence WHERE mirror = ?1) AS out_of_step"
            " CROSS JOIN record AS r ON r.mirror = ?1 AND r.key = out_of_step.key"
        )

    def count_written(self, first: float, last: float) -> int:
        """Return the number of records that were written between two times."""
        return self._count("SELECT count(*) FROM record WHERE mirror = ? AND written_at BETWEEN ? AND ?", first, last)

    def expired(self, now: float, ttl: float) -> int:
        """Return the number of entries that have expired. ttl: seconds from the write of an entry to its expiration."""
        return self._count("SELECT count(*) FROM record WHERE mirror = ? AND abs(? - written_at) >= ?", now, ttl)

    def clear(self, kept_tables: Container[str] = ()) -> None:
        """Delete the rows about the entries of the mirror, because it has another target or prefix now.

        The next full pass adopts the entries of the new target. kept_tables: tables whose rows stay.
        """
        with transaction(self._db):
            for table in (name for name in _ABOUT_ENTRIES if name not in kept_tables):
                self._run(f"DELETE FROM {table} WHERE mirror = ?")


class IndexRows(RecordRows):
    """The index status in one mirror's journal. Times are seconds since the epoch."""

    def store_reported(self, record: Record, entry: Entry, now: float) -> None:
        """Store the values that the remote reports for an entry in step, if a value is new."""
        if (record.marked and entry.marked is False) or entry.checksum not in (None, record.checksum):
            # Another writer replaced the entry. A pass decides about it, and needs the difference.
            return
        known = [getattr(record, column) for column in REPORTED.values()]
        shown = [getattr(entry, name) for name in REPORTED]
        reported = [old if new is None else new for old, new in zip(known, shown, strict=True)]
        status = entry.status or record.status
        error = entry.error if entry.status else record.error
        if reported == known and (status, error) == (record.status, record.error):
            return
        since, took, why = record.requeued_at, record.searchable_s, record.why
        if status != record.status or error != record.error:
            why = None
        if status in ON_THE_WAY and record.status not in ON_THE_WAY:
            since = now
        elif status == "completed" and record.status in ON_THE_WAY:
            took = round(max(0.0, now - record.since), 1)
        columns = (*REPORTED.values(), "status", "error", "requeued_at", "searchable_s", "why")
        self._db.execute(
            f"UPDATE record SET {', '.join(f'{column} = ?' for column in columns)} WHERE mirror = ? AND key = ?",
            (*reported, status, error, since, took, why, self._mirror, record.key),
        )

    def index_counts(self) -> dict[str, int]:
        """Return the number of records by index status, without records that have none."""
        return dict(
            self._run("SELECT status, count(*) FROM record WHERE mirror = ? AND status IS NOT NULL GROUP BY status")
        )

    def unfinished(self) -> int:
        """Return the number of records that are not indexed yet."""
        return self._count(f"SELECT count(*) FROM record WHERE mirror = ? AND {_ON_THE_WAY}")

    def on_the_way(self, limit: int, after: str | None = None) -> list[Record]:
        """Return up to `limit` records that are not indexed yet.

        after: a key, for the records after this key, by key. None: the latest written records first.
        """
        waiting = f"record WHERE mirror = ? AND {_ON_THE_WAY}"
        if after is None:
            return self._records(f"{waiting} ORDER BY written_at DESC LIMIT ?", limit)
        return self._records(f"{waiting} AND key > ? ORDER BY key LIMIT ?", after, limit)

    def unsearchable(self, keys: Sequence[str], checksums: Sequence[str]) -> list[Record]:
        """Return records that a search does not find yet, oldest first.

        A record has one of the keys, or one of the checksums and no error. keys, checksums: a few hundred at most.
        """
        return self._records(
            "record WHERE mirror = ? AND status IN ('queued', 'running', 'outdated', 'error')"
            f" AND (key IN ({placeholders(keys)}) OR status <> 'error' AND checksum IN ({placeholders(checksums)}))"
            " ORDER BY written_at",
            *(*keys, *checksums),
        )

    def mark_all_completed(self, now: float, lag_s: float) -> None:
        """Mark every record as indexed, except for records that were written within `lag_s` of now."""
        self._run(
            "UPDATE record SET status = 'completed', error = NULL, why = NULL"
            " WHERE mirror = ? AND abs(? - written_at) > ?"
            " AND status IN ('queued', 'running', 'outdated', 'error', 'skipped')",
            *(now, lag_s),
        )

    def full(self) -> str | None:
        """Return the error of an entry that was not indexed because the instance is full, None if there is none.

        An entry that a person has requested to index again does not count.
        """
        error: str | None = self._value(
            f"SELECT error FROM {_BY_STATUS} WHERE mirror = ?1 AND status = 'error' AND error {_in(FULL)}"
            " AND NOT EXISTS (SELECT 1 FROM reindex AS w WHERE w.mirror = ?1 AND w.key = record.key)"
            " ORDER BY error DESC LIMIT 1"
        )
        return error

    def stuck(self, before: float, limit: int = -1, *, unreported: bool = False) -> list[Record]:
        """Return records whose indexing began before a time and has not ended, the oldest first.

        unreported: only records that `mark_reported` was not called for.
        """
        return self._records(
            f"record WHERE mirror = ? AND {_ON_THE_WAY} AND {_SINCE} <= ?"
            f" {'AND named IS NULL' if unreported else ''} ORDER BY {_SINCE} LIMIT ?",
            *(before, limit),
        )

    def stuck_count(self, before: float) -> int:
        """Return the number of records whose indexing began before a time and has not ended."""
        return self._count(f"SELECT count(*) FROM record WHERE mirror = ? AND {_ON_THE_WAY} AND {_SINCE} <= ?", before)

    def mark_reported(self, keys: Iterable[str]) -> None:
        """Store that these keys were reported as stuck. The next write or indexing makes them reportable again."""
        self._run_each("UPDATE record SET named = 1 WHERE mirror = ? AND key = ?", ((key,) for key in keys))

    def unexplained(self, limit: int) -> list[Record]:
        """Return records in error, or skipped, without a stored reason."""
        return self._records(f"{_BY_STATUS} WHERE mirror = ? AND {_NOT_INDEXED} AND why IS NULL LIMIT ?", limit)

    def explain(self, record: Record, why: str) -> None:
        """Store the remote's own reason for an error or a skip, "" if it gave none."""
        self._run(
            f"UPDATE record SET why = ?2 WHERE mirror = ?1 AND key = ?3 AND ref = ?4 AND {_NOT_INDEXED}",
            *(why, record.key, record.ref),
        )


class Reindexing(RecordRows):
    """The requests to index entries of one mirror again: of a person, and automatic ones after a temporary failure."""

    def request(self, is_chosen: Callable[[str], bool] | None) -> int:
        """Request to index failed records again. Return their number. is_chosen: chooses keys; None: all."""
        with transaction(self._db):
            rows = self._run(f"SELECT key FROM record WHERE mirror = ? AND {_NOT_INDEXED}").fetchall()
            wanted = [(key,) for (key,) in rows if is_chosen is None or is_chosen(key)]
            self._run_each("INSERT OR REPLACE INTO reindex VALUES (?, ?)", wanted)
            # A request by a person resets the number of tries.
            self._run_each("DELETE FROM index_try WHERE mirror = ? AND key = ?", wanted)
        return len(wanted)

    def requested(self) -> list[Record]:
        """Return the records that a person has requested to index again."""
        return self._records("record JOIN reindex USING (mirror, key) WHERE mirror = ?")

    def plan_tries(self, now: float, spread: float) -> None:
        """Set the time of the next indexing for every record with a temporary error, until its tries are used up.

        spread: a factor for the delays, so that many failures are not retried at the same time.
        """
        with transaction(self._db):
            self._run(
                "DELETE FROM index_try AS t WHERE mirror = ? AND NOT EXISTS (SELECT 1 FROM record AS r"
                " WHERE r.mirror = t.mirror AND r.key = t.key AND r.checksum = t.checksum"
                f" AND (r.{_ON_THE_WAY} OR r.status = 'error'))"
            )
            self._run(
                f"INSERT INTO index_try SELECT mirror, key, checksum, 0, NULL FROM {_BY_STATUS}"
                f" WHERE mirror = ? AND {_TEMPORARY_ERROR} AND NOT EXISTS"
                " (SELECT 1 FROM index_try AS t WHERE t.mirror = record.mirror AND t.key = record.key)"
            )
            for delays, condition in _SCHEDULES:
                for tries, delay_s in enumerate(delays):
                    self._run(
                        "UPDATE index_try SET due = ?2 WHERE mirror = ?1 AND tries = ?3 AND due IS NULL"
                        f" AND key IN (SELECT key FROM {_BY_STATUS} WHERE mirror = ?1 AND {condition})",
                        *(now + delay_s * spread, tries),
                    )

    def due_tries(self, now: float, limit: int) -> list[Record]:
        """Return records whose next indexing is due, the longest due first."""
        return self._records(
            "record JOIN index_try AS t USING (mirror, key, checksum)"
            f" WHERE mirror = ? AND {_TEMPORARY_ERROR} AND t.due <= ? ORDER BY t.due LIMIT ?",
            *(now, limit),
        )

    def next_try(self, key: str | None = None) -> float | None:
        """Return when the next indexing is due, of one key or of all, None if there is none."""
        return self._time(
            "SELECT min(t.due) FROM index_try AS t CROSS JOIN record USING (mirror, key, checksum)"
            f" WHERE mirror = ?1 AND {_TEMPORARY_ERROR} AND (?2 IS NULL OR key = ?2)",
            key,
        )

    def count_try(self, key: str) -> None:
        """Store that an automatic indexing was requested."""
        self._run("UPDATE index_try SET tries = tries + 1, due = NULL WHERE mirror = ? AND key = ?", key)

    def tries_spent(self, key: str) -> int:
        """Return the number of automatic indexings if no further one follows, else 0."""
        row = self._run(
            "SELECT t.tries, r.error FROM index_try AS t JOIN record AS r USING (mirror, key)"
            " WHERE t.mirror = ? AND t.key = ?",
            key,
        ).fetchone()
        return row[0] if row and row[0] >= len(tries_of(row[1])) else 0

    def finish(self, key: str, status: IndexStatus, now: float) -> None:
        """Store that the remote accepted another indexing, and delete the former error unless it is back."""
        with transaction(self._db):
            self.drop_request(key)
            self._run(
                "UPDATE record SET status = ?2, error = CASE WHEN ?2 = 'error' THEN error END, why = NULL,"
                " requeued_at = ?3, named = NULL WHERE mirror = ?1 AND key = ?4",
                *(status, now, key),
            )
            self._run("DELETE FROM problem WHERE mirror = ? AND key = ?", key)

    def drop_request(self, key: str) -> None:
        """Delete the request of a person to index an entry again."""
        self._run("DELETE FROM reindex WHERE mirror = ? AND key = ?", key)


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
            below = keys_below(key and key.rstrip("/") + "/")
            self._run("DELETE FROM problem WHERE mirror = ? AND key >= ? AND key < ?", *below)

    def clear_before(self, pass_id: int) -> None:
        """After a full pass, delete the problems that it did not meet again."""
        self._run("DELETE FROM problem WHERE mirror = ? AND pass < ?", pass_id)

    def get(self, key: str) -> Problem | None:
        """Return the problem of a key, or None. key: as `shown` returns it."""
        row = self._run("SELECT key, kind, message FROM problem WHERE mirror = ? AND key = ?", key).fetchone()
        return Problem(*row) if row else None

    def all(self, pass_id: int = 0, limit: int = -1) -> Iterator[Problem]:
        """Yield the problems of passes from `pass_id` on, by key, at most `limit`; -1: all."""
        rows = self._run(
            "SELECT key, kind, message FROM problem WHERE mirror = ? AND pass >= ? ORDER BY key LIMIT ?", pass_id, limit
        ).fetchall()
        return (Problem(*row) for row in rows)

    def find(self, kind: str, text: str, limit: int, offset: int) -> tuple[list[Problem], int]:
        """Return problems of a kind whose key or message contains a text in any case, by key, and their number."""
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
            self._run("SELECT kind, count(*) FROM problem WHERE mirror = ? AND pass >= ? GROUP BY kind", pass_id)
        )

    def park(self, problem: Problem, checksum: str) -> None:
        """Store that the remote refused this content. It is not sent again until it changes."""
        values = problem.key, checksum, problem.kind, problem.message
        self._run("INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?)", *values)

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
        """Return the checksums (a few hundred at most) that the remote refused under a key that still has a problem."""
        rows = self._run(
            f"SELECT checksum FROM parked WHERE mirror = ? AND checksum IN ({placeholders(checksums)}) AND EXISTS"
            " (SELECT 1 FROM problem WHERE problem.mirror = parked.mirror AND problem.key = parked.key)",
            *checksums,
        )
        return {checksum for (checksum,) in rows}

    def drop_leftovers(self) -> None:
        """After a full pass, delete refusals and checksums of files that have neither a record nor a problem."""
        self._run("DELETE FROM parked WHERE mirror = ?1 AND key NOT IN (SELECT key FROM problem WHERE mirror = ?1)")
        # With ORDER BY, SQLite reads each table once. Without it, SQLite searches for each file.
        self._run(
            "DELETE FROM file WHERE mirror = ?1 AND key IN (SELECT key FROM file WHERE mirror = ?1"
            " EXCEPT SELECT key FROM record WHERE mirror = ?1 EXCEPT SELECT key FROM problem WHERE mirror = ?1"
            " ORDER BY key)"
        )

    def count_dropped(self) -> int:
        """Return the number of keys with a problem of the index whose entry the remote has removed."""
        return self._count(
            f"SELECT count(*) FROM problem AS p WHERE mirror = ? AND kind {_in(STORED_NOT_INDEXED)} AND NOT EXISTS"
            " (SELECT 1 FROM record AS r WHERE r.mirror = p.mirror AND r.key = p.key)"
        )


def record_of(row: Sequence[Any]) -> Record:
    """Return the record of a row of COLUMNS."""
    values = list(row)
    if values[_MARKED] is not None:
        values[_MARKED] = bool(values[_MARKED])
    return Record(*values)
