"""Reads the root, its directories and its files, and resolves symbolic links to files inside the folder.

A file is opened component by component. If a link replaces a directory in the meantime, the open fails. `follow_link`
resolves a link name by name from the root, and never outside the root.
"""

import errno
import hashlib
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path

from syncd.core.errors import DiskRetry, FileChanged, IgnoreFileError, Park, RootHalt
from syncd.core.keys import directories_above, from_os, normal, shown, shown_path, to_bytes
from syncd.core.model import Content, Problem, int64
from syncd.core.problems import Limits

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
"""Errors whose cause is not the file itself. They may end without an action of a person."""
GONE = (errno.ENOENT, errno.ENOTDIR)
"""Errors of a file that disappeared, or whose directory was replaced by a file."""
NON_NAMES = frozenset({"", ".", ".."})
"""Parts of a path that are no name of a directory entry."""
_OPEN = os.O_RDONLY | os.O_CLOEXEC
MAX_HOPS = 32
"""Maximum links in one chain (our own limit; the kernel follows 40)."""


def root_identity(path: Path) -> Identity | None:
    """Return the identity of the directory at `path`. Follows links. None: it is missing or unreadable."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


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
    """Open directory after directory below an open one, and yield the last one. Close all of them, including the first.

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
    retry_keys: keys that had a temporary error in this pass. The prefix as a key stands for an unreadable directory.
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
            raise self._root_error(error) from error
        if not stat.S_ISDIR(status.st_mode):
            raise RootHalt(
                f"path {self.label} is no directory; nothing was deleted. Bring the folder back, or correct path in the"
                " config"
            )
        return status.st_dev, status.st_ino

    def is_empty(self) -> bool:
        """Return whether the root is empty. Raises RootHalt if it is unreadable, DiskRetry for a temporary error."""
        try:
            with os.scandir(self.root) as directory_entries:
                return next(directory_entries, None) is None
        except OSError as error:
            raise self._root_error(error) from error

    def read(self, path: str, *, allow_changing: bool = False) -> tuple[Content, os.stat_result]:
        """Read a file once. Return its content and its stat result. Do not convert the file.

        allow_changing: return the bytes even if the file changed while it was read. Raises FileChanged if it changed
        without this permission, is gone, or is no regular file any more. Raises Park if the file cannot be sent,
        DiskRetry for a temporary error.
        """
        key = self.prefix + normal(path)
        try:
            with self._open_file(self._target(path)) as descriptor:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise FileChanged(f"{shown(path)} is no regular file any more")
                data = read_up_to(descriptor, self.limits.size_limit(key))
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
        forms = self.limits.forms
        checksum = forms.checksum(key, hashlib.sha256(data).hexdigest())
        return Content(data, checksum, after.st_mtime_ns, forms.name(key)[len(key) :]), after

    def _root_error(self, error: OSError) -> DiskRetry | RootHalt:
        why = f"path {self.label}: {error.strerror}; nothing was deleted."
        forbidden = isinstance(error, PermissionError)
        remedy = "Let syncd read it" if forbidden else "Bring the folder back, or correct path in the config"
        return DiskRetry(f"{why} It is tried again") if error.errno in TEMPORARY else RootHalt(f"{why} {remedy}")

    def _is_temporary(self, error: OSError, key: str) -> bool:
        """Return whether an error is temporary. Add the key of a temporary error to `retry_keys`."""
        if error.errno in TEMPORARY:
            self.retry_keys.add(key)
        return error.errno in TEMPORARY

    def _unreadable(self, folder: str, error: OSError) -> Problem:
        """Return the problem of an unreadable directory, and note that the walk is incomplete."""
        self.complete = False
        self._is_temporary(error, self.prefix)
        why = f"the directory cannot be read ({error.strerror}); nothing is deleted until it can be read"
        if isinstance(error, IgnoreFileError):
            why = f"{error.strerror}. Until then nothing of this directory is uploaded, and nothing is deleted"
        return Problem(self.prefix + shown(normal(folder)), "unreadable", why)

    def _names_in(self, folder: str) -> list[str]:
        """Return the names in a directory, [] if it is gone. Raises OSError."""
        try:
            return [from_os(name) for name in os.listdir(disk_path(self.root, folder))]  # noqa: PTH208
        except OSError as error:
            if error.errno in GONE:
                return []
            raise

    def _target(self, path: str) -> str:
        """Return the path of the file to read for `path`. `Tree` follows links. Raises OSError."""
        return path

    @contextmanager
    def _open_file(self, path: str) -> Iterator[int]:
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


class LinkEscapes(OSError):
    """The link leads out of the folder, in a circle, to a directory, or to an excluded path."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.ELOOP, why)


def follow_link(root: Path, path: str, places: list[str]) -> str:
    """Return the path below the root of the file that the link at `path` leads to; `path` itself if it is no link.

    The caller must open the result component by component, so that the open fails if a link has replaced a directory in
    the meantime. places: a list to which the function appends every path below the root that the link leads through,
    and the target. Raises LinkEscapes if the link does not end inside the folder, and any other OSError.
    """
    folder, _, name = path.rpartition("/")
    above, waiting, hops = folder.split("/") if folder else [], [name], 0
    while waiting:
        name = waiting.pop()
        if name == "..":
            if not above:
                raise LinkEscapes("it leads out of the folder")
            above.pop()
            continue
        places.append("/".join([*above, name]))
        place = disk_path(root, places[-1])
        mode = os.lstat(place).st_mode
        if stat.S_ISLNK(mode):
            hops += 1
            if hops > MAX_HOPS:
                raise LinkEscapes("it leads in a circle")
            target = os.readlink(place)  # noqa: PTH115 - bytes
            if target.startswith(b"/"):
                above, target = [], _below_root(root, target)
            waiting += [from_os(part) for part in reversed(target.split(b"/")) if part not in (b"", b".")]
        elif not waiting:
            return places[-1]
        elif stat.S_ISDIR(mode):
            above.append(name)
        else:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    raise LinkEscapes("it leads to a directory")


def _below_root(root: Path, target: bytes) -> bytes:
    """Return the absolute target of a link as a path below the root. Raises LinkEscapes if it lies elsewhere."""
    for start in (os.fsencode(root), os.fsencode(os.path.realpath(root))):
        if target.startswith(start.rstrip(b"/") + b"/"):
            return target[len(start) :]
    raise LinkEscapes("it leads out of the folder")


def disk_path(root: Path, path: str) -> bytes:
    """Return a path below the root as bytes, because the functions of `os` accept bytes in any locale."""
    return os.path.join(os.fsencode(root), to_bytes(path))  # noqa: PTH118 - bytes, which no locale changes


class Links:
    """The paths that each link leads through. A change at such a path changes the link. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, Sequence[str]] = {}
        self._through: dict[str, set[str]] = {}

    def note(self, link: str, places: Sequence[str]) -> None:
        """Replace the paths that a link leads through. places: the list of `follow_link`."""
        with self._lock:
            for place in self._places.pop(link, ()):
                self._through[place].discard(link)
                if not self._through[place]:
                    del self._through[place]
            # The directories above each place count too, because one of them may be renamed.
            above = {folder[:-1] for place in places for folder in directories_above(place)}
            whole = {*places, *above} - {"", link}
            self._places[link] = tuple(whole)
            for place in whole:
                self._through.setdefault(place, set()).add(link)

    def at(self, place: str) -> list[str]:
        """Return the links that lead through a path."""
        with self._lock:
            return sorted(self._through.get(place, ()))
