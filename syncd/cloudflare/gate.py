"""The gate that every request of the process passes: rate, budget, limit of requests in flight, and holds."""

import asyncio
import math
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

import structlog

from syncd.core.errors import Deferred
from syncd.core.requests import (
    EDIT_FLOOR,
    EDIT_SHARE_MAX,
    LAST_FLOOR,
    Priority,
    Quota,
    current_priority,
    edit_rate,
    edit_reserve,
    has_changed_something,
    next_free_s,
    per_second,
    seconds_for,
)

HOLD_LIMIT_S = 3600.0
"""Longest hold, in seconds. Cloudflare's own block lasts five minutes (API rate limits)."""
LONGEST_THROTTLE_S = 300.0
"""Longest hold after a 429 that names no time, in seconds."""
RESERVE_SHARE = 0.1
RESERVE_LEAST = 5
"""syncd leaves this share of a window's requests, and at least this number, to others, such as the dashboard's user."""
BURST_LIMIT = 10.0
"""Largest number of requests that `tpslimit` lets pass without a pause after a rest."""
FIRST_THROTTLE_S = 5.0
"""First hold after a 429 that names no time, in seconds. Each further 429 doubles it."""

_TOLERANCE_S = 1e-6
"""A sleep may end this much too early, as floats are added. Without a tolerance the waiter would spin."""
_LOOK_S = 0.2
"""Seconds between two looks of a request that waits for the budget: whether it gives way, and whether there is room."""
_LEAST_OVER_S = 60.0
"""Shortest time, in seconds, over which the rate of edits is measured."""
_LONG_S = 2.0
"""A wait for the budget that is longer than this, in seconds, is logged."""
_RATELIMIT = re.compile(r'"([^"]*)"((?:;[a-z]+=[^;,]*)*)')

_log = structlog.get_logger(__name__)


def reserve(quota: float) -> float:
    """Return the number of requests of a window that are left to others, at most half of `quota` (0: unknown)."""
    least = max(RESERVE_LEAST, quota * RESERVE_SHARE)
    return min(least, quota // 2) if quota else least


class Spent(Protocol):
    """The times of the requests in the present window, by a clock of their own, in seconds."""

    clock: Callable[[], float]

    def sent(self) -> Sequence[float]:
        """Return the sorted times."""

    def add(self) -> None:
        """Count a request that is sent now."""


class Budget:
    """Counts the requests of a sliding window: at most `quota.requests` in any `quota.window_s` seconds.

    Bulk requests leave a reserve to edits (see `core.requests`). spent: keeps the times.
    """

    def __init__(self, quota: Quota, spent: Spent) -> None:
        self.quota = quota
        self._spent = spent
        self._edits: deque[float] = deque()
        self._began = spent.clock()

    def left(self) -> int:
        """Return the number of requests that the present window still allows."""
        return max(0, self.quota.requests - len(self._spent.sent()))

    def seconds_for(self, requests: int, rate: float) -> float:
        """Return how long a number of requests takes from now on, at most `rate` per second."""
        return seconds_for(requests, self.quota, self._spent.sent(), self._spent.clock(), rate)

    def wait_s(self, priority: Priority) -> float:
        """Return the seconds until a request may be sent: exact for edits, a time to look again for bulk requests."""
        sent, now = self._spent.sent(), self._spent.clock()
        wait = next_free_s(self.quota, sent, now)
        left = self.quota.requests - len(sent)
        if wait > 0 or not priority.bulk or left > self.quota.requests * (EDIT_FLOOR + EDIT_SHARE_MAX):
            return wait
        if priority.left and priority.left() + self.quota.requests * LAST_FLOOR <= left:
            return 0.0
        return 0.0 if left > edit_reserve(self.quota, sent, now, self._edit_rate(now)) else _LOOK_S

    def free_s(self, priority: Priority) -> float:
        """Return the seconds until a request may be sent: exact for edits, the longest time for bulk requests."""
        sent, now = self._spent.sent(), self._spent.clock()
        if self.wait_s(priority) <= 0:
            return 0.0
        keep = edit_reserve(self.quota, sent, now, self._edit_rate(now)) if priority.bulk else 0.0
        return next_free_s(self.quota, sent, now, keep)

    def take(self, *, bulk: bool) -> None:
        """Count a request that is sent now."""
        self._spent.add()
        if not bulk:
            self._edits.append(self._spent.clock())

    def _edit_rate(self, now: float) -> float:
        while self._edits and self._edits[0] <= now - self.quota.window_s:
            self._edits.popleft()
        over_s = min(self.quota.window_s, max(_LEAST_OVER_S, now - self._began))
        return edit_rate(self.quota, len(self._edits), over_s)


class Gate:
    """Lets requests pass one after the other, in the order in which they come; edits before bulk requests.

    tpslimit: requests per second, 0 means no limit. transfers: largest number of requests in flight. budget: limits
    the requests of a window, None for no limit. clock and sleep count in seconds; tests replace them. `waits` counts
    the requests that waited for the rate, the budget or a hold, `wait_s` their seconds. answered_at: the `own_time` of
    the latest answer.
    """

    def __init__(
        self,
        tpslimit: float,
        transfers: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        budget: Budget | None = None,
    ) -> None:
        if not (math.isfinite(tpslimit) and tpslimit >= 0):
            raise ValueError("tpslimit must be 0 (no limit) or a positive number of requests per second")
        if transfers < 1:
            raise ValueError("transfers must be at least 1")
        self.tpslimit = tpslimit
        self.transfers = transfers
        self.budget = budget
        self.clock = clock
        self.sleep = sleep
        self.waits = 0
        self.wait_s = 0.0
        self.in_flight = 0
        self.answered_at: float | None = None
        self._burst = min(max(1.0, tpslimit), BURST_LIMIT)
        self._tokens = self._burst
        self._filled_at = clock()
        self._held_until = -math.inf
        self._asked_until = -math.inf
        self._asked_s = 0.0
        self._throttles = 0
        self._slots = asyncio.Semaphore(transfers)
        self._turns = {bulk: asyncio.Lock() for bulk in (False, True)}
        self._waits_until: dict[bool, float] = {}
        self._logged_at = -math.inf

    @asynccontextmanager
    async def slot(self, *, changing: bool = True) -> AsyncIterator[None]:
        """Wait for rate, budget and hold, then for a slot. The slot is free again at the end of the block.

        changing: the request may change the remote. Raises Deferred for a request that gives way while it waits (see
        `Priority`).
        """
        priority = current_priority()
        async with self._turns[priority.bulk]:
            await self._pass(priority)
        if changing:
            has_changed_something()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1
            self._slots.release()

    @property
    def share_left(self) -> float:
        """The share of the budget that is left: 0 to 1, and 1 without a budget."""
        return self.budget.left() / self.budget.quota.requests if self.budget else 1.0

    @property
    def limit(self) -> str:
        """The limit that a long pass meets, for people."""
        if self.budget:
            quota = self.budget.quota
            return f"within {quota.requests:,} requests in {quota.window_s:g} s"
        return f"at {per_second(self.tpslimit, self.transfers):.3g} requests/s"

    def seconds_for(self, requests: int) -> float:
        """Return how long a number of requests takes, in seconds, by budget, rate limit and slots."""
        rate = per_second(self.tpslimit, self.transfers)
        return self.budget.seconds_for(requests, rate) if self.budget else requests / rate

    def hold(self, seconds: float, *, asked: bool = True) -> None:
        """Let no request pass for `seconds` (at most HOLD_LIMIT_S). A present hold is never shortened.

        asked: the remote named the time, so the time does not count in own_time.
        """
        if not seconds > 0:
            return
        now = self.clock()
        until = now + min(seconds, HOLD_LIMIT_S)
        if until > self._held_until:
            self._held_until = until
            # Only one request passes at the end of a hold: a full burst would lead to the next 429.
            self._tokens = min(1.0, self._tokens + (until - self._filled_at) * self.tpslimit)
            self._filled_at = until
        if asked:
            self._count_as_asked(now, until)

    def throttle(self) -> None:
        """Hold after a 429 that names no time: FIRST_THROTTLE_S, doubled with each call until `answered`."""
        if self.held_s() > 0:
            return  # other requests of the same burst
        self.hold(min(FIRST_THROTTLE_S * 2.0 ** min(self._throttles, 16), LONGEST_THROTTLE_S), asked=False)
        self._throttles += 1

    def answered(self) -> None:
        """Note that a request was answered: the holds of `throttle` begin at FIRST_THROTTLE_S again."""
        self.answered_at = self.own_time()
        if self.held_s() <= 0:
            self._throttles = 0

    def hold_for_ratelimit(self, limits: str | None, policies: str | None = None) -> float:
        """Hold until the end of each window in which only the reserve is left. Return the seconds, 0 for no hold.

        limits: a header such as `Ratelimit: "default";r=50;t=30`: 50 requests are left for 30 s. policies: a header
        such as `Ratelimit-Policy: "default";q=1200;w=300`: the window of 300 s allows 1200 requests. The remote may not
        have counted the requests in flight yet.
        """
        if not limits:
            return 0.0
        quotas = {name: fields["q"] for name, fields in _policies(policies) if "q" in fields}
        longest = 0.0
        for name, fields in _policies(limits):
            quota = quotas.get(name, min(quotas.values(), default=0))
            if "t" in fields and fields.get("r", math.inf) - max(0, self.in_flight - 1) <= reserve(quota):
                self.hold(fields["t"])
                longest = max(longest, fields["t"])
        return min(longest, HOLD_LIMIT_S)

    def held_s(self) -> float:
        """Return the seconds until the end of the hold; 0 or less if there is none."""
        return self._held_until - self.clock()

    @property
    def waiting_s(self) -> float:
        """The seconds until every request that waits for a hold or the budget now may be sent; 0 if none waits."""
        return max(0.0, max(self._waits_until.values(), default=-math.inf) - self.clock())

    def own_time(self) -> float:
        """Return the clock's seconds without the holds that the remote asked for. Retries are limited in this time."""
        now = self.clock()
        return now - (self._asked_s - max(0.0, self._asked_until - now))

    def _count_as_asked(self, now: float, until: float) -> None:
        """Leave the time until `until` out of `own_time`."""
        if until > self._asked_until:
            self._asked_s += until - max(now, self._asked_until)
            self._asked_until = until

    async def _pass(self, priority: Priority) -> None:
        """Take a slot as soon as rate, budget and hold allow a request."""
        began = self.clock()
        waited = False
        while True:
            if await self._wait(priority):
                waited = True
            await self._slots.acquire()
            # A hold may have begun, or another request may have taken the budget, while this one waited for its slot.
            if max(self._delay(), self._budget_wait_s(priority)) <= _TOLERANCE_S:
                break
            self._slots.release()
        self._tokens -= 1.0
        if self.budget:
            self.budget.take(bulk=priority.bulk)
        if waited:
            self.waits += 1
            self.wait_s += self.clock() - began

    async def _wait(self, priority: Priority) -> bool:
        """Wait for rate, hold and budget. Return whether that took time."""
        waited = False
        try:
            while True:
                delay, budget_s = self._delay(), self._budget_wait_s(priority)
                if max(delay, budget_s) <= _TOLERANCE_S:
                    return waited
                waited = True
                self._note_wait(priority, delay)
                if delay > _TOLERANCE_S and not (priority.gives_way and delay > _LOOK_S):
                    await self.sleep(delay)
                    continue
                if priority.gives_way and priority.gives_way():
                    raise Deferred("changes are served before the rest of a full pass")
                # Another process may free or take budget at any time.
                pause = min(max(delay, budget_s), _LOOK_S if priority.gives_way else 1.0)
                if budget_s > _TOLERANCE_S:
                    self._count_as_asked(self.clock(), self.clock() + pause)
                await self.sleep(pause)
        finally:
            self._waits_until.pop(priority.bulk, None)

    def _note_wait(self, priority: Priority, delay: float) -> None:
        """Note how long a request waits, and log a long wait for the budget once in a window.

        A long pass waits again and again, so only the first wait of an edit or of a command is a warning.
        """
        now = self.clock()
        budget_s = self.budget.free_s(priority) if self.budget else 0.0
        self._waits_until[priority.bulk] = now + max(delay, budget_s)
        if self.budget is None or budget_s <= max(delay, _LONG_S):
            return
        if now >= self._logged_at + self.budget.quota.window_s:
            log = _log.info if priority.bulk or self._logged_at > -math.inf else _log.warning
            self._logged_at = now
            log("budget.waits", seconds=round(budget_s, 1), why=f"requests are sent {self.limit}; see cloudflare.quota")

    def _budget_wait_s(self, priority: Priority) -> float:
        return self.budget.wait_s(priority) if self.budget else 0.0

    def _delay(self) -> float:
        """Return the seconds until the first waiting request may pass."""
        now = self.clock()
        if now < self._held_until:
            return self._held_until - now
        if self.tpslimit == 0:
            self._tokens = self._burst
            return 0.0
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._filled_at) * self.tpslimit)
        self._filled_at = max(now, self._filled_at)
        return max(0.0, (1.0 - self._tokens) / self.tpslimit)


def _policies(header: str | None) -> list[tuple[str, dict[str, float]]]:
    """Return the name of each policy in a header, with the fields that are whole numbers."""
    return [
        (policy[1], {name: float(value.strip()[:9]) for name, value in fields if value.strip().isdecimal()})
        for policy in _RATELIMIT.finditer(header or "")
        for fields in [[pair.split("=", 1) for pair in policy[2].split(";") if pair]]
    ]
