"""The gate that every request of the process passes: rate limit, limit of requests in flight, and holds."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

HOLD_LIMIT_S = 3600.0
"""Longest hold, in seconds. Cloudflare's own block lasts five minutes (API rate limits)."""
LONGEST_THROTTLE_S = 300.0
"""Longest hold after a 429 that names no time, in seconds."""
RESERVE_SHARE = 0.1
RESERVE_LEAST = 5
"""syncd leaves this share of a window's requests, and at least this number, to others, such as the dashboard's user."""
BURST_LIMIT = 10.0
"""Largest number of requests sent without a pause after a rest. Cloudflare allows a user 1200 in 300 s."""
FIRST_THROTTLE_S = 5.0
"""First hold after a 429 that names no time, in seconds. Each further 429 doubles it."""

_TOLERANCE_S = 1e-6
"""A sleep may end this much too early, as floats are added. Without a tolerance the waiter would spin."""
_RATELIMIT = re.compile(r'"([^"]*)"((?:;[a-z]+=[^;,]*)*)')


def reserve(quota: float) -> float:
    """Return the number of requests of a window that are left to others, at most half of `quota` (0: unknown)."""
    least = max(RESERVE_LEAST, quota * RESERVE_SHARE)
    return min(least, quota // 2) if quota else least


class Gate:
    """Lets requests pass one after the other, in the order in which they come.

    tpslimit: requests per second, 0 means no limit. transfers: largest number of requests in flight. clock and sleep
    count in seconds; tests replace them. `waits` counts the requests that waited for the rate or for a hold, `wait_s`
    their seconds.
    """

    def __init__(
        self,
        tpslimit: float,
        transfers: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not (math.isfinite(tpslimit) and tpslimit >= 0):
            raise ValueError("tpslimit must be 0 (no limit) or a positive number of requests per second")
        if transfers < 1:
            raise ValueError("transfers must be at least 1")
        self.tpslimit = tpslimit
        self.transfers = transfers
        self.clock = clock
        self.sleep = sleep
        self.waits = 0
        self.wait_s = 0.0
        self.in_flight = 0
        self._burst = min(max(1.0, tpslimit), BURST_LIMIT)
        self._tokens = self._burst
        self._filled_at = clock()
        self._held_until = -math.inf
        self._asked_until = -math.inf
        self._asked_s = 0.0
        self._throttles = 0
        self._slots = asyncio.Semaphore(transfers)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot, then for rate and hold. The slot is free again at the end of the block."""
        async with self._slots:
            async with self._turn:
                await self._pass()
            self.in_flight += 1
            try:
                yield
            finally:
                self.in_flight -= 1

    @property
    def crowded(self) -> bool:
        """Whether no slot is free for a new request."""
        return self._slots.locked()

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
        if asked and until > self._asked_until:
            self._asked_s += until - max(now, self._asked_until)
            self._asked_until = until

    def throttle(self) -> None:
        """Hold after a 429 that names no time: FIRST_THROTTLE_S, doubled with each call until `relax`."""
        if self.held_s() > 0:
            return  # other requests of the same burst
        self.hold(min(FIRST_THROTTLE_S * 2.0 ** min(self._throttles, 16), LONGEST_THROTTLE_S), asked=False)
        self._throttles += 1

    def relax(self) -> None:
        """Let the holds of `throttle` begin at FIRST_THROTTLE_S again. Called when a request was answered."""
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

    def own_time(self) -> float:
        """Return the clock's seconds without the holds that the remote asked for. Retries are limited in this time."""
        now = self.clock()
        return now - (self._asked_s - max(0.0, self._asked_until - now))

    async def _pass(self) -> None:
        began = self.clock()
        waited = False
        while (delay := self._delay()) > _TOLERANCE_S:
            waited = True
            await self.sleep(delay)
        self._tokens -= 1.0
        if waited:
            self.waits += 1
            self.wait_s += self.clock() - began

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
