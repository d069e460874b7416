"""The local side: a folder as a stream of items sorted by key, and single files read without being fooled.

Symbolic links are never followed, not even between two steps: every file is opened component by component.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from syncd.errors import Park, RootHalt
from syncd.model import Excluded, Item, Local, Problem
from syncd.paths import IGNORE_FILE, IgnoreFile, Rules, name_fault, normal, shown
from syncd.targets.base import Again, Content, Limits

Identity = tuple[int, int]
"""(st_dev, st_ino) of the root."""

_GONE = (errno.ENOENT, errno.ENOTDIR)
_NO_NAMES = frozenset({"", ".", ".."})
_OPEN = os.O_RDONLY | os.O_CLOEXEC
_MAX_IGNORE_FILE = 1024 * 1024


class _Found(NamedTuple):
    """One name in a directory: where it lies, and what lstat says of it."""

    path: str
    stat: os.stat_result


@dataclass(frozen=True, slots=True)
class _Folder:
    """A directory to go into; several when their names are twins in Unicode, so that real collisions meet."""

    paths: list[str]
    key: str
    ignores: list[IgnoreFile]


class Tree:
    """The files under `root`, judged by the rules and the target's limits.

    After a `walk`, `complete` says whether every directory could be read: only then may anything be deleted.
    """

    def __init__(self, root: Path, rules: Rules, limits: Limits, prefix: str = "") -> None:
        self.root = root
        self.rules = rules
        self.limits = limits
        self.prefix = prefix
        self.complete = True

    def identity(self) -> Identity:
        """Return who the root is. Raises RootHalt if it is missing or no directory."""
        try:
            found = self.root.stat()
        except OSError as error:
            raise RootHalt(f"path {self.root}: {error.strerror}; nothing was deleted. Bring the folder back") from error
        if not stat.S_ISDIR(found.st_mode):
            raise RootHalt(f"path {self.root} is no directory; nothing was deleted. Bring the folder back")
        return found.st_dev, found.st_ino

    def is_empty(self) -> bool:
        """True if the root holds no name at all. Raises RootHalt if it cannot be read."""
        try:
            with os.scandir(self.root) as entries:
                return next(entries, None) is None
        except OSError as error:
            raise RootHalt(f"path {self.root}: {error.strerror}; nothing was deleted. Let syncd read it") from error

    # -- the whole, or a part

    def walk(self, under: str = "") -> Iterator[Item | Problem]:
        """Yield what lies below the directory `under` ("" or "a/b/"), sorted by key.

        A directory that cannot be read is a Problem under its key with "/" and makes `complete` False. Problems of
        kind invalid_key come out of order: such a name has no key to be sorted by.
        """
        try:
            folders, ignores = self._enter(under)
        except OSError as error:
            yield self._unreadable(under, error)
            return
        stack = [self._list(_Folder(folders, normal(under), ignores))] if folders else []
        while stack:
            found = next(stack[-1], None)
            if found is None:
                stack.pop()
            elif isinstance(found, _Folder):
                stack.append(self._list(found))
            else:
                yield found

    def _enter(self, under: str) -> tuple[list[str], list[IgnoreFile]]:
        """Return the real directories that go by the name `under`, and the ignore files above them."""
        folders, ignores = [""], []
        for part in under.split("/")[:-1]:
            ignores += self._ignore_files(folders)
            folders = [found.path + "/" for found in self._twins(folders, part) if stat.S_ISDIR(found.stat.st_mode)]
            if any(self.rules.excluded(normal(folder), ignores) for folder in folders):
                return [], ignores
        return folders, ignores

    def _unreadable(self, folder: str, error: OSError) -> Problem:
        self.complete = False
        why = f"the directory cannot be read ({error.strerror}); nothing is deleted until it can"
        return Problem(self.prefix + shown(normal(folder)), "unreadable", why)

    def _list(self, folder: _Folder) -> Iterator[Item | Problem | _Folder]:
        groups: dict[str, list[_Found]] = {}
        try:
            ignores = folder.ignores + self._ignore_files(folder.paths)
            for path in folder.paths:
                self._collect(path, ignores, groups)
        except OSError as error:
            # A folder below may go while we walk; the root may not, or all would look deleted.
            if error.errno not in _GONE or not folder.key:
                yield self._unreadable(folder.key, error)
            return
        for name in sorted(groups):
            found = groups[name]
            if fault := name_fault(name):
                yield Problem(self.prefix + shown(folder.key + name), "invalid_key", fault)
            elif name.endswith("/"):
                yield _Folder([twin.path + "/" for twin in found], folder.key + name, ignores)
            else:
                yield self._judge(self.prefix + folder.key + name, found)

    def _collect(self, folder: str, ignores: list[IgnoreFile], groups: dict[str, list[_Found]]) -> None:
        excluded = self.rules.excluded
        with self._open_folder(folder) as descriptor, os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                path = folder + name
                if entry.is_dir(follow_symlinks=False):
                    name += "/"
                if excluded(normal(folder + name), ignores):
                    continue
                try:
                    found = _Found(path, entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue
                groups.setdefault(normal(name), []).append(found)

    def _judge(self, key: str, found: list[_Found]) -> Item | Problem:
        if len(found) > 1:
            names = " and ".join(ascii(twin.path) for twin in found)
            return Problem(key, "key_collision", f"{names} differ only in Unicode normalisation; rename one of them")
        path, seen = found[0].path, found[0].stat
        if not stat.S_ISREG(seen.st_mode):
            return Problem(key, "unsupported_type", f"{_kind(seen.st_mode)} is not mirrored; only regular files are")
        if problem := self.limits.refuse(key, seen.st_size):
            return problem
        return Item(key, path, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)

    # -- one key

    def look(self, key: str) -> Local:
        """Return what stands under one key right now, judged like in a walk. None: no such file."""
        path = key.removeprefix(self.prefix)
        if fault := name_fault(path):
            return Problem(shown(key), "invalid_key", fault)
        folders, ignores = [""], []
        *parents, name = path.split("/")
        if not _NO_NAMES.isdisjoint((*parents, name)):
            # No walk yields such a key. It may be a forged entry's that means to lead out of the root.
            return None
        try:
            for part in parents:
                ignores += self._ignore_files(folders)
                twins = [twin for twin in self._twins(folders, part) if stat.S_ISDIR(twin.stat.st_mode)]
                folders = [twin.path + "/" for twin in twins]
            ignores += self._ignore_files(folders)
            found = [twin for twin in self._twins(folders, name) if not stat.S_ISDIR(twin.stat.st_mode)]
        except OSError as error:
            return Problem(key, "unreadable", f"it cannot be looked at ({error.strerror}); its remote entry stays")
        if rule := self.rules.excluded_deep(path, ignores):
            return Excluded(key, rule)
        return self._judge(key, found) if found else None

    def taken_by(self, path: str) -> str | None:
        """Return the pattern that brings in a file that is mirrored; None if none speaks of it. May raise OSError."""
        ends = [end + 1 for end, char in enumerate(path) if char == "/"]
        ignores = [each for end in (0, *ends) for each in self._ignore_files([path[:end]])]
        return self.rules.taken_by(normal(path), ignores)

    def _twins(self, folders: list[str], name: str) -> list[_Found]:
        """Everything in `folders` whose name is `name` after normalisation; a plain lstat where it can be one only."""
        found = []
        for folder in folders:
            names = [name] if name.isascii() else self._names_like(folder, name)
            for each in names:
                try:
                    found.append(_Found(folder + each, os.lstat(self.root / (folder + each))))
                except OSError as error:
                    if error.errno not in _GONE:
                        raise
        return found

    def _names_like(self, folder: str, name: str) -> list[str]:
        try:
            return [each for each in os.listdir(self.root / folder) if normal(each) == name]  # noqa: PTH208
        except OSError as error:
            if error.errno in _GONE:
                return []
            raise

    def _ignore_files(self, folders: list[str]) -> list[IgnoreFile]:
        ignores = []
        for folder in folders:
            try:
                with self._open(folder + IGNORE_FILE) as descriptor:
                    text = os.read(descriptor, _MAX_IGNORE_FILE).decode("utf-8", "replace")
            except FileNotFoundError:
                continue
            try:
                ignores.append(IgnoreFile.parse(normal(folder), text))
            except ValueError as error:
                raise OSError(errno.EINVAL, f"{IGNORE_FILE}: {error}") from error
        return ignores

    # -- bytes

    def read(self, path: str, *, torn: bool = False) -> tuple[Content, os.stat_result]:
        """Read a file once. Raises Again if it changed meanwhile (unless `torn` is fine), Park if it cannot be sent."""
        key = self.prefix + normal(path)
        try:
            with self._open(path) as descriptor:
                before = os.fstat(descriptor)
                if not stat.S_ISREG(before.st_mode):
                    raise Again(f"{shown(path)} is no regular file any more")
                data = _read_all(descriptor, self.limits.max_file_size)
                after = os.fstat(descriptor)
        except OSError as error:
            if error.errno in (*_GONE, errno.ELOOP):
                raise Again(f"{shown(path)} went away") from error
            raise Park("unreadable", f"it cannot be read ({error.strerror}); let syncd read it") from error
        if problem := self.limits.refuse(key, len(data)):
            raise Park(problem.kind, problem.message)
        if not torn and (_fingerprint(before) != _fingerprint(after) or len(data) != after.st_size):
            raise Again(f"{shown(path)} changed while it was read")
        return Content(data, hashlib.sha256(data).hexdigest()), after

    @contextmanager
    def _open(self, path: str) -> Iterator[int]:
        """Open root/path for reading, refusing symbolic links in every component below the root, and ways out of it."""
        if not _NO_NAMES.isdisjoint(path.split("/")):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        parents, _, name = path.rpartition("/")
        with self._open_folder(parents + "/" if parents else "") as folder:
            # NONBLOCK: opening a FIFO that took the file's place must not hang.
            descriptor = os.open(name, _OPEN | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
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
                below = os.open(part, _OPEN | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)


def _read_all(descriptor: int, limit: int) -> bytes:
    with closing(os.fdopen(os.dup(descriptor), "rb", buffering=0)) as file:
        chunks, total = [], 0
        # One byte over the limit is enough to know that it is over.
        while total <= limit and (chunk := file.read(min(1 << 20, limit + 1 - total))):
            chunks.append(chunk)
            total += len(chunk)
    return b"".join(chunks)


def _fingerprint(seen: os.stat_result) -> tuple[int, int, int]:
    return seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


def _kind(mode: int) -> str:
    names = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in names if test(mode)), "a device")
