"""The lock of the state directory: one syncd at a time works with it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from syncd.errors import ConfigError, Locked
from syncd.state.trouble import check, give, make_private, no_follow

LOCK_NAME = "lock"
_DAEMON = "run"
_COMMAND = "command"


class Holder(NamedTuple):
    """The process that holds the lock. daemon: whether it is `syncd run`, and no command that ends by itself."""

    pid: int
    daemon: bool


class Lock:
    """A lock that is held. gone: whether another syncd could take one, since the directory is not this one any more."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def gone(self) -> bool:
        """Whether the lock's file was removed, replaced or moved away with its directory."""
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            # A shortage, or a mount that does not answer now, is no removal.
            return False


@contextmanager
def lock(state_dir: Path, *, daemon: bool = False) -> Iterator[Lock]:
    """Hold the state directory for this process, and say in the file whether it is the daemon.

    Raises Locked (exit 11), naming the pid that holds it.
    """
    path = state_dir / LOCK_NAME
    try:
        make_private(state_dir)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | no_follow(state_dir), 0o600)
    except OSError as error:
        check(error, path)
        raise ConfigError(f"state_dir {state_dir}: {error.strerror}; choose a directory syncd may write") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            found = _read(descriptor)
            pid = found.pid if found else "unknown"
            raise Locked(
                f"another syncd (pid {pid}) holds {state_dir}; stop it first, or give this one its own state_dir"
            ) from None
        try:
            give(descriptor, state_dir)
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

    Raises StateHalt if this user may not look.
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
        return _read(descriptor)
    except OSError:
        # A file system without locks: nobody holds one there.
        return None
    finally:
        os.close(descriptor)
    return None


def _read(descriptor: int) -> Holder | None:
    pid, _, kind = os.read(descriptor, 32).decode("ascii", "replace").strip().partition(" ")
    return Holder(int(pid), kind == _DAEMON) if pid.isdigit() else None
