"""The requests to the remote, without HTTP: the base URL, the budget, the priority, and the contact of a mirror.

Context variables carry the priority and the contact of a task, so that targets and clients need no parameter for them.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit


def check_base_url(base_url: str) -> str:
    """Return base_url without a trailing slash. Raises ValueError, which never quotes it, for a URL that is refused."""
    try:
        url = urlsplit(base_url)
        host, _ = url.hostname, url.port
    except ValueError:
        raise ValueError("base_url is no URL") from None
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("base_url must hold no user, password, query or fragment")
    if url.scheme not in ("http", "https") or not host:
        raise ValueError("base_url must begin with https://")
    if url.scheme == "http" and not is_loopback(host):
        raise ValueError("base_url must be https; plain http is allowed for loopback only")
    return base_url.rstrip("/")


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine, without DNS."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


# -- the budget: how many requests a sliding window still allows, now and over the next minutes
#
# All times are seconds of one clock. `sent` is the sorted times of the requests in the present window.

REQUEST_S = 0.3
"""The assumed duration of one request to Cloudflare, in seconds, where no rate limit gives the requests per second."""
EDIT_SHARE = 0.1
"""Smallest share of a quota that a full pass keeps for edits."""
EDIT_SHARE_MAX = 0.3
"""Largest share of a quota that a full pass keeps for edits."""
EDIT_FLOOR = 0.01
"""Share of a quota that a full pass never uses, so that an edit does not wait until a request leaves the window."""
LAST_FLOOR = 0.03
"""Share of a quota that a full pass leaves to edits if all its requests fit into the window."""
_QUOTA = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{1,6}(?:\.[0-9]{1,3})?)\s*(s|m|h)?")
_UNITS = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


class Quota(NamedTuple):
    """The number of requests that any window of `window_s` seconds may hold."""

    requests: int
    window_s: float


def parse_quota(text: str) -> Quota | None:
    """Return the quota that a text such as "1050/300s" means, None for "". Raises ValueError for any other text."""
    if not text:
        return None
    found = _QUOTA.fullmatch(text)
    quota = Quota(int(found[1]), float(found[2]) * _UNITS[found[3]]) if found else Quota(0, 0.0)
    if quota.requests < 1 or not 1 <= quota.window_s <= 86400:
        raise ValueError('should be requests/window, such as "1050/300s" (a window of 1 s to 24 h), or "" for no limit')
    return quota


def per_second(tpslimit: float, transfers: int) -> float:
    """Return the requests per second that a rate limit (0: none) and a number of slots allow."""
    rate = transfers / REQUEST_S
    return min(tpslimit, rate) if tpslimit else rate


def edit_rate(quota: Quota, recent_edits: int, over_s: float) -> float:
    """Return the requests per second to keep for edits: a quarter more than their rate in the last `over_s` seconds.

    The result is at least EDIT_SHARE and at most EDIT_SHARE_MAX of the quota.
    """
    mean = quota.requests / quota.window_s
    return min(max(EDIT_SHARE * mean, 1.25 * recent_edits / over_s), EDIT_SHARE_MAX * mean)


def edit_reserve(quota: Quota, sent: Sequence[float], now: float, rate: float) -> float:
    """Return the number of requests that a full pass leaves unused, so that edits of `rate` per second never wait.

    Up to each moment of the next window, edits need `rate` times the seconds up to it, and the requests that have left
    the window are free again. The reserve is the largest difference of the two numbers, plus EDIT_FLOOR of the quota.
    """
    need = (rate * (at + quota.window_s - now) - gone for gone, at in enumerate(sent))
    return quota.requests * EDIT_FLOOR + max(0.0, max(need, default=0.0))


def next_free_s(quota: Quota, sent: Sequence[float], now: float, keep: float = 0.0) -> float:
    """Return the seconds until one more request may be sent. keep: the requests of the quota that stay unused."""
    over = len(sent) - int(quota.requests - keep)
    if over < 0:
        return 0.0
    return max(0.0, sent[min(over, len(sent) - 1)] + quota.window_s - now)


def seconds_for(requests: int, quota: Quota, sent: Sequence[float], now: float, rate: float) -> float:
    """Return how long a number of requests takes within a quota, at most `rate` per second."""
    size, window_s = quota
    # From the second window on, the pattern of the first one repeats.
    whole, rest = divmod(requests - size, size) if requests > 2 * size else (0, requests - size)
    times = list(sent)[-size:]
    free = size - len(times)
    at = now
    for number in range(rest + size):
        leaves = times[number - free] + window_s if number >= free else now
        at = max(at + 1 / rate, leaves)
        times.append(at)
    return at - now + whole * max(window_s, size / rate)


# -- the priority of the requests that the current task makes


@dataclass(frozen=True, slots=True)
class Priority:
    """The priority of requests.

    bulk: the requests of a full pass of the daemon, which leave a part of the budget to edits. gives_way: returns
    whether the gate should raise Deferred and not let the caller wait for the budget. After the task has changed
    something, the gate no longer asks. left: returns the number of requests that the pass still needs. If all of them
    fit into the window of the budget, a smaller part of the window is kept for edits. longest_wait_s: if the remote
    asks a single request to wait longer, the request is given up, and its key is tried again after that time.
    """

    bulk: bool = False
    gives_way: Callable[[], bool] | None = None
    left: Callable[[], int] | None = None
    longest_wait_s: float = math.inf


_EDIT = Priority()
_priority: ContextVar[Priority] = ContextVar("priority", default=_EDIT)


def current_priority() -> Priority:
    """Return the priority of the current task."""
    return _priority.get()


@contextmanager
def requests_at(priority: Priority) -> Iterator[None]:
    """Give the requests of this block, and of the tasks that it starts, a priority."""
    token = _priority.set(priority)
    try:
        yield
    finally:
        _priority.reset(token)


def has_changed_something() -> None:
    """Note that a request of the current task changes the remote. Later requests of the task do not give way."""
    if _priority.get().gives_way:
        _priority.set(replace(_priority.get(), gives_way=None))


# -- the contact with the remote: answers, failures that are retried, and silence

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
        self._silent_at: dict[object, float] = {}

    def answered(self) -> None:
        """Note that the remote has carried out or refused a request: it works."""
        self.answered_at = self._wall()
        self._unreachable = None
        self.reset()
        # The remote answers, so each request under way gets at least SILENT_S more seconds.
        now = self._clock()
        self._silent_at = {request: max(at, now + SILENT_S) for request, at in self._silent_at.items()}

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
        """Note the result of an attempt to connect, made while no request is under way.

        fault: why it failed, None if it did not. pause_s: seconds until the next attempt.
        """
        self._unreachable = Trouble(fault, self._clock() + pause_s) if fault else None

    @contextmanager
    def under_way(self, size: int, slow_s: float) -> Iterator[None]:
        """Note that a request is under way. size: bytes of its body. slow_s: more seconds that the remote may take."""
        request = object()
        self._silent_at[request] = self._clock() + SILENT_S + slow_s + size / UPLOAD_BYTES_PER_S
        try:
            yield
        finally:
            self._silent_at.pop(request, None)

    def trouble(self) -> Trouble | None:
        """Return why requests do not succeed, or would not succeed now. None: they succeed, or nothing is known."""
        now = self._clock()
        if failure := self._failure:
            long_pause = (failure.next_at or now) - now >= GRACE_S
            if long_pause or now - self._failing_since >= GRACE_S:
                return failure
        if any(at <= now for at in self._silent_at.values()):
            return Trouble("the remote does not answer: requests are under way, and no answer comes")
        return self._unreachable


_NOBODY = Contact(lambda: 0.0, lambda: 0.0)
_contact: ContextVar[Contact] = ContextVar("contact", default=_NOBODY)


def current_contact() -> Contact:
    """Return the object that collects the outcomes of the requests of the current task."""
    return _contact.get()


def is_watched() -> bool:
    """Return whether an object collects the outcomes of the requests of the current task."""
    return _contact.get() is not _NOBODY


@contextmanager
def reporting_to(contact: Contact) -> Iterator[None]:
    """Let the requests of this block, and of the tasks that it starts, report to an object."""
    token = _contact.set(contact)
    try:
        yield
    finally:
        _contact.reset(token)
        contact.reset()
