"""Commits many outcomes at once."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from syncd.state.db import roll_back

MOMENT_S = 0.1
"""For so long an outcome may be uncommitted; another process that wants to write waits no longer for it."""


class Together:
    """Commits once a moment what is written one outcome at a time; a commit costs more than an outcome.

    What a crash takes of the last moment is found again like any outcome that was not recorded. Blocks of `transaction`
    join what is open.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._timer: asyncio.TimerHandle | None = None
        self._error: sqlite3.Error | None = None

    @contextmanager
    def block(self) -> Iterator[None]:
        """Write something that is committed within MOMENT_S; if it raises, all that is not committed yet is undone."""
        self._raise_late()
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")
            self._timer = asyncio.get_running_loop().call_later(MOMENT_S, self._commit)
        try:
            yield
        except BaseException:
            roll_back(self._db)
            raise

    def end(self) -> None:
        """Commit what is open. Raises what an earlier commit would have raised."""
        if self._timer:
            self._timer.cancel()
        self._commit()
        self._raise_late()

    def _commit(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            # Nobody hears a timer; whoever writes or ends next does.
            self._error = error
            roll_back(self._db)

    def _raise_late(self) -> None:
        error, self._error = self._error, None
        if error:
            raise error
