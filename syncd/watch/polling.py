"""Polling: compares two scans of a tree to find changes without events."""

import os
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from syncd.core.keys import from_os, to_bytes
from syncd.core.model import Hint
from syncd.local.read import fingerprint

Ignore = Callable[[str], bool]
"""Returns whether to ignore a path below the root. The path is the path of a `Hint`, with "/" after a directory. The
result for a directory applies to everything below it. It is called for each directory and event, so it must be fast."""

_STOP_CHECK: Final = 16
"""Entries between two checks for a stop. On a slow network, the check of each entry may take milliseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class _Listing:
    """The content of one directory: names joined by NUL, and a 64-bit stamp for each name.

    This takes about 30 bytes for a file. A stamp is a hash that changes when the file changes.

    The name of a directory ends with "/", and its stamp is 0, because its content has a listing of its own.
    """

    names: str
    stamps: "array[int]"

    def entries(self) -> dict[str, int]:
        return dict(zip(self.names.split("\0"), self.stamps, strict=True)) if self.stamps else {}


class Poller:
    """Finds the changes of a tree since the previous scan. Its methods block, and are for one thread only.

    ignore: see `Ignore`. stopped: returns whether to end a scan early.
    """

    def __init__(self, root: Path, ignore: Ignore | None, stopped: Callable[[], bool]) -> None:
        self._root = os.fsencode(root)
        self._ignore = ignore
        self._stopped = stopped
        self._listings: dict[str, _Listing] = {}

    @property
    def directories(self) -> int:
        """The number of directories in the last complete scan, with the root."""
        return len(self._listings)

    def scan(self, report: Callable[[Hint], None]) -> None:
        """Scan the tree. report: receives a hint for each difference; the first scan reports every file.

        A directory that disappeared or became unreadable is reported once, as a subtree. The method discards a scan
        that was stopped or could not read the root.
        """
        listings = dict[str, _Listing]()
        waiting = [""]
        while waiting:
            directory = waiting.pop()
            old = self._listings.get(directory)
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
            listings[directory] = new
            if "/" in new.names:
                waiting.extend(_join(directory, name[:-1]) for name in new.names.split("\0") if name.endswith("/"))
        self._listings = listings

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
        """Return the name and the stamp of an entry, the name "" if the entry has disappeared."""
        name = from_os(entry.name)
        try:
            if entry.is_dir(follow_symlinks=False):
                return name + "/", 0
            status = entry.stat(follow_symlinks=False)
        except OSError:
            # The entry disappeared after the listing. The next scan finds it missing or present.
            return "", 0
        # The stamp leaves out the inode, which some network file systems change. The ctime shows a replaced file.
        return name, hash(fingerprint(status)[:3])


def _compare(directory: str, old: _Listing | None, new: _Listing, report: Callable[[Hint], None]) -> None:
    before, now = old.entries() if old else {}, new.entries()
    for name in {**before, **now}:
        if before.get(name) != now.get(name):
            report(Hint(_join(directory, name.rstrip("/")), subtree=name.endswith("/")))


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name
