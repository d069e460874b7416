"""Tries one request again for seconds, in memory. The queue is the durable layer: it tries again for hours."""

import math
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from syncd.cloudflare.auth import Login
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request
from syncd.cloudflare.response import Answer
from syncd.core.errors import AuthHalt, Blocked, Park, Retry, SyncdError, Unreachable

BACKOFF_MIN_S = 0.2
"""Shortest pause between two tries, in seconds."""
BACKOFF_MAX_S = 20.0
"""Longest pause between two tries, in seconds, unless the remote asks for more."""
ASKED_LIMIT_S = 3600.0
"""Longest time that one request waits because the remote asks for it, in seconds. It ends a 429 that never stops."""
REFUSALS = 3
"""Number of tries after which a refusal on the way counts as final, if the API itself can be reached."""
REFUSED_PAUSE_S = 0.4
"""Pause between two of these tries, in seconds."""
SURE_REFUSALS, SURE_PAUSE_S, FILTER_S = 2, 0.05, 5.0
"""Tries and pause for FILTER_S seconds after a refusal for the content was final."""
REFUSED_LIMIT = 200
"""Number of refused requests in a row that counts as an outage, if no request with content is accepted in between."""
SHUT_S = 20.0
"""Seconds without another probe after a probe did not reach the API."""

_T = TypeVar("_T")


@dataclass(slots=True)
class LastAnswer:
    """When the API last answered a request, in the gate's own time; None if it never did."""

    at: float | None = None


class RetryPolicy:
    """Decides when one request is tried again and when it is given up. Each loop of tries has its own object.

    A request is given up `retry_for` seconds after its first try. Time in which the remote made every request wait
    (Retry-After and similar) does not count, up to ASKED_LIMIT_S. rng returns numbers in [0, 1).
    """

    def __init__(
        self,
        gate: Gate,
        last_answer: LastAnswer,
        retry_for: float,
        rng: Callable[[], float] = random.random,
        *,
        safe: bool = True,
    ) -> None:
        self._gate = gate
        self._last_answer = last_answer
        self._retry_for = retry_for
        self._rng = rng
        self._safe = safe
        self._began = gate.clock()
        self._began_own = gate.own_time()

    def attempts(self, on_retry: Callable[[Retry, float], None]) -> AsyncRetrying:
        """Return the tenacity loop: `async for attempt in …: with attempt: …`.

        on_retry gets the error and the pause in seconds before each new try.
        """
        return AsyncRetrying(
            sleep=self._gate.sleep,
            retry=retry_if_exception(self._retries),
            wait=self._wait_s,
            stop=self._is_over,
            before_sleep=lambda state: on_retry(_error_of(state), state.upcoming_sleep),
            retry_error_callback=self._give_up,
        )

    def _retries(self, error: BaseException) -> bool:
        if not isinstance(error, Retry) or isinstance(error, Unreachable):
            return False
        return self._safe or not error.ambiguous

    def _wait_s(self, state: RetryCallState) -> float:
        ceiling = min(BACKOFF_MAX_S, 2.0 * BACKOFF_MIN_S * 2.0 ** min(state.attempt_number - 1, 16))
        pause = BACKOFF_MIN_S + self._rng() * (ceiling - BACKOFF_MIN_S)
        return max(pause, _error_of(state).after_s or 0.0)

    def _is_over(self, _state: RetryCallState) -> bool:
        own = self._gate.own_time() - self._began_own
        asked = self._gate.clock() - self._began - own
        return own >= self._retry_for or asked >= ASKED_LIMIT_S

    def _give_up(self, state: RetryCallState) -> None:
        error = _error_of(state)
        last = self._last_answer.at
        # If every write is blocked, that is an outage, although the API answers reads meanwhile.
        if isinstance(error, Blocked) or last is None or self._gate.own_time() - last >= self._retry_for:
            raise Unreachable(
                f"no request was answered for {self._retry_for:g} s: {error}",
                after_s=error.after_s,
                ambiguous=error.ambiguous,
                status=error.status,
            ) from error
        raise error


def _error_of(state: RetryCallState) -> Retry:
    """Return the error that tenacity asks about. `_retries` accepts no other type."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Retry):
        raise TypeError("only a Retry is retried")
    return error


class Refusals:
    """Tries a refused request again, until it is clear whether the credentials or the content are refused.

    send: sends a request once.
    """

    def __init__(self, send: Callable[[Request], Awaitable[Answer]], login: Login, gate: Gate) -> None:
        self._send = send
        self._login = login
        self._gate = gate
        self._refused = 0
        self._shut_until = self._filtered_until = -math.inf

    async def judged(self, request: Request, send: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of `send`. Raises Park if only this content is refused, Blocked if every request is."""
        for number in range(1, REFUSALS + 1):
            # A filter that refused one content refuses others, too. Two tries are enough then, without a probe.
            filtered = self._gate.clock() < self._filtered_until
            used = self._login.credentials
            try:
                answer = await send()
            except AuthHalt as error:
                if number == REFUSALS or (self._login.credentials is used and not self._renewed(error)):
                    raise
            except Blocked as error:
                if not (filtered and request.without_content()) and not await self._reaches_api(request):
                    raise
                if number >= (SURE_REFUSALS if filtered else REFUSALS):
                    raise self._content_refused(error, filtered=filtered) from error
                await self._gate.sleep(SURE_PAUSE_S if filtered else REFUSED_PAUSE_S)
            else:
                if request.carries:
                    self._refused = 0
                return answer
        raise AssertionError("the last try ends with an answer or an error")

    def _renewed(self, error: AuthHalt) -> bool:
        try:
            return self._login.renew()
        except SyncdError as reading:
            # A file that is being written holds no token for a moment.
            raise Retry(f"{error}; the credentials cannot be read again now: {reading}") from error

    async def _reaches_api(self, request: Request) -> bool:
        """Return whether the API answers the same request without its content. Probes pause for SHUT_S after a no."""
        probe = request.without_content()
        if probe is None or self._gate.clock() < self._shut_until:
            return False
        try:
            await self._send(probe)
        except Retry:
            self._shut_until = self._gate.clock() + SHUT_S
            return False
        except SyncdError:
            return True  # any other error is an answer of the API itself
        return True

    def _content_refused(self, error: Blocked, *, filtered: bool) -> Park:
        self._refused += 1
        if not filtered:
            self._filtered_until = self._gate.clock() + FILTER_S
        if self._refused >= REFUSED_LIMIT:
            self._refused, self._filtered_until = 0, -math.inf
            self._shut_until = self._gate.clock() + SHUT_S
        reason = "the API can be reached, but a proxy or firewall before it refuses what this request carries"
        return Park("refused", f"{reason}: {error}", status=error.status)
