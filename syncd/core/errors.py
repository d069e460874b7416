"""Errors, named by their remedy and not by their origin.

Retry: the same action may succeed later. Park: this content cannot succeed. Halt: this mirror cannot continue.
Brake: a person must agree first. ConfigError: nothing was started. Any other exception is a bug (exit code 70).
"""

import errno
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from syncd.core.keys import shown

# Every command imports this module, so it imports the log and the database late, and the values for types only.
if TYPE_CHECKING:
    from syncd.core.model import ProblemKind

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 3600.0
_SHOWN_LENGTH = 200
"""Characters of an unexpected exception's message that are shown (our own limit). The message may quote content."""

SHORT_ERRNOS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Errors of a machine that has no descriptor or memory left. They end without a change of the config."""

RetryScope = Literal["account", "instance", "request"]
"""The requests that a temporary failure concerns: all of the account, all of one instance, or the failed one alone."""

EXIT_OK = 0
EXIT_PROBLEMS = 1
EXIT_CONFIG = 2
EXIT_HALT = 3
EXIT_BRAKE = 4
EXIT_UNREACHABLE = 5
EXIT_DIFFERENT = 6
EXIT_LOCKED = 11
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
SEVERITY = (
    EXIT_LOCKED,
    EXIT_CONFIG,
    EXIT_HALT,
    EXIT_BRAKE,
    EXIT_UNREACHABLE,
    EXIT_PROBLEMS,
    EXIT_DIFFERENT,
    EXIT_OK,
)
"""The exit codes of results and of errors, the most serious first."""


def most_serious(codes: Iterable[int]) -> int:
    """Return the exit code of several results."""
    found = set(codes)
    return next(code for code in SEVERITY if code in found)


class SyncdError(Exception):
    """Base of all errors that users see. `str(error)` is one line that names the remedy."""

    exit_code = EXIT_PROBLEMS

    @property
    def lines(self) -> list[str]:
        """The message for a person, in lines."""
        return [str(self)]


class Retry(SyncdError):
    """A temporary failure of the remote.

    after_s: the seconds that the remote asks to wait, or None.
    ambiguous: the remote may have executed the request (connection lost after sending, 5xx). The caller then looks up
    the result of a write before it sends the write again.
    status: the HTTP status of the answer, None without an answer.
    scope: the requests that have to wait.
    """

    exit_code = EXIT_UNREACHABLE

    def __init__(
        self,
        message: str,
        *,
        after_s: float | None = None,
        ambiguous: bool = False,
        status: int | None = None,
        scope: RetryScope = "account",
    ) -> None:
        super().__init__(message)
        self.after_s = after_s
        self.ambiguous = ambiguous
        self.status = status
        self.scope = scope


class DiskRetry(Retry):
    """A temporary failure of the disk: a stale handle, an absent network file system, no free descriptor."""

    exit_code = EXIT_PROBLEMS
    kind: "ProblemKind" = "failed"


class Blocked(Retry):
    """A proxy refused the request: the answer is a 4xx or a redirect without the envelope of the API."""


class Later(Retry):
    """A failure of the remote that outlasts the retries of one request. The queue tries again after after_s."""


class Unreachable(Retry):
    """No request succeeded for `retry_for` seconds. The pass ends, and the next pass continues its work."""


class FileChanged(SyncdError):
    """The file changed or vanished between plan and read. The file is observed again; this is not a failure."""


class Deferred(SyncdError):
    """The put or delete gives way to changed files. It moves to the next batch of the same pass."""


class Park(SyncdError):
    """This content cannot succeed. The problem is shown, and the file is retried when it changes.

    kind: the problem kind of the contract. code: the error code of the remote, None without one.
    status: the HTTP status of the answer, None if nothing was sent.
    """

    def __init__(
        self, kind: "ProblemKind", message: str, *, code: int | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.status = status


class NotFound(Park):
    """The remote has no such item. The caller of a delete treats this as success."""

    def __init__(self, message: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__("failed", message, code=code, status=status)


class Conflict(Park):
    """The key exists already (AI Search 7042). The caller looks it up, then replaces or adopts it."""

    def __init__(self, message: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__("failed", message, code=code, status=status)


class TooMuch(Park):
    """One request has too many entries for the remote (413, 524). The caller sends it in two halves.

    Never raised for a single entry. After a 524 the remote may have written some or all of the entries.
    """

    def __init__(self, message: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__("too_large", message, code=code, status=status)


class Halt(SyncdError):
    """This mirror cannot continue until a person acts: root missing, login refused, target missing, quota used up."""

    exit_code = EXIT_HALT


class AuthHalt(Halt):
    """The API refused the credentials. A token file may have newer ones. status: the HTTP status of the answer."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class QuotaHalt(Halt):
    """The quota of this day is used up. The service counts anew at 00:00 UTC, in `again_s` seconds."""

    def __init__(self, message: str, *, again_s: float) -> None:
        super().__init__(message)
        self.again_s = again_s


class RootHalt(Halt):
    """The root has changed: it is missing, empty or another mount. It may come back without an action of a person."""


class StateHalt(Halt):
    """The state file cannot be written: its disk is full or fails. No data is lost. The fault may end by itself."""


class StateFull(StateHalt):
    """The state file cannot be used now: its disk has no room or fails, or no descriptor is left. The daemon waits."""


class StateBusy(StateHalt):
    """Another process holds the lock of the state file for longer than the timeout. No data is lost."""


class StateDamaged(StateHalt):
    """The state file is no valid database. It is a cache, which syncd rebuilds from the folder and the remote."""


class StateGone(StateHalt):
    """The state directory was removed or replaced. This process must end: another syncd may use the new directory."""


class PausedHalt(Halt):
    """The remote has paused the instance. A person resumes it there, so syncd looks again every few minutes."""


class TargetMissing(Halt):
    """The instance, namespace or index does not exist. `create = true` creates it."""


class Brake(SyncdError):
    """The plan deletes more than `max_delete` allows. Nothing was deleted. The uploads of the pass were made."""

    exit_code = EXIT_BRAKE


class PlanChanged(SyncdError):
    """The plan is not the one that a person approved. Nothing was applied. The mirror may be in any state."""

    exit_code = EXIT_BRAKE


class ConfigError(SyncdError):
    """The configuration or the command line is wrong. Nothing was started."""

    exit_code = EXIT_CONFIG


class ConfigFaults(ConfigError):
    """Several faults of the configuration, each with its place and remedy."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)

    @property
    def lines(self) -> list[str]:
        """The message for a person: one line for each fault."""
        return self.faults


class Shortage(ConfigError):
    """No descriptor or memory is left to read a file that the configuration needs. The daemon waits."""

    exit_code = EXIT_HALT


def shortage(error: OSError, name: str) -> Shortage | None:
    """Return the error of a file that cannot be read for lack of descriptors or memory, None for another reason."""
    if error.errno in SHORT_ERRNOS:
        return Shortage(f"{name}: {error.strerror}; raise the limit of open files (ulimit -n), or give more memory")
    return None


def is_shortage(error: BaseException) -> bool:
    """Return whether an error means that the machine has no descriptor, thread or memory left."""
    if isinstance(error, RuntimeError | ImportError):
        # Python has no class for a lack of threads, nor for one of memory for a library.
        return any(text in str(error) for text in ("can't start new thread", "failed to map segment"))
    return isinstance(error, Shortage | MemoryError) or getattr(error, "errno", None) in SHORT_ERRNOS


class Locked(SyncdError):
    """Another syncd uses the state directory."""

    exit_code = EXIT_LOCKED


class IgnoreFileError(OSError):
    """An unusable ignore file. Nothing of its directory is uploaded or deleted. strerror: the file and the reason."""


def retry_delay_s(
    attempts: int, chance: float, *, asked_s: float | None = None, longest_s: float = LONGEST_RETRY_S
) -> float:
    """Return the seconds to wait after `attempts` failed attempts (>= 1).

    The delay doubles from 5 s to `longest_s`. `chance`, a random number in [0, 1), spreads it over 75-125 %, so that
    keys or mirrors that failed together are not retried together. asked_s: the minimum delay that the remote asks for.
    """
    exponent = min(attempts - 1, 32)
    spread = 0.75 + chance / 2
    return max(min(FIRST_RETRY_S * 2.0**exponent, longest_s) * spread, asked_s or 0.0)


# -- the error of one file


def reraise_general(error: Exception) -> None:
    """Raise an error of syncd, or of the state file, again. Any other exception is unexpected and concerns one file."""
    import sqlite3

    if isinstance(error, (SyncdError, sqlite3.OperationalError)) or type(error) is sqlite3.DatabaseError:
        raise error


def file_error(error: Exception, key: str) -> SyncdError:
    """Return the error of a file for an exception in the work on it. `unexpected_error` logs an unexpected one.

    Raises Halt, Unreachable and errors of the state file again, because they end the pass.
    """
    if isinstance(error, (Halt, Unreachable)):
        raise error
    return error if isinstance(error, SyncdError) else unexpected_error(error, key)


def unexpected_error(error: Exception, key: str) -> SyncdError:
    """Log the traceback of an exception, and return an error for its file, which is retried later.

    Raises the errors that `reraise_general` raises again.
    """
    import structlog

    reraise_general(error)
    log = structlog.get_logger()
    log.error("file.failed", key=shown(key), exc_info=error)
    message = " ".join(str(error).split())[:_SHOWN_LENGTH]
    return SyncdError(
        f"unexpected {type(error).__name__}: {shown(message)}; syncd tries it again, and the log has the traceback"
    )
