"""Reads the ignore files of directories.

An ignore file must be a complete, settled, regular text file. Anything else is an error, because incomplete rules could
upload or delete a file.
"""

import errno
import os
import stat
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from syncd.core.errors import IgnoreFileError
from syncd.core.globs import BadPattern
from syncd.core.keys import directories_above, normal, shown
from syncd.core.plain_text import decode, shown_size
from syncd.core.rules import IgnoreFile, Rules
from syncd.local.read import Fingerprint, fingerprint, open_file, read_up_to

IGNORE_FILE_LIMIT = 4 * 1024 * 1024
"""Maximum bytes of an ignore file (our own limit)."""
_NO_FINGERPRINT: Fingerprint = (0, 0, 0, 0)
"""The fingerprint of no file."""
_COARSE_S = 2.0
"""Seconds within which two writes may leave the same timestamps on a file."""
_PATIENCE = 4.0
"""The wait for an ignore file that keeps changing is at most this multiple of `settle`, or of 1 s."""


@dataclass(frozen=True, slots=True)
class Clock:
    """now: returns seconds since the epoch. monotonic: returns monotonic seconds. sleep: waits a number of seconds."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(slots=True)
class _Known:
    """An ignore file at its last reading. gone_at: the monotonic time when it was first missing, None if present.

    fingerprint: _NO_FINGERPRINT for a file that must be read again.
    """

    fingerprint: Fingerprint
    parsed: IgnoreFile
    gone_at: float | None = None


class IgnoreFiles:
    """The ignore files below one root.

    open_folder: opens a directory ("" or "a/b/").
    settle: seconds without a change before a file is read, or before a file that disappeared counts as gone. `of`
    blocks for this time.
    empty_settle: the same for a file that had patterns and is empty now, because an editor may write it in two steps.
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
        self.settle = settle
        self.empty_settle = empty_settle
        self._clock = clock or Clock()
        self._known: dict[str, _Known] = {}

    def of(self, folder: str, *, wait: bool = True) -> list[IgnoreFile]:
        """Return the ignore files in a directory ("" or "a/b/") by ascending precedence. Raises OSError.

        wait: wait until a file that has just changed is settled. False: such a file is an error.
        """
        try:
            with self._open_folder(folder) as descriptor:
                files = [self._settled(descriptor, folder, name, wait=wait) for name in self._rules.ignore_files]
        except FileNotFoundError:
            return []
        return [file for file in files if file]

    def excludes(self, path: str, *, directory: bool) -> bool:
        """Return whether the ignore files, as last read, exclude a path. Does not access the disk."""
        folder, _, name = path.rpartition("/")
        if name in self._rules.ignore_files:
            return bool(folder) and self.excludes(folder, directory=True)
        above = [
            self._known.get(parent + name) for parent in directories_above(path) for name in self._rules.ignore_files
        ]
        below = normal(path + "/" if directory else path)
        return self._rules.excluded_deep(below, [file.parsed for file in above if file]) is not None

    def _settled(self, directory: int, folder: str, name: str, *, wait: bool) -> IgnoreFile | None:
        """Return an ignore file, None if there is none. wait: wait until a file that has just changed is settled."""
        place = folder + name
        give_up = self._clock.monotonic() + (_PATIENCE * max(1.0, self.settle) if wait else 0.0)
        while (wait_s := self._look(directory, folder, name)) > 0:
            if self._clock.monotonic() >= give_up:
                raise _error(place, "it keeps changing; stop writing to it for a while", errno.EAGAIN)
            self._clock.sleep(wait_s)
        known = self._known.get(place)
        return known.parsed if known else None

    def _look(self, directory: int, folder: str, name: str) -> float:
        """Update the known state of an ignore file. Return the seconds until the file is settled, 0 if it is settled.

        Raises IgnoreFileError if the file cannot be read.
        """
        place = folder + name
        try:
            with open_file(name, directory) as descriptor:
                return self._read(descriptor, folder, name)
        except IgnoreFileError:
            raise
        except FileNotFoundError:
            return self._missed(place)
        except OSError as error:
            fault = "it is a symbolic link" if error.errno == errno.ELOOP else f"it cannot be read ({error.strerror})"
            number = errno.EINVAL if error.errno in (errno.ELOOP, None) else error.errno
            raise _error(place, f"{fault}; put a readable file in its place", number) from error

    def _missed(self, place: str) -> float:
        """Update the known state of a missing ignore file. Return the seconds until it counts as gone."""
        known = self._known.get(place)
        if known is None:
            return 0.0
        now = self._clock.monotonic()
        known.gone_at = now if known.gone_at is None else known.gone_at
        wait = known.gone_at + self.settle - now
        if wait <= 0:
            self._known.pop(place, None)
        return wait

    def _read(self, descriptor: int, folder: str, name: str) -> float:
        """Read an open ignore file if it has changed. Return the seconds until it is settled, 0 if it is settled."""
        place = folder + name
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise _error(place, "it is no regular file; put one in its place")
        current, known = fingerprint(before), self._known.get(place)
        if known and known.fingerprint == current:
            known.gone_at = None
            return 0.0
        age = self._clock.now() - before.st_ctime
        if abs(age) < self.settle:
            return self.settle - age
        data = read_up_to(descriptor, IGNORE_FILE_LIMIT)
        if len(data) > IGNORE_FILE_LIMIT:
            raise _error(place, f"it has more than {shown_size(IGNORE_FILE_LIMIT)}; shorten it")
        if fingerprint(os.fstat(descriptor)) != current or len(data) != before.st_size:
            # A write happened during the read, so the file is not settled.
            return max(self.settle, 0.01)
        if known and known.parsed.patterns.patterns and not data.strip() and 0 <= age < self.empty_settle:
            raise _error(
                place,
                f"it has just become empty; an empty file takes effect after {self.empty_settle:g} s",
                errno.EAGAIN,
            )
        self._known[place] = _Known(current if age >= _COARSE_S else _NO_FINGERPRINT, _parse(folder, name, data))
        return 0.0


def _parse(folder: str, name: str, data: bytes) -> IgnoreFile:
    try:
        # A comment may have any encoding. A pattern that is not UTF-8 is an error.
        return IgnoreFile.parse(normal(folder), decode(data, errors="surrogateescape"), name)
    except BadPattern as error:
        raise _error(folder + name, f"{error}; fix or remove the line", joint=" ") from error
    except ValueError as error:
        raise _error(folder + name, str(error)) from error


def _error(place: str, why: str, number: int = errno.EINVAL, joint: str = ": ") -> IgnoreFileError:
    return IgnoreFileError(number, f"{shown(place)}{joint}{why}")
