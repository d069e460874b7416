"""The state file: one SQLite database in the state directory.

It is a cache of observations. A person may stop syncd and delete the file: the next full pass builds a new one.
"""

import json
import os
import shutil
import sqlite3
import stat
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from syncd.core.errors import ConfigError, StateBusy, StateDamaged, StateHalt, SyncdError
from syncd.state.directory import (
    FILE_NAME,
    INDEX_SIZE,
    check,
    companions,
    damaged,
    find_damage,
    installation,
    make_installation,
    make_private,
    prepare_file,
    set_aside,
    size_of,
    temporary_files,
    writable,
)

OnDamage = Literal["refuse", "rebuild", "discard"]
_T = TypeVar("_T")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

BUSY_S = 0.25
"""Seconds that a statement, and so the event loop, waits for a lock of another process. `when_free` waits longer."""
SUCCESSOR = "successor"  # the name of a stored value: this state file replaces a lost one
_AT_ONCE = 500
"""Maximum number of values in one statement."""

SCHEMA_VERSION = 10
"""The user_version of a state file. Lower numbers belong to versions before the first release."""

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
        wrote INTEGER NOT NULL, replacement TEXT, pass INTEGER NOT NULL, PRIMARY KEY (mirror, key)) WITHOUT ROWID;
    CREATE TABLE claim (
        mirror TEXT NOT NULL, key TEXT NOT NULL, ref TEXT NOT NULL, checksum TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (mirror, key, ref, checksum)) WITHOUT ROWID;
    CREATE TABLE superseded (
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
        reason TEXT NOT NULL, outcome TEXT NOT NULL, detail TEXT NOT NULL, pass INTEGER NOT NULL,
        PRIMARY KEY (mirror, key, number)) WITHOUT ROWID;
    CREATE INDEX history_at ON history (mirror, at);
    CREATE TABLE pass (
        mirror TEXT NOT NULL, number INTEGER NOT NULL, began REAL NOT NULL, ended REAL NOT NULL, keys INTEGER,
        outcome TEXT NOT NULL, detail TEXT NOT NULL, counts TEXT NOT NULL, times INTEGER NOT NULL,
        PRIMARY KEY (mirror, number)) WITHOUT ROWID;
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

REPORTED = {"version": "version", "size": "remote_size", "marked": "marked"}
"""Column of temp.remote -> column of record, for the values that a remote reports. A difference is a change."""

# NORMAL: a power cut can lose the last transactions, but no earlier ones. The next pass adopts their entries.
# A pass writes and reads temporary tables once, mostly in the order of keys, so a large cache saves nothing.
PRAGMAS = """
    PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8000;
    PRAGMA temp_store = FILE; PRAGMA temp.cache_size = -500;
"""

# Listing and plan are valid for one pass. Temporary tables end with the process.
TEMP_SCHEMA = """
    CREATE TEMP TABLE local (
        pass INTEGER NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
        inode INTEGER, kind TEXT, message TEXT, PRIMARY KEY (pass, key)) WITHOUT ROWID;
    CREATE TEMP TABLE remote (
        pass INTEGER NOT NULL, key TEXT NOT NULL, ref TEXT NOT NULL, checksum TEXT, version TEXT, size INTEGER,
        owner TEXT, marked INTEGER, status TEXT, error TEXT, prefix TEXT, serialized BLOB,
        PRIMARY KEY (pass, key, ref)) WITHOUT ROWID;
    CREATE TEMP TABLE plan (
        pass INTEGER NOT NULL, seq INTEGER NOT NULL, kind TEXT NOT NULL, body BLOB NOT NULL, outcome TEXT,
        PRIMARY KEY (pass, kind, seq)) WITHOUT ROWID;
    CREATE TEMP TABLE content (checksum TEXT NOT NULL PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID;
"""


def open_state(state_dir: Path) -> sqlite3.Connection:
    """Open the state file for writing, and create it if there is none.

    Raises ConfigError if the path is no directory or another version of syncd made the file, StateHalt if the file
    cannot be used.
    """
    path = state_dir / FILE_NAME
    try:
        make_private(state_dir)
        lost = installation(state_dir) is not None and not path.exists()
        make_installation(state_dir)
        prepare_file(path)
    except IsADirectoryError as error:
        raise damaged(path, "it is no regular file") from error
    except OSError as error:
        check(error, path)
        raise ConfigError(f"state_dir {state_dir}: {error.strerror}; choose a writable directory") from error
    with opened(path, "rw") as connection:
        connection.executescript(PRAGMAS)
        prepare_tables(connection, path)
        if lost:
            Meta(connection, "").set(SUCCESSOR, value=True)
    return connection


async def open_to_write(state_dir: Path, on_damage: OnDamage | None) -> sqlite3.Connection:
    """Open the state file for writing, or a copy of it.

    on_damage: "refuse" raises StateDamaged for a damaged file. "rebuild" moves a damaged file aside and makes a new
    one. "discard" moves the file aside without a check, because it is known to be damaged. None: open a copy instead.
    """
    if on_damage is None:
        return open_copy(state_dir)
    if on_damage == "discard":
        return _rebuilt(state_dir, "found while syncd was using it")
    try:
        db = open_state(state_dir)
    except StateDamaged as error:
        if on_damage == "refuse":
            raise
        return _rebuilt(state_dir, str(error))
    # An empty transaction waits for a lock of another process here, before any other preparation.
    with closed_on_error(db), transaction(db):
        return db


def _rebuilt(state_dir: Path, why: str) -> sqlite3.Connection:
    aside = set_aside(state_dir)
    import structlog

    structlog.get_logger().error("state.damaged", why=why, kept=str(aside), consequence="a new state file is built")
    return open_state(state_dir)


@contextmanager
def detect_damage(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Raise StateDamaged in place of an unexpected error if the state file is damaged.

    A damaged page can yield any value, and so cause any error. Therefore every unexpected error leads to a check of
    the file.
    """
    try:
        with writable(path):
            yield
    except SyncdError:
        raise
    except Exception as error:
        damage = find_damage(db, path)
        if damage:
            raise damage from error
        raise


def open_copy(state_dir: Path) -> sqlite3.Connection:
    """Return a temporary copy of the state, in memory or in unnamed files."""
    with closed_on_error(_copied(state_dir)) as copy:
        if not temporary_files():
            copy.execute("PRAGMA temp_store = MEMORY")
        prepare_tables(copy, state_dir / FILE_NAME)
    return copy


def open_state_to_read(state_dir: Path) -> sqlite3.Connection | None:
    """Open the state file for reading. None: there is no file, or it has no tables yet. Needs no right to write."""
    path = state_dir / FILE_NAME
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
        if regular:
            os.close(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        check(error, path, reading=True)
        raise
    if not regular:
        raise damaged(path, "it is no regular file")
    _, wal, index = companions(path)
    may_write = os.access(path.parent, os.W_OK)
    if size_of(wal) and not (index.exists() or may_write):
        # To read the log (-wal), SQLite must write its index (-shm), so it reads a copy.
        return _copied_with_log(path)
    # To read a file in WAL mode, SQLite writes files beside it. Without the permission, it is read as immutable.
    if not may_write and not (wal.exists() and index.exists()):
        return _opened_to_read(path, "ro&immutable=1")
    try:
        return _opened_to_read(path, "ro")
    except (StateBusy, StateDamaged):
        raise
    except StateHalt:
        if size_of(index) >= INDEX_SIZE:
            raise
    # The disk has no room for the index of the log, so no other process uses it.
    return _copied_with_log(path) if size_of(wal) else _opened_to_read(path, "ro&immutable=1")


def _opened_to_read(path: Path, mode: str) -> sqlite3.Connection | None:
    """Open the state file for reading, None if it has no tables yet. mode: for a URI of SQLite."""
    with opened(path, mode) as connection:
        connection.execute("PRAGMA query_only = ON")
        if not connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
            # Another process is creating the file. One transaction creates all tables.
            connection.close()
            return None
        connection.execute("SELECT 1 FROM meta LIMIT 1").fetchone()
        check_version(connection, path)
    return connection


def _copied_with_log(path: Path) -> sqlite3.Connection:
    """Return a copy of a state file with its log, made in a temporary directory. Raises StateHalt if there is none."""
    try:
        with TemporaryDirectory(prefix="syncd-") as folder:
            for file in companions(path)[:2]:
                shutil.copyfile(file, Path(folder) / file.name)
            return _copied(Path(folder))
    except OSError as error:
        raise StateHalt(f"no place for a copy of {path} ({error.strerror}); name one in TMPDIR") from error


def _copied(state_dir: Path) -> sqlite3.Connection:
    """Return a copy of the state file, an empty one if there is no state file."""
    with closed_on_error(sqlite3.connect("" if temporary_files() else ":memory:", isolation_level=None)) as copy:
        if original := open_state_to_read(state_dir):
            with closing(original):
                original.backup(copy)
    return copy


def prepare_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables of a new state file, and the temporary tables of this process. See `check_version`."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    else:
        check_version(connection, path)
    connection.executescript(TEMP_SCHEMA)


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raise ConfigError if another version of syncd made the state file."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise ConfigError(f"{path} was made by a newer syncd; upgrade syncd, or stop it and delete the file")
    if version < SCHEMA_VERSION:
        raise ConfigError(f"{path} was made by an older syncd; it is only a cache: stop syncd and delete it")


@contextmanager
def opened(path: Path, mode: str) -> Iterator[sqlite3.Connection]:
    """Open the file and yield the connection, see `closed_on_error`."""
    uri = f"file:{quote(os.fsencode(path.absolute()))}?mode={mode}"
    try:
        with closed_on_error(sqlite3.connect(uri, isolation_level=None, timeout=BUSY_S, uri=True)) as connection:
            yield connection
    except sqlite3.DatabaseError as error:
        check(error, path, reading=mode != "rw")
        raise damaged(path, error) from error


@contextmanager
def closed_on_error(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Yield a connection, and close it if the block raises."""
    try:
        yield connection
    except BaseException:
        connection.close()
        raise


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit all statements of the block, or none if it raises. A nested block joins the transaction."""
    joined = db.in_transaction
    if joined:
        yield
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        # After some errors SQLite has ended the transaction already.
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def savepoint(db: sqlite3.Connection) -> Iterator[None]:
    """Undo the statements of the block if it raises. The surrounding transaction continues."""
    db.execute("SAVEPOINT block")
    try:
        yield
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK TO block")
            db.execute("RELEASE block")
        raise
    db.execute("RELEASE block")


class MirrorRows:
    """The rows of one mirror in the state file. The first parameter of each statement is the mirror."""

    def __init__(self, db: sqlite3.Connection, mirror: str) -> None:
        self._db = db
        self._mirror = mirror

    def _run(self, statement: str, *values: object) -> sqlite3.Cursor:
        return self._db.execute(statement, (self._mirror, *values))

    def _run_each(self, statement: str, rows: Iterable[Iterable[object]]) -> None:
        """Execute a statement with each row of values, in one transaction."""
        with transaction(self._db):
            self._db.executemany(statement, [(self._mirror, *row) for row in rows])

    def _value(self, statement: str, *values: object) -> Any:
        """Return the first column of the first row, None if there is no row."""
        row = self._run(statement, *values).fetchone()
        return row[0] if row else None

    def _time(self, statement: str, *values: object) -> float | None:
        """Return the time that a statement yields in its first row, None if there is no row."""
        time: float | None = self._value(statement, *values)
        return time

    def _count(self, statement: str, *values: object) -> int:
        """Return the number that a statement yields."""
        return int(self._value(statement, *values))


class Meta(MirrorRows):
    """Small named values of one mirror ("" for all mirrors), stored as JSON."""

    def get(self, name: str) -> object:
        """Return the value, or None if there is none."""
        value = self._value("SELECT value FROM meta WHERE mirror = ? AND name = ?", name)
        return None if value is None else json.loads(value)

    def values(self, name: str) -> dict[str, Any]:
        """Return a stored JSON object, an empty one if there is none."""
        found = self.get(name)
        return found if isinstance(found, dict) else {}

    def set(self, name: str, value: object) -> None:
        """Store a JSON value. None deletes it."""
        if value is None:
            self._run("DELETE FROM meta WHERE mirror = ? AND name = ?", name)
        else:
            self._run("INSERT OR REPLACE INTO meta VALUES (?, ?, ?)", name, json.dumps(value))


def placeholders(values: Collection[object]) -> str:
    """Return one parameter mark (?) for each value, for a condition with IN."""
    return ", ".join("?" * len(values))


def in_parts(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield the values in parts that are small enough for one statement."""
    for start in range(0, len(values), _AT_ONCE):
        yield values[start : start + _AT_ONCE]


class Age:
    """The age of the state file: the seconds that this machine was up since the file was made.

    A change of the wall clock does not change the age. A time without the machine, or on another machine, adds nothing,
    so the age is never greater than the time that passed. Limits of deletes use ages.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._meta = Meta(db, "")
        self._boot, uptime = boot_id(), uptime_s()
        kept = self._meta.values("age") or {"boot": self._boot, "uptime": uptime, "age": 0.0}
        same = kept["boot"] == self._boot and uptime >= kept["uptime"]
        self._offset = kept["age"] - (kept["uptime"] if same else uptime)
        self.keep()

    def now(self) -> float:
        """Return the present age."""
        return float(self._offset + uptime_s())

    def keep(self) -> None:
        """Store the age, so that the next process, or the next start of the machine, continues from it."""
        self._meta.set("age", {"boot": self._boot, "uptime": (uptime := uptime_s()), "age": self._offset + uptime})


def boot_id() -> str:
    """Return the id of this start of the machine, "" if there is none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def uptime_s() -> float:
    """Return the seconds since the machine started, including sleep if the system counts it."""
    return time.clock_gettime(_CLOCK)
