"""The counters of requests, and the limit of the service on requests in any window of time, with its headers."""

import math
import re
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, NamedTuple

_READING_POSTS = ("/search", "/chat/completions", "/bulk/get", "/query", "/get_by_ids")
_MODEL_RUN = "/ai/run/"
_QUOTA = re.compile(r"([0-9]{1,9})/([0-9]{1,9}(?:\.[0-9]{1,6})?)s?")


class RequestCounts:
    """The number of requests by endpoint, since the start or the last reset.

    routes: "METHOD template" -> number. total: all requests. changing: requests that may change data: POST, PUT, PATCH
    and DELETE, except searches, bulk reads and runs of a model. Refused requests count, because they cost the caller
    the same. embedded_texts: the texts that models embedded.
    """

    def __init__(self) -> None:
        self.routes: Counter[str] = Counter()
        self.total = 0
        self.changing = 0
        self.embedded_texts = 0

    def count(self, method: str, template: str) -> None:
        """Count one request; `template` is the path of the endpoint with its parameters in braces."""
        self.routes[f"{method} {template}"] += 1
        self.total += 1
        reading = template.endswith(_READING_POSTS) or _MODEL_RUN in template
        if method in {"POST", "PUT", "PATCH", "DELETE"} and not reading:
            self.changing += 1

    def reset(self) -> None:
        """Set every counter to zero."""
        self.routes.clear()
        self.total = self.changing = self.embedded_texts = 0

    def as_json(self) -> dict[str, Any]:
        """Return {"total", "changing", "embedded_texts", "routes"}."""
        return vars(self) | {"routes": dict(self.routes)}


class Quota(NamedTuple):
    """requests: accepted in any window of `seconds`. Source: 1,200 in 300 s, Cloudflare's "Rate limits"."""

    requests: int
    seconds: float


def read_quota(text: str) -> Quota:
    """Return the value of the option `quota`, e.g. "1200/300". ValueError unless both numbers are above 0."""
    match = _QUOTA.fullmatch(text)
    if match is None or not (int(match[1]) and float(match[2])):
        raise ValueError("quota must be N/S: N requests in any S seconds, e.g. 1200/300")
    return Quota(int(match[1]), float(match[2]))


class QuotaWindow:
    """Counts the requests of the last `quota.seconds`. One window serves all tokens, as if one user owned them.

    The request that exceeds the quota is refused, and so is every request of the next `quota.seconds`. Refused
    requests do not prolong the block; whether they do in the service is unknown.

    most: the highest number of requests in any window, refused ones included, since the start or the last reset.
    refused: the number of requests answered 429.
    """

    def __init__(self, quota: Quota, clock: Callable[[], float]) -> None:
        self.quota = quota
        self.most = self.refused = 0
        self._clock = clock
        self._arrivals: deque[float] = deque()
        self._accepted: deque[float] = deque()
        self._blocked_until = -math.inf

    def admit(self) -> float:
        """Count one request. Return 0 if it is accepted, else the seconds until the end of the block."""
        now = self._clock()
        self._forget(now)
        self._arrivals.append(now)
        self.most = max(self.most, len(self._arrivals))
        if now >= self._blocked_until and len(self._accepted) >= self.quota.requests:
            self._blocked_until = now + self.quota.seconds
        if now < self._blocked_until:
            self.refused += 1
            return self._blocked_until - now
        self._accepted.append(now)
        return 0.0

    def headers(self) -> dict[str, str]:
        """Return Ratelimit and Ratelimit-Policy for the next answer."""
        now = self._clock()
        self._forget(now)
        remaining, reset = 0, self._blocked_until - now
        if reset <= 0:
            remaining = self.quota.requests - len(self._accepted)
            reset = self._accepted[0] + self.quota.seconds - now if self._accepted else self.quota.seconds
        return {
            "Ratelimit": f'"default";r={remaining};t={math.ceil(reset)}',
            "Ratelimit-Policy": f'"default";q={self.quota.requests};w={math.ceil(self.quota.seconds)}',
        }

    def reset(self) -> None:
        """Start the two counters again. The window and a block go on."""
        self._forget(self._clock())
        self.most, self.refused = len(self._arrivals), 0

    def as_json(self) -> dict[str, Any]:
        """Return {"requests", "seconds", "now", "most", "refused"}; now: the requests in the present window."""
        self._forget(self._clock())
        return self.quota._asdict() | {"now": len(self._arrivals), "most": self.most, "refused": self.refused}

    def _forget(self, now: float) -> None:
        for times in (self._arrivals, self._accepted):
            while times and times[0] <= now - self.quota.seconds:
                times.popleft()
