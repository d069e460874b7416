"""Errors by remedy: what must happen next, not where it came from.

Retry: the same thing may succeed later. Park: this content cannot succeed. Halt: this mirror cannot go on.
Brake: a person must agree first. ConfigError: nothing was started. Anything else that escapes is a bug (exit 70).
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The values are many dataclasses, and every command imports its errors.
    from syncd.core.model import ProblemKind

FIRST_RETRY_S = 5.0
LONGEST_RETRY_S = 3600.0

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


class SyncdError(Exception):
    """Base of all errors a user may meet. `str(error)` is one line that names the remedy."""

    exit_code = EXIT_PROBLEMS
    needs_person = False
    """True if waiting does not help."""


class Retry(SyncdError):
    """The remote did not do it this time.

    after_s: the seconds the remote asked us to wait, or None. ambiguous: the request may have been carried out
    all the same (connection lost after sending, 5xx), so a write must be looked up before it is sent again.
    status: the HTTP status of the answer, None when there was none.
    """

    exit_code = EXIT_UNREACHABLE

    def __init__(
        self, message: str, *, after_s: float | None = None, ambiguous: bool = False, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.after_s = after_s
        self.ambiguous = ambiguous
        self.status = status


class DiskRetry(Retry):
    """The disk did not do it this time: a stale handle, a network file system that is away, no descriptor left."""

    exit_code = EXIT_PROBLEMS
    kind: "ProblemKind" = "failed"


class Blocked(Retry):
    """Something on the way to the API refused the request: a status 4xx, or a redirect, without the API's envelope."""


class Unreachable(Retry):
    """No request was answered well for `retry_for` seconds; the pass ends and keeps the rest for the next one."""

    exit_code = EXIT_UNREACHABLE


class FileChanged(SyncdError):
    """The file changed or vanished between plan and read. The file is observed again; this is not a failure."""


class Deferred(SyncdError):
    """Urgent work waits. The put moves to the next batch of the same pass."""


class Unexpected(SyncdError):
    """An exception that nobody expected while one file was dealt with: tried again later, the others go on."""


class Park(SyncdError):
    """This content cannot succeed; it is shown, and tried again when the file changes.

    kind: the problem kind of the contract. code: the remote's own error code, if it gave one. status: the HTTP
    status of its answer, None when nothing was sent.
    """

    def __init__(
        self, kind: "ProblemKind", message: str, *, code: int | None = None, status: int | None = None
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.status = status


class NotFound(Park):
    """The remote has no such item. The caller usually knows better than to park: an absent item is deleted."""

    def __init__(self, message: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__("failed", message, code=code, status=status)


class Conflict(Park):
    """The key exists already (AI Search 7042): look it up, then replace it or see that it is ours."""

    def __init__(self, message: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__("failed", message, code=code, status=status)


class TooMuch(Park):
    """One request held more entries than the remote takes or manages (413, 524): send it in two halves.

    Never raised for a single entry. After a 524 some or all of them may have been written.
    """

    def __init__(self, message: str, *, code: int | None = None, status: int | None = None) -> None:
        super().__init__("too_large", message, code=code, status=status)


class Halt(SyncdError):
    """This mirror cannot go on until a person acts: root gone, authentication refused, target missing, quota gone."""

    exit_code = EXIT_HALT
    needs_person = True


class AuthHalt(Halt):
    """The API refused the credentials. A token file that has changed since may hold the right ones."""


class RootHalt(Halt):
    """The folder is not what it was: missing, empty, another mount. It may come back by itself."""


class StateHalt(Halt):
    """The state file cannot be written: its disk is full, or fails. Nothing is lost by it, and it may be over soon."""


class StateBusy(StateHalt):
    """Another process has locked the state file for longer than syncd waits at a time. Nothing is lost by it."""


class StateDamaged(StateHalt):
    """The state file is no database any more. It is a cache: a new one is built from the folder and the remote."""


class StateGone(StateHalt):
    """The state directory was removed or replaced: another syncd could hold it by now, so this one must end."""


class TargetMissing(Halt):
    """The instance, namespace or index is not there; `create = true` would make it."""


class Brake(SyncdError):
    """The plan deletes more than `max_delete` allows; nothing of it was applied."""

    exit_code = EXIT_BRAKE
    needs_person = True


class ConfigError(SyncdError):
    """The configuration or the command line is wrong; nothing was started."""

    exit_code = EXIT_CONFIG


class Locked(SyncdError):
    """Another syncd holds the state directory."""

    exit_code = EXIT_LOCKED


class IgnoreFileError(OSError):
    """An ignore file that cannot be obeyed, so that its folder is neither taken nor deleted. strerror names both."""


def retry_delay_s(attempts: int, chance: float, *, asked_s: float | None = None) -> float:
    """Return the seconds to wait after `attempts` failed attempts (>= 1).

    The delay doubles from 5 s to one hour. `chance`, a random number in [0, 1), spreads it over 75-125 %, so that keys
    that failed together are not retried together. asked_s: the least delay, as asked for by the remote.
    """
    exponent = min(attempts - 1, 32)
    spread = 0.75 + chance / 2
    return max(min(FIRST_RETRY_S * 2.0**exponent, LONGEST_RETRY_S) * spread, asked_s or 0.0)
