"""The request budget: how many requests a sliding window still allows, now and over the next minutes.

All times are seconds of one clock. `sent` is the sorted times of the requests in the present window.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

REQUEST_S = 0.3
"""The assumed duration of one request to Cloudflare, in seconds, where no rate limit gives the requests per second."""
EDIT_SHARE = 0.1
"""Share of a quota that a full pass keeps for edits while no edit has been seen."""
EDIT_SHARE_MAX = 0.3
"""Largest share of a quota that a full pass keeps for edits."""
EDIT_FLOOR = 0.01
"""Share of a quota that a full pass never uses, so that an edit does not wait for the next request to leave."""
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
    """Return the requests per second to keep for edits: a quarter more than `recent_edits` took in `over_s` seconds."""
    mean = quota.requests / quota.window_s
    return min(max(EDIT_SHARE * mean, 1.25 * recent_edits / over_s), EDIT_SHARE_MAX * mean)


def edit_reserve(quota: Quota, sent: Sequence[float], now: float, rate: float) -> float:
    """Return the number of requests that a full pass leaves unused, so that edits of `rate` per second never wait.

    Until any moment of the next window, edits need `rate` times the seconds until then. The requests that leave the
    window by then become free. The reserve covers the largest difference.
    """
    need = (rate * (at + quota.window_s - now) - gone for gone, at in enumerate(sent))
    return quota.requests * EDIT_FLOOR + max(0.0, max(need, default=0.0))


def next_free_s(quota: Quota, sent: Sequence[float], now: float, keep: float = 0.0) -> float:
    """Return the seconds until the window holds less than the quota without `keep` requests."""
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
