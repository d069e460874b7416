"""Chooses how many actions of a batch the log names one by one."""

import logging
from collections import Counter

import structlog

log = structlog.get_logger()

LINES = 20
"""Actions of one batch that are logged one by one at level info. The other actions are counted."""
MORE = 100
"""Actions that one line of the log counts."""

# Complete names, so that a search for an event name finds it in the source.
_MORE = {"put": "put.more", "delete": "delete.more"}


class LogThrottle:
    """Chooses the log level of each action of one batch, so that a first upload of 100,000 files logs few lines."""

    def __init__(self, mirror: str) -> None:
        self._mirror = mirror
        self._lines = 0
        self._more: Counter[str] = Counter()

    def level(self, kind: str) -> int:
        """Return the level of the next line: info for the first LINES actions, debug for the others."""
        self._lines += 1
        if self._lines <= LINES:
            return logging.INFO
        self._more[kind] += 1
        if self._more.total() >= MORE:
            self.flush()
        return logging.DEBUG

    def flush(self) -> None:
        """Log how many actions were not logged one by one since the last call."""
        for kind, count in self._more.items():
            log.info(_MORE[kind], mirror=self._mirror, count=count)
        self._more.clear()
