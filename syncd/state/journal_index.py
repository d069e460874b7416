"""The index status in the journal: how far entries are indexed, why they failed, and when to index them again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any

from syncd.core.model import ON_THE_WAY, Entry, IndexStatus, Record
from syncd.core.problems import FULL, LATER, LATER_TRIES_S, NOT_TRIED, TRIES_S, tries_of
from syncd.state.db import REPORTED, MirrorRows, marks, transaction

FIELDS = tuple(field.name for field in fields(Record))
COLUMNS = ", ".join(FIELDS)
_MARKED = FIELDS.index("marked")
_ON_THE_WAY = "status IN ({})".format(", ".join(f"'{status}'" for status in sorted(ON_THE_WAY)))
_SINCE = "coalesce(requeued_at, written_at)"


def _in(errors: Iterable[str]) -> str:
    return "IN ({})".format(", ".join(f"'{error}'" for error in sorted(errors)))


_TEMPORARY_ERROR = f"status = 'error' AND coalesce(error, '') NOT {_in(NOT_TRIED)}"
_SCHEDULES = (
    (TRIES_S, f"{_TEMPORARY_ERROR} AND coalesce(error, '') NOT {_in(LATER)}"),
    (LATER_TRIES_S, f"status = 'error' AND error {_in(LATER)}"),
)
"""The delays before the tries, and the records for which they count."""

_BY_STATUS = "record INDEXED BY record_status"
"""Without statistics SQLite would read all records to find the few that are in error."""

# All statements consist of the constants above.
# ruff: noqa: S608

STUCK_S = 1800.0
"""Seconds after which an unindexed entry is reported as stuck.

The indexing of AI Search has been observed to hang for 30 minutes or hours.
"""


class RecordRows(MirrorRows):
    """Reads the records of one mirror."""

    def _records(self, source: str, *values: object) -> list[Record]:
        """Return the records of a source: the text of a query after FROM."""
        return [record_of(row) for row in self._run(f"SELECT {COLUMNS} FROM {source}", *values)]


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
            self._run(
                "SELECT status, count(*) FROM record WHERE mirror = ? AND status IS NOT NULL GROUP BY status"
            ).fetchall()
        )

    def unfinished(self) -> int:
        """Return the number of records that are not indexed yet."""
        return self._count(f"SELECT count(*) FROM record WHERE mirror = ? AND {_ON_THE_WAY}")

    def on_the_way(self, limit: int, after: str | None = None) -> list[Record]:
        """Return up to `limit` records that are not indexed yet.

        after None: the latest written first. Otherwise ordered by key, starting after this key.
        """
        waiting = f"record WHERE mirror = ? AND {_ON_THE_WAY}"
        if after is None:
            return self._records(f"{waiting} ORDER BY written_at DESC LIMIT ?", limit)
        return self._records(f"{waiting} AND key > ? ORDER BY key LIMIT ?", after, limit)

    def unsearchable(self, keys: Sequence[str], checksums: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return key, ref, checksum, written_at and status of records that a search does not find yet, oldest first.

        They have one of the keys, or one of the checksums and no error. At most some hundred of each.
        """
        return self._run(
            "SELECT key, ref, checksum, written_at, status FROM record"
            " WHERE mirror = ? AND status IN ('queued', 'running', 'outdated', 'error')"
            f" AND (key IN ({marks(keys)}) OR status <> 'error' AND checksum IN ({marks(checksums)}))"
            " ORDER BY written_at",
            *(*keys, *checksums),
        ).fetchall()

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

        Entries that a person wants indexed again do not count.
        """
        error: str | None = self._value(
            f"SELECT error FROM {_BY_STATUS} WHERE mirror = ?1 AND status = 'error' AND error {_in(FULL)}"
            " AND NOT EXISTS (SELECT 1 FROM reindex AS w WHERE w.mirror = ?1 AND w.key = record.key)"
            " ORDER BY error DESC LIMIT 1"
        )
        return error

    # -- stuck

    def stuck(self, before: float, limit: int = -1, *, unreported: bool = False) -> list[Record]:
        """Return records whose indexing has not ended since that time, the oldest first.

        unreported: only records that `mark_reported` was not called for.
        """
        return self._records(
            f"record WHERE mirror = ? AND {_ON_THE_WAY} AND {_SINCE} <= ?"
            f" {'AND named IS NULL' if unreported else ''} ORDER BY {_SINCE} LIMIT ?",
            *(before, limit),
        )

    def stuck_count(self, before: float) -> int:
        """Return the number of records whose indexing has not ended since that time."""
        return self._count(f"SELECT count(*) FROM record WHERE mirror = ? AND {_ON_THE_WAY} AND {_SINCE} <= ?", before)

    def mark_reported(self, keys: Iterable[str]) -> None:
        """Store that these keys were reported as stuck. The next write or indexing makes them reportable again."""
        self._run_each("UPDATE record SET named = 1 WHERE mirror = ? AND key = ?", ((key,) for key in keys))

    # -- reasons

    def unexplained(self, limit: int) -> list[Record]:
        """Return records in error, or skipped, without a stored reason."""
        return self._records(
            f"{_BY_STATUS} WHERE mirror = ? AND status IN ('error', 'skipped') AND why IS NULL LIMIT ?", limit
        )

    def explain(self, record: Record, why: str) -> None:
        """Store the remote's own reason for an error or a skip, "" if it gave none."""
        self._run(
            "UPDATE record SET why = ?2 WHERE mirror = ?1 AND key = ?3 AND ref = ?4 AND status IN ('error', 'skipped')",
            *(why, record.key, record.ref),
        )


class Reindexing(RecordRows):
    """The requests to index entries of one mirror again: by a person, and automatic after a temporary failure."""

    def request(self, meant: Callable[[str], bool] | None) -> int:
        """Ask for another indexing of the chosen (or all) records whose indexing failed. Return their number."""
        with transaction(self._db):
            rows = self._run("SELECT key FROM record WHERE mirror = ? AND status IN ('error', 'skipped')").fetchall()
            wanted = [(key,) for (key,) in rows if meant is None or meant(key)]
            self._run_each("INSERT OR REPLACE INTO reindex VALUES (?, ?)", wanted)
            # A request by a person resets the number of tries.
            self._run_each("DELETE FROM index_try WHERE mirror = ? AND key = ?", wanted)
        return len(wanted)

    def requested(self) -> list[Record]:
        """Return the records that a person wants indexed again."""
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
        """Store that the remote accepted another indexing, and delete the former error unless it is already back."""
        with transaction(self._db):
            self.drop_request(key)
            self._run(
                "UPDATE record SET status = ?2, error = CASE WHEN ?2 = 'error' THEN error END, why = NULL,"
                " requeued_at = ?3, named = NULL WHERE mirror = ?1 AND key = ?4",
                *(status, now, key),
            )
            self._run("DELETE FROM problem WHERE mirror = ? AND key = ?", key)

    def drop_request(self, key: str) -> None:
        """Delete the request for another indexing, because the remote refused it."""
        self._run("DELETE FROM reindex WHERE mirror = ? AND key = ?", key)


def record_of(row: Sequence[Any]) -> Record:
    """Return the record of a row of COLUMNS."""
    values = list(row)
    if values[_MARKED] is not None:
        values[_MARKED] = bool(values[_MARKED])
    return Record(*values)
