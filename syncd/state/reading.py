"""Reading the state file without a right to write anywhere: for status, ls, explain, verify, check and dry runs."""

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from syncd.errors import StateHalt
from syncd.state.db import FILE_NAME, check_version, opened, prepare_tables
from syncd.state.trouble import check, companions, damaged


def open_copy(state_dir: Path) -> sqlite3.Connection:
    """Return a copy of the state, to be thrown away. SQLite keeps it in memory, or in files that have no name."""
    copy = sqlite3.connect("" if temporary_files() else ":memory:", isolation_level=None)
    try:
        original = open_state_to_read(state_dir)
        if original:
            with closing(original):
                original.backup(copy)
        if not temporary_files():
            copy.execute("PRAGMA temp_store = MEMORY")
        prepare_tables(copy, state_dir / FILE_NAME)
    except BaseException:
        copy.close()
        raise
    return copy


def open_state_to_read(state_dir: Path) -> sqlite3.Connection | None:
    """Open the state file without changing it, for commands that only look. None if there is none yet."""
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
    if _needs_copy(path):
        return _copied(path)
    with opened(path, _way_to_read(path)) as connection:
        connection.execute("PRAGMA query_only = ON")
        connection.execute("SELECT 1 FROM meta LIMIT 1").fetchone()
        check_version(connection, path)
    return connection


def temporary_files() -> bool:
    """Whether SQLite finds a directory for its temporary files, by its own list."""
    named = (os.environ.get(name, "") for name in ("SQLITE_TMPDIR", "TMPDIR"))
    return any(place and os.access(place, os.W_OK | os.X_OK) for place in (*named, "/var/tmp", "/usr/tmp", "/tmp"))  # noqa: S108


def _way_to_read(path: Path) -> str:
    """Reading a file in WAL mode writes beside it. Where nobody can write, nobody does: it is read as it stands."""
    beside = all(each.exists() for each in companions(path))
    return "ro" if beside or os.access(path.parent, os.W_OK) else "ro&immutable=1"


def _needs_copy(path: Path) -> bool:
    """Whether there is a log that only who may write beside it can read."""
    _, log, index = companions(path)
    return log.exists() and log.stat().st_size > 0 and not (index.exists() or os.access(path.parent, os.W_OK))


def _copied(path: Path) -> sqlite3.Connection | None:
    """Read a file and its log as another directory holds them for a moment. Raises StateHalt if there is none."""
    copy = sqlite3.connect("" if temporary_files() else ":memory:", isolation_level=None)
    try:
        with TemporaryDirectory(prefix="syncd-") as folder:
            for each in companions(path)[:2]:
                shutil.copyfile(each, Path(folder) / each.name)
            original = open_state_to_read(Path(folder))
            if original:
                with closing(original):
                    original.backup(copy)
    except OSError as error:
        copy.close()
        raise StateHalt(f"no place for a copy of {path} ({error.strerror}); name one in TMPDIR") from error
    except BaseException:
        copy.close()
        raise
    return copy
