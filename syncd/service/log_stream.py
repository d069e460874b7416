"""A stream for messages: a log that cannot be written must neither end nor hold up what it tells of."""

import io
import os
import select
import time
from collections.abc import Callable
from typing import Any

LOOK_EVERY_S = 0.1
"""How often it is looked whether a signal has come while a reader is waited for."""
PIECE = select.PIPE_BUF
"""What a pipe takes at once if it takes anything."""


class LogStream(io.RawIOBase):
    """The descriptor under stderr. What its reader does not take, or its disk has no room for, is dropped and counted.

    patience_s: how long a reader that takes nothing is waited for, None for ever; one that has not come back since is
    not waited for again. hurried: true as soon as nobody is to be waited for.
    lost: lines dropped since one could last be written.
    """

    def __init__(self, descriptor: int, patience_s: float | None, hurried: Callable[[], object]) -> None:
        self.lost = 0
        self._descriptor = descriptor
        self._patience_s = patience_s
        self._hurried = hurried
        self._away = False
        self._cut = False
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return that it is to be written to."""
        return True

    def write(self, data: Any, /) -> int:
        """Write all of it, or drop what is left of it."""
        text = bytes(data)
        # The rest of a line is missing: what follows begins a new one.
        left = b"\n" + text if self._cut else text
        try:
            while left:
                if not self._has_room():
                    return self._dropped(text, left)
                left = left[os.write(self._descriptor, left[:PIECE]) :]
        except OSError:
            return self._dropped(text, left)
        self.lost, self._cut = 0, False
        return len(text)

    def _dropped(self, text: bytes, left: bytes) -> int:
        self.lost += max(1, text.count(b"\n"))
        self._cut = self._cut or len(left) < len(text)
        return len(text)

    def _has_room(self) -> bool:
        waits = 0.0 if self._away else self._patience_s
        end = None if waits is None else time.monotonic() + waits
        while not self._room.poll(0):
            if self._hurried() or (end is not None and time.monotonic() >= end):
                self._away = True
                return False
            self._room.poll(LOOK_EVERY_S * 1000)
        self._away = False
        return True
