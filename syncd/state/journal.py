"""The journal: what we wrote where, what we deleted, what was refused, and what stands in the way."""

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from operator import attrgetter

from syncd.core.model import Problem, Record
from syncd.state.db import transaction
from syncd.state.journal_index import COLUMNS, FIELDS, IndexRows, record_of

HOUR_S = 3600.0
_AT_ONCE = 500
"""Keys that one query asks for."""
_ABOUT_ENTRIES = (
    *("record", "tombstone", "parked", "problem", "dirty"),
    *("reindex", "index_try", "superseded", "history", "absence", "claim"),
)
_STILL_GONE = (
    "NOT EXISTS (SELECT 1 FROM record WHERE record.mirror = tombstone.mirror AND record.key = tombstone.key"
    " AND record.ref = tombstone.ref)"
)
"""Where a ref is a name, as in KV, what was deleted may be there again, written by us."""
_VALUES = attrgetter(*FIELDS)
LAST = "\U0010ffff"
"""Sorts after every key, since no key may hold it unpaired at its start."""


class Journal(IndexRows):
    """The journal of one mirror. Times are seconds since the epoch."""

    # -- records

    def get(self, key: str) -> Record | None:
        """Return the record of a key, or None."""
        row = self._db.execute(
            f"SELECT {COLUMNS} FROM record WHERE mirror = ? AND key = ?",  # noqa: S608
            (self._mirror, key),
        ).fetchone()
        return record_of(row) if row else None

    def after(self, key: str, upto: str, limit: int, but: Container[str] = ()) -> list[Record]:
        """Return up to `limit` records with key < theirs < upto, in order, of which those of `but` are left out."""
        rows = self._db.execute(
            f"SELECT {COLUMNS} FROM record WHERE mirror = ? AND key > ? AND key < ? ORDER BY key LIMIT ?",  # noqa: S608
            (self._mirror, key, upto, limit),
        )
        return [record_of(row) for row in rows if row[0] not in but]

    def key_after(self, key: str, upto: str, number: int) -> str | None:
        """Return the `number`-th key with a record and key < theirs < upto, None if there are fewer."""
        row = self._db.execute(
            "SELECT key FROM record WHERE mirror = ? AND key > ? AND key < ? ORDER BY key LIMIT 1 OFFSET ?",
            (self._mirror, key, upto, number - 1),
        ).fetchone()
        return row[0] if row else None

    def written(self, keys: Sequence[str], after: float, upto: float) -> set[str]:
        """Those of the keys whose record was written after one time and not after the other."""
        found: set[str] = set()
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ", ".join("?" * len(some))
            rows = self._db.execute(
                f"SELECT key FROM record WHERE mirror = ? AND written_at > ? AND written_at <= ? AND key IN ({marks})",  # noqa: S608
                (self._mirror, after, upto, *some),
            )
            found.update(key for (key,) in rows)
        return found

    def keys(self) -> Iterator[str]:
        """Every key that has a record."""
        return (key for (key,) in self._db.execute("SELECT key FROM record WHERE mirror = ?", (self._mirror,)))

    def put(self, record: Record) -> None:
        """Write what the remote now holds under the key; an older refusal or problem of the key is over."""
        marks = ", ".join("?" * len(FIELDS))
        with transaction(self._db):
            self._db.execute(
                f"INSERT OR REPLACE INTO record (mirror, {COLUMNS}) VALUES (?, {marks})",  # noqa: S608
                (self._mirror, *_VALUES(record)),
            )
            self.unpark(record.key)

    def forget(self, key: str) -> None:
        """Drop the record of a key, and what was wanted of it."""
        with transaction(self._db):
            for table in ("record", "reindex", "index_try"):
                self._db.execute(f"DELETE FROM {table} WHERE mirror = ? AND key = ?", (self._mirror, key))  # noqa: S608

    def count(self) -> int:
        """How many entries we know to be ours."""
        row = self._db.execute("SELECT count(*) FROM record WHERE mirror = ?", (self._mirror,)).fetchone()
        return int(row[0])

    def in_step(self) -> int:
        """How many entries of ours are as their files are, without those that the index refused or left out."""
        row = self._db.execute(
            "SELECT count(*) FROM record WHERE mirror = ? AND status IN ('error', 'skipped')", (self._mirror,)
        ).fetchone()
        return self.stored() - int(row[0])

    def stored(self) -> int:
        """How many entries are ours and have neither a change waiting nor a problem that kept them from the target."""
        # All but the few that are not: asking for each record takes ten times as long.
        row = self._db.execute(
            "SELECT count(*) FROM (SELECT key FROM dirty WHERE mirror = ?1"
            " UNION SELECT key FROM problem WHERE mirror = ?1 AND kind NOT IN ('index_error', 'skipped')"
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
        """How many entries that last for `ttl` seconds are gone by now, as far as we have not renewed them."""
        row = self._db.execute(
            "SELECT count(*) FROM record WHERE mirror = ? AND abs(? - written_at) >= ?", (self._mirror, now, ttl)
        ).fetchone()
        return int(row[0])

    def clear(self, but: Container[str] = ()) -> None:
        """Forget all of the mirror: it points somewhere else now, and the next full pass adopts what is there.

        but: tables that stay.
        """
        with transaction(self._db):
            for table in (each for each in _ABOUT_ENTRIES if each not in but):
                self._db.execute(f"DELETE FROM {table} WHERE mirror = ?", (self._mirror,))  # noqa: S608

    # -- tombstones

    def record_delete(self, key: str, ref: str, now: float, *, consented: bool, age: float | None = None) -> None:
        """Note a delete. consented: a person forced it, or nothing is lost by it: the brake does not count it.

        age: that of the state file (see steady), by which the brake counts; if not given, it is taken to be `now`.
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
            self.unpark(key)

    def deleted_at(self, ref: str) -> float | None:
        """When we deleted this entry; None if there is no tombstone, or it was written again since."""
        row = self._db.execute(
            f"SELECT deleted_at FROM tombstone WHERE mirror = ? AND ref = ? AND {_STILL_GONE}",  # noqa: S608
            (self._mirror, ref),
        ).fetchone()
        return None if row is None else float(row[0])

    def deletes_within(self, now: float, within_s: float) -> int:
        """Return the number of deletes within so many seconds of now, on either side."""
        row = self._db.execute(
            "SELECT count(*) FROM tombstone WHERE mirror = ? AND abs(? - deleted_at) <= ?",
            (self._mirror, now, within_s),
        ).fetchone()
        return int(row[0])

    def deleted_about(self, refs: Sequence[str], now: float, within_s: float) -> set[str]:
        """Those of the (at most some hundred) entries that we deleted within so many seconds of now.

        On either side: one of a clock that was ahead is of an unknown time, and must not hide an entry for days.
        """
        marks = ", ".join("?" * len(refs))
        rows = self._db.execute(
            "SELECT ref FROM tombstone WHERE mirror = ? AND deleted_at BETWEEN ? AND ?"  # noqa: S608
            f" AND ref IN ({marks}) AND {_STILL_GONE}",
            (self._mirror, now - within_s, now + within_s, *refs),
        )
        return {ref for (ref,) in rows}

    def recent_deletes(self, age: float) -> int:
        """Keys that were deleted in the last hour, without consent, and did not come back. age: see `record_delete`."""
        row = self._db.execute(
            "SELECT count(DISTINCT key) FROM tombstone AS gone WHERE mirror = ? AND NOT consented AND age >= ?"
            " AND NOT EXISTS (SELECT 1 FROM record WHERE record.mirror = gone.mirror AND record.key = gone.key)",
            (self._mirror, age - HOUR_S),
        ).fetchone()
        return int(row[0])

    def drop_tombstones(self, now: float, keep_s: float, age: float) -> None:
        """Forget deletes that are more than `keep_s` away from now, and that the brake counts no more."""
        self._db.execute(
            "DELETE FROM tombstone WHERE mirror = ? AND deleted_at NOT BETWEEN ? AND ? AND age < ?",
            (self._mirror, now - keep_s, now + keep_s, age - HOUR_S),
        )

    # -- parked content

    def park(self, problem: Problem, checksum: str) -> None:
        """Remember that the remote refused this content, so that it is not sent again until it changes."""
        self._db.execute(
            "INSERT OR REPLACE INTO parked VALUES (?, ?, ?, ?, ?)",
            (self._mirror, problem.key, checksum, problem.kind, problem.message),
        )

    def unpark(self, key: str | None) -> None:
        """Let refused content be tried again: of one key, or of all (None)."""
        if key is None:
            self._db.execute("DELETE FROM parked WHERE mirror = ?", (self._mirror,))
        else:
            self._db.execute("DELETE FROM parked WHERE mirror = ? AND key = ?", (self._mirror, key))

    def parked(self, first: str, last: str) -> dict[str, tuple[str, Problem]]:
        """Key -> (checksum, problem) of refused content with first <= key <= last."""
        rows = self._db.execute(
            "SELECT key, checksum, kind, message FROM parked WHERE mirror = ? AND key BETWEEN ? AND ?",
            (self._mirror, first, last),
        )
        return {key: (checksum, Problem(key, kind, message)) for key, checksum, kind, message in rows}

    def refused(self, checksums: Collection[str]) -> set[str]:
        """Those of (at most some hundred) contents that the remote refused under a key that is a problem now."""
        marks = ", ".join("?" * len(checksums))
        rows = self._db.execute(
            f"SELECT checksum FROM parked WHERE mirror = ? AND checksum IN ({marks}) AND EXISTS"  # noqa: S608
            " (SELECT 1 FROM problem WHERE problem.mirror = parked.mirror AND problem.key = parked.key)",
            (self._mirror, *checksums),
        )
        return {checksum for (checksum,) in rows}

    def drop_leftovers(self) -> None:
        """After a full pass: forget refusals and checksums of files that are neither mirrored nor in the way now."""
        self._db.execute(
            "DELETE FROM parked WHERE mirror = ?1 AND key NOT IN (SELECT key FROM problem WHERE mirror = ?1)",
            (self._mirror,),
        )
        # In their order, which they have by their keys: one walk through each, and no search for each file.
        self._db.execute(
            "DELETE FROM file WHERE mirror = ?1 AND key IN (SELECT key FROM file WHERE mirror = ?1"
            " EXCEPT SELECT key FROM record WHERE mirror = ?1 EXCEPT SELECT key FROM problem WHERE mirror = ?1"
            " ORDER BY key)",
            (self._mirror,),
        )

    # -- problems

    def note(self, problems: Iterable[Problem], pass_id: int) -> None:
        """Write down what stands in the way, for status and explain."""
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO problem VALUES (?, ?, ?, ?, ?)",
                [(self._mirror, p.key, p.kind, p.message, pass_id) for p in problems],
            )

    def clear_problem(self, key: str, *, subtree: bool) -> None:
        """A key (and all below it) is looked at anew: what was wrong with it is no longer known."""
        self._db.execute("DELETE FROM problem WHERE mirror = ? AND key = ?", (self._mirror, key))
        if subtree:
            first, upto = under(key.rstrip("/") + "/") if key else ("", LAST)
            self._db.execute(
                "DELETE FROM problem WHERE mirror = ? AND key >= ? AND key < ?", (self._mirror, first, upto)
            )

    def clear_problems_before(self, pass_id: int) -> None:
        """A full pass is over: problems it did not meet again are solved."""
        self._db.execute("DELETE FROM problem WHERE mirror = ? AND pass < ?", (self._mirror, pass_id))

    def problems(self, pass_id: int = 0, limit: int = -1) -> Iterator[Problem]:
        """Problems noted by passes from `pass_id` on, by key; at most `limit` if it is not negative."""
        rows = self._db.execute(
            "SELECT key, kind, message FROM problem WHERE mirror = ? AND pass >= ? ORDER BY key LIMIT ?",
            (self._mirror, pass_id, limit),
        ).fetchall()
        return (Problem(*row) for row in rows)

    def problem_counts(self, pass_id: int = 0) -> dict[str, int]:
        """Problems by kind, noted by passes from `pass_id` on."""
        rows = self._db.execute(
            "SELECT kind, count(*) FROM problem WHERE mirror = ? AND pass >= ? GROUP BY kind", (self._mirror, pass_id)
        )
        return {str(kind): int(count) for kind, count in rows}


def under(prefix: str) -> tuple[str, str]:
    """The key range (first, upto) of everything below a directory key that ends with "/"."""
    return prefix, prefix[:-1] + chr(ord("/") + 1)
