"""Absences: keys that have an entry but no file any more.

A full pass sees all of them, a pass over single keys sees some. The delete guard weighs all known absences, so it
judges files that disappear one after the other as one deletion.
"""

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from syncd.core.model import Delete
from syncd.state.db import transaction

# A content remains if a remaining entry has it, under any key: a search finds it there.
_STAYS = (
    "record.mirror = :mirror AND record.checksum = gone.checksum"
    " AND NOT EXISTS (SELECT 1 FROM absence AS other WHERE other.mirror = :mirror AND other.key = record.key)"
)
# A copy counts if it was written later than the absent entry: the file was moved. One copy counts for one file.
_COPIES = f"(SELECT count(*) FROM record WHERE {_STAYS} AND record.pass_id > gone.wrote)"

# All statements consist of the constants above.
# ruff: noqa: S608

_NOTHING: Mapping[str, int] = MappingProxyType({})


class Absence(NamedTuple):
    """A key without a file.

    since: the age of the state file (see `Age`) when the key was first seen without its file. replacement: the key of a
    file that may have the content now and is not uploaded yet.
    """

    since: float
    replacement: str | None


class Absences:
    """The absent keys of one mirror.

    The class has more than twelve methods, because all queries on the table `absence` share two conditions.
    """

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror

    def record(self, deletes: Iterable[Delete], age: float, pass_id: int) -> None:
        """Store planned deletes of keys whose file is gone. A key that is stored already keeps its time."""
        self._db.executemany(
            "INSERT INTO absence VALUES (?1, ?2, ?3, ?4, ?5, coalesce("
            " (SELECT pass_id FROM record WHERE mirror = ?1 AND key = ?2), ?6 - 1), NULL, ?6)"
            " ON CONFLICT (mirror, key) DO UPDATE SET checksum = coalesce(checksum, excluded.checksum),"
            " since = min(since, excluded.since), wrote = excluded.wrote, pass = excluded.pass,"
            # Both entries of a key count.
            " number = CASE WHEN pass = excluded.pass THEN number + excluded.number ELSE excluded.number END",
            [(self._mirror, delete.key, delete.checksum, age, int(delete.counted), pass_id) for delete in deletes],
        )

    def remove(self, keys: Sequence[str], pass_id: int) -> None:
        """Remove keys that pass `pass_id` looked at and that need no delete."""
        here = [(self._mirror, key) for key in keys]
        self._db.executemany(
            # A file that came back counts as a later copy: the folder was renamed twice.
            "UPDATE record SET pass_id = ?3 WHERE mirror = ?1 AND key = ?2"
            " AND EXISTS (SELECT 1 FROM absence WHERE mirror = ?1 AND key = ?2)",
            [(*key, pass_id) for key in here],
        )
        self._db.executemany("DELETE FROM absence WHERE mirror = ? AND key = ?", here)

    def remove_before(self, pass_id: int) -> None:
        """Remove the keys that neither this full pass nor a later pass saw without a file."""
        self._db.execute(
            "UPDATE record SET pass_id = ?2 WHERE mirror = ?1"
            " AND key IN (SELECT key FROM absence WHERE mirror = ?1 AND pass < ?2)",
            (self._mirror, pass_id),
        )
        self._db.execute("DELETE FROM absence WHERE mirror = ? AND pass < ?", (self._mirror, pass_id))

    def discard_pass(self, pass_id: int) -> None:
        """Remove the keys that one pass stored, because it could not read the whole folder."""
        self._db.execute("DELETE FROM absence WHERE mirror = ? AND pass = ?", (self._mirror, pass_id))

    def get(self, keys: Sequence[str]) -> dict[str, Absence]:
        """Return the absences of some keys (at most some hundred)."""
        marks = ", ".join("?" * len(keys))
        rows = self._db.execute(
            f"SELECT key, since, replacement FROM absence WHERE mirror = ? AND key IN ({marks})",
            (self._mirror, *keys),
        )
        return {key: Absence(since, replacement) for key, since, replacement in rows}

    def set_replacements(self, replacements: Iterable[tuple[str, str | None]]) -> None:
        """Store for which upload each key waits. None: for no upload."""
        with transaction(self._db):
            self._db.executemany(
                "UPDATE absence SET replacement = ? WHERE mirror = ? AND key = ?",
                [(replacement, self._mirror, key) for key, replacement in replacements],
            )

    def remaining(self, checksums: Collection[str]) -> set[str]:
        """Return the checksums that at least one remaining entry has."""
        with transaction(self._db):
            self._note(dict.fromkeys(checksums, 0))
            rows = self._db.execute(
                f"SELECT checksum FROM temp.content AS gone WHERE EXISTS (SELECT 1 FROM record WHERE {_STAYS})",
                {"mirror": self._mirror},
            ).fetchall()
        return {checksum for (checksum,) in rows}

    def later_copies(self, keys: Sequence[str]) -> dict[str, str]:
        """Return key -> key of a later copy, for keys (at most some hundred) whose content has a later copy.

        Each copy counts for one key. `use_copy` marks it as used.
        """
        marks = ", ".join("?" * len(keys))
        rows = self._db.execute(
            f"SELECT key, checksum, wrote FROM absence WHERE mirror = ?1 AND key IN ({marks}) AND checksum IN ("
            f"  SELECT checksum FROM (SELECT checksum, min(wrote) AS wrote FROM absence"
            f"    WHERE mirror = ?1 AND key IN ({marks}) GROUP BY checksum) AS gone"
            f"  WHERE {_COPIES.replace(':mirror', '?1')} > 0) ORDER BY wrote DESC",
            (self._mirror, *keys, *keys),
        ).fetchall()
        copies = {checksum: self._copies(checksum, len(keys)) for _, checksum, _ in rows}
        copy_of = {}
        for key, checksum, wrote in rows:
            latest = next(iter(copies[checksum]), ("", 0))
            if latest[1] > wrote:
                copy_of[key] = copies[checksum].pop(0)[0]
        return copy_of

    def _copies(self, checksum: str, most: int) -> list[tuple[str, int]]:
        return self._db.execute(
            f"SELECT key, pass_id FROM record WHERE {_STAYS.replace('gone.checksum', ':checksum')}"
            " ORDER BY pass_id DESC LIMIT :most",
            {"mirror": self._mirror, "checksum": checksum, "most": most},
        ).fetchall()

    def use_copy(self, key: str) -> None:
        """Mark the copy under this key as used, after the delete that it counts for."""
        self._db.execute("UPDATE record SET pass_id = 0 WHERE mirror = ? AND key = ?", (self._mirror, key))

    def count_lost(self, to_come: Mapping[str, int] = _NOTHING) -> int:
        """Return the number of deletes, done or pending, that have neither a later copy nor an upload to wait for.

        to_come: checksum -> number of files that will be uploaded with it.
        """
        with transaction(self._db):
            self._note(to_come)
            row = self._db.execute(
                "SELECT coalesce(sum(CASE WHEN checksum IS NULL THEN going"
                f" ELSE max(0, going - {_COPIES} - coalesce((SELECT number FROM temp.content"
                "   WHERE content.checksum = gone.checksum), 0)) END), 0)"
                " FROM (SELECT checksum, sum(number) AS going, min(wrote) AS wrote FROM absence"
                "       WHERE mirror = :mirror AND replacement IS NULL GROUP BY checksum) AS gone",
                {"mirror": self._mirror},
            ).fetchone()
        return int(row[0])

    def _note(self, contents: Mapping[str, int]) -> None:
        self._db.execute("DELETE FROM temp.content")
        self._db.executemany("INSERT INTO temp.content VALUES (?, ?)", contents.items())

    def count(self) -> int:
        """Return the number of keys."""
        row = self._db.execute("SELECT count(*) FROM absence WHERE mirror = ?", (self._mirror,)).fetchone()
        return int(row[0])
