"""Logging: structlog to stderr, for people on a terminal, with priorities for the journal, as JSON lines otherwise.

Events have constant dotted names and fields. File names cannot forge lines or terminal escapes; secrets are masked.
"""

import logging
import os
import sys
from collections.abc import Collection
from typing import Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from syncd.core.redact import add_secrets, indented, printable, redact
from syncd.service.log_stream import LogStream
from syncd.service.logs_journal import is_journal, journal_lines

LogFormat = Literal["auto", "console", "json"]


def configure(log_format: LogFormat, level: int, secrets: Collection[str] = ()) -> None:
    """Send everything at `level` (as in logging) or above to stderr. secrets: values that must never be printed."""
    add_secrets(secrets)
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    journal = log_format == "auto" and is_journal(sys.stderr, os.environ)
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console)
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        *([] if journal else [stamp]),
        structlog.processors.format_exc_info,
        _with_losses,
        _without_secrets,
        _defused,
        journal_lines
        if journal
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), pad_event_to=24, exception_formatter=structlog.dev.plain_traceback
        )
        if console
        # ASCII: no character of a file name reaches the journal or a terminal as anything but itself.
        else structlog.processors.JSONRenderer(ensure_ascii=True),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Bridge()], level=logging.WARNING, force=True)
    logging.captureWarnings(capture=True)


def _with_losses(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Say with the first line that can be written again how many before it could not."""
    del logger, method
    raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
    return {**event, "lines_lost": raw.lost} if isinstance(raw, LogStream) and raw.lost else event


def _without_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    del logger, method
    clean: EventDict = redact(event)
    return clean


def _defused(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    del logger, method
    return {
        key: value if not isinstance(value, str) else indented(value) if key == "exception" else printable(value)
        for key, value in event.items()
    }


class _Bridge(logging.Handler):
    """What libraries log through the standard library becomes an event like any other."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on, whatever its level and however wrong its arguments."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's mistake in logging must not become an error of ours
            message = f"{record.msg} {record.args}"
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        fields = {"exc_info": record.exc_info} if record.exc_info else {}
        structlog.get_logger().log(level, "library.message", library=record.name, message=message, **fields)
