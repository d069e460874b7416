"""The standard streams. They are usable for every caller, and a log that cannot be written does not end the program.

This module imports nothing heavy, so that signal handlers are in place before the imports of a command begin.
"""

import io
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TextIO

LogFormat = Literal["auto", "console", "json"]
"""The format of the log on stderr; auto: console on a terminal, JSON otherwise."""
PATIENCE_S = 1.0
"""How long a service waits for a log reader that does not read. Other commands wait for it until a signal comes."""
CHECK_EVERY_S = 0.1
"""While the stream waits for a slow reader, it checks this often whether it should stop."""
CHUNK = select.PIPE_BUF
"""A pipe that accepts anything accepts this many bytes at once."""


class _TolerantWriter(io.TextIOWrapper):
    """A stream for messages that ignores write errors: a full disk under the log must not end the command."""

    def write(self, text: str) -> int:
        """Write the text; do nothing if it cannot be written."""
        with suppress(OSError, ValueError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream; do nothing if it cannot be flushed."""
        with suppress(OSError, ValueError):
            super().flush()


def prepare_streams(give_up: Callable[[], object], *, is_service: bool = False) -> None:
    """Make stdin, stdout and stderr usable even if the caller closed them or their encoding lacks a character.

    give_up: see LogStream. is_service: do not wait for a log reader that does not read.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # Otherwise the next file that is opened would take this number. Reading such a stdin raises an error.
            os.open(os.devnull, mode)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - open as long as the process lives
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        encoding = sys.stderr.encoding
        raw = LogStream(sys.stderr.fileno(), PATIENCE_S if is_service else None, give_up)
        sys.stderr.detach()
        sys.stderr = _TolerantWriter(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=True)


def discard_stdout() -> None:
    """Send unwritten output to the null device: the interpreter would try to write it again at exit and complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
