"""What lies on the disk below a root: who the root is, and single files read without being fooled.

Symbolic links are never followed, not even between two steps: every file is opened component by component.
"""

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from syncd.core.errors import DiskRetry, FileChanged, IgnoreFileError, Park, RootHalt
from syncd.core.keys import from_os, normal, shown, shown_path, to_bytes
from syncd.core.limits import Limits
from syncd.core.model import Content, Problem, int64

Identity = tuple[int, int]
"""(st_dev, st_ino) of the root."""

TEMPORARY = frozenset(
    {
        *(errno.EAGAIN, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTCONN),
        *(errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    }
)
"""Errors that say nothing of a file, and may be over soon."""
GONE = (errno.ENOENT, errno.ENOTDIR)
NON_NAMES = frozenset({"", ".", ".."})
_OPEN = os.O_RDONLY | os.O_CLOEXEC


def root_identity(path: Path) -> tuple[int, int] | None:
    """(st_dev, st_ino) of the folder at path, symbolic links followed; None when there is none or it cannot be read."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino)


class Disk:
    """The files under `root`, as far as the target's limits let them be read.

    passing: keys that an error of `TEMPORARY` was met at, the root's for a directory. complete: see scan.Tree.
    """

    def __init__(self, root: Path, limits: Limits, prefix: str = "") -> None:
        self.root = root
        self.label = shown_path(root)
        self.limits = limits
        self.prefix = prefix
        self.passing: set[str] = set()
        self.complete = True

    def identity(self) -> Identity:
        """Return who the root is. Raises RootHalt if it is missing or no directory, DiskRetry if that may pass."""
        try:
            found = self.root.stat()
        except OSError as error:
            self._raise_if_passing(error)
            raise RootHalt(
                f"path {self.label}: {error.strerror}; nothing was deleted. Bring the folder back"
            ) from error
        if not stat.S_ISDIR(found.st_mode):
            raise RootHalt(f"path {self.label} is no directory; nothing was deleted. Bring the folder back")
        return found.st_dev, found.st_ino

    def is_empty(self) -> bool:
        """True if the root holds no name at all. Raises RootHalt if it cannot be read, DiskRetry if that may pass."""
        try:
            with os.scandir(self.root) as directory_entries:
                return next(directory_entries, None) is None
        except OSError as error:
            self._raise_if_passing(error)
            raise RootHalt(f"path {self.label}: {error.strerror}; nothing was deleted. Let syncd read it") from error

    def read(self, path: str, *, allow_changing: bool = False) -> tuple[Content, os.stat_result]:
        """Read a file once.

        allow_changing: return the bytes of a file that changed while it was read. Raises FileChanged for such a file
        otherwise, Park if the file cannot be sent, DiskRetry if it may be readable later.
        """
        key = self.prefix + normal(path)
        try:
            with self._open_file(path) as descriptor:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise FileChanged(f"{shown(path)} is no regular file any more")
                data = _read_all(descriptor, self.limits.max_file_size)
                after = os.fstat(descriptor)
        except OSError as error:
            if error.errno in (*GONE, errno.ELOOP):
                raise FileChanged(f"{shown(path)} went away") from error
            if self._passes(error, key):
                raise DiskRetry(f"it cannot be read now ({error.strerror}); it is tried again") from error
            raise Park("unreadable", f"it cannot be read ({error.strerror}); let syncd read it") from error
        if problem := self.limits.refuse(key, len(data)):
            raise Park(problem.kind, problem.message)
        same = _fingerprint(before) == _fingerprint(after) and len(data) == after.st_size
        if not (same or allow_changing):
            raise FileChanged(f"{shown(path)} changed while it was read")
        return Content(data, hashlib.sha256(data).hexdigest(), after.st_mtime_ns), after

    def _raise_if_passing(self, error: OSError) -> None:
        if error.errno in TEMPORARY:
            raise DiskRetry(f"path {self.label}: {error.strerror}; nothing was deleted. It is tried again") from error

    def _passes(self, error: OSError, key: str) -> bool:
        """Note a key to look at again if the error may be over by then."""
        if error.errno in TEMPORARY:
            self.passing.add(key)
        return error.errno in TEMPORARY

    def _unreadable(self, folder: str, error: OSError) -> Problem:
        self.complete = False
        self._passes(error, self.prefix)
        why = f"the directory cannot be read ({error.strerror}); nothing is deleted until it can"
        if isinstance(error, IgnoreFileError):
            why = f"{error.strerror}. Until then nothing of this directory is uploaded, and nothing is deleted"
        return Problem(self.prefix + shown(normal(folder)), "unreadable", why)

    def _names_in(self, folder: str) -> list[str]:
        try:
            return [from_os(each) for each in os.listdir(self._place(folder))]  # noqa: PTH208
        except OSError as error:
            if error.errno in GONE:
                return []
            raise

    def _place(self, path: str) -> bytes:
        return os.path.join(os.fsencode(self.root), to_bytes(path))  # noqa: PTH118 - bytes, which no locale changes

    def _open_file(self, path: str) -> AbstractContextManager[int]:
        """Open a file that is mirrored."""
        return self._open(path)

    @contextmanager
    def _open(self, path: str) -> Iterator[int]:
        """Open root/path for reading, refusing symbolic links in every component below the root, and ways out of it."""
        if not NON_NAMES.isdisjoint(path.split("/")):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        parents, _, name = path.rpartition("/")
        with self._open_folder(parents + "/" if parents else "") as folder:
            # NONBLOCK: opening a FIFO that took the file's place must not hang.
            descriptor = os.open(to_bytes(name), _OPEN | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _open_folder(self, folder: str) -> Iterator[int]:
        """Open a directory ("" or "a/b/") part by part, so that none that became a symbolic link is gone through."""
        descriptor = os.open(self.root, _OPEN | os.O_DIRECTORY)
        try:
            for part in folder.split("/")[:-1]:
                below = os.open(to_bytes(part), _OPEN | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


def directory_entries(
    descriptor: int,
) -> "AbstractContextManager[Iterator[os.DirEntry[str]] | Iterator[os.DirEntry[bytes]]]":
    """What lies in an open directory. `from_os` gives the names.

    Some locales cannot hold every name as a str, so that bytes are asked for where they can be had.
    """
    if sys.getfilesystemencoding() != "utf-8":
        with suppress(OSError):
            return os.scandir(f"/proc/self/fd/{descriptor}".encode())
    return os.scandir(descriptor)


def _read_all(descriptor: int, limit: int) -> bytes:
    with closing(os.fdopen(os.dup(descriptor), "rb", buffering=0)) as file:
        chunks, total = [], 0
        # One byte over the limit is enough to know that it is over.
        while total <= limit and (chunk := file.read(min(1 << 20, limit + 1 - total))):
            chunks.append(chunk)
            total += len(chunk)
    return b"".join(chunks)


def _fingerprint(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_size, int64(seen.st_mtime_ns), int64(seen.st_ctime_ns)
