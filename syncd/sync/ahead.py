"""Reads the files of a turn a few at a time: a trip to a thread costs as much as reading a small file."""

import asyncio
import os
from collections.abc import Callable, Sequence

from syncd.errors import SyncdError
from syncd.model import Put
from syncd.paths import shown
from syncd.scan import Tree
from syncd.targets.base import Again, Content
from syncd.unexpected import of_one_file

FILES = 8
"""Files of one trip. What is read long before it is sent may be old by then."""
BYTES = 256 * 1024
"""Bytes of one trip, by the sizes that were planned; a larger file makes the trip alone."""

Read = tuple[Content, os.stat_result | None]
"""The bytes of a file, and what fstat said of it; None of one that may have changed while it was read."""


class Ahead:
    """Reads the given puts' files, each as late as it can. torn: whether a key's file may change while it is read."""

    def __init__(self, tree: Tree, puts: Sequence[Put], torn: Callable[[str], bool]) -> None:
        self._tree = tree
        self._puts = puts
        self._torn = torn
        self._next = 0
        self._places = {put.key: place for place, put in enumerate(puts)}
        self._trips: dict[str, asyncio.Task[dict[str, Read | SyncdError]]] = {}

    async def read(self, put: Put) -> Read:
        """What is in a put's file. Raises what `Tree.read` raises."""
        trip = self._trips.pop(put.key, None) or self._set_out(put)
        # Others wait for the same trip: whoever is cancelled leaves alone.
        found = (await asyncio.shield(trip)).pop(put.key)
        if isinstance(found, SyncdError):
            raise found
        return found

    def close(self) -> None:
        """Drop what nobody has asked for."""
        for trip in self._trips.values():
            trip.cancel()
        self._trips.clear()

    def _set_out(self, put: Put) -> asyncio.Task[dict[str, Read | SyncdError]]:
        """Begin a trip for a put and for those that follow it and were not read yet."""
        first = self._places[put.key]
        together, size = [put], put.size
        for follower in self._puts[max(first + 1, self._next) : first + FILES]:
            size += follower.size
            if size > BYTES:
                break
            together.append(follower)
        self._next = max(self._next, first + len(together))
        torn = {each.key: self._torn(each.key) for each in together}
        trip = asyncio.create_task(asyncio.to_thread(self._fetch, together, torn))
        self._trips |= {each.key: trip for each in together[1:]}
        return trip

    def _fetch(self, puts: Sequence[Put], torn: dict[str, bool]) -> dict[str, Read | SyncdError]:
        found: dict[str, Read | SyncdError] = {}
        for put in puts:
            try:
                found[put.key] = self._one(put, torn=torn[put.key])
            except SyncdError as error:
                found[put.key] = error
            except Exception as error:  # noqa: BLE001 - what it is stands in the log
                found[put.key] = of_one_file(error, put.key)
        return found

    def _one(self, put: Put, *, torn: bool) -> Read:
        if self._tree.left_out(put.path):
            # An ignore file has changed since the plan was made.
            raise Again(f"{shown(put.path)} may be left out by now")
        content, seen = self._tree.read(put.path, torn=torn)
        return content, None if torn else seen
