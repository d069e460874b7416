"""Caches: checksums of files that look unchanged, and vectors of texts that were embedded before."""

import json
import math
import os
import sqlite3
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol, TypeAlias

from syncd.core.model import Item, int64
from syncd.state.db import Meta, transaction

Vector: TypeAlias = "array[float]"

YOUNG_NS = 2_000_000_000
"""A file changed less than 2 s ago may change again within one tick of its file system's clock (FAT: 2 s)."""

_NO_TIME = -1
"""A change time that no file has: such a row tells the inode of a file, and its checksum is not believed."""


class StatCache:
    """Checksums of one mirror's files. Delete it and every file is read once more."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror

    def fill(self, items: Iterable[Item]) -> dict[str, Item]:
        """Return key -> item for those of the (sorted) items whose checksum is known."""
        wanted = {item.key: item for item in items}
        if not wanted:
            return {}
        rows = self._db.execute(
            "SELECT key, size, mtime_ns, ctime_ns, inode, checksum FROM file WHERE mirror = ? AND key BETWEEN ? AND ?",
            (self._mirror, min(wanted), max(wanted)),
        )
        return {
            key: Item(key, item.path, item.size, item.mtime_ns, item.ctime_ns, item.inode, checksum)
            for key, *seen, checksum in rows
            if (item := wanted.get(key)) and seen == [item.size, item.mtime_ns, item.ctime_ns, item.inode]
        }

    def store(self, found: Iterable[tuple[str, os.stat_result, str]], now_ns: int) -> None:
        """Remember (key, fstat after reading, checksum), but for files too young to be trusted.

        Of those that have several names the inode is remembered all the same, see `twins`.
        """
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(self._mirror, key, seen.st_size, int64(seen.st_mtime_ns)),
                        *(_NO_TIME if young else int64(seen.st_ctime_ns), int64(seen.st_ino), checksum),
                    )
                    for key, seen, checksum in found
                    if not (young := abs(now_ns - seen.st_mtime_ns) < YOUNG_NS) or seen.st_nlink > 1
                ],
            )

    def twins(self, inodes: Iterable[int]) -> list[tuple[str, int]]:
        """Return (key, inode) of all names under which some inodes were read."""
        rows = self._db.execute(
            "SELECT key, inode FROM file WHERE mirror = ? AND inode IN (SELECT value FROM json_each(?))",
            (self._mirror, json.dumps([*inodes])),
        )
        return [(key, inode) for key, inode in rows]

    def invalidate(self) -> None:
        """Forget everything: the root is not the folder it was, or the user wants every file read."""
        self._db.execute("DELETE FROM file WHERE mirror = ?", (self._mirror,))


@dataclass(frozen=True, slots=True)
class Change:
    """Our last change to an index, which it processes when it can, after all earlier ones.

    mutation: the id it was given, if any. probe: a vector it wrote, by which it can be seen to be processed. at: when
    it was made; since: when the first of all changes was made that are not known to be processed. Both in seconds since
    the epoch, by our clock; theirs: the same as `at` by the remote's clock, as far as it told. removes: one of these
    changes deletes vectors.
    """

    mutation: str | None
    probe: str | None
    at: float
    since: float
    theirs: float | None = None
    removes: bool = False


class Memory(Protocol):
    """Vectors by the text they were made of, and the change that the index has not yet been seen to process."""

    def vectors(self, model: str, digests: Sequence[bytes]) -> Mapping[bytes, Vector]:
        """The vectors that are remembered, by the SHA-256 of their text. model: name and pooling."""
        ...

    def keep(self, model: str, vectors: Mapping[bytes, Vector]) -> None:
        """Remember vectors; the ones unused for longest may be forgotten for them."""
        ...

    def last_change(self) -> Change | None:
        """The change to wait for, or None."""
        ...

    def changed(self, change: Change | None) -> None:
        """Note our last change; None: the index has processed it."""
        ...


MOST = 20_000
"""Vectors remembered: at most 80 MB with 1,024 dimensions. A folder of more pieces embeds some of them again."""
_AT_ONCE = 500
_CHANGE = "vector_change"


class Embeddings:
    """The memory of one mirror's target. Vectors are shared by all mirrors: they depend on model and text only."""

    def __init__(self, db: sqlite3.Connection, mirror: str, most: int = MOST) -> None:
        self._db = db
        self._meta = Meta(db, mirror)
        self._most = most

    def vectors(self, model: str, digests: Sequence[bytes]) -> Mapping[bytes, Vector]:
        """The vectors that are remembered, by the SHA-256 of their text; they count as used now."""
        found: dict[bytes, Vector] = {}
        with transaction(self._db):
            now = self._next()
            for start in range(0, len(digests), _AT_ONCE):
                part = digests[start : start + _AT_ONCE]
                rows = self._db.execute(
                    "UPDATE embedding SET used = ? WHERE model = ?"  # noqa: S608 - marks only
                    f" AND digest IN ({', '.join('?' * len(part))}) RETURNING digest, vector",
                    (now, model, *part),
                )
                found |= {digest: vector for digest, kept in rows if (vector := _vector(kept)) is not None}
        return found

    def keep(self, model: str, vectors: Mapping[bytes, Vector]) -> None:
        """Remember vectors, and forget the ones unused for longest if they are too many."""
        with transaction(self._db):
            now = self._next()
            self._db.executemany(
                "INSERT OR REPLACE INTO embedding VALUES (?, ?, ?, ?)",
                [(model, digest, now, vector.tobytes()) for digest, vector in vectors.items()],
            )
            count: int = self._db.execute("SELECT count(*) FROM embedding").fetchone()[0]
            if count > self._most:
                self._db.execute(
                    "DELETE FROM embedding WHERE (model, digest) IN"
                    " (SELECT model, digest FROM embedding ORDER BY used LIMIT ?)",
                    (count - self._most,),
                )

    def last_change(self) -> Change | None:
        """The change to wait for, or None."""
        return _change(self._meta.get(_CHANGE))

    def changed(self, change: Change | None) -> None:
        """Note our last change; None: the index has processed it."""
        self._meta.set(_CHANGE, asdict(change) if change else None)

    def _next(self) -> int:
        row = self._db.execute("SELECT max(used) FROM embedding").fetchone()
        return int(row[0] or 0) + 1


def _vector(kept: object) -> "Vector | None":
    """A remembered vector; None for what is none, such as half of one in a damaged file."""
    if not isinstance(kept, bytes) or not kept or len(kept) % array("f").itemsize:
        return None
    vector = array("f", kept)
    return vector if math.isfinite(sum(vector)) and any(vector) else None


def _change(value: object) -> Change | None:
    """A remembered change; None for one of an older state or a damaged one: then the index is not waited for."""
    if not isinstance(value, dict):
        return None
    try:
        change = Change(**value)
    except TypeError:
        return None
    texts, times = (change.mutation, change.probe), (change.at, change.since)
    sound = all(isinstance(text, str | None) for text in texts) and all(isinstance(at, int | float) for at in times)
    return change if sound else None
