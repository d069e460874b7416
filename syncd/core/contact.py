"""The contact of one mirror with its remote: answers, failures that are retried, and silence.

A context variable carries it, so that the transport can report without a parameter in targets and clients.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

GRACE_S = 1.5
"""Requests that fail for a shorter time than this, in seconds, are no trouble: most of them succeed at the next try."""
SILENT_S = 3.0
"""A remote that answers no request for this long, in seconds, is silent. Larger requests have more time."""
UPLOAD_BYTES_PER_S = 256 * 1024
"""The time that a body takes at this rate is added to SILENT_S."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why requests do not succeed at present. next_at: the time of the next try by the contact's clock, if known."""

    reason: str
    next_at: float | None = None


class Contact:
    """Collects the outcomes of requests. clock: seconds of a steady clock. wall: seconds since the epoch.

    answered_at: when the remote last carried out or refused a request (seconds since the epoch), None for never.
    """

    def __init__(self, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        self.answered_at: float | None = None
        self._clock = clock
        self._wall = wall
        self._failure: Trouble | None = None
        self._failing_since = math.inf
        self._unreachable: Trouble | None = None
        self._numbers = itertools.count()
        self._silent_at: dict[int, float] = {}

    def answered(self) -> None:
        """Note that the remote has carried out or refused a request: it works."""
        self.answered_at = self._wall()
        self._unreachable = None
        self.reset()
        # A request that was sent before this answer may still be the next one to be answered.
        now = self._clock()
        self._silent_at = {number: max(at, now + SILENT_S) for number, at in self._silent_at.items()}

    def failed(self, reason: str, pause_s: float) -> None:
        """Note that a request has failed and is tried again after a pause in seconds."""
        now = self._clock()
        if self._failure is None:
            self._failing_since = now
        self._failure = Trouble(reason, now + pause_s)

    def reset(self) -> None:
        """Forget the failures. Call it when nothing is tried again any more."""
        self._failure, self._failing_since = None, math.inf

    def looked(self, fault: str | None, pause_s: float) -> None:
        """Note whether a connection can be made while no request is under way. pause_s: seconds until the next look."""
        self._unreachable = Trouble(fault, self._clock() + pause_s) if fault else None

    @contextmanager
    def under_way(self, size: int, slow_s: float) -> Iterator[None]:
        """Note that a request is under way. size: bytes of its body. slow_s: more seconds that the remote may take."""
        number = next(self._numbers)
        self._silent_at[number] = self._clock() + SILENT_S + slow_s + size / UPLOAD_BYTES_PER_S
        try:
            yield
        finally:
            self._silent_at.pop(number, None)

    def trouble(self) -> Trouble | None:
        """Return why requests do not succeed at present, or would not. None if they do, or if nothing is known."""
        now = self._clock()
        if failure := self._failure:
            long_pause = (failure.next_at or now) - now >= GRACE_S
            if long_pause or now - self._failing_since >= GRACE_S:
                return failure
        if any(at <= now for at in self._silent_at.values()):
            return Trouble("the remote does not answer: requests are under way, and no answer comes")
        return self._unreachable


_NOBODY = Contact(lambda: 0.0, lambda: 0.0)
_current: ContextVar[Contact] = ContextVar("contact", default=_NOBODY)


def current_contact() -> Contact:
    """Return the object that collects the outcomes of the requests of the current task."""
    return _current.get()


def is_watched() -> bool:
    """Return whether an object collects the outcomes of the requests of the current task."""
    return _current.get() is not _NOBODY


@contextmanager
def reporting_to(contact: Contact) -> Iterator[None]:
    """Let the requests of this block, and of the tasks that it starts, report to an object."""
    token = _current.set(contact)
    try:
        yield
    finally:
        _current.reset(token)
        contact.reset()
