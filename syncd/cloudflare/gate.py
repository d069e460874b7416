"""One gate for every request of the process: rate, requests in flight, and "nobody sends before T"."""

import asyncio
import math
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

HOLD_LIMIT_S = 3600.0
"""Longest single hold, s. Cloudflare's own block lasts five minutes (API rate limits); whoever asks for more than an
hour is asked again after it.
"""
LONGEST_THROTTLE_S = 300.0
"""Longest hold after a 429 that names no time, s."""
RESERVE_SHARE = 0.1
RESERVE_LEAST = 5
"""Requests of a window that are left to others, such as a person at the dashboard: a tenth of it, and at least five."""
BURST_LIMIT = 10.0
"""Most requests sent back to back after a rest; small beside the 1200 per 300 s that Cloudflare allows a user."""
FIRST_THROTTLE_S = 5.0
"""First hold after a 429 that names no time, s; doubled by each further one."""

_HAIR_S = 1e-6  # a clock that adds floats may wake a hair early; without this the waiter would spin
_RATELIMIT = re.compile(r'"([^"]*)"((?:;[a-z]+=[^;,]*)*)')


def reserve(quota: float) -> float:
    """How many requests of a window of `quota` (0: unknown) are left to others; never more than half of it."""
    least = max(RESERVE_LEAST, quota * RESERVE_SHARE)
    return min(least, quota // 2) if quota else least


class Gate:
    """Lets requests through one after the other, first come first served.

    tpslimit: requests per second, 0 = no limit. transfers: requests in flight. clock and sleep: seconds, for tests.
    `waits` and `wait_s` count the requests that had to wait for rate or hold, and their seconds.
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
        """Wait for a place in flight, then for rate and hold; the place is given back at the end of the block."""
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
        """Whether all places are taken, or about to be by those who wait."""
        return self._slots.locked()

    def hold(self, seconds: float, *, asked: bool = True) -> None:
        """Let nobody send for so many seconds (at most HOLD_LIMIT_S); a hold in force is never shortened.

        asked: the remote named the time, so it does not count against anyone's patience (see own_time).
        """
        if not seconds > 0:
            return
        now = self.clock()
        until = now + min(seconds, HOLD_LIMIT_S)
        if until > self._held_until:
            self._held_until = until
            # One request feels the way first; a full burst right after a hold earns the next 429.
            self._tokens = min(1.0, self._tokens + (until - self._filled_at) * self.tpslimit)
            self._filled_at = until
        if asked and until > self._asked_until:
            self._asked_s += until - max(now, self._asked_until)
            self._asked_until = until

    def throttle(self) -> None:
        """Hold after a 429 that names no time: 5 s, doubled each time it happens again, until `relax`."""
        if self.held_s() > 0:
            return  # the other requests of the same volley
        self.hold(min(FIRST_THROTTLE_S * 2.0 ** min(self._throttles, 16), LONGEST_THROTTLE_S), asked=False)
        self._throttles += 1

    def relax(self) -> None:
        """Start the growing holds of `throttle` from the beginning: a request was answered."""
        if self.held_s() <= 0:
            self._throttles = 0

    def heed(self, limits: str | None, policies: str | None = None) -> float:
        """Hold until a window is over of which only the reserve remains; return for how many seconds, 0 for none.

        limits: a header such as `Ratelimit: "default";r=50;t=30`, what remains for how long. policies:
        `Ratelimit-Policy: "default";q=1200;w=300`, of how many. Requests in flight may not have been counted yet.
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
        """Seconds until anybody may send again; 0 or less when nothing is held."""
        return self._held_until - self.clock()

    def own_time(self) -> float:
        """Clock seconds minus those the remote asked everybody to wait: what patience is measured in."""
        now = self.clock()
        return now - (self._asked_s - max(0.0, self._asked_until - now))

    async def _pass(self) -> None:
        began = self.clock()
        waited = False
        while (delay := self._delay()) > _HAIR_S:
            waited = True
            await self.sleep(delay)
        self._tokens -= 1.0
        if waited:
            self.waits += 1
            self.wait_s += self.clock() - began

    def _delay(self) -> float:
        """Seconds until the first in the queue may send."""
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
    """The names of a header's policies, each with its fields that are whole numbers."""
    return [
        (policy[1], {name: float(value.strip()[:9]) for name, value in fields if value.strip().isdecimal()})
        for policy in _RATELIMIT.finditer(header or "")
        for fields in [[pair.split("=", 1) for pair in policy[2].split(";") if pair]]
    ]
