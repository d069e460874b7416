"""Unexpected exceptions in the work on one file. They become a problem of this file, and the others continue."""

import sqlite3

import structlog

from syncd.core.errors import Halt, SyncdError, Unexpected, Unreachable
from syncd.core.keys import shown

log = structlog.get_logger()

_LENGTH = 200
"""Characters of the exception's message that are shown (our own limit). The message may quote content."""


def reraise_general(error: Exception) -> None:
    """Raise an error again that does not belong to one file: an error of syncd, or of the state file."""
    if isinstance(error, (SyncdError, sqlite3.OperationalError)) or type(error) is sqlite3.DatabaseError:
        raise error


def file_error(error: Exception, key: str) -> SyncdError:
    """Return the error of one file after any exception in the work on it. `unexpected_error` logs an unexpected one.

    Raises Halt and Unreachable again, because they end the pass, and errors of the state file.
    """
    if isinstance(error, (Halt, Unreachable)):
        raise error
    return error if isinstance(error, SyncdError) else unexpected_error(error, key)


def unexpected_error(error: Exception, key: str) -> Unexpected:
    """Log the traceback of an exception, and return the error of the file. Raises errors of `reraise_general` again."""
    reraise_general(error)
    log.error("file.failed", key=shown(key), exc_info=error)
    message = " ".join(str(error).split())[:_LENGTH]
    return Unexpected(
        f"unexpected {type(error).__name__}: {shown(message)}; it is tried again, the log has the traceback"
    )
