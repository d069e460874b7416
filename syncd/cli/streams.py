"""stdin, stdout and stderr, whatever the caller has made of them: closed, full, or of an unknown encoding."""

import io
import os
import sys
from contextlib import suppress

from syncd.service import signals
from syncd.service.log_stream import LogStream

PATIENCE_S = 1.0
"""How long a service waits for the reader of its log. A command waits until the reader, or a signal, comes."""


class _Forgiving(io.TextIOWrapper):
    """A stream for messages. A log that cannot be written, such as on a full disk, must not end what it tells of."""

    def write(self, text: str) -> int:
        """Write it if that can be."""
        with suppress(OSError, ValueError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        """Flush it if that can be."""
        with suppress(OSError, ValueError):
            super().flush()


def ready(*, serving: bool = False) -> None:
    """Let no stream that is closed, or that cannot write some character, end a command, or hold it up.

    serving: the command works until it is stopped, and so does not wait for who does not read its log.
    """
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # Or the next file that is opened would take its place. What reads a stdin so made is told by an error.
            os.open(os.devnull, mode)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - open as long as the process lives
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        encoding = sys.stderr.encoding
        raw = LogStream(sys.stderr.fileno(), PATIENCE_S if serving else None, signals.received)
        sys.stderr.detach()
        buffered = io.BufferedWriter(raw)
        sys.stderr = _Forgiving(buffered, encoding, errors="backslashreplace", line_buffering=True)


def give_up() -> None:
    """Throw away what stdout would not take: the interpreter would try once more at its end, and complain."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
