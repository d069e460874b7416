"""Reads the files whose checksum a decision needs, and remembers the checksums in the file cache."""

import asyncio
import os
import time
from collections.abc import Collection, Mapping, Sequence

from syncd.core.errors import DiskRetry, FileChanged, Park
from syncd.core.model import Content, Item, Problem
from syncd.core.unexpected import unexpected_error
from syncd.sync.mirror import Mirror
from syncd.sync.observe import Observed


class FileReader:
    """Reads files for one pass. files_read: how many.

    everything: the pass covers the whole folder, so it needs no hints about other names of a changed file.
    """

    def __init__(self, mirror: Mirror, *, everything: bool) -> None:
        self._mirror = mirror
        self._everything = everything
        self.files_read = 0

    async def add_checksums(
        self, block: Sequence[Observed], refused: Collection[str]
    ) -> tuple[list[Observed], frozenset[str]]:
        """Return the block with the checksums that decisions need, and the keys of files that are changing right now.

        A file needs one if it can be compared: with a record, with an entry, or with content that the remote refused.
        """
        items = [
            each.local
            for each in block
            if isinstance(each.local, Item)
            and each.local.checksum is None
            and (each.record or each.entry or each.key in refused)
        ]
        found, changing = await self.checksums(items)
        return [each._replace(local=found[each.key]) if each.key in found else each for each in block], changing

    async def checksums(self, items: Sequence[Item]) -> tuple[dict[str, Item | Problem], frozenset[str]]:
        """Hash files in a thread. Return the files with their checksums, and the keys of files that are changing."""
        if not items:
            return {}, frozenset()
        tree = self._mirror.tree
        allow_changing = frozenset(item.key for item in items if self._mirror.settle_expired(item.key))
        found: dict[str, Item | Problem] = {}
        changing: set[str] = set()
        steady: list[tuple[str, os.stat_result, str]] = []

        def read_all() -> None:
            for item in items:
                try:
                    content, stat = tree.read(item.path, allow_changing=item.key in allow_changing)
                except FileChanged:
                    changing.add(item.key)
                except (Park, DiskRetry) as error:
                    found[item.key] = Problem(item.key, error.kind, str(error))
                except Exception as error:  # noqa: BLE001 - unexpected_error logs it
                    found[item.key] = Problem(item.key, "failed", str(unexpected_error(error, item.key)))
                else:
                    found[item.key] = item._replace(size=stat.st_size, checksum=content.checksum)
                    if item.key not in allow_changing:
                        steady.append((item.key, stat, content.checksum))

        await asyncio.to_thread(read_all)
        self.files_read += len(items)
        self._mirror.files.store(steady, time.time_ns())
        self._mark_links({key: (stat.st_ino, checksum) for key, stat, checksum in steady if stat.st_nlink > 1})
        return found, frozenset(changing)

    async def content(self, item: Item) -> Content:
        """Read one file. Raises FileChanged if it is changing right now."""
        self.files_read += 1
        allow_changing = self._mirror.settle_expired(item.key)
        content, _ = await asyncio.to_thread(self._mirror.tree.read, item.path, allow_changing=allow_changing)
        return content

    def _mark_links(self, read: Mapping[str, tuple[int, str]]) -> None:
        """Mark the other hard links of changed files. The kernel reports only the name that was written to."""
        if self._everything or not read:
            return
        mirror, checksums = self._mirror, dict(read.values())
        links = [
            (key, False)
            for key, inode in mirror.files.twins(checksums)
            if key not in read and (record := mirror.journal.get(key)) and record.checksum != checksums[inode]
        ]
        mirror.queue.mark(links, mirror.now())
