"""Logging: structlog to stderr, for people on a terminal, with priorities for the journal, as JSON lines otherwise.

Events have constant dotted names and fields. File names cannot forge lines or terminal escapes; secrets are masked.
"""

import logging
import os
import sys
import traceback
import unicodedata
from collections.abc import Collection
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from syncd.logs_journal import is_journal, journal_lines

LogFormat = Literal["auto", "console", "json"]
HIDDEN = "[hidden]"


def configure(log_format: LogFormat, level: int, secrets: Collection[str] = ()) -> None:
    """Send everything at `level` (as in logging) or above to stderr. secrets: values that must never be printed."""
    global _masker  # noqa: PLW0603 - like the logging it stands beside, there is one for the process
    _masker = _Masker(secrets)
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    journal = log_format == "auto" and is_journal(sys.stderr, os.environ)
    stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S" if console else "iso", utc=not console)
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        *([] if journal else [stamp]),
        structlog.processors.format_exc_info,
        _masker,
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


def traceback_of(error: BaseException) -> str:
    """The traceback of a bug for stderr: no local variables, no secret, no line that can pass for one of the log."""
    return _indented(_masker.text("".join(traceback.format_exception(error)).rstrip("\n")))


def printable(text: str) -> str:
    """Text for a terminal: control, format and surrogate characters and line ends appear backslash-escaped."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(char.encode("unicode_escape").decode() if _unsafe(char) else char for char in text)


def _unsafe(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] == "C" or category in ("Zl", "Zp")


class _Masker:
    """Takes known secrets out of every field, whatever library put them there."""

    def __init__(self, secrets: Collection[str]) -> None:
        self._secrets = [secret for secret in secrets if secret]

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        del logger, method
        return {key: self._mask(value) for key, value in event.items()} if self._secrets else event

    def text(self, text: str) -> str:
        """A text without the secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def _mask(self, value: Any) -> Any:
        match value:
            case None | bool() | int() | float():
                return value
            case str():
                return self.text(value)
            case dict():
                return {self._mask(key): self._mask(inner) for key, inner in value.items()}
            case list() | tuple():
                return [self._mask(inner) for inner in value]
            case _:
                # Whatever it is, its representation is what would be printed.
                shown = repr(value)
                masked = self._mask(shown)
                return value if masked == shown else masked


_masker = _Masker(())


def _defused(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    del logger, method
    return {
        key: value if not isinstance(value, str) else _indented(value) if key == "exception" else printable(value)
        for key, value in event.items()
    }


def _indented(trace: str) -> str:
    """A traceback keeps its lines, but none of them can pass for a line of the log."""
    return "\n".join("  " + printable(line) for line in trace.split("\n"))


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
