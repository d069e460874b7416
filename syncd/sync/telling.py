"""How loud the actions of a turn are logged: a first upload of 100,000 files is no 100,000 lines."""

import logging
from collections import Counter

import structlog

log = structlog.get_logger()

LINES = 20
"""So many actions of a turn have a line of their own at level info; the rest is counted, MORE to a line."""
MORE = 100

# Spelled out, so that every event name can be found in the source.
DONE = {"put": "put.done", "delete": "delete.done"}
AGAIN = {"put": "put.again", "delete": "delete.again"}
FAILED = {"put": "put.failed", "delete": "delete.failed"}
_MORE = {"put": "put.more", "delete": "delete.more"}


class Telling:
    """Counts the lines of one turn after the other."""

    def __init__(self, mirror: str) -> None:
        self._mirror = mirror
        self._lines = 0
        self._more: Counter[str] = Counter()
        self._rest = logging.DEBUG

    def begin(self) -> None:
        """A turn begins, with a first line each."""
        self._lines = 0
        self._rest = logging.DEBUG if log.is_enabled_for(logging.DEBUG) else logging.NOTSET

    def level(self, kind: str) -> int:
        """How loud the next action is to be logged; NOTSET if nobody would hear it."""
        self._lines += 1
        if self._lines <= LINES:
            return logging.INFO
        self._more[kind] += 1
        if self._more.total() >= MORE:
            self.end()
        return self._rest

    def end(self) -> None:
        """Log how many had no line of their own."""
        for kind, count in self._more.items():
            log.info(_MORE[kind], mirror=self._mirror, count=count)
        self._more.clear()
