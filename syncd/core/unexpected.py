"""Exceptions that nobody expected, met while one file was dealt with: that file's problem, and nobody else's."""

import sqlite3

import structlog

from syncd.core.errors import SyncdError, Unexpected
from syncd.core.keys import shown

log = structlog.get_logger()

_LENGTH = 200
"""Characters of an exception's own message that are shown; it may quote the content."""


def reraise_general(error: Exception) -> None:
    """Raise an error again that is no file's: of our own kinds, or the state file's."""
    if isinstance(error, (SyncdError, sqlite3.OperationalError)) or type(error) is sqlite3.DatabaseError:
        raise error


def unexpected_error(error: Exception, key: str) -> Unexpected:
    """Log the traceback, and return the error to report of the file. Raises it again if `reraise_general` does."""
    reraise_general(error)
    log.error("file.failed", key=shown(key), exc_info=error)
    said = " ".join(str(error).split())[:_LENGTH]
    return Unexpected(f"unexpected {type(error).__name__}: {shown(said)}; it is tried again, the log has the traceback")
