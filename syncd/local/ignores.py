"""Reads the ignore files of folders. Fails closed: what is not a whole, settled, regular text file is an error."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from syncd.core.errors import IgnoreFileError
from syncd.core.globs import BadPattern
from syncd.core.keys import normal, shown
from syncd.core.plain_text import decode
from syncd.core.rules import IgnoreFile, Rules

MAX_BYTES = 4 * 1024 * 1024
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_COARSE_S = 2.0
"""Two writes in so short a time may leave the same times on a file."""
_PATIENCE = 4.0
"""An ignore file that has not been quiet for this many times `settle`, or so many seconds, is an error."""

_Print = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Clock:
    """The time of day (s), a clock that only goes forward (s), and a way to wait."""

    now: Callable[[], float] = time.time
    ticks: Callable[[], float] = time.monotonic
    rest: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class _Known:
    """An ignore file as it was read last. gone_at: when it was first missed."""

    print: _Print
    parsed: IgnoreFile
    gone_at: float | None = None


class IgnoreFiles:
    """The ignore files below one root.

    open_folder: opens a directory ("" or "a/b/"). settle: seconds that a file must have been quiet before it is
    believed, also one that has just gone away. Blocks for that time. empty_settle: the same for one that had patterns
    and is empty now, for an editor may be about to write it anew.
    """

    def __init__(
        self,
        open_folder: Callable[[str], AbstractContextManager[int]],
        rules: Rules,
        settle: float = 0.0,
        empty_settle: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self._open_folder = open_folder
        self._rules = rules
        self._settle = settle
        self._empty_settle = empty_settle
        self._clock = clock or Clock()
        self._known: dict[str, _Known] = {}

    def settling(self, settle: float, empty_settle: float) -> "IgnoreFiles":
        """Return the same, with other times of quiet."""
        return IgnoreFiles(self._open_folder, self._rules, settle, empty_settle, self._clock)

    def of(self, folder: str, *, wait: bool = True) -> list[IgnoreFile]:
        """Return the ignore files that lie in a folder ("" or "a/b/"), weakest first. Raises OSError.

        wait: for one that has changed just now; else that is an error.
        """
        try:
            with self._open_folder(folder) as descriptor:
                found = [self._settled(descriptor, folder, name, wait=wait) for name in self._rules.ignore_files]
        except FileNotFoundError:
            return []
        return [each for each in found if each]

    def leave_out(self, path: str, *, directory: bool) -> bool:
        """Return whether a change there needs no look, by the ignore files as they were read last. Touches no disk."""
        folder, _, name = path.rpartition("/")
        if name in self._rules.ignore_files:
            return bool(folder) and self.leave_out(folder, directory=True)
        ends = [0, *(end + 1 for end, char in enumerate(path) if char == "/")]
        above = [self._known.get(path[:end] + name) for end in ends for name in self._rules.ignore_files]
        below = normal(path + "/" if directory else path)
        return self._rules.excluded_deep(below, [each.parsed for each in above if each]) is not None

    def _settled(self, directory: int, folder: str, name: str, *, wait: bool) -> IgnoreFile | None:
        """Read one, after a wait if it has changed just now."""
        place = folder + name
        give_up = self._clock.ticks() + (_PATIENCE * max(1.0, self._settle) if wait else 0.0)
        while (rest_s := self._look(directory, folder, name)) > 0:
            if self._clock.ticks() >= give_up:
                raise _error(place, "it changes all the time; let it rest", errno.EAGAIN)
            self._clock.rest(rest_s)
        known = self._known.get(place)
        return known.parsed if known else None

    def _look(self, directory: int, folder: str, name: str) -> float:
        """Bring what is known of one up to date; return for how many seconds it has to rest before that."""
        place = folder + name
        try:
            with _opened(directory, place, name) as descriptor:
                return self._read(descriptor, folder, name)
        except FileNotFoundError:
            return self._missed(place)

    def _missed(self, place: str) -> float:
        known = self._known.get(place)
        if known is None:
            return 0.0
        now = self._clock.ticks()
        known.gone_at = now if known.gone_at is None else known.gone_at
        wait = known.gone_at + self._settle - now
        if wait <= 0:
            self._known.pop(place, None)
        return wait

    def _read(self, descriptor: int, folder: str, name: str) -> float:
        place = folder + name
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise _error(place, "it is no regular file; put one in its place")
        seen, known = _print(before), self._known.get(place)
        if known and known.print == seen:
            known.gone_at = None
            return 0.0
        age = self._clock.now() - before.st_ctime
        if abs(age) < self._settle:
            return self._settle - age
        data = _whole(descriptor, place)
        if _print(os.fstat(descriptor)) != seen or len(data) != before.st_size:
            # It was written to meanwhile: it is young now.
            return max(self._settle, 0.01)
        if known and known.parsed.patterns.patterns and not data.strip() and 0 <= age < self._empty_settle:
            raise _error(place, f"it has just become empty, which counts after {self._empty_settle:g} s", errno.EAGAIN)
        self._known[place] = _Known(seen if age >= _COARSE_S else (0, 0, 0, 0), _parse(folder, name, data))
        return 0.0


@contextmanager
def _opened(directory: int, place: str, name: str) -> Iterator[int]:
    try:
        descriptor = os.open(name, _OPEN, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        said = "it is a symbolic link" if error.errno == errno.ELOOP else f"it cannot be read ({error.strerror})"
        number = errno.EINVAL if error.errno in (errno.ELOOP, None) else error.errno
        raise _error(place, f"{said}; put a readable file in its place", number) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _whole(descriptor: int, place: str) -> bytes:
    chunks, total = [], 0
    while chunk := os.read(descriptor, 1 << 20):
        chunks.append(chunk)
        total += len(chunk)
        if total > MAX_BYTES:
            raise _error(place, f"it has more than {MAX_BYTES} bytes; shorten it")
    return b"".join(chunks)


def _parse(folder: str, name: str, data: bytes) -> IgnoreFile:
    try:
        # A comment may be in any encoding; a pattern that is not UTF-8 is a bad line.
        return IgnoreFile.parse(normal(folder), decode(data, errors="surrogateescape"), name)
    except BadPattern as error:
        raise _error(folder + name, f"{error}; mend or remove the line", joint=" ") from error
    except ValueError as error:
        raise _error(folder + name, str(error)) from error


def _error(place: str, why: str, number: int = errno.EINVAL, joint: str = ": ") -> IgnoreFileError:
    return IgnoreFileError(number, f"{shown(place)}{joint}{why}")


def _print(seen: os.stat_result) -> _Print:
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino
