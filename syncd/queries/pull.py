"""pull: writes remote entries into a folder, never outside it, through a symbolic link, or over other content."""

import errno
import os
import secrets
import stat
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from syncd.core.errors import ConfigError, Park, SyncdError
from syncd.core.keys import name_fault, shown, shown_path, to_bytes
from syncd.core.model import Entry, Problem
from syncd.core.names import SUFFIXES, converter_of
from syncd.core.plan import is_ours
from syncd.local.read import open_below, open_directory, open_file
from syncd.sync.mirror import Mirror
from syncd.sync.observe import shard_entries

Wrote = Literal["written", "unchanged", "different"]
"""The outcome of one file. different: the file has other content and was not changed."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1024 * 1024
_GIT = frozenset({".git", "git~1"})
"""The name of the Git directory in lower case, and its short name on file systems that have short names."""
_BATCH = 1000
"""Number of entries that are requested from the target at a time."""


class Folder:
    """The destination folder, made if it does not exist. Every path is opened component by component."""

    def __init__(self, root: Path) -> None:
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._root = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        except OSError as error:
            raise ConfigError(
                f"{shown_path(root)}: {error.strerror}; name a folder that syncd may write into"
            ) from None
        self._written: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._root)

    def write(self, path: str, data: bytes, *, force: bool = False) -> Wrote:
        """Write a whole file at `path` (parts joined by "/") or nothing. force: also over other content.

        Raises Park with the reason: a path that leads out of the folder, a symbolic link, no permission.
        """
        if fault := path_fault(path):
            raise Park("invalid_key", fault)
        *parents, name = path.split("/")
        try:
            with open_below(os.dup(self._root), parents, _make_directory) as folder:
                return self._put(folder, to_bytes(name), data, force=force)
        except OSError as error:
            raise Park("failed", f"it cannot be written ({error.strerror})") from error

    def _put(self, folder: int, name: bytes, data: bytes, *, force: bool) -> Wrote:
        try:
            before = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            pass
        else:
            if not stat.S_ISREG(before.st_mode):
                raise Park("failed", "a directory, a symbolic link or a special file stands in its place")
            if before.st_size == len(data) and _holds(folder, name, data):
                return "unchanged"
            if before.st_ino in self._written:
                raise Park("key_collision", "another key has the same place on this disk, which ignores case")
            if not force:
                return "different"
        self._written.add(_replace(folder, name, data))
        return "written"


def path_fault(path: str) -> str | None:
    """Return the reason why pull writes no file at a path, None without a reason."""
    if path.startswith("/"):
        return "its key is an absolute path"
    if not {"", ".", ".."}.isdisjoint(path.split("/")):
        return 'its key has a part that is empty, "." or ".."'
    if not _GIT.isdisjoint(part.casefold().rstrip(". ") for part in path.split("/")):
        return 'its key leads into ".git", which no mirror uploads and git would obey'
    if name_fault(path):
        return "its key has a control character, or is not valid UTF-8"
    return None


def _make_directory(name: str, folder: int) -> int:
    """Open a directory, and make it first if it does not exist."""
    with suppress(FileExistsError):
        os.mkdir(to_bytes(name), dir_fd=folder)
    try:
        return open_directory(name, folder)
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            why = f"{shown(name)!r} on its way is a symbolic link or a file, not a directory"
            raise Park("failed", why) from error
        raise


def _holds(folder: int, name: bytes, data: bytes) -> bool:
    with open_file(name, folder) as descriptor, os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
        place = 0
        while chunk := file.read(_BLOCK):
            if data[place : place + len(chunk)] != chunk:
                return False
            place += len(chunk)
    return place == len(data)


def _replace(folder: int, name: bytes, data: bytes) -> int:
    """Write a temporary file and rename it, so that no reader sees an incomplete file. Return its inode."""
    beside = f".syncd-pull-{secrets.token_hex(8)}"
    # The umask of the process applies to the mode.
    descriptor = os.open(beside, _NEW, 0o644, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            inode = os.fstat(file.fileno()).st_ino
        os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder)
        raise
    return inode


@dataclass(slots=True)
class Pulled:
    """The result of a pull. done: counts of written, unchanged, different, refused, gone and foreign entries.

    listed: the number of entries to write, None until the listing is complete.
    """

    listed: int | None = None
    done: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    def refuse(self, key: str, error: SyncdError) -> None:
        """Record an entry that could not be written."""
        self.done["refused"] += 1
        self.problems.append(Problem(shown(key), error.kind if isinstance(error, Park) else "failed", str(error)))


def check_files(mirror: Mirror) -> None:
    """Raise ConfigError if the target keeps no files. Call it before a destination folder is made."""
    if not mirror.target.limits.keeps_files:
        raise ConfigError("this target holds pieces of text and not the files, so there is nothing to pull")


async def pull(mirror: Mirror, folder: Folder, pulled: Pulled, *, force: bool = False, everyone: bool = False) -> None:
    """Write the entries of a mirror's shard into a folder, at their keys without the prefix.

    A converted file is written as Markdown beside the place of its source: talk.pptx.md.

    pulled: the result, which grows during the pull. everyone: also write the entries of other owners.
    """
    check_files(mirror)
    prefix = mirror.policy.prefix
    wanted: dict[str, Entry] = {}
    async for entry in shard_entries(mirror):
        if not (everyone or is_ours(mirror.journal.get(entry.key), entry, mirror.policy)):
            pulled.done["foreign"] += 1
        elif fault := path_fault(entry.key.removeprefix(prefix)):
            pulled.refuse(entry.key, Park("invalid_key", fault))
        elif wanted.setdefault(entry.key, entry).ref != entry.ref:
            pulled.refuse(entry.key, Park("key_collision", "the target has this key twice; the first entry was taken"))
    entries = [wanted[key] for key in sorted(wanted)]
    pulled.listed = len(entries)
    del wanted
    for start in range(0, len(entries), _BATCH):
        async for entry, data in mirror.target.fetch(entries[start : start + _BATCH]):
            if data is None:
                pulled.done["gone"] += 1
            elif isinstance(data, SyncdError):
                pulled.refuse(entry.key, data)
            else:
                path = entry.key.removeprefix(prefix) + _suffix(entry)
                _write(folder, entry.key, path, data, pulled, force=force)


def _suffix(entry: Entry) -> str:
    """Return the ending that the name of a converted file gets, "" for any other file."""
    return SUFFIXES["convert"] if converter_of(entry.checksum or "") else ""


def _write(folder: Folder, key: str, path: str, data: bytes, pulled: Pulled, *, force: bool) -> None:
    try:
        wrote = folder.write(path, data, force=force)
    except Park as error:
        pulled.refuse(key, error)
        return
    pulled.done[wrote] += 1
    if wrote == "different":
        pulled.problems.append(Problem(key, "refused", "the file there differs; --force overwrites it"))
