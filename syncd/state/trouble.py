"""Errors of the state file by remedy: no room, no permission, locked, damaged. None of them is a bug."""

import errno
import os
import pwd
import sqlite3
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from syncd.errors import StateBusy, StateDamaged, StateHalt

_ROOM_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_REFUSED_CODES = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
_BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
REFUSED_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_SHORT_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

BUSY_PATIENCE_S = 60.0
"""How long a state file that another process has locked is waited for."""
BUSY_AGAIN_S = 0.5

_T = TypeVar("_T")


@contextmanager
def writable(path: Path | None = None) -> Iterator[None]:
    """Raise what the disk, another process or a damaged file does to the block as StateHalt: it is no bug.

    path: the state file, to be named.
    """
    try:
        yield
    except sqlite3.Error as error:
        check(error, path)
        raise


async def when_free(work: Callable[[], Awaitable[_T]], path: Path | None = None) -> _T:
    """Do it, and again from its start if another process had the state file locked. Raises StateBusy if that lasts."""
    # Here, for the commands that need no event loop.
    import asyncio

    end = asyncio.get_running_loop().time() + BUSY_PATIENCE_S
    while True:
        try:
            with writable(path):
                return await work()
        except StateBusy:
            if asyncio.get_running_loop().time() >= end:
                raise
        await asyncio.sleep(BUSY_AGAIN_S)


def check(error: Exception, path: Path | None = None, *, reading: bool = False) -> None:
    """Raise StateHalt if an error of the state file is its disk's, its permissions' or another process's.

    path: the file that is meant, as far as it is known. reading: nothing was to be written.
    """
    # The extended code says in its lowest byte what it is a case of.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = error.errno if isinstance(error, OSError) else None
    if code in _BUSY_CODES:
        why = f"{_named(path)} is locked by another process ({error}); find it with fuser, and end it"
        raise StateBusy(why) from error
    if code in _DAMAGED_CODES:
        raise damaged(path, error) from error
    if number in _SHORT_ERRNOS:
        why = f"{_named(path)} cannot be opened ({error}); raise the limit of open files, or give more memory"
        raise StateHalt(why) from error
    if code in _REFUSED_CODES or number in REFUSED_ERRNOS:
        raise StateHalt(refusal(path, error, reading=reading)) from error
    if code in _ROOM_CODES or number in _ROOM_ERRNOS:
        raise StateHalt(f"{_named(path)} cannot be written ({error}); make room on the disk of state_dir") from error


def damaged(path: Path | None, why: object) -> StateDamaged:
    """Return the error of a state file that is no database, with the cure."""
    return StateDamaged(f"{_named(path)} is damaged ({why}); it is only a cache: stop syncd and delete it")


def refusal(path: Path | None, error: Exception, *, reading: bool = False) -> str:
    """Say which file of the state directory may not be used, whose it is, and what to do."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    found = _refused(path, os.R_OK if reading else os.R_OK | os.W_OK) if path else None
    if found is None:
        user = user_name(os.geteuid())
        return f"{_named(path)} cannot be used ({why}); let {user} use it, or raise the limit of open files (ulimit -n)"
    if not reading and os.statvfs(found).f_flag & os.ST_RDONLY:
        return f"{found} is on a read-only file system; mount it read-write, or choose another state_dir"
    owner, user = user_name(found.lstat().st_uid), user_name(os.geteuid())
    return f"{found} belongs to {owner}, and syncd runs as {user} ({why}); run it as {owner}, or: chown {user} {found}"


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return f"uid {uid}"


def no_database(db: sqlite3.Connection, path: Path) -> StateDamaged | None:
    """Return what is wrong with an open state file when it is looked through page by page, None if nothing is."""
    try:
        with closing(db.execute("PRAGMA quick_check(1)")) as found:
            (said,) = found.fetchone()
    except sqlite3.DatabaseError as error:
        return damaged(path, error)
    return None if said == "ok" else damaged(path, said)


def _refused(path: Path, need: int) -> Path | None:
    """The first directory on the way to a file, the file, or a companion of it that this user may not use."""
    for folder in reversed(path.parents):
        if not os.access(folder, os.X_OK):
            return folder if _exists(folder) else None
    if not os.access(path.parent, need & os.W_OK):
        return path.parent
    for each in companions(path):
        if _exists(each) and not os.access(each, need):
            return each
    return None


def companions(path: Path) -> tuple[Path, Path, Path]:
    """A state file, and those that SQLite keeps beside it."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def _exists(path: Path) -> bool:
    try:
        path.lstat()
    except OSError:
        return False
    return True


def make_private(state_dir: Path) -> None:
    """Make the directory, and those above it that are missing, for nobody else, whatever the umask."""
    missing = [each for each in (state_dir, *state_dir.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | no_follow(each.parent))
        try:
            give(descriptor, each.parent)
        finally:
            os.close(descriptor)
    if not state_dir.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def give(descriptor: int, folder: Path) -> None:
    """Give what root has opened to the owner of its directory: a service without root's rights must write it.

    A file with a second name is left alone: it may be another user's trap.
    """
    if os.geteuid() != 0:
        return
    seen, owner = os.fstat(descriptor), folder.stat()
    alone = stat.S_ISDIR(seen.st_mode) or (stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1)
    if alone and seen.st_uid == 0 != owner.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def no_follow(folder: Path) -> int:
    """Return O_NOFOLLOW for root in another user's directory, who could lead it to any file; 0 otherwise."""
    return os.O_NOFOLLOW if os.geteuid() == 0 != folder.stat().st_uid else 0


def _named(path: Path | None) -> str:
    return f"the state file {path}" if path else "the state file"
