"""Logging: structlog to stderr, for people on a terminal, as JSON lines otherwise.

Events have constant dotted names and fields. File names cannot forge lines or terminal escapes; secrets are masked.
"""

import logging
import sys
import unicodedata
from collections.abc import Collection
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["auto", "console", "json"]
HIDDEN = "[hidden]"


def configure(log_format: LogFormat, level: int, secrets: Collection[str] = ()) -> None:
    """Send everything at `level` (as in logging) or above to stderr. secrets: values that must never be printed."""
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console),
        structlog.processors.format_exc_info,
        _Masker(secrets),
        _defused,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=24)
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


def printable(text: str) -> str:
    """Text for a terminal: control, format and surrogate characters appear backslash-escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char if unicodedata.category(char)[0] != "C" else char.encode("unicode_escape").decode() for char in text
    )


class _Masker:
    """Takes known secrets out of every field, whatever library put them there."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = [secret for secret in secrets if secret]

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        del logger, method
        return {key: self._mask(value) for key, value in event.items()} if self._secrets else event

    def _mask(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, HIDDEN)
        return value


def _defused(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    del logger, method
    return {
        key: printable(value) if isinstance(value, str) and key != "exception" else value
        for key, value in event.items()
    }


class _Bridge(logging.Handler):
    """What libraries log through the standard library becomes an event like any other."""

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        log = structlog.get_logger()
        log.log(record.levelno, "library.message", library=record.name, message=record.getMessage())
