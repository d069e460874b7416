"""The state directory: its privacy, its lock, its id, and the errors of the files in it, sorted by remedy."""

import errno
import fcntl
import os
import pwd
import shlex
import sqlite3
import stat
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from syncd.core.errors import SHORT_ERRNOS, ConfigError, Locked, StateBusy, StateDamaged, StateFull, StateHalt

FILE_NAME = "state.db"
SET_ASIDE = ".damaged"
"""The ending of the name of a damaged state file that was moved aside."""
INSTALLATION_NAME = "installation-id"
"""The file with the id of a state directory. It is created with the first state file, and is not lost with it."""
LOCK_NAME = "lock"
INDEX_SIZE = 32768
"""The least size of the index of the log in bytes, as SQLite makes it. A smaller one was not completed."""
_DAEMON = "run"
_COMMAND = "command"

_ROOM_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_REFUSED_CODES = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM})
_BUSY_CODES = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_DAMAGED_CODES = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})
_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
REFUSED_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

BUSY_PATIENCE_S = 60.0
"""Seconds to wait for a state file that another process has locked."""
BUSY_AGAIN_S = 0.5
"""Seconds between two tries to use a locked state file."""

_LEAST_ROOM = 262_144
"""Minimum bytes of free disk for an empty state file."""

_T = TypeVar("_T")


@contextmanager
def writable(path: Path | None = None) -> Iterator[None]:
    """Raise StateHalt in place of an error of SQLite that the disk, another process or a damaged file causes.

    path: the state file, which the message names.
    """
    try:
        yield
    except sqlite3.Error as error:
        check(error, path)
        raise


async def when_free(work: Callable[[], Awaitable[_T]], path: Path | None = None) -> _T:
    """Await `work`, and repeat it while another process has the state file locked.

    Raises StateBusy after BUSY_PATIENCE_S.
    """
    # Imported here, because some commands need no event loop.
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
    """Raise StateHalt if the disk, permissions, a damaged file or another process caused an error of the state file.

    path: the file, if it is known. reading: the file was opened for reading only.
    """
    # The lowest byte of an extended code is its primary code.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    number = error.errno if isinstance(error, OSError) else None
    if code in _BUSY_CODES:
        why = f"{_named(path)} is locked by another process ({error}); find it with fuser, and end it"
        raise StateBusy(why) from error
    if code in _DAMAGED_CODES:
        raise damaged(path, error) from error
    if number in SHORT_ERRNOS:
        why = f"{_named(path)} cannot be opened ({error}); raise the limit of open files, or give more memory"
        raise StateFull(why) from error
    if code in _REFUSED_CODES or number in REFUSED_ERRNOS:
        need = os.R_OK if reading else os.R_OK | os.W_OK
        # SQLite does not say why it cannot open a file. If this user may use it, no descriptor was left.
        short = code == sqlite3.SQLITE_CANTOPEN and path is not None and _refused(path, need) is None
        raise (StateFull if short else StateHalt)(refusal(path, error, reading=reading)) from error
    if code in _ROOM_CODES or number in _ROOM_ERRNOS:
        raise StateFull(f"{_named(path)} cannot be written ({error}); make room on the disk of state_dir") from error


def damaged(path: Path | None, why: object) -> StateDamaged:
    """Return the error of a damaged state file, with the remedy."""
    return StateDamaged(f"{_named(path)} is damaged ({why}); it is only a cache: stop syncd and delete it")


def refusal(path: Path | None, error: Exception, *, reading: bool = False) -> str:
    """Describe which file of the state directory cannot be used, its owner, and the remedy."""
    why = error.strerror if isinstance(error, OSError) else str(error)
    refused = _refused(path, os.R_OK if reading else os.R_OK | os.W_OK) if path else None
    if refused is None:
        user = user_name(os.geteuid())
        return f"{_named(path)} cannot be used ({why}); let {user} use it, or raise the limit of open files (ulimit -n)"
    if not reading and os.statvfs(refused).f_flag & os.ST_RDONLY:
        return f"{refused} is on a read-only file system; mount it read-write, or choose another state_dir"
    owner, user = user_name(refused.lstat().st_uid), user_name(os.geteuid())
    if owner == user:
        return f"{refused} does not let its owner {user} use it ({why}); run chmod u+rwX {shlex.quote(str(refused))}"
    if path and refused in path.parent.parents:
        return (
            f"{refused} belongs to {owner}, and syncd runs as {user} ({why}); run it as {owner}, or choose another"
            " state_dir"
        )
    return (
        f"{refused} belongs to {owner}, and syncd runs as {user} ({why}); run it as {owner}, or, if no service uses it:"
        f" chown {user} {shlex.quote(str(refused))}"
    )


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return f"uid {uid}"


def find_damage(db: sqlite3.Connection, path: Path) -> StateDamaged | None:
    """Check all pages of an open state file. Return the error of a damaged file, else None."""
    try:
        with closing(db.execute("PRAGMA quick_check(1)")) as cursor:
            (verdict,) = cursor.fetchone()
    except sqlite3.DatabaseError as error:
        return damaged(path, error)
    return None if verdict == "ok" else damaged(path, verdict)


def _refused(path: Path, need: int) -> Path | None:
    """Return the first parent directory of a state file, or file of SQLite, that this user may not use.

    Where a parent is missing, it is the directory in which it would be made.
    need: the access bits (os.R_OK, os.W_OK) for the files.
    """
    for folder in reversed(path.parents):
        if not os.path.lexists(folder):
            return None if os.access(folder.parent, os.W_OK) else folder.parent
        if not os.access(folder, os.X_OK):
            return folder
    if not os.access(path.parent, need & os.W_OK):
        return path.parent
    for file in companions(path):
        if os.path.lexists(file) and not os.access(file, need):
            return file
    return None


def size_of(path: Path) -> int:
    """Return the size of a file in bytes, 0 if there is none."""
    return path.stat().st_size if path.exists() else 0


def temporary_files() -> bool:
    """Return whether SQLite finds a directory for temporary files. The list is that of its documentation."""
    named = (os.environ.get(name, "") for name in ("SQLITE_TMPDIR", "TMPDIR"))
    return any(place and os.access(place, os.W_OK | os.X_OK) for place in (*named, "/var/tmp", "/usr/tmp", "/tmp"))  # noqa: S108


def directory_of(db: sqlite3.Connection) -> Path:
    """Return the directory of an open state file."""
    name = db.execute("SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'").fetchone()[0]
    return Path(os.fsdecode(name)).parent


def data_version(db: sqlite3.Connection) -> int:
    """Return a number that changes when another connection writes to the state file."""
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def companions(path: Path) -> tuple[Path, Path, Path]:
    """Return the state file and the two files that SQLite keeps beside it."""
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def make_private(state_dir: Path) -> None:
    """Make the directory and its missing parents with mode 0700, independent of the umask."""
    missing = [folder for folder in (state_dir, *state_dir.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | no_follow(folder.parent))
        try:
            give_to_owner(descriptor, folder.parent)
        finally:
            os.close(descriptor)
    if not state_dir.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


class Obstacle(NamedTuple):
    """Why a process cannot write into a state directory, and the remedy. for_all: whether this is so for every user."""

    message: str
    remedy: str
    for_all: bool


def obstacle(state_dir: Path) -> Obstacle | None:
    """Return the reason why this process cannot write into a state directory, None if it probably can."""
    place = next(folder for folder in (state_dir, *state_dir.parents) if os.path.lexists(folder))
    if not place.is_dir():
        return Obstacle(f"state_dir {state_dir}: {place} is no directory", "choose another state_dir", for_all=True)
    disk = os.statvfs(place)
    if disk.f_flag & os.ST_RDONLY:
        remedy = "mount it read-write, or choose another state_dir"
        return Obstacle(f"{place} is on a read-only file system", remedy, for_all=False)
    if not os.access(place, os.W_OK | os.X_OK):
        owner, user = user_name(place.lstat().st_uid), user_name(os.geteuid())
        if owner == user:
            message, remedy = f"{place} does not let its owner {user} write", f"chmod u+rwx {shlex.quote(str(place))}"
        else:
            message, remedy = f"{place} belongs to {owner}, and syncd runs as {user}", f"run it as {owner}"
        return Obstacle(message, f"{remedy}, or choose another state_dir", for_all=False)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize < _LEAST_ROOM:
        return Obstacle(f"the disk of state_dir {state_dir} is full", "make room on it", for_all=True)
    return None


def give_to_owner(descriptor: int, folder: Path) -> None:
    """Change the owner of a file that root opened to the owner of its directory, so that a service can write it.

    A file with a second hard link keeps its owner, because another user may have made the link.
    """
    if os.geteuid() != 0:
        return
    seen, owner = os.fstat(descriptor), folder.stat()
    has_one_link = stat.S_ISDIR(seen.st_mode) or (stat.S_ISREG(seen.st_mode) and seen.st_nlink == 1)
    if has_one_link and seen.st_uid == 0 != owner.st_uid:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def no_follow(folder: Path) -> int:
    """Return O_NOFOLLOW for root in the directory of another user, since a link there may lead to any file. Else 0."""
    return os.O_NOFOLLOW if os.geteuid() == 0 != folder.stat().st_uid else 0


def _named(path: Path | None) -> str:
    return f"the state file {path}" if path else "the state file"


def prepare_file(path: Path) -> None:
    """Create the state file with mode 0600 if there is none.

    An existing file, such as one from a backup, gets this mode too. SQLite creates its other files with the same mode.
    """
    for file in companions(path):
        if file != path and not file.exists():
            continue
        make = os.O_CREAT if file == path else 0
        descriptor = os.open(file, make | os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | no_follow(path.parent), 0o600)
        try:
            seen = os.fstat(descriptor)
            if not stat.S_ISREG(seen.st_mode):
                raise IsADirectoryError(errno.EISDIR, "it is no regular file")
            if seen.st_mode & 0o077:
                os.fchmod(descriptor, 0o600)
            give_to_owner(descriptor, path.parent)
        finally:
            os.close(descriptor)


def set_aside(state_dir: Path) -> Path:
    """Rename a damaged state file, and return its new name. An earlier damaged file is replaced."""
    path, aside = state_dir / FILE_NAME, state_dir / (FILE_NAME + SET_ASIDE)
    for former, now in zip(companions(path), companions(aside), strict=True):
        if now.is_dir():
            now.rename(now.with_name(f"{now.name}.{time.time_ns()}"))
        now.unlink(missing_ok=True)
        if former.exists():
            former.rename(now)
    return aside


def installation(state_dir: Path) -> str | None:
    """Return the id of a state directory, None if it has none. Raises OSError if it cannot be read."""
    try:
        return (state_dir / INSTALLATION_NAME).read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return None


def make_installation(state_dir: Path) -> None:
    """Create the id of a state directory if it has none. Raises OSError."""
    if installation(state_dir) is None:
        import secrets

        mode = os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC | no_follow(state_dir)
        with os.fdopen(os.open(state_dir / INSTALLATION_NAME, mode, 0o600), "w", encoding="ascii") as file:
            file.write(f"{secrets.token_hex(16)}\n")
            give_to_owner(file.fileno(), state_dir)


class Holder(NamedTuple):
    """The process that holds the lock. daemon: whether it is `syncd run` and not a short command."""

    pid: int
    daemon: bool


class Lock:
    """A held lock."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def gone(self) -> bool:
        """Return whether the lock file was removed, replaced, or moved with its directory.

        Another syncd could then lock a new lock file.
        """
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            # An error for lack of resources, or of a mount that does not answer, does not show a removal.
            return False


@contextmanager
def lock(state_dir: Path, *, daemon: bool = False) -> Iterator[Lock]:
    """Lock the state directory for this process, and write into the lock file whether it is the daemon.

    Raises Locked (exit 11), which names the pid of the holder.
    """
    path = state_dir / LOCK_NAME
    try:
        make_private(state_dir)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | no_follow(state_dir), 0o600)
    except OSError as error:
        check(error, path)
        raise ConfigError(f"state_dir {state_dir}: {error.strerror}; choose a writable directory") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(descriptor)
            pid = holder.pid if holder else "unknown"
            raise Locked(
                f"another syncd (pid {pid}) holds {state_dir}; stop it first, or give this one its own state_dir"
            ) from None
        try:
            give_to_owner(descriptor, state_dir)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()} {_DAEMON if daemon else _COMMAND}\n".encode(), 0)
        except OSError as error:
            check(error, path)
            raise
        yield Lock(path, descriptor)
    finally:
        os.close(descriptor)


def holder(state_dir: Path) -> Holder | None:
    """Return the process that holds the state directory, or None.

    Raises StateHalt if this user may not read the lock file.
    """
    path = state_dir / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        check(error, path, reading=True)
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(descriptor)
    except OSError:
        # The file system does not support locks, so no process holds one.
        return None
    finally:
        os.close(descriptor)
    return None


def _read_holder(descriptor: int) -> Holder | None:
    """Return the content of an open lock file, None if it has no pid."""
    pid, _, kind = os.read(descriptor, 32).decode("ascii", "replace").strip().partition(" ")
    return Holder(int(pid), kind == _DAEMON) if pid.isdigit() else None
