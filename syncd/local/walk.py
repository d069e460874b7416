"""The mirrored folder as a stream of items sorted by key, and the lookup of a single key."""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from syncd.core.errors import unexpected_error
from syncd.core.keys import NOT_UTF8, directories_above, from_os, name_fault, normal, shown, to_bytes
from syncd.core.model import Excluded, Item, Local, Problem
from syncd.core.problems import Limits
from syncd.core.rules import IgnoreFile, Rules
from syncd.local.ignores import IgnoreFiles
from syncd.local.mounts import Protected
from syncd.local.read import (
    GONE,
    NON_NAMES,
    Disk,
    Fingerprint,
    LinkEscapes,
    Links,
    directory_entries,
    disk_path,
    fingerprint,
    follow_link,
)


class _DirEntry(NamedTuple):
    """An entry of a directory: its path below the root, and its mode and fingerprint by lstat.

    A walk holds the entries of a whole directory. A stat result takes ten times as much memory.
    """

    path: str
    mode: int
    fingerprint: Fingerprint

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> "_DirEntry":
        return cls(path, status.st_mode, fingerprint(status))


@dataclass(frozen=True, slots=True)
class _Folder:
    """A directory to enter. paths: several if their names are equal in NFC, so that the walk finds key collisions."""

    paths: list[str]
    key: str
    ignores: list[IgnoreFile]


class Tree(Disk):
    """The files below `root` that the rules and the limits of the target allow.

    complete: False if a directory could not be read in this pass. Only a complete walk is evidence for deletes.
    protected: directories whose missing files do not count as deleted.
    crossed: directories on another device than their parent.
    The class has more than twelve methods, because the walk and the lookup of one key judge a file in the same steps.
    """

    def __init__(self, root: Path, rules: Rules, limits: Limits, prefix: str = "") -> None:
        super().__init__(root, limits, prefix)
        self.rules = rules
        self.ignores = IgnoreFiles(self._open_folder, rules)
        self.protected = Protected()
        self.links = Links()
        self.crossed: set[str] = set()

    def begin(self) -> None:
        """Reset the state of a pass."""
        self.complete = True
        self.retry_keys.clear()
        self.protected.withheld.clear()

    # -- the whole folder, or a directory in it

    def walk(self, under: str = "") -> Iterator[Item | Problem]:
        """Yield the items and problems below the directory `under` ("" or "a/b/"), sorted by key.

        An unreadable directory is a Problem whose key ends with "/", and sets `complete` to False. Problems of kind
        invalid_key are not in order, because such a name has no key.
        """
        try:
            folders, ignores = self._enter(under)
        except OSError as error:
            yield self._unreadable(under, error)
            return
        stack = [self._list(_Folder(folders, normal(under), ignores))] if folders else []
        while stack:
            for judged in stack[-1]:
                if isinstance(judged, _Folder):
                    if self.protected.closes(judged.key):
                        continue
                    stack.append(self._list(judged))
                    break
                yield judged
            else:
                stack.pop()

    def _enter(self, under: str, *, wait: bool = True) -> tuple[list[str], list[IgnoreFile]]:
        """Return the directories whose path in NFC is `under`, and the ignore files above them."""
        if self.protected.closes(normal(under)):
            return [], []
        try:
            return self._descend(under.split("/")[:-1], wait=wait)
        except OSError as error:
            if error.errno != errno.EILSEQ:
                raise
            # `look` decides whether the entries below `under` may be deleted.
            return [], []

    def _descend(self, parts: list[str], *, wait: bool = True) -> tuple[list[str], list[IgnoreFile]]:
        """Return the directories whose path in NFC has these names, and the ignore files above them.

        The list of directories is empty if a rule excludes the path. Raises OSError.
        """
        folders, ignores = [""], list[IgnoreFile]()
        for part in parts:
            ignores += self._ignore_files(folders, wait=wait)
            folders = [twin.path + "/" for twin in self._twins(folders, part) if stat.S_ISDIR(twin.mode)]
            if any(self.rules.excluded(normal(folder), ignores) for folder in folders):
                return [], ignores
        return folders, ignores

    def _list(self, folder: _Folder) -> Iterator[Item | Problem | _Folder]:
        """Yield the items, problems and directories of one directory, sorted by name."""
        groups: dict[str, list[_DirEntry]] = {}
        try:
            ignores = self._collect_all(folder, groups)
        except OSError as error:
            # A directory may disappear during the walk. If the root disappeared, every file would look deleted.
            if error.errno not in GONE or not folder.key:
                yield self._unreadable(folder.key, error)
            return
        before = self.prefix + folder.key
        for name in sorted(groups):
            entries = groups.pop(name)
            if fault := name_fault(name):
                yield Problem(self.prefix + shown(folder.key + name), "invalid_key", fault)
            elif name.endswith("/"):
                yield _Folder([twin.path + "/" for twin in entries], folder.key + name, ignores)
            elif isinstance(judged := self._judge_safely(before + name, entries), (Item, Problem)):
                yield judged

    def _collect_all(self, folder: _Folder, groups: dict[str, list[_DirEntry]]) -> list[IgnoreFile]:
        """Group the entries of a directory by their name in NFC. Return the ignore files that apply to them.

        Raises OSError, also for an unexpected exception.
        """
        try:
            ignores = folder.ignores + self._ignore_files(folder.paths)
            for path in folder.paths:
                self._collect(path, ignores, groups)
        except OSError:
            raise
        except Exception as error:
            raise OSError(errno.EIO, str(unexpected_error(error, self.prefix + folder.key))) from error
        return ignores

    def _collect(self, folder: str, ignores: list[IgnoreFile], groups: dict[str, list[_DirEntry]]) -> None:
        """Add the entries of a directory that no rule excludes to `groups`. Raises OSError."""
        before, excluded, quick_test = normal(folder), self.rules.excluded, self.rules.quick_test(ignores)
        with self._open_folder(folder) as descriptor, directory_entries(descriptor) as listed:
            device = os.fstat(descriptor).st_dev
            for entry in listed:
                name = from_os(entry.name)
                path = folder + name
                if entry.is_dir(follow_symlinks=False):
                    name += "/"
                name = normal(name)
                if quick_test(key := before + name) and excluded(key, ignores):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                except OSError:
                    if not name.endswith("/"):
                        raise
                    # The file system that is mounted on this directory has an error, although its parent directory is
                    # readable.
                    status = os.fstat(descriptor)
                if status.st_dev != device:
                    self.crossed.add(path)
                if name in groups:
                    groups[name].append(_DirEntry.of(path, status))
                else:
                    groups[name] = [_DirEntry.of(path, status)]

    def _judge_safely(self, key: str, entries: list[_DirEntry]) -> Local:
        """Return the result of `_judge`. An unexpected exception becomes a problem of this file."""
        try:
            return self._judge(key, entries)
        except Exception as error:  # noqa: BLE001 - unexpected_error logs it
            return Problem(key, "failed", str(unexpected_error(error, key)))

    def _judge(self, key: str, entries: list[_DirEntry]) -> Local:
        """Return the item, the problem or the exclusion of a key from its directory entries."""
        if len(entries) > 1:
            names = " and ".join(ascii(twin.path) for twin in entries)
            return Problem(key, "key_collision", f"{names} differ only in Unicode normalisation; rename one of them")
        path, mode, found = entries[0]
        if stat.S_ISLNK(mode) and self.rules.links:
            target = self._link_target(key, path)
            if not isinstance(target, _DirEntry):
                return target
            _, mode, found = target
        if not stat.S_ISREG(mode):
            return Problem(key, "unsupported_type", f"{_kind(mode)} is not mirrored; only regular files are")
        return self.limits.refuse(key, found[0]) or self._collision(key, path) or Item(key, path, *found)

    def _collision(self, key: str, path: str) -> Problem | None:
        """Return the problem of a file whose entry would have the same name as the entry of another file."""
        for rival in self.limits.forms.rivals(key):
            folder, _, name = path.rpartition("/")
            for twin in self._twins([f"{folder}/" if folder else ""], rival.rpartition("/")[2]):
                if not stat.S_ISDIR(twin.mode) and self.excluded_by(twin.path) is None:
                    sent = self.limits.forms.name(key)
                    why = f"{name!a} and {twin.path.rpartition('/')[2]!a} would both be sent as {sent!a}"
                    return Problem(key, "key_collision", f"{why}; rename one of them, or exclude it")
        return None

    def _link_target(self, key: str, path: str) -> _DirEntry | Problem | Excluded:
        """Return the target of a link under the path of the link, or the reason why the link is not mirrored."""
        places: list[str] = []
        try:
            folder, slash, name = follow_link(self.root, path, places).rpartition("/")
            if rule := self._forbidden(places):
                return Excluded(key, f"{rule}, which the link leads through")
            with self._open_folder(folder + slash) as descriptor:
                status = os.stat(to_bytes(name), dir_fd=descriptor, follow_symlinks=False)
            return self._closed(key, places) or _DirEntry.of(path, status)
        except OSError as error:
            if closed := self._closed(key, places):
                return closed
            self._is_temporary(error, key)
            if error.errno in (*GONE, errno.ELOOP):
                why = f"the link does not lead to a regular file in the folder ({error.strerror}); it is not mirrored"
                return Problem(key, "unsupported_type", why)
            return Problem(key, "unreadable", f"the target of the link cannot be read ({error.strerror})")
        finally:
            self.links.note(path, places)

    def _closed(self, key: str, places: list[str]) -> Problem | None:
        """Return the problem of a link into a directory whose mount is missing: another file may be there now."""
        problems = filter(None, (self.protected.closes(normal(place) + "/") for place in places[1:]))
        closed = next(problems, None)
        return Problem(key, closed.kind, f"the link leads into {closed.key}: {closed.message}") if closed else None

    def _forbidden(self, places: list[str]) -> str | None:
        """Return the rule that excludes one of the paths that a link leads through, or its target."""
        for place in places[1:]:
            if rule := self.rules.forbids(normal(place), self._above(place)):
                return rule
        return self.rules.not_included(normal(places[-1]))

    def _target(self, path: str) -> str:
        """Return the path of the file that the link at `path` leads to, `path` itself if it is no link.

        Raises LinkEscapes if a rule excludes the target or a path that the link leads through.
        """
        if not self.rules.links:
            return path
        places: list[str] = []
        target = follow_link(self.root, path, places)
        if self._forbidden(places):
            raise LinkEscapes("it leads to an excluded path")
        return target

    # -- one key

    def look(self, key: str) -> Local:
        """Return the present item or problem of one key, or its exclusion by the rules. None: the key has no file."""
        try:
            return self._look_at(key)
        except Exception as error:  # noqa: BLE001 - unexpected_error logs it
            return Problem(shown(key), "failed", str(unexpected_error(error, key)))

    def _look_at(self, key: str) -> Local:
        path = key.removeprefix(self.prefix)
        if fault := name_fault(path):
            return Problem(shown(key), "invalid_key", fault)
        *parents, name = path.split("/")
        if not NON_NAMES.isdisjoint((*parents, name)):
            # No walk yields such a key. A forged remote entry may have a key that leads out of the root.
            return None
        if closed := self.protected.closes(path):
            return closed
        try:
            folders, ignores = self._descend(parents)
            ignores += self._ignore_files(folders)
            entries = [twin for twin in self._twins(folders, name) if not stat.S_ISDIR(twin.mode)]
        except OSError as error:
            self._is_temporary(error, key)
            return Problem(key, "unreadable", f"the file cannot be read ({error.strerror}); its remote entry stays")
        if rule := self.rules.excluded_deep(path, ignores):
            return Excluded(key, rule)
        return self._judge(key, entries) if entries else self.protected.hides(path)

    def includes_any(self, under: str = "") -> bool:
        """Return whether the rules include a file below the directory `under`. True if a directory is unreadable."""
        try:
            # The caller runs in the event loop, so this method must not wait until an ignore file is settled.
            folders, ignores = self._enter(under, wait=False)
            return self._holds_any([(folder, ignores) for folder in folders])
        except OSError:
            return True

    def _holds_any(self, waiting: list[tuple[str, list[IgnoreFile]]]) -> bool:
        """Return whether the rules include a file below a directory of a pair (directory, ignore files above it)."""
        while waiting:
            folder, ignores = waiting.pop()
            ignores = ignores + self._ignore_files([folder], wait=False)
            with self._open_folder(folder) as descriptor, directory_entries(descriptor) as listed:
                for entry in listed:
                    below = folder + from_os(entry.name) + ("/" if entry.is_dir(follow_symlinks=False) else "")
                    if self.rules.excluded(normal(below), ignores):
                        continue
                    if entry.is_file(follow_symlinks=False) or (self.rules.links and entry.is_symlink()):
                        return True
                    if below.endswith("/"):
                        waiting.append((below, ignores))
        return False

    def is_excluded(self, path: str) -> bool:
        """Return whether the rules exclude a file now. True if they are unreadable. May wait for an ignore file."""
        try:
            return self.excluded_by(path) is not None
        except OSError:
            return True

    def excluded_by(self, path: str) -> str | None:
        """Return the rule that excludes a path (a directory ends with "/"), or None. Raises OSError."""
        return self.rules.excluded_deep(normal(path), self._above(path))

    def included_by(self, path: str) -> str | None:
        """Return the pattern that includes a mirrored file. None: no pattern matches it. Raises OSError."""
        return self.rules.included_by(normal(path), self._above(path))

    def _above(self, path: str) -> list[IgnoreFile]:
        """Return the ignore files of all directories above a path."""
        return self._ignore_files(directories_above(path))

    def _twins(self, folders: list[str], name: str) -> list[_DirEntry]:
        """Return the entries of `folders` whose name in NFC is `name`. An ASCII name needs one lstat, and no listing.

        Raises OSError (EILSEQ) if there is no such entry, and a folder has a name that is not UTF-8. The requested file
        may have this name.
        """
        twins, unread = [], list[str]()
        for folder in folders:
            names = [name]
            if not name.isascii():
                listed = self._names_in(folder)
                names = [candidate for candidate in listed if normal(candidate) == name]
                unread += [candidate for candidate in listed if shown(candidate) != candidate]
            for candidate in names:
                try:
                    twins.append(_DirEntry.of(folder + candidate, os.lstat(disk_path(self.root, folder + candidate))))
                except OSError as error:
                    if error.errno not in GONE:
                        raise
        if unread and not twins:
            raise OSError(errno.EILSEQ, f"it may be {shown(unread[0])}, whose {NOT_UTF8}")
        return twins

    def _ignore_files(self, folders: list[str], *, wait: bool = True) -> list[IgnoreFile]:
        real = [folder for folder in folders if NON_NAMES.isdisjoint(folder.split("/")[:-1])]
        return [file for folder in real for file in self.ignores.of(folder, wait=wait)]


def _kind(mode: int) -> str:
    names = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a directory behind a link"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
    )
    return next((name for test, name in names if test(mode)), "a device")
