"""The stream under stderr: a log that cannot be written neither ends nor delays the program."""

import io
import os
import select
import time
from collections.abc import Callable
from typing import Any, Literal, TextIO

LogFormat = Literal["auto", "console", "json"]
"""The format of the log on stderr; auto: console on a terminal, JSON otherwise."""
CHECK_EVERY_S = 0.1
"""While the stream waits for a slow reader, it checks this often whether it should stop."""
CHUNK = select.PIPE_BUF
"""A pipe that accepts anything accepts this many bytes at once."""


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that understands control sequences."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def shows_colours(stream: TextIO) -> bool:
    """Return whether a stream is such a terminal, and the user does not refuse colours (no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


class LogStream(io.RawIOBase):
    """Writes to a descriptor. Drops and counts lines that a slow reader or a full disk does not take.

    patience_s: how long a write waits for a slow reader, None for ever. After such a wait no write waits until the
    reader takes something again. give_up: returns a true value when no write is to wait any longer.
    lost: the lines dropped since the last line that was written. before: bytes that go before the next text once, such
    as the sequence that removes a progress bar.
    """

    def __init__(self, descriptor: int, patience_s: float | None, give_up: Callable[[], object]) -> None:
        self.lost = 0
        self.before = b""
        self._descriptor = descriptor
        self._patience_s = patience_s
        self._give_up = give_up
        self._reader_away = False
        self._line_cut = False
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether the descriptor is a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any, /) -> int:
        """Write the data, or drop the rest of it."""
        text = bytes(data)
        # After half a line the next one begins on a new line.
        left = b"\n" + text if self._line_cut else self.before + text
        try:
            while left:
                if not self._wait_for_room():
                    return self._drop(text, left)
                left = left[os.write(self._descriptor, left[:CHUNK]) :]
        except OSError:
            return self._drop(text, left)
        self.lost, self._line_cut, self.before = 0, False, b""
        return len(text)

    def _drop(self, text: bytes, left: bytes) -> int:
        self.lost += max(1, text.count(b"\n"))
        self._line_cut = self._line_cut or len(left) < len(text)
        return len(text)

    def _wait_for_room(self) -> bool:
        patience_s = 0.0 if self._reader_away else self._patience_s
        end = None if patience_s is None else time.monotonic() + patience_s
        while not self._poll.poll(0):
            if self._give_up() or (end is not None and time.monotonic() >= end):
                self._reader_away = True
                return False
            self._poll.poll(CHECK_EVERY_S * 1000)
        self._reader_away = False
        return True
