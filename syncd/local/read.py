"""Reads the root, its directories and its files.

No function here follows a symbolic link below the root. Each file is opened component by component, so that a directory
that is replaced by a link at the same time leads nowhere.
"""

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from syncd.core.errors import DiskRetry, FileChanged, IgnoreFileError, Park, RootHalt
from syncd.core.keys import from_os, normal, shown, shown_path, to_bytes
from syncd.core.limits import Limits
from syncd.core.model import Content, Problem, int64

Identity = tuple[int, int]
"""(st_dev, st_ino) of a root."""
Fingerprint = tuple[int, int, int, int]
"""(size, mtime_ns, ctime_ns, inode) of a file, each as a signed 64-bit number."""

TEMPORARY = frozenset(
    {
        *(errno.EAGAIN, errno.EINTR, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOTCONN),
        *(errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
    }
)
"""Errors that say nothing about the file itself and may end without an action of a person."""
GONE = (errno.ENOENT, errno.ENOTDIR)
NON_NAMES = frozenset({"", ".", ".."})
_OPEN = os.O_RDONLY | os.O_CLOEXEC


def root_identity(path: Path) -> tuple[int, int] | None:
    """Return the identity of the directory at `path`. Follows links. None: it is missing or unreadable."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino)


def fingerprint(status: os.stat_result) -> Fingerprint:
    """Return the values that change when a file changes."""
    return status.st_size, int64(status.st_mtime_ns), int64(status.st_ctime_ns), int64(status.st_ino)


@contextmanager
def open_file(name: str | bytes, folder: int) -> Iterator[int]:
    """Open a file of an open directory for reading. Raises OSError (ELOOP) for a symbolic link."""
    # O_NONBLOCK: the call must not wait for a writer if a FIFO has replaced the file.
    descriptor = os.open(name, _OPEN | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_directory(name: str, parent: int) -> int:
    """Return a descriptor of a directory in an open directory. Raises OSError for anything else, including a link."""
    return os.open(to_bytes(name), _OPEN | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)


@contextmanager
def open_below(
    descriptor: int, names: Sequence[str], open_next: Callable[[str, int], int] = open_directory
) -> Iterator[int]:
    """Open directory after directory below an open one, and yield the last one. Closes all of them, also the first.

    open_next: opens the directory of a name in an open directory.
    """
    try:
        for name in names:
            below = open_next(name, descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


class Disk:
    """Reads the files below `root` within the limits of the target.

    prefix: the key prefix of the mirror.
    retry_keys: keys that met a temporary error in this pass; the prefix stands for a directory.
    complete: False if a directory could not be read in this pass. Only a complete walk is evidence for deletes.
    """

    def __init__(self, root: Path, limits: Limits, prefix: str = "") -> None:
        self.root = root
        self.label = shown_path(root)
        self.limits = limits
        self.prefix = prefix
        self.retry_keys: set[str] = set()
        self.complete = True

    def identity(self) -> Identity:
        """Return the identity of the root. Raises RootHalt if it is no directory, DiskRetry for a temporary error."""
        try:
            status = self.root.stat()
        except OSError as error:
            self._raise_if_temporary(error)
            raise RootHalt(
                f"path {self.label}: {error.strerror}; nothing was deleted. Bring the folder back"
            ) from error
        if not stat.S_ISDIR(status.st_mode):
            raise RootHalt(f"path {self.label} is no directory; nothing was deleted. Bring the folder back")
        return status.st_dev, status.st_ino

    def is_empty(self) -> bool:
        """Return whether the root is empty. Raises RootHalt if it is unreadable, DiskRetry for a temporary error."""
        try:
            with os.scandir(self.root) as directory_entries:
                return next(directory_entries, None) is None
        except OSError as error:
            self._raise_if_temporary(error)
            raise RootHalt(f"path {self.label}: {error.strerror}; nothing was deleted. Let syncd read it") from error

    def read(self, path: str, *, allow_changing: bool = False) -> tuple[Content, os.stat_result]:
        """Read a file once. Returns its content and its stat result.

        allow_changing: return the bytes of a file that changed while it was read. Otherwise the method raises
        FileChanged for such a file. Raises Park if the file cannot be sent, DiskRetry for a temporary error.
        """
        key = self.prefix + normal(path)
        try:
            with self._open_file(path) as descriptor:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise FileChanged(f"{shown(path)} is no regular file any more")
                data = read_up_to(descriptor, self.limits.max_file_size)
                after = os.fstat(descriptor)
        except OSError as error:
            if error.errno in (*GONE, errno.ELOOP):
                raise FileChanged(f"{shown(path)} went away") from error
            if self._is_temporary(error, key):
                raise DiskRetry(f"it cannot be read now ({error.strerror}); it is tried again") from error
            raise Park("unreadable", f"it cannot be read ({error.strerror}); let syncd read it") from error
        if problem := self.limits.refuse(key, len(data)):
            raise Park(problem.kind, problem.message)
        same = fingerprint(before) == fingerprint(after) and len(data) == after.st_size
        if not (same or allow_changing):
            raise FileChanged(f"{shown(path)} changed while it was read")
        return Content(data, hashlib.sha256(data).hexdigest(), after.st_mtime_ns), after

    def _raise_if_temporary(self, error: OSError) -> None:
        if error.errno in TEMPORARY:
            raise DiskRetry(f"path {self.label}: {error.strerror}; nothing was deleted. It is tried again") from error

    def _is_temporary(self, error: OSError, key: str) -> bool:
        """Return whether an error is temporary, and remember the key of such an error for a retry."""
        if error.errno in TEMPORARY:
            self.retry_keys.add(key)
        return error.errno in TEMPORARY

    def _unreadable(self, folder: str, error: OSError) -> Problem:
        self.complete = False
        self._is_temporary(error, self.prefix)
        why = f"the directory cannot be read ({error.strerror}); nothing is deleted until it can"
        if isinstance(error, IgnoreFileError):
            why = f"{error.strerror}. Until then nothing of this directory is uploaded, and nothing is deleted"
        return Problem(self.prefix + shown(normal(folder)), "unreadable", why)

    def _names_in(self, folder: str) -> list[str]:
        try:
            return [from_os(name) for name in os.listdir(self._place(folder))]  # noqa: PTH208
        except OSError as error:
            if error.errno in GONE:
                return []
            raise

    def _place(self, path: str) -> bytes:
        return os.path.join(os.fsencode(self.root), to_bytes(path))  # noqa: PTH118 - bytes, which no locale changes

    def _open_file(self, path: str) -> AbstractContextManager[int]:
        """Open a mirrored file."""
        return self._open(path)

    @contextmanager
    def _open(self, path: str) -> Iterator[int]:
        """Open root/path for reading. Refuses a symbolic link in any component, and any path that leaves the root."""
        if not NON_NAMES.isdisjoint(path.split("/")):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        parents, _, name = path.rpartition("/")
        with self._open_folder(parents + "/" if parents else "") as folder, open_file(to_bytes(name), folder) as file:
            yield file

    def _open_folder(self, folder: str) -> AbstractContextManager[int]:
        """Open a directory ("" or "a/b/") component by component. Refuses a symbolic link in any component."""
        return open_below(os.open(self.root, _OPEN | os.O_DIRECTORY), folder.split("/")[:-1])


def directory_entries(
    descriptor: int,
) -> "AbstractContextManager[Iterator[os.DirEntry[str]] | Iterator[os.DirEntry[bytes]]]":
    """Return the entries of an open directory. `from_os` converts their names.

    The names are bytes in a locale that is not UTF-8, because a str of such a locale cannot hold every name.
    """
    if sys.getfilesystemencoding() != "utf-8":
        with suppress(OSError):
            return os.scandir(f"/proc/self/fd/{descriptor}".encode())
    return os.scandir(descriptor)


def read_up_to(descriptor: int, limit: int) -> bytes:
    """Read an open file to its end, but at most `limit + 1` bytes."""
    with closing(os.fdopen(os.dup(descriptor), "rb", buffering=0)) as file:
        chunks, total = [], 0
        # One byte over the limit proves that the file is too large.
        while total <= limit and (chunk := file.read(min(1 << 20, limit + 1 - total))):
            chunks.append(chunk)
            total += len(chunk)
    return b"".join(chunks)
