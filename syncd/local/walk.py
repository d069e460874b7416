"""The local side: a folder as a stream of items sorted by key, and a look at one key of it."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from syncd.core.keys import NOT_UTF8, from_os, name_fault, normal, shown
from syncd.core.limits import Limits
from syncd.core.model import Excluded, Item, Local, Problem, int64
from syncd.core.rules import IgnoreFile, Rules
from syncd.core.unexpected import unexpected_error
from syncd.local.ignores import IgnoreFiles
from syncd.local.links import LinkEscapes, Links, resolve_link
from syncd.local.mounts import Protected
from syncd.local.read import GONE, NON_NAMES, Disk, directory_entries


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


class Tree(Disk):
    """The files under `root`, judged by the rules and the target's limits.

    After a `walk`, `complete` says whether every directory could be read: only then may anything be deleted.
    protected: directories whose missing files are not gone. crossed: directories on another device than their parent.
    """

    def __init__(self, root: Path, rules: Rules, limits: Limits, prefix: str = "") -> None:
        super().__init__(root, limits, prefix)
        self.rules = rules
        self.ignores = IgnoreFiles(self._open_folder, rules)
        self.protected = Protected()
        self.links = Links()
        self.crossed: set[str] = set()

    def begin(self) -> None:
        """Forget what the last pass met."""
        self.complete = True
        self.passing.clear()
        self.protected.withheld.clear()

    # -- the whole folder, or a directory in it

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
            for found in stack[-1]:
                if isinstance(found, _Folder):
                    if self.protected.closes(found.key):
                        continue
                    stack.append(self._list(found))
                    break
                yield found
            else:
                stack.pop()

    def _enter(self, under: str, *, wait: bool = True) -> tuple[list[str], list[IgnoreFile]]:
        """Return the real directories that go by the name `under`, and the ignore files above them."""
        if self.protected.closes(normal(under)):
            return [], []
        folders, ignores = [""], []
        for part in under.split("/")[:-1]:
            ignores += self._ignore_files(folders, wait=wait)
            try:
                twins = self._twins(folders, part)
            except OSError as error:
                if error.errno != errno.EILSEQ:
                    raise
                # Whether its entries may go is for `look` to say.
                return [], ignores
            folders = [twin.path + "/" for twin in twins if stat.S_ISDIR(twin.stat.st_mode)]
            if any(self.rules.excluded(normal(folder), ignores) for folder in folders):
                return [], ignores
        return folders, ignores

    def _list(self, folder: _Folder) -> Iterator[Item | Problem | _Folder]:
        groups: dict[str, list[_Found]] = {}
        try:
            ignores = self._collect_all(folder, groups)
        except OSError as error:
            # A folder below may go while we walk; the root may not, or all would look deleted.
            if error.errno not in GONE or not folder.key:
                yield self._unreadable(folder.key, error)
            return
        before = self.prefix + folder.key
        for name, found in sorted(groups.items()):
            if fault := name_fault(name):
                yield Problem(self.prefix + shown(folder.key + name), "invalid_key", fault)
            elif name.endswith("/"):
                yield _Folder([twin.path + "/" for twin in found], folder.key + name, ignores)
            elif isinstance(judged := self._judged(before + name, found), (Item, Problem)):
                yield judged

    def _collect_all(self, folder: _Folder, groups: dict[str, list[_Found]]) -> list[IgnoreFile]:
        """Put what lies in a directory into groups of the same name; return the ignore files that hold below it."""
        try:
            ignores = folder.ignores + self._ignore_files(folder.paths)
            for path in folder.paths:
                self._collect(path, ignores, groups)
        except OSError:
            raise
        except Exception as error:
            raise OSError(errno.EIO, str(unexpected_error(error, self.prefix + folder.key))) from error
        return ignores

    def _collect(self, folder: str, ignores: list[IgnoreFile], groups: dict[str, list[_Found]]) -> None:
        excluded, doubt = self.rules.excluded, self.rules.doubt(ignores)
        with self._open_folder(folder) as descriptor, directory_entries(descriptor) as listed:
            device = os.fstat(descriptor).st_dev
            for entry in listed:
                name = from_os(entry.name)
                path = folder + name
                if entry.is_dir(follow_symlinks=False):
                    name += "/"
                if doubt(key := normal(folder + name)) and excluded(key, ignores):
                    continue
                try:
                    found = _Found(path, entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue
                except OSError:
                    if not name.endswith("/"):
                        raise
                    # A file system that hangs there is its own problem, not that of this directory.
                    found = _Found(path, os.fstat(descriptor))
                if found.stat.st_dev != device:
                    self.crossed.add(path)
                groups.setdefault(normal(name), []).append(found)

    def _judged(self, key: str, found: list[_Found]) -> Local:
        """Like `_judge`; whatever it raises is this file's problem."""
        try:
            return self._judge(key, found)
        except Exception as error:  # noqa: BLE001 - what it is stands in the log
            return Problem(key, "failed", str(unexpected_error(error, key)))

    def _judge(self, key: str, found: list[_Found]) -> Local:
        """What a file is: an item or a problem; a link to what is left out, too. None: it went away."""
        if len(found) > 1:
            names = " and ".join(ascii(twin.path) for twin in found)
            return Problem(key, "key_collision", f"{names} differ only in Unicode normalisation; rename one of them")
        path, seen = found[0]
        if stat.S_ISLNK(seen.st_mode) and self.rules.links:
            behind = self._behind(key, path)
            if not isinstance(behind, os.stat_result):
                return behind
            seen = behind
        if not stat.S_ISREG(seen.st_mode):
            return Problem(key, "unsupported_type", f"{_kind(seen.st_mode)} is not mirrored; only regular files are")
        problem = self.limits.refuse(key, seen.st_size)
        times = int64(seen.st_mtime_ns), int64(seen.st_ctime_ns)
        return problem or Item(key, path, seen.st_size, *times, int64(seen.st_ino))

    def _behind(self, key: str, path: str) -> os.stat_result | Problem | Excluded:
        """What a link leads to, if it is to be taken."""
        places: list[str] = []
        try:
            with resolve_link(self.root, path, places) as place:
                if rule := self._forbidden(places):
                    return Excluded(key, f"{rule}, which the link leads through")
                found = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
                return self._closed(key, places) or found
        except OSError as error:
            if closed := self._closed(key, places):
                return closed
            self._passes(error, key)
            if error.errno in (*GONE, errno.ELOOP):
                why = f"the link does not lead to a regular file in the folder ({error.strerror}); it is not mirrored"
                return Problem(key, "unsupported_type", why)
            return Problem(key, "unreadable", f"what the link leads to cannot be looked at ({error.strerror})")
        finally:
            self.links.note(path, places)

    def _closed(self, key: str, places: list[str]) -> Problem | None:
        """The problem of a link that leads to where a mount is missing: what lies there is another file."""
        found = filter(None, (self.protected.closes(normal(place) + "/") for place in places[1:]))
        closed = next(found, None)
        return Problem(key, closed.kind, f"the link leads into {closed.key}: {closed.message}") if closed else None

    def _forbidden(self, places: list[str]) -> str | None:
        """Return the rule that leaves out one of the places that a link leads through, or what it ends at."""
        for place in places[1:]:
            ends = [0, *(end + 1 for end, char in enumerate(place) if char == "/")]
            ignores = self._ignore_files([place[:end] for end in ends])
            if rule := self.rules.forbids(normal(place), ignores):
                return rule
        return self.rules.not_included(normal(places[-1]))

    @contextmanager
    def _open_file(self, path: str) -> Iterator[int]:
        if not self.rules.links:
            with self._open(path) as descriptor:
                yield descriptor
            return
        places: list[str] = []
        with resolve_link(self.root, path, places) as place:
            if self._forbidden(places):
                raise LinkEscapes("it leads to what the rules leave out")
            # NONBLOCK: opening a FIFO that took the file's place must not hang.
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            descriptor = os.open(place.name, flags, dir_fd=place.folder)
            try:
                yield descriptor
            finally:
                os.close(descriptor)

    # -- one key

    def look(self, key: str) -> Local:
        """Return what stands under one key right now, judged like in a walk. None: no such file."""
        try:
            return self._look_at(key)
        except Exception as error:  # noqa: BLE001 - what it is stands in the log
            return Problem(shown(key), "failed", str(unexpected_error(error, key)))

    def _look_at(self, key: str) -> Local:
        path = key.removeprefix(self.prefix)
        if fault := name_fault(path):
            return Problem(shown(key), "invalid_key", fault)
        folders, ignores = [""], []
        *parents, name = path.split("/")
        if not NON_NAMES.isdisjoint((*parents, name)):
            # No walk yields such a key. It may be a forged entry's that means to lead out of the root.
            return None
        if closed := self.protected.closes(path):
            return closed
        try:
            for part in parents:
                ignores += self._ignore_files(folders)
                twins = [twin for twin in self._twins(folders, part) if stat.S_ISDIR(twin.stat.st_mode)]
                folders = [twin.path + "/" for twin in twins]
            ignores += self._ignore_files(folders)
            found = [twin for twin in self._twins(folders, name) if not stat.S_ISDIR(twin.stat.st_mode)]
        except OSError as error:
            self._passes(error, key)
            return Problem(key, "unreadable", f"it cannot be looked at ({error.strerror}); its remote entry stays")
        if rule := self.rules.excluded_deep(path, ignores):
            return Excluded(key, rule)
        return self._judge(key, found) if found else self.protected.hides(path)

    def takes_any(self, under: str = "") -> bool:
        """True if the rules take a file below the directory `under`, or if that cannot be known."""
        try:
            # Asked on the event loop, which must not wait for an ignore file to settle.
            folders, ignores = self._enter(under, wait=False)
            of = partial(self._ignore_files, wait=False)
            return holds_any(folders, ignores, self.rules, of, self._open_folder)
        except OSError:
            return True

    def left_out(self, path: str) -> bool:
        """Return whether the rules leave a file out by now, or cannot be obeyed. May wait for an ignore file."""
        try:
            return self.rules.excluded_deep(normal(path), self._above(path)) is not None
        except OSError:
            return True

    def taken_by(self, path: str) -> str | None:
        """Return the pattern that brings in a file that is mirrored; None if none speaks of it. May raise OSError."""
        return self.rules.taken_by(normal(path), self._above(path))

    def _above(self, path: str) -> list[IgnoreFile]:
        """The ignore files of the directories that a path lies in."""
        ends = [end + 1 for end, char in enumerate(path) if char == "/"]
        return [each for end in (0, *ends) for each in self._ignore_files([path[:end]])]

    def _twins(self, folders: list[str], name: str) -> list[_Found]:
        """Everything in `folders` whose name is `name` after normalisation; a plain lstat where it can be one only.

        Raises OSError (EILSEQ) if there is none, but a name that cannot be read may stand for it.
        """
        found, unread = [], list[str]()
        for folder in folders:
            names = [name]
            if not name.isascii():
                listed = self._names_in(folder)
                names = [each for each in listed if normal(each) == name]
                unread += [each for each in listed if shown(each) != each]
            for each in names:
                try:
                    found.append(_Found(folder + each, os.lstat(self._place(folder + each))))
                except OSError as error:
                    if error.errno not in GONE:
                        raise
        if unread and not found:
            raise OSError(errno.EILSEQ, f"it may be {shown(unread[0])} there, whose {NOT_UTF8}")
        return found

    def _ignore_files(self, folders: list[str], *, wait: bool = True) -> list[IgnoreFile]:
        real = [folder for folder in folders if NON_NAMES.isdisjoint(folder.split("/")[:-1])]
        return [each for folder in real for each in self.ignores.of(folder, wait=wait)]


def _kind(mode: int) -> str:
    names = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((name for test, name in names if test(mode)), "a device")


def holds_any(
    folders: Iterable[str],
    above: list[IgnoreFile],
    rules: Rules,
    ignore_files: Callable[[list[str]], list[IgnoreFile]],
    open_folder: Callable[[str], AbstractContextManager[int]],
) -> bool:
    """True if the rules take a file below one of the directories. Stops at the first. May raise OSError."""
    waiting = [(folder, above) for folder in folders]
    while waiting:
        folder, ignores = waiting.pop()
        ignores = ignores + ignore_files([folder])
        with open_folder(folder) as descriptor, directory_entries(descriptor) as listed:
            for entry in listed:
                below = folder + from_os(entry.name) + ("/" if entry.is_dir(follow_symlinks=False) else "")
                if rules.excluded(normal(below), ignores):
                    continue
                if entry.is_file(follow_symlinks=False) or (rules.links and entry.is_symlink()):
                    return True
                if below.endswith("/"):
                    waiting.append((below, ignores))
    return False
