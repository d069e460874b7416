"""The log: lines for people on a terminal, lines with a priority for journald, and lines of JSON everywhere else.

Events have constant dotted names, and fields. Names of files cannot forge lines or terminal escapes, and secrets are
redacted.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from syncd.core.plain_text import indented, printable, redact
from syncd.service.streams import LogFormat, LogStream, shows_colours

PRIORITIES = {"critical": 2, "exception": 3, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""The priorities of syslog(3). sd-daemon(3) describes this prefix of a line."""
_PLAIN = re.compile(r"[^\s\"'=\\]+")


def configure(log_format: LogFormat, level: int) -> None:
    """Send everything at `level` (as in logging) or above to stderr, without the secrets of `plain_text`."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    journal = log_format == "auto" and is_journal(sys.stderr, os.environ)
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console)
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        *([] if journal else [stamp]),
        structlog.processors.format_exc_info,
        _add_lost_lines,
        _clean,
        journal_lines
        if journal
        else structlog.dev.ConsoleRenderer(
            colors=shows_colours(sys.stderr), pad_event_to=24, exception_formatter=structlog.dev.plain_traceback
        )
        if console
        # ASCII, so that no character of a file's name reaches a terminal unescaped.
        else structlog.processors.JSONRenderer(ensure_ascii=True),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_LibraryHandler()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


def _add_lost_lines(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the number of earlier lines that could not be written."""
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    return {**event, "lines_lost": raw.lost} if isinstance(raw, LogStream) and raw.lost else event


def _clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Redact secrets, and escape control characters."""
    return {
        key: value if not isinstance(value, str) else indented(value) if key == "exception" else printable(value)
        for key, value in redact(event).items()
    }


class _LibraryHandler(logging.Handler):
    """Turns the records of libraries that use `logging` into events."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record of any level, even if its arguments are wrong."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's mistake in logging must not become an error of syncd
            message = f"{record.msg} {record.args}"
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        fields = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger().log(level, "library.message", library=record.name, message=message, **fields)


# -- journald


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether journald reads a stream.

    JOURNAL_STREAM has the device and inode of that stream: systemd.exec(5).
    """
    try:
        stat = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{stat.st_dev}:{stat.st_ino}"


def journal_lines(_logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Render an event as `<6>put.done mirror=docs key=a.md`, without a time. Each line of a traceback has a priority.

    journald adds the time.
    """
    level = event.pop("level", method)
    priority = f"<{PRIORITIES.get(level, 6)}>"
    exception = event.pop("exception", None)
    name = event.pop("event", "")
    fields = [f"{key}={_quoted(value)}" for key, value in event.items() if value is not None]
    lines = [" ".join((str(name), *fields)), *(exception.split("\n") if exception else ())]
    return "\n".join(priority + line for line in lines)


def _quoted(value: object) -> str:
    """Return a value as text, in quotes unless it is a plain word."""
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
    return json.dumps(value, ensure_ascii=True, default=repr)
