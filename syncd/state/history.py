"""The state of a mirror for `status`, and the log of deletes.

The log of deletes is one line of JSON for each deleted entry. Unlike the state file it is no cache: only people and
`explain` read it, and nothing can rebuild it.
"""

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from syncd.core.errors import StateHalt
from syncd.core.plain_text import utc_time
from syncd.state.db import Meta
from syncd.state.directory import REFUSED_ERRNOS, give, refusal

State = Literal["idle", "syncing", "degraded", "halted"]


def set_state(  # noqa: PLR0913 - the fields of one stored value
    meta: Meta,
    state: State,
    detail: str | None = None,
    *,
    remaining: int = 0,
    stored: int | None = None,
    until: float | None = None,
    since: float | None = None,
    next_try: float | None = None,
    under_way: bool = False,
) -> None:
    """Store the state of a mirror. detail: why it is degraded or halted.

    remaining: the number of planned actions that are not done yet. stored: the number of entries in step at the same
    moment. until: the expected end. since: when the state began. next_try: when a degraded mirror tries again. All
    times are seconds since the epoch. under_way: a pass is under way. The process is stored, too, because the pass
    belongs to the process that makes it.
    """
    meta.set(
        "state",
        {
            "state": state,
            "detail": detail,
            "remaining": remaining,
            "stored": stored,
            "until": until,
            "since": since,
            "next_try": next_try,
            "under_way": under_way,
            "pid": os.getpid(),
        },
    )


def stored_state(meta: Meta) -> dict[str, Any]:
    """Return the arguments of the last `set_state`; empty if there was none."""
    stored = meta.get("state")
    return stored if isinstance(stored, dict) else {}


def was_halted(meta: Meta) -> bool:
    """Return whether the last stored state is halted."""
    return stored_state(meta).get("state") == "halted"


def stored_detail(meta: Meta) -> str | None:
    """Return why the mirror was last stored as halted or degraded."""
    detail = stored_state(meta).get("detail")
    return detail if isinstance(detail, str) else None


DELETE_LOG_NAME = "deletes.jsonl"
OLD_DELETE_LOG_NAME = "deletes.1.jsonl"
LOG_LIMIT = 32_000_000
"""Size at which the log is renamed before the next batch. It replaces the log that was renamed before."""
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
    """The log at `path`. Several processes can write to it at the same time."""

    def __init__(self, path: Path) -> None:
        self._path = path

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
                give(descriptor, self._path.parent)
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
