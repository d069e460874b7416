"""Deletes: the absent keys, which have an entry but no file, the tombstones of deleted entries, and the log of deletes.

A full pass sees all absences; a pass over single keys sees some of them. The brake counts all known absences. So it
judges files that disappear one after the other as one deletion.

The log of deletes is one line of JSON for each deleted entry. Unlike the state file it is no cache: only people and
`explain` read it, and nothing can rebuild it.
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from syncd.core.errors import StateHalt
from syncd.core.model import Delete
from syncd.core.plain_text import utc_time
from syncd.state.db import MirrorRows, in_parts, placeholders, transaction
from syncd.state.directory import REFUSED_ERRNOS, give_to_owner, refusal

# ruff: noqa: S608

HOUR_S = 3600.0
_STILL_GONE = (
    "NOT EXISTS (SELECT 1 FROM record WHERE record.mirror = tombstone.mirror AND record.key = tombstone.key"
    " AND record.ref = tombstone.ref)"
)
"""A ref can be a name, as in KV. Then an entry can exist again after its delete."""

# A content remains if a remaining entry of any key has it, because a search finds that entry.
_STAYS = (
    "record.mirror = ?1 AND record.checksum = gone.checksum"
    " AND NOT EXISTS (SELECT 1 FROM absence AS other WHERE other.mirror = ?1 AND other.key = record.key)"
)
# A copy that was written later than the absent entry means that the file was moved. One copy counts for one file.
_COPIES = f"(SELECT count(*) FROM record WHERE {_STAYS} AND record.pass_id > gone.wrote)"


class Absence(NamedTuple):
    """A key without a file.

    since: the age of the state file (see `Age`) when the key was first seen without its file. replacement: the key of a
    file that may have the content now and is not uploaded yet.
    """

    since: float
    replacement: str | None


class Absences(MirrorRows):
    """The absent keys of one mirror.

    The class has more than twelve methods, because all queries on the table `absence` share two conditions.
    """

    def record(self, deletes: Iterable[Delete], age: float, pass_id: int) -> None:
        """Store planned deletes of keys whose file is gone. A key that is stored already keeps its time."""
        self._run_each(
            "INSERT INTO absence VALUES (?1, ?2, ?3, ?4, ?5, coalesce("
            " (SELECT pass_id FROM record WHERE mirror = ?1 AND key = ?2), ?6 - 1), NULL, ?6)"
            " ON CONFLICT (mirror, key) DO UPDATE SET checksum = coalesce(checksum, excluded.checksum),"
            " since = min(since, excluded.since), wrote = excluded.wrote, pass = excluded.pass,"
            # Both entries of a key count.
            " number = CASE WHEN pass = excluded.pass THEN number + excluded.number ELSE excluded.number END",
            ((delete.key, delete.checksum, age, int(delete.counted), pass_id) for delete in deletes),
        )

    def remove(self, keys: Sequence[str], pass_id: int) -> None:
        """Remove keys that pass `pass_id` looked at and that need no delete."""
        self._run_each(
            # A file that came back counts as a later copy: the folder was renamed twice.
            "UPDATE record SET pass_id = ?3 WHERE mirror = ?1 AND key = ?2"
            " AND EXISTS (SELECT 1 FROM absence WHERE mirror = ?1 AND key = ?2)",
            ((key, pass_id) for key in keys),
        )
        self._run_each("DELETE FROM absence WHERE mirror = ? AND key = ?", ((key,) for key in keys))

    def remove_before(self, pass_id: int) -> None:
        """Remove the keys that neither this full pass nor a later pass saw without a file."""
        self._run(
            "UPDATE record SET pass_id = ?2 WHERE mirror = ?1"
            " AND key IN (SELECT key FROM absence WHERE mirror = ?1 AND pass < ?2)",
            pass_id,
        )
        self._run("DELETE FROM absence WHERE mirror = ? AND pass < ?", pass_id)

    def discard_pass(self, pass_id: int) -> None:
        """Remove the keys that one pass stored, because it could not read the whole folder."""
        self._run("DELETE FROM absence WHERE mirror = ? AND pass = ?", pass_id)

    def get(self, keys: Sequence[str]) -> dict[str, Absence]:
        """Return the absences of some keys (at most some hundred)."""
        rows = self._run(
            f"SELECT key, since, replacement FROM absence WHERE mirror = ? AND key IN ({placeholders(keys)})", *keys
        )
        return {key: Absence(since, replacement) for key, since, replacement in rows}

    def set_replacements(self, replacements: Iterable[tuple[str, str | None]]) -> None:
        """Store for which upload each key waits. None: for no upload."""
        self._run_each("UPDATE absence SET replacement = ?3 WHERE mirror = ?1 AND key = ?2", replacements)

    def remaining(self, checksums: Collection[str]) -> set[str]:
        """Return the checksums that at least one remaining entry has."""
        with transaction(self._db):
            self._fill_contents(dict.fromkeys(checksums, 0))
            rows = self._run(
                f"SELECT checksum FROM temp.content AS gone WHERE EXISTS (SELECT 1 FROM record WHERE {_STAYS})"
            ).fetchall()
        return {checksum for (checksum,) in rows}

    def later_copies(self, keys: Sequence[str]) -> dict[str, str]:
        """Return key -> key of a later copy, for keys (at most some hundred) whose content has a later copy.

        Each copy counts for one key. `use_copy` marks it as used.
        """
        rows = self._run(
            f"SELECT key, checksum, wrote FROM absence WHERE mirror = ?1 AND key IN ({placeholders(keys)})"
            " AND checksum IN ("
            f"  SELECT checksum FROM (SELECT checksum, min(wrote) AS wrote FROM absence"
            f"    WHERE mirror = ?1 AND key IN ({placeholders(keys)}) GROUP BY checksum) AS gone"
            f"  WHERE {_COPIES} > 0) ORDER BY wrote DESC",
            *(*keys, *keys),
        ).fetchall()
        copies = {checksum: self._copies(checksum, len(keys)) for _, checksum, _ in rows}
        copy_of = {}
        for key, checksum, wrote in rows:
            latest = next(iter(copies[checksum]), ("", 0))
            if latest[1] > wrote:
                copy_of[key] = copies[checksum].pop(0)[0]
        return copy_of

    def _copies(self, checksum: str, most: int) -> list[tuple[str, int]]:
        return self._run(
            f"SELECT key, pass_id FROM record WHERE {_STAYS.replace('gone.checksum', '?2')}"
            " ORDER BY pass_id DESC LIMIT ?3",
            checksum,
            most,
        ).fetchall()

    def use_copy(self, key: str) -> None:
        """Mark the copy under this key as used, after the delete that it counts for."""
        self._run("UPDATE record SET pass_id = 0 WHERE mirror = ? AND key = ?", key)

    def count_lost(self, to_come: Mapping[str, int] | None = None) -> int:
        """Return the number of deletes, done or pending, that have neither a later copy nor an upload to wait for.

        to_come: checksum -> number of files that will be uploaded with it.
        """
        with transaction(self._db):
            self._fill_contents(to_come or {})
            return self._count(
                "SELECT coalesce(sum(CASE WHEN checksum IS NULL THEN going"
                f" ELSE max(0, going - {_COPIES} - coalesce((SELECT number FROM temp.content"
                "   WHERE content.checksum = gone.checksum), 0)) END), 0)"
                " FROM (SELECT checksum, sum(number) AS going, min(wrote) AS wrote FROM absence"
                "       WHERE mirror = ?1 AND replacement IS NULL GROUP BY checksum) AS gone"
            )

    def _fill_contents(self, contents: Mapping[str, int]) -> None:
        self._db.execute("DELETE FROM temp.content")
        self._db.executemany("INSERT INTO temp.content VALUES (?, ?)", contents.items())

    def count(self) -> int:
        """Return the number of keys."""
        return self._count("SELECT count(*) FROM absence WHERE mirror = ?")

    def count_unrecorded(self) -> int:
        """Return the number of keys that have no record: an earlier full pass found their entries by the marks."""
        return self._count(
            "SELECT count(*) FROM absence WHERE mirror = ?1 AND NOT EXISTS"
            " (SELECT 1 FROM record WHERE record.mirror = ?1 AND record.key = absence.key)"
        )


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

    def deleted_between(self, refs: Sequence[str], first: float, last: float) -> set[str]:
        """Return the entries that we deleted between two times, and that were not written again."""
        return {
            ref
            for part in in_parts(refs)
            for (ref,) in self._run(
                "SELECT ref FROM tombstone WHERE mirror = ? AND deleted_at BETWEEN ? AND ?"
                f" AND ref IN ({placeholders(part)}) AND {_STILL_GONE}",
                *(first, last, *part),
            )
        }

    def any_about(self, now: float, within_s: float) -> bool:
        """Return whether we deleted any entry up to `within_s` seconds before or after now."""
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


# -- the log

DELETE_LOG_NAME = "deletes.jsonl"
OLD_DELETE_LOG_NAME = "deletes.1.jsonl"
LOG_LIMIT = 32_000_000
"""Bytes from which the log is renamed before the next batch. It replaces the log that was renamed before."""
DeleteLogLine = dict[str, object]
"""The values of a line, without the time."""
_NO_ANSWER = (errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, errno.ENOSYS)
"""Errors of file systems that cannot allocate room in advance. There the write itself fails on a full disk."""
_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def log_path(state_dir: Path) -> Path:
    """Return the path of the log in a state directory."""
    return state_dir / DELETE_LOG_NAME


class DeleteLogWriter:
    """Writes lines to an open log."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write(self, values: DeleteLogLine, now: float) -> None:
        """Add the line of a finished delete. Raises StateHalt, with the line, if that fails."""
        data = _line(values, now)
        with (
            _or_halt(self._path, f"this was deleted and could not be noted: {data.decode().strip()}"),
            _locked(self._descriptor),
        ):
            before = os.fstat(self._descriptor).st_size
            written = os.write(self._descriptor, data)
            if written < len(data):
                # Half a line would damage the next line too.
                os.ftruncate(self._descriptor, before)
                raise OSError("no room for a line")


class DeleteLog:
    """The log in a state directory. Several processes can write to it at the same time."""

    def __init__(self, state_dir: Path) -> None:
        self._path = log_path(state_dir)

    @contextmanager
    def writing(self, lines: Iterable[DeleteLogLine]) -> Iterator[DeleteLogWriter]:
        """Hold the log open for these lines, and sync it to disk at the end.

        Raises StateHalt before any delete if the log cannot be written or has no room for the lines.
        """
        with _or_halt(self._path, "nothing of this batch was deleted"):
            self._rotate()
            descriptor = os.open(self._path, _OPEN, 0o600)
        try:
            with _or_halt(self._path, "nothing of this batch was deleted"), _locked(descriptor):
                os.fchmod(descriptor, 0o600)
                give_to_owner(descriptor, self._path.parent)
                _check_room(descriptor, sum(len(_line(line, 0.0)) for line in lines))
            yield DeleteLogWriter(self._path, descriptor)
        finally:
            try:
                with _or_halt(self._path, "it may lack the last deletes"):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _rotate(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size >= LOG_LIMIT:
                self._path.replace(self._path.with_name(OLD_DELETE_LOG_NAME))


def last_delete(state_dir: Path, mirror: str, key: str) -> dict[str, Any] | None:
    """Return the line of the last delete of a key, None if there is none."""
    needle = json.dumps(key).encode()
    for name in (DELETE_LOG_NAME, OLD_DELETE_LOG_NAME):
        last = None
        try:
            with (state_dir / name).open("rb") as file:
                for line in file:
                    if (
                        needle in line
                        and (values := _parse(line))
                        and (values["mirror"], values["key"]) == (mirror, key)
                    ):
                        last = values
        except FileNotFoundError:
            continue
        if last:
            return last
    return None


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the values of a line, None if it was cut off by a crash or edited."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and {"time", "mirror", "key", "why"} <= values.keys() else None


def _check_room(descriptor: int, room: int) -> None:
    """Raise OSError if the disk has no room for so many bytes.

    The room is allocated and freed again, because nothing else shows a quota.
    """
    size = os.fstat(descriptor).st_size
    try:
        os.posix_fallocate(descriptor, size, room)
    except OSError as error:
        if error.errno in _NO_ANSWER:
            return
        raise
    finally:
        os.ftruncate(descriptor, size)


@contextmanager
def _locked(descriptor: int) -> Iterator[None]:
    """Lock the log for a moment, because allocating room would overwrite the line of another process."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _line(values: DeleteLogLine, now: float) -> bytes:
    return json.dumps({"time": utc_time(now, "milliseconds")} | values).encode() + b"\n"


@contextmanager
def _or_halt(path: Path, consequence: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in REFUSED_ERRNOS:
            raise StateHalt(f"the log of deletes cannot be written; {consequence}: {refusal(path, error)}") from error
        raise StateHalt(
            f"the log of deletes {path} cannot be written ({error.strerror or error}); {consequence}. Make room on the"
            " disk of state_dir, and let syncd write there"
        ) from error
