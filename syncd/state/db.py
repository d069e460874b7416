"""The state file: one SQLite database in the state directory, an flock beside it, and its migrations.

It is a cache of observations. Stopping syncd and deleting the file loses nothing but time.
"""

import errno
import fcntl
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

from syncd.errors import ConfigError, Locked, StateHalt

FILE_NAME = "state.db"
_DISK_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY})
_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
LOCK_NAME = "lock"
INSTALLATION_NAME = "installation-id"
"""Made with the first state file and kept beside it: names a state directory, also after its state file was lost."""
SUCCESSOR = "successor"
"""A named value of the daemon: this state file was made where there had been another one."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE record (
        mirror TEXT NOT NULL, key TEXT NOT NULL, ref TEXT NOT NULL, checksum TEXT NOT NULL, size INTEGER NOT NULL,
        written_at REAL NOT NULL, version TEXT, remote_size INTEGER, marked INTEGER, status TEXT, error TEXT,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE INDEX record_status ON record (mirror, status);
    CREATE TABLE tombstone (
        mirror TEXT NOT NULL, ref TEXT NOT NULL, key TEXT NOT NULL, deleted_at REAL NOT NULL,
        consented INTEGER NOT NULL, PRIMARY KEY (mirror, ref)) WITHOUT ROWID;
    CREATE TABLE parked (
        mirror TEXT NOT NULL, key TEXT NOT NULL, checksum TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE dirty (
        mirror TEXT NOT NULL, key TEXT NOT NULL, subtree INTEGER NOT NULL, first_seen REAL NOT NULL,
        due REAL NOT NULL, attempts INTEGER NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE INDEX dirty_due ON dirty (mirror, due);
    CREATE TABLE problem (
        mirror TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, message TEXT NOT NULL, pass INTEGER NOT NULL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE reindex (mirror TEXT NOT NULL, key TEXT NOT NULL, PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE file (
        mirror TEXT NOT NULL, key TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, checksum TEXT NOT NULL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE meta (
        mirror TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (mirror, name)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE embedding (
        model TEXT NOT NULL, digest BLOB NOT NULL, used INTEGER NOT NULL, vector BLOB NOT NULL,
        PRIMARY KEY (model, digest));
    CREATE INDEX embedding_used ON embedding (used);
    """,
    """
    CREATE TABLE cut (
        mirror TEXT NOT NULL, path TEXT NOT NULL, way TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
        ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL, parts BLOB NOT NULL, refusal TEXT,
        PRIMARY KEY (mirror, path)) WITHOUT ROWID;
    """,
    """
    ALTER TABLE record ADD COLUMN requeued_at REAL;
    ALTER TABLE record ADD COLUMN searchable_s REAL;
    ALTER TABLE record ADD COLUMN why TEXT;
    ALTER TABLE record ADD COLUMN named INTEGER;
    CREATE TABLE index_try (
        mirror TEXT NOT NULL, key TEXT NOT NULL, checksum TEXT NOT NULL, tries INTEGER NOT NULL, due REAL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE remnant (
        mirror TEXT NOT NULL, key TEXT NOT NULL, ref TEXT NOT NULL, checksum TEXT,
        PRIMARY KEY (mirror, key, ref)) WITHOUT ROWID;
    CREATE TABLE gap (
        mirror TEXT NOT NULL, key TEXT NOT NULL, began_at REAL NOT NULL, stored_s REAL NOT NULL, searchable_s REAL,
        PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE history (
        mirror TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, at REAL NOT NULL, action TEXT NOT NULL,
        reason TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL,
        PRIMARY KEY (mirror, key, number)) WITHOUT ROWID;
    """,
)

# NORMAL: a power cut may lose the last outcomes, never their order; the next pass adopts what they stood for.
PRAGMAS = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA temp_store = FILE; PRAGMA cache_size = -8000;"

# Nothing in TEMP outlives the process: what a listing said and what a pass plans are only true now.
SPILL = """
    CREATE TEMP TABLE listing (
        pass INTEGER NOT NULL, key TEXT NOT NULL, ref TEXT NOT NULL, checksum TEXT, version TEXT, size INTEGER,
        owner TEXT, marked INTEGER, status TEXT, error TEXT, strange BLOB,
        PRIMARY KEY (pass, key, ref)) WITHOUT ROWID;
    CREATE TEMP TABLE plan (
        pass INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, outcome TEXT,
        PRIMARY KEY (pass, kind, seq)) WITHOUT ROWID;
"""


def open_state(state_dir: Path) -> sqlite3.Connection:
    """Open (or make) the state file for writing. Raises ConfigError if the directory cannot be used."""
    path = state_dir / FILE_NAME
    try:
        _make_private(state_dir)
        lost = installation(state_dir) is not None and not path.exists()
        _make_installation(state_dir)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        # One that came from elsewhere, such as a backup; those that SQLite makes beside it take its mode.
        for each in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
            if each.exists() and each.stat().st_mode & 0o077:
                each.chmod(0o600)
    except OSError as error:
        _check_disk(error)
        raise ConfigError(f"state_dir {state_dir}: {error.strerror}; choose a directory syncd may write") from error
    with _opened(path, "rw") as connection:
        connection.executescript(PRAGMAS)
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > len(MIGRATIONS):
            raise ConfigError(f"{path} was made by a newer syncd; upgrade syncd, or stop it and delete the file")
        for number, statements in enumerate(MIGRATIONS[version:], version + 1):
            connection.executescript(f"BEGIN; {statements} PRAGMA user_version = {number}; COMMIT;")
        connection.executescript(SPILL)
        if lost:
            Meta(connection, "").set(SUCCESSOR, value=True)
    return connection


def installation(state_dir: Path) -> str | None:
    """Return the id of a state directory, None if it has none yet."""
    try:
        return (state_dir / INSTALLATION_NAME).read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _make_installation(state_dir: Path) -> None:
    if installation(state_dir) is None:
        mode = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC
        with os.fdopen(os.open(state_dir / INSTALLATION_NAME, mode, 0o600), "w", encoding="ascii") as file:
            file.write(f"{secrets.token_hex(16)}\n")


def open_state_to_read(state_dir: Path) -> sqlite3.Connection | None:
    """Open the state file without changing it, for commands that only look. None if there is none yet."""
    path = state_dir / FILE_NAME
    if not path.exists():
        return None
    with _opened(path, "ro") as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT 1 FROM meta LIMIT 1").fetchone()
        if connection.execute("PRAGMA user_version").fetchone()[0] < len(MIGRATIONS):
            raise ConfigError(f"{path} was made by an older syncd; start syncd run anew, or run: syncd reconcile")
    return connection


def directory_of(db: sqlite3.Connection) -> Path:
    """The directory in which an open state file lies."""
    found = db.execute("SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'").fetchone()[0]
    return Path(os.fsdecode(found)).parent


def _make_private(state_dir: Path) -> None:
    """Make the directory, and those above it that are missing, for nobody else, whatever the umask."""
    missing = [each for each in (state_dir, *state_dir.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
    if not state_dir.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


@contextmanager
def _opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Leave the connection open, unless the block finds that the file is not to be used."""
    with ExitStack() as undo:
        try:
            connection = sqlite3.connect(
                f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}", isolation_level=None, timeout=10, uri=True
            )
            undo.callback(connection.close)
            yield connection
        except sqlite3.DatabaseError as error:
            _check_disk(error)
            raise ConfigError(f"{path}: {error}; it is only a cache: stop syncd and delete it") from error
        undo.pop_all()


@contextmanager
def writable() -> Iterator[None]:
    """What a full or failing disk under the state file does to the block comes out as StateHalt: it is no bug."""
    try:
        yield
    except sqlite3.OperationalError as error:
        _check_disk(error)
        raise


def _check_disk(error: Exception) -> None:
    """Raise StateHalt if this error is the disk's."""
    # The extended code says in its lowest byte what it is a case of.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DISK_CODES or (isinstance(error, OSError) and error.errno in _DISK_ERRNOS):
        raise StateHalt(f"the state file cannot be written ({error}); make room on the disk of state_dir") from error


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


def roll_back(db: sqlite3.Connection) -> None:
    """End the transaction, which would swallow all that come after it. After some errors SQLite has done so already."""
    if db.in_transaction:
        db.execute("ROLLBACK")


@contextmanager
def lock(state_dir: Path) -> Iterator[None]:
    """Hold the state directory for this process. Raises Locked (exit 11), naming the pid that holds it."""
    try:
        _make_private(state_dir)
        descriptor = os.open(state_dir / LOCK_NAME, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _check_disk(error)
        raise ConfigError(f"state_dir {state_dir}: {error.strerror}; choose a directory syncd may write") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            raise Locked(
                f"another syncd (pid {pid}) holds {state_dir}; stop it first, or give this one its own state_dir"
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            _check_disk(error)
            raise
        yield
    finally:
        os.close(descriptor)


def holder(state_dir: Path) -> int | None:
    """Return the pid of the syncd that holds the state directory, or None."""
    try:
        descriptor = os.open(state_dir / LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None


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
