"""The requests of the last minutes, shared by the processes of one state directory and kept over restarts.

They have a file of their own, because a command that may only read the state file counts its requests too.
"""

import math
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from syncd.state.db import BUSY_S, boot_id, closed_on_error, transaction, uptime_s
from syncd.state.directory import companions, data_version, prepare_file

FILE_NAME = "budget.db"
_SCHEMA = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS spent (at REAL NOT NULL, wall REAL NOT NULL, boot TEXT NOT NULL);
"""
RETRY_S = 10.0
"""Seconds until the file is used again after an error that may end by itself.

Each attempt to use a locked file delays the process.
"""
_PRUNE = 100
"""Requests between two removals of rows that have left the window."""

log = structlog.get_logger()


class SpentRequests:
    """The times of the requests in the present window, in seconds since the machine started.

    directory: the state directory. If it is None or cannot be written, only this process knows the times. The same is
    true while the file is locked or the disk is full.
    While the machine is up, changes of the wall clock have no effect. After a reboot the wall clock translates the
    times, and a time in the future counts as now.
    """

    def __init__(
        self,
        directory: Path | None,
        window_s: float,
        *,
        clock: Callable[[], float] = uptime_s,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        self.clock = clock
        self._window_s = window_s
        self._wall = wall
        self._boot = boot()
        self._sent: deque[float] = deque()
        self._version: int | None = None
        self._adds = 0
        self._unsaved: deque[tuple[float, float, str]] = deque()
        self._retry_at = -math.inf
        self._failing = False
        self._db = _opened(directory) if directory else None

    def sent(self) -> Sequence[float]:
        """Return the sorted times of the requests in the window that ends now."""
        now = self.clock()
        if self._db and now >= self._retry_at:
            try:
                self._read_others(self._db)
            except sqlite3.Error as error:
                self._note(error)
        while self._sent and self._sent[0] <= now - self._window_s:
            self._sent.popleft()
        return self._sent

    def add(self) -> None:
        """Count a request that is sent now."""
        now = self.clock()
        self._sent.append(now)
        if not self._db:
            return
        self._adds += 1
        self._unsaved.append((now, self._wall(), self._boot))
        if now < self._retry_at:
            return
        try:
            self._save(self._db, now - self._window_s)
        except sqlite3.Error as error:
            self._note(error)

    def close(self) -> None:
        """Close the file."""
        if self._db:
            self._db.close()
            self._db = None

    def _save(self, db: sqlite3.Connection, ends: float) -> None:
        """Store the requests that are not stored yet. ends: the time before which they have left the window."""
        while self._unsaved and self._unsaved[0][0] <= ends:
            self._unsaved.popleft()
        with transaction(db):
            db.executemany("INSERT INTO spent VALUES (?, ?, ?)", self._unsaved)
            if self._adds % _PRUNE == 1:
                db.execute("DELETE FROM spent WHERE boot = ? AND at <= ?", (self._boot, ends))
        self._unsaved.clear()
        self._failing = False

    def _read_others(self, db: sqlite3.Connection) -> None:
        """Read all rows after another process has written to the file, and at the first call."""
        version = data_version(db)
        if version == self._version:
            return
        self._adopt_other_boots(db)
        rows = db.execute("SELECT at FROM spent WHERE at > ? ORDER BY at", (self.clock() - self._window_s,))
        self._sent = deque(sorted([*(at for (at,) in rows), *(at for at, _, _ in self._unsaved)]))
        self._version = version

    def _adopt_other_boots(self, db: sqlite3.Connection) -> None:
        """Translate the times of another start of the machine, or of another machine, by the wall clock."""
        now, others = self.clock(), (self._boot, self.clock())
        if db.execute("SELECT 1 FROM spent WHERE boot != ? OR at > ? LIMIT 1", others).fetchone():
            db.execute(
                "UPDATE spent SET at = ? - min(max(? - wall, 0), ?), boot = ? WHERE boot != ? OR at > ?",
                (now, self._wall(), self._window_s, self._boot, *others),
            )

    def _note(self, error: sqlite3.Error) -> None:
        """Note an error. After a lock or a full disk the file is used again after RETRY_S, after damage never again."""
        self._retry_at = self.clock() + RETRY_S
        if not isinstance(error, sqlite3.OperationalError):
            self.close()
        if not self._failing:
            self._failing = True
            _log_not_kept(error)


def _opened(directory: Path) -> sqlite3.Connection | None:
    """Open the file of a state directory. A damaged file is made anew. Return None if it cannot be used."""
    path = directory / FILE_NAME
    if not os.access(directory, os.W_OK):
        return None
    try:
        try:
            return _connected(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            for file in companions(path):
                # SQLite would apply the write-ahead log of the damaged file to the new one.
                file.unlink(missing_ok=True)
            return _connected(path)
    except (sqlite3.Error, OSError) as error:
        _log_not_kept(error)
        return None


def _connected(path: Path) -> sqlite3.Connection:
    prepare_file(path)
    with closed_on_error(sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)) as db:
        db.executescript(_SCHEMA)
        found = db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)
    return db


def _log_not_kept(error: Exception) -> None:
    log.warning("budget.not_kept", why=str(error), consequence="the requests of this process are counted by it alone")
