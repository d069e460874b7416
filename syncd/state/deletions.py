"""The log of deletes: one line of JSON in the state directory for each entry that was deleted, with why.

Unlike the state file it is no cache: nothing reads it but people and `explain`, and nothing can bring it back.
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from syncd.errors import StateHalt
from syncd.state.trouble import REFUSED_ERRNOS, give, refusal

FILE_NAME = "deletes.jsonl"
OLDER_NAME = "deletes.1.jsonl"
MAX_BYTES = 32_000_000
"""A file that has so many is put aside as the older one before the next turn, in place of the one before it."""
Line = dict[str, object]
"""What a line says, but for the time."""
_NO_ANSWER = (errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF, errno.ENOSYS)
"""What file systems say that cannot reserve room; of these it is seen at the write."""
_OPEN = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def log_path(state_dir: Path) -> Path:
    """Where the log of a state directory is."""
    return state_dir / FILE_NAME


class Pen:
    """Writes lines to a log that is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def write(self, told: Line, now: float) -> None:
        """Add the line of a delete that was carried out. Raises StateHalt, with the line, if it cannot be added."""
        data = _line(told, now)
        with (
            _or_halt(self._path, f"this was deleted and could not be noted: {data.decode().strip()}"),
            _alone(self._descriptor),
        ):
            before = os.fstat(self._descriptor).st_size
            written = os.write(self._descriptor, data)
            if written < len(data):
                # Half a line would spoil the next one, too.
                os.ftruncate(self._descriptor, before)
                raise OSError("no room for a line")


class DeleteLog:
    """The log at `path`. Several may write to it at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def writing(self, lines: Iterable[Line]) -> Iterator[Pen]:
        """Hold the log open while what these lines tell is done, and see that they are on the disk in the end.

        Raises StateHalt before anything is deleted if the log cannot be written, or has no room for the lines.
        """
        with _or_halt(self._path, "nothing of this turn was deleted"):
            self._set_aside()
            descriptor = os.open(self._path, _OPEN, 0o600)
        try:
            with _or_halt(self._path, "nothing of this turn was deleted"), _alone(descriptor):
                os.fchmod(descriptor, 0o600)
                give(descriptor, self._path.parent)
                _need(descriptor, sum(len(_line(line, 0.0)) for line in lines))
            yield Pen(self._path, descriptor)
        finally:
            try:
                with _or_halt(self._path, "what was deleted last may not be in it"):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _set_aside(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size >= MAX_BYTES:
                self._path.replace(self._path.with_name(OLDER_NAME))


def last_delete(state_dir: Path, mirror: str, key: str) -> dict[str, Any] | None:
    """Return what the logs say of the last delete of a key, None if they say nothing."""
    needle = json.dumps(key).encode()
    for name in (FILE_NAME, OLDER_NAME):
        found = None
        try:
            with (state_dir / name).open("rb") as file:
                for line in file:
                    if needle in line and (told := _told(line)) and (told["mirror"], told["key"]) == (mirror, key):
                        found = told
        except FileNotFoundError:
            continue
        if found:
            return found
    return None


def _told(line: bytes) -> dict[str, Any] | None:
    """What a line says; None if it was cut short by a crash, or by a hand."""
    try:
        told = json.loads(line)
    except ValueError:
        return None
    return told if isinstance(told, dict) and {"time", "mirror", "key", "why"} <= told.keys() else None


def _need(descriptor: int, room: int) -> None:
    """Raise OSError if the disk has not so much room. The room is taken and given back: quotas show in no other way."""
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
def _alone(descriptor: int) -> Iterator[None]:
    """Keep other processes from the log for a moment: the room that one asks for would take away another's line."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _line(told: Line, now: float) -> bytes:
    return json.dumps({"time": _iso(now)} | told).encode() + b"\n"


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


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
