"""The stat cache: checksums of files whose size, times and inode are still the same."""

import json
import os
import sqlite3
from collections.abc import Iterable

from syncd.model import Item, int64
from syncd.state.db import transaction

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

    def distrust(self) -> None:
        """Forget everything: the root is not the folder it was, or the user wants every file read."""
        self._db.execute("DELETE FROM file WHERE mirror = ?", (self._mirror,))
