"""The first of two retry layers: seconds, in memory, one request. The queue is the other: minutes to hours, durable."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from syncd.cloudflare.gate import Gate
from syncd.errors import Blocked, Retry, Unreachable

BACKOFF_MIN_S = 0.2
"""Shortest pause between two tries, s."""
BACKOFF_MAX_S = 20.0
"""Longest pause between two tries, s, unless the remote asks for more."""
ASKED_LIMIT_S = 3600.0
"""Longest that one request waits because the remote asked for it, s; a remote that says 429 for ever ends a pass."""


@dataclass(slots=True)
class Pulse:
    """When a request was last answered well, in the gate's own time; None = never."""

    last_good: float | None = None


class Patience:
    """When one request is tried again and when it is given up; one object for each loop of tries.

    Given up after `retry_for` seconds since the first try. Seconds in which the remote made everybody wait
    (Retry-After and the like) are not counted, up to ASKED_LIMIT_S. rng gives numbers in [0, 1).
    """

    def __init__(
        self, gate: Gate, pulse: Pulse, retry_for: float, rng: Callable[[], float] = random.random, *, safe: bool = True
    ) -> None:
        self._gate = gate
        self._pulse = pulse
        self._retry_for = retry_for
        self._rng = rng
        self._safe = safe
        self._began = gate.clock()
        self._began_own = gate.own_time()

    def attempts(self, on_retry: Callable[[Retry, float], None]) -> AsyncRetrying:
        """The tenacity loop: `async for attempt in …: with attempt: …`.

        on_retry is called with the failure and the pause in seconds before each new try.
        """
        return AsyncRetrying(
            sleep=self._gate.sleep,
            retry=retry_if_exception(self._again),
            wait=self._wait_s,
            stop=self._enough,
            before_sleep=lambda state: on_retry(_of(state), state.upcoming_sleep),
            retry_error_callback=self._give_up,
        )

    def _again(self, error: BaseException) -> bool:
        if not isinstance(error, Retry) or isinstance(error, Unreachable):
            return False
        return self._safe or not error.ambiguous

    def _wait_s(self, state: RetryCallState) -> float:
        ceiling = min(BACKOFF_MAX_S, 2.0 * BACKOFF_MIN_S * 2.0 ** min(state.attempt_number - 1, 16))
        pause = BACKOFF_MIN_S + self._rng() * (ceiling - BACKOFF_MIN_S)
        return max(pause, _of(state).after_s or 0.0)

    def _enough(self, _state: RetryCallState) -> bool:
        own = self._gate.own_time() - self._began_own
        asked = self._gate.clock() - self._began - own
        return own >= self._retry_for or asked >= ASKED_LIMIT_S

    def _give_up(self, state: RetryCallState) -> None:
        error = _of(state)
        good = self._pulse.last_good
        # A way that is shut for writes is an outage, too, whatever is answered to questions meanwhile.
        if isinstance(error, Blocked) or good is None or self._gate.own_time() - good >= self._retry_for:
            raise Unreachable(
                f"no request was answered for {self._retry_for:g} s: {error}",
                after_s=error.after_s,
                ambiguous=error.ambiguous,
                status=error.status,
            ) from error
        raise error


def _of(state: RetryCallState) -> Retry:
    """The failure tenacity asks about; `_again` let nothing but a Retry come this far."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Retry):
        raise TypeError("only a Retry is retried")
    return error
