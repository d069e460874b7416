"""Looking instead of listening: one os.scandir pass, compared with the one before."""

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncd.core.keys import from_os, to_bytes
from syncd.watch.hints import Hint

Ignore = Callable[[str], bool]
"""Tells whether a path below the root needs no watching. It gets the path as in `Hint`, a directory's with "/" at the
end, and answers for everything below an ignored directory too. Asked once per directory and event: be quick."""


_STOP_CHECK: Final = 16
"""Entries between two looks at the stop sign; on a slow network each may take some milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class _Listing:
    """One directory as it was: names joined by NUL and a 64-bit stamp for each, some 30 bytes a file.

    A directory's name ends with "/" and its stamp is 0: what is in it has its own listing.
    """

    names: str
    stamps: "array[int]"

    def entries(self) -> dict[str, int]:
        return dict(zip(self.names.split("\0"), self.stamps, strict=True)) if self.stamps else {}


class Poller:
    """Remembers a tree and tells where it differs from the last look. Blocking; for one thread.

    root: the folder. ignore: see `Ignore`. stopped: asked between directories and files; True ends a pass early.
    """

    def __init__(self, root: Path, ignore: Ignore | None, stopped: Callable[[], bool]) -> None:
        self._root = os.fsencode(root)
        self._ignore = ignore
        self._stopped = stopped
        self._listings: dict[str, _Listing] = {}

    @property
    def directories(self) -> int:
        """Directories seen by the last complete pass, the root among them."""
        return len(self._listings)

    def look(self, report: Callable[[Hint], None]) -> None:
        """One pass; the first on an empty memory reports every file. report gets a hint for each difference.

        A directory that vanished or cannot be read is reported as a subtree once, and is no error. A pass that was
        stopped, or could not read the root itself, remembers nothing.
        """
        before, now = self._listings, dict[str, _Listing]()
        waiting = [""]
        while waiting:
            directory = waiting.pop()
            old = before.get(directory)
            try:
                new = self._list(directory)
            except OSError:
                if directory == "":
                    return
                if old is not None:
                    report(Hint(directory, subtree=True))
                continue
            if self._stopped():
                return
            if old is not None and old.names == new.names and old.stamps == new.stamps:
                new = old
            else:
                _compare(directory, old, new, report)
            now[directory] = new
            if "/" in new.names:
                waiting.extend(_join(directory, name[:-1]) for name in new.names.split("\0") if name.endswith("/"))
        self._listings = now

    def _list(self, directory: str) -> _Listing:
        names, stamps = list[str](), array("q")
        with os.scandir(self._root + b"/" + to_bytes(directory)) as entries:
            for entry in entries:
                if len(names) % _STOP_CHECK == 0 and self._stopped():
                    break
                name, stamp = self._read(entry)
                if name and (self._ignore is None or not self._ignore(_join(directory, name))):
                    names.append(name)
                    stamps.append(stamp)
        return _Listing("\0".join(names), stamps)

    @staticmethod
    def _read(entry: os.DirEntry[bytes]) -> tuple[str, int]:
        name = from_os(entry.name)
        try:
            if entry.is_dir(follow_symlinks=False):
                return name + "/", 0
            found = entry.stat(follow_symlinks=False)
        except OSError:
            # Gone since it was listed: the next pass sees it missing, or back.
            return "", 0
        # No inode: network file systems make them up anew. ctime tells of a file that was replaced just as well.
        return name, hash((found.st_mtime_ns, found.st_ctime_ns, found.st_size))


def _compare(directory: str, old: _Listing | None, new: _Listing, report: Callable[[Hint], None]) -> None:
    left, right = old.entries() if old else {}, new.entries()
    for name in {**left, **right}:
        if left.get(name) != right.get(name):
            report(Hint(_join(directory, name.rstrip("/")), subtree=name.endswith("/")))


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
