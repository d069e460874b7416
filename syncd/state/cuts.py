"""How each oversize file is cut, kept so that one that looks unchanged is not read again.

In memory while a mirror is open, for walks ask from their threads; the loop writes it to the state file.
"""

import codecs
import errno
import hashlib
import os
import sqlite3
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from syncd.model import Item, Part, int64
from syncd.parts import MOST, NOT_TEXT, TOO_MANY, WHOLE_LIMIT, Kind, Naming
from syncd.state.db import transaction
from syncd.state.files import YOUNG_NS
from syncd.text.cutting import VERSION, cut

KEPT_PARTS = 500_000
"""Parts that are remembered of all files together (20 MB); files beyond are read anew in every pass."""
_ROW = struct.Struct(">I32s")
_BLOCK = 1 << 20
_TRIES = 5

Print = tuple[int, int, int, int]
"""Size, mtime_ns, ctime_ns and inode of a file."""


@dataclass(frozen=True, slots=True)
class CutFile:
    """How a file is cut. parts: size and sha-256 of each, packed. refusal: why it is not.

    young: believed in this pass only, for the file may change again within one tick of its clock.
    """

    way: str
    seen: Print
    parts: bytes
    refusal: str | None = None
    young: bool = False

    def __len__(self) -> int:
        return len(self.parts) // _ROW.size

    def items(self, names: Naming, key: str, path: str) -> Iterator[Item]:
        """The parts of the file with that key and path, in order."""
        whole, mtime_ns, ctime_ns, inode = self.seen
        offset = 0
        for number, (length, digest) in enumerate(_ROW.iter_unpack(self.parts), 1):
            part = Part(offset, length, whole, mtime_ns, ctime_ns)
            yield Item(names.part(key, number), path, length, mtime_ns, ctime_ns, inode, digest.hex(), part)
            offset += length


class Cuts:
    """The memory of one mirror. db: where it outlives the process, None if nowhere."""

    def __init__(self, names: Naming, db: sqlite3.Connection | None = None, mirror: str = "") -> None:
        self.names = names
        self._db = db
        self._mirror = mirror
        self._lock = threading.Lock()
        self._known: dict[str, CutFile] = {}
        self._held = 0
        self._used: set[str] = set()
        self._unsaved: dict[str, tuple[str, CutFile | None]] = {}
        self.files_read = 0
        for path, way, *seen, parts, refusal in db.execute(_LOAD, (mirror,)) if db else ():
            self._hold(path, CutFile(way, tuple(seen), parts, refusal))

    # -- for any thread

    def get(self, path: str, way: str, seen: Print) -> CutFile | None:
        """How the file is cut, if it was cut that way and looks as it did then."""
        with self._lock:
            found = self._known.get(path)
            if found is None or (found.way, found.seen) != (way, seen):
                return None
            self._used.add(path)
            return found

    def keep(self, key: str, path: str, found: CutFile) -> None:
        """Remember how a file is cut."""
        with self._lock:
            self.files_read += 1
            self._used.add(path)
            self._let_go(path)
            if self._held + len(found) <= KEPT_PARTS:
                self._hold(path, found)
                self._unsaved[path] = key, (None if found.young else found)

    def _hold(self, path: str, found: CutFile) -> None:
        self._known[path] = found
        self._held += len(found)

    def _let_go(self, path: str) -> None:
        gone = self._known.pop(path, None)
        self._held -= len(gone) if gone else 0

    # -- for the loop

    def begin(self, *, anew: bool = False) -> None:
        """A pass begins: forget what is true in one pass only, or all (anew)."""
        with self._lock:
            for path in [path for path, found in self._known.items() if anew or found.young]:
                self._let_go(path)
            self._used.clear()
            self.files_read = 0

    def save(self, *, whole: bool) -> None:
        """Write down what is new. whole: all files were looked at, so those that were not asked for are gone."""
        with self._lock:
            news, self._unsaved = self._unsaved, {}
            gone = [path for path in self._known if path not in self._used] if whole else []
            for path in gone:
                self._let_go(path)
        if self._db is None or not (news or gone):
            return
        with transaction(self._db):
            self._db.executemany(_DROP, [(self._mirror, path) for path in (*gone, *news)])
            for path, (key, found) in news.items():
                if found:
                    row = (self._mirror, path, found.way, *found.seen, found.parts, found.refusal)
                    self._db.execute("INSERT INTO cut VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
                    # The fast lane of the next pass takes parts, too.
                    self._db.executemany(
                        _STAT, [_stat_row(self._mirror, item) for item in found.items(self.names, key, path)]
                    )

    def further_parts(self) -> int:
        """How many parts but the first the files have that this pass looked at."""
        with self._lock:
            return sum(max(0, len(self._known[path]) - 1) for path in self._used if path in self._known)

    def distrust(self) -> None:
        """Forget everything: the root is not the folder it was."""
        self.begin(anew=True)
        if self._db is not None:
            self._db.execute("DELETE FROM cut WHERE mirror = ?", (self._mirror,))


_LOAD = "SELECT path, way, size, mtime_ns, ctime_ns, inode, parts, refusal FROM cut WHERE mirror = ? ORDER BY path"
_DROP = "DELETE FROM cut WHERE mirror = ? AND path = ?"
_STAT = "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?)"


def _stat_row(mirror: str, item: Item) -> tuple[object, ...]:
    return mirror, item.key, item.size, item.mtime_ns, item.ctime_ns, item.inode, item.checksum


def way_of(kind: Kind, limit: int) -> str:
    """What else but a file's bytes its parts depend on."""
    return f"{VERSION} {kind} {limit}"


def fingerprint(seen: os.stat_result) -> Print:
    """What must be the same for a file to look unchanged."""
    return seen.st_size, int64(seen.st_mtime_ns), int64(seen.st_ctime_ns), int64(seen.st_ino)


def cut_open(descriptor: int, kind: Kind, limit: int) -> CutFile:
    """Read an open file once and cut it. One that changes meanwhile is cut as it was read, and is young.

    Raises OSError if it cannot be read, or ever again is shorter than it was.
    """
    for _ in range(_TRIES):
        before, way = os.fstat(descriptor), way_of(kind, limit)
        size = min(before.st_size, WHOLE_LIMIT)
        data = _text(descriptor, size)
        if data is None or len(data) == size:
            break
    else:
        raise OSError(errno.EBUSY, "it shrinks while it is read")
    after = fingerprint(os.fstat(descriptor))
    young = after != fingerprint(before) or abs(time.time_ns() - before.st_mtime_ns) < YOUNG_NS
    if data is None:
        return CutFile(way, fingerprint(before), b"", NOT_TEXT, young)
    sizes = cut(data, kind, limit)
    if len(sizes) > MOST:
        return CutFile(way, fingerprint(before), b"", TOO_MANY, young)
    rows, offset, view = [], 0, memoryview(data)
    for size in sizes:
        rows.append(_ROW.pack(size, hashlib.sha256(view[offset : offset + size]).digest()))
        offset += size
    return CutFile(way, fingerprint(before), b"".join(rows), None, young)


def _text(descriptor: int, size: int) -> bytes | None:
    """The first `size` bytes of a file, or what there is of them; None if they are no UTF-8 text."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    blocks, place = [], 0
    while block := os.pread(descriptor, min(_BLOCK, size - place), place):
        place += len(block)
        try:
            decoder.decode(block)
        except UnicodeDecodeError:
            return None
        if b"\0" in block:
            return None
        blocks.append(block)
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return None
    return b"".join(blocks)
