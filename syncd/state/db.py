"""The state file: one SQLite database in the state directory, and its schema.

It is a cache of observations. Stopping syncd and deleting the file loses nothing but time.
"""

import errno
import json
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from syncd.errors import ConfigError
from syncd.state.lock import holder, lock
from syncd.state.trouble import check, companions, damaged, give, make_private, no_follow, writable

__all__ = ["holder", "lock", "writable"]

FILE_NAME = "state.db"
SET_ASIDE = ".damaged"
BUSY_S = 0.25
"""A statement waits so long for a lock of another process, and the event loop with it. Callers wait longer, off it."""
INSTALLATION_NAME = "installation-id"
"""Names a state directory; made with the first state file, and kept when that is lost."""
SUCCESSOR = "successor"

SCHEMA_VERSION = 9
"""The user_version of a state file. Numbers below it belong to drafts before the first release."""

SCHEMA = """
    CREATE TABLE record (
        mirror TEXT NOT NULL, key TEXT NOT NULL, ref TEXT NOT NULL, checksum TEXT NOT NULL, size INTEGER NOT NULL,
        written_at REAL NOT NULL, version TEXT, remote_size INTEGER, marked INTEGER, status TEXT, error TEXT,
        requeued_at REAL, searchable_s REAL, why TEXT, named INTEGER, pass_id INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE INDEX record_status ON record (mirror, status);
    CREATE INDEX record_checksum ON record (mirror, checksum);
    CREATE TABLE tombstone (
        mirror TEXT NOT NULL, ref TEXT NOT NULL, key TEXT NOT NULL, deleted_at REAL NOT NULL,
        consented INTEGER NOT NULL, age REAL NOT NULL, PRIMARY KEY (mirror, ref)) WITHOUT ROWID;
    CREATE TABLE absence (
        mirror TEXT NOT NULL, key TEXT NOT NULL, checksum TEXT, since REAL NOT NULL, number INTEGER NOT NULL,
        wrote INTEGER NOT NULL, heir TEXT, pass INTEGER NOT NULL, PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE claim (
        mirror TEXT NOT NULL, key TEXT NOT NULL, ref TEXT NOT NULL, checksum TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (mirror, key, ref, checksum)) WITHOUT ROWID;
    CREATE TABLE remnant (
        mirror TEXT NOT NULL, key TEXT NOT NULL, ref TEXT NOT NULL, checksum TEXT,
        PRIMARY KEY (mirror, key, ref)) WITHOUT ROWID;
    CREATE TABLE parked (
        mirror TEXT NOT NULL, key TEXT NOT NULL, checksum TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE problem (
        mirror TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL, pass INTEGER NOT NULL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE dirty (
        mirror TEXT NOT NULL, key TEXT NOT NULL, subtree INTEGER NOT NULL, first_seen REAL NOT NULL,
        due REAL NOT NULL, attempts INTEGER NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE INDEX dirty_due ON dirty (mirror, due);
    CREATE TABLE reindex (mirror TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE index_try (
        mirror TEXT NOT NULL, key TEXT NOT NULL, checksum TEXT NOT NULL, tries INTEGER NOT NULL, due REAL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE history (
        mirror TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, action TEXT NOT NULL,
        reason TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL,
        PRIMARY KEY (mirror, key, number)) WITHOUT ROWID;
    CREATE TABLE file (
        mirror TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, checksum TEXT NOT NULL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE embedding (
        model TEXT NOT NULL, digest BLOB NOT NULL, used INTEGER NOT NULL, vector BLOB NOT NULL,
        PRIMARY KEY (model, digest));
    CREATE INDEX embedding_used ON embedding (used);
    CREATE TABLE meta (
        mirror TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (mirror, name)) WITHOUT ROWID;
"""

# NORMAL: a power cut may lose the last outcomes, never their order; the next pass adopts what they stood for.
PRAGMAS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = FILE; PRAGMA cache_size = -8000;"

# Nothing in TEMP outlives the process: what a listing said and what a pass plans are only true now.
SPILL = """
    CREATE TEMP TABLE listing (
        pass INTEGER NOT NULL, key TEXT NOT NULL, ref TEXT NOT NULL, checksum TEXT, version TEXT, size INTEGER,
        owner TEXT, marked INTEGER, status TEXT, error TEXT, prefix TEXT, strange BLOB,
        PRIMARY KEY (pass, key, ref)) WITHOUT ROWID;
    CREATE TEMP TABLE plan (
        pass INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, outcome TEXT,
        PRIMARY KEY (pass, kind, seq)) WITHOUT ROWID;
    CREATE TEMP TABLE content (checksum TEXT NOT NULL PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
"""


def open_state(state_dir: Path) -> sqlite3.Connection:
    """Open (or make) the state file for writing.

    Raises ConfigError if the path is no directory or another version of syncd made the file, StateHalt if the file
    cannot be used.
    """
    path = state_dir / FILE_NAME
    try:
        make_private(state_dir)
        lost = installation(state_dir) is not None and not path.exists()
        _make_installation(state_dir)
        _prepare(path)
    except IsADirectoryError as error:
        raise damaged(path, "it is no regular file") from error
    except OSError as error:
        check(error, path)
        raise ConfigError(f"state_dir {state_dir}: {error.strerror}; choose a directory syncd may write") from error
    with opened(path, "rw") as connection:
        connection.executescript(PRAGMAS)
        prepare_tables(connection, path)
        if lost:
            Meta(connection, "").set(SUCCESSOR, value=True)
    return connection


def installation(state_dir: Path) -> str | None:
    """Return the id of a state directory, None if it has none yet. Raises OSError if that cannot be told."""
    try:
        return (state_dir / INSTALLATION_NAME).read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None


def _make_installation(state_dir: Path) -> None:
    if installation(state_dir) is None:
        mode = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | no_follow(state_dir)
        with os.fdopen(os.open(state_dir / INSTALLATION_NAME, mode, 0o600), "w", encoding="ascii") as file:
            file.write(f"{secrets.token_hex(16)}\n")
            give(file.fileno(), state_dir)


def set_aside(state_dir: Path) -> Path:
    """Rename a damaged state file, in place of one that was damaged before; return its new name."""
    path, aside = state_dir / FILE_NAME, state_dir / (FILE_NAME + SET_ASIDE)
    for former, now in zip(companions(path), companions(aside), strict=True):
        if now.is_dir():
            now.rename(now.with_name(f"{now.name}.{time.time_ns()}"))
        now.unlink(missing_ok=True)
        if former.exists():
            former.rename(now)
    return aside


def _prepare(path: Path) -> None:
    """Make the file if there is none, for its directory's owner alone.

    One that came from elsewhere, such as a backup, is made so, too; those that SQLite makes beside it take its mode.
    """
    for each in companions(path):
        if each != path and not each.exists():
            continue
        make = os.O_CREAT if each == path else 0
        descriptor = os.open(each, make | os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | no_follow(path.parent), 0o600)
        try:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode):
                raise IsADirectoryError(errno.EISDIR, "it is no regular file")
            if seen.st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
            give(descriptor, path.parent)
        finally:
            os.close(descriptor)


def prepare_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables of a new state file, and the temporary tables of this process.

    Raises ConfigError if the file has the tables of another version.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    else:
        check_version(connection, path)
    connection.executescript(SPILL)


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raise ConfigError if another version of syncd made the state file."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise ConfigError(f"{path} was made by a newer syncd; upgrade syncd, or stop it and delete the file")
    if version < SCHEMA_VERSION:
        raise ConfigError(f"{path} was made by an older syncd; it is only a cache: stop syncd and delete it")


def directory_of(db: sqlite3.Connection) -> Path:
    """The directory in which an open state file lies."""
    found = db.execute("SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'").fetchone()[0]
    return Path(os.fsdecode(found)).parent


@contextmanager
def opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Leave the connection open, unless the block finds that the file is not to be used."""
    with ExitStack() as undo:
        try:
            connection = sqlite3.connect(
                f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}",
                isolation_level=None,
                timeout=BUSY_S,
                uri=True,
            )
            undo.callback(connection.close)
            yield connection
        except sqlite3.DatabaseError as error:
            check(error, path, reading=mode != "rw")
            raise damaged(path, error) from error
        undo.pop_all()


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit all statements of the block together, or none if it raises. A block within a block joins it."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        roll_back(db)
        raise


@contextmanager
def savepoint(db: sqlite3.Connection) -> Iterator[None]:
    """Undo the statements of the block if it raises, and leave the transaction that it stands in."""
    db.execute("SAVEPOINT block")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK TO block")
            db.execute("RELEASE block")
        raise
    db.execute("RELEASE block")


def roll_back(db: sqlite3.Connection) -> None:
    """End the transaction, which would swallow all that come after it. After some errors SQLite has done so already."""
    if db.in_transaction:
        db.execute("ROLLBACK")


class Meta:
    """Small named values of one mirror ("" for the daemon), kept as JSON."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror

    def get(self, name: str) -> object:
        """Return the value, or None if it was never set."""
        row = self._db.execute("SELECT value FROM meta WHERE mirror = ? AND name = ?", (self._mirror, name)).fetchone()
        return json.loads(row[0]) if row else None

    def set(self, name: str, value: object) -> None:
        """Store a JSON value; None removes it."""
        if value is None:
            self._db.execute("DELETE FROM meta WHERE mirror = ? AND name = ?", (self._mirror, name))
        else:
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", (self._mirror, name, json.dumps(value)))
