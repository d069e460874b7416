"""Sends every request to Cloudflare, with retries, and turns each failure into an error by remedy.

These retries end after `retry_for` seconds and are kept in memory only. After that, the queue of the mirror
(`state/queue.py`), which is stored, repeats the work for hours.
"""

import math
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Self, TypeVar

import httpx
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from syncd.cloudflare.auth import Credentials, Login
from syncd.cloudflare.exchange import Exchange, Request
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.response import Answer, Context, decode, fail
from syncd.cloudflare.trust import Trust
from syncd.core.errors import Blocked, Later, Park, Retry, SyncdError, Unreachable
from syncd.core.requests import check_base_url, current_contact, current_priority

ANSWER_LIMIT = 32 * 1024 * 1024
"""Largest JSON answer that is read, in bytes. A KV page of 1,000 keys with full metadata has 2 MB."""
BACKOFF_MIN_S = 0.2
"""Shortest pause between two tries, in seconds."""
BACKOFF_MAX_S = 20.0
"""Longest pause between two tries, in seconds, unless the remote asks for more."""
ASKED_LIMIT_S = 3600.0
"""Longest time that one request waits because the remote asks for it, in seconds. It ends a 429 that never stops."""
REFUSALS = 3
"""Number of tries after which the refusal of a proxy or firewall counts as final, if the API itself can be reached."""
REFUSED_PAUSE_S = 0.4
"""Pause between two of these tries, in seconds."""
SURE_REFUSALS, SURE_PAUSE_S, FILTER_S = 2, 0.05, 5.0
"""Tries and pause for FILTER_S seconds after a refusal for the content was final."""
REFUSED_LIMIT = 200
"""Number of refused requests in a row that counts as an outage, if no request with content is accepted in between."""
SHUT_S = 20.0
"""Seconds without another probe after a probe did not reach the API."""

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class RetryPolicy:
    """Decides when one request is tried again and when it is given up. Each loop of tries has its own object.

    A request is given up `retry_for` seconds after its first try. Time in which the remote made it wait (Retry-After
    and similar) does not count, up to ASKED_LIMIT_S. answered_at: returns when the API last answered any request, in
    the gate's own time. rng: returns numbers in [0, 1). safe: an ambiguous error is retried, too. began, began_own: the
    time of the first try by the gate's clock, and in its own time. asked_s: seconds that the remote made this request
    wait, and no other one.
    """

    gate: Gate
    answered_at: Callable[[], float | None]
    retry_for: float
    rng: Callable[[], float]
    safe: bool
    began: float
    began_own: float
    asked_s: float = 0.0

    def attempts(self, on_retry: Callable[[Retry, float], None]) -> AsyncRetrying:
        """Return the tenacity loop: `async for attempt in …: with attempt: …`.

        on_retry gets the error and the pause in seconds before each new try.
        """
        return AsyncRetrying(
            sleep=self.gate.sleep,
            retry=retry_if_exception(self._retries),
            wait=self._wait_s,
            stop=self._is_over,
            before_sleep=lambda state: self._note_pause(_error_of(state), state.upcoming_sleep, on_retry),
            retry_error_callback=self._give_up,
        )

    def _note_pause(self, error: Retry, pause_s: float, on_retry: Callable[[Retry, float], None]) -> None:
        if error.scope != "account":
            self.asked_s += error.after_s or 0.0
        on_retry(error, pause_s)

    def _retries(self, error: BaseException) -> bool:
        if not isinstance(error, Retry) or isinstance(error, (Unreachable, Later)):
            return False
        if error.scope == "request" and (error.after_s or 0.0) > current_priority().longest_wait_s:
            return False
        return self.safe or not error.ambiguous

    def _wait_s(self, state: RetryCallState) -> float:
        ceiling = min(BACKOFF_MAX_S, 2.0 * BACKOFF_MIN_S * 2.0 ** min(state.attempt_number - 1, 16))
        pause = BACKOFF_MIN_S + self.rng() * (ceiling - BACKOFF_MIN_S)
        return max(pause, _error_of(state).after_s or 0.0)

    def _is_over(self, _state: RetryCallState) -> bool:
        own = self.gate.own_time() - self.began_own - self.asked_s
        asked = self.gate.clock() - self.began - own
        return own >= self.retry_for or asked >= ASKED_LIMIT_S

    def _give_up(self, state: RetryCallState) -> None:
        error = _error_of(state)
        last = self.answered_at()
        # If every write is blocked, that is an outage, although the API answers reads meanwhile.
        if isinstance(error, Blocked) or last is None or self.gate.own_time() - last >= self.retry_for:
            silent = f"no request was answered for {self.retry_for:g} s: " if self.retry_for else ""
            raise Unreachable(
                f"{silent}{error}",
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

    def __init__(self, send: Callable[[Request], Awaitable[Answer]], trust: Trust, gate: Gate) -> None:
        self._send = send
        self._trust = trust
        self._gate = gate
        self._refused = 0
        self._shut_until = self._filtered_until = -math.inf

    async def judged(self, request: Request, send: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of `send`. Raises Park if only this content is refused, Blocked if every request is."""
        for number in range(1, REFUSALS + 1):
            # A filter that refused one content probably refuses others. In that case two tries without a probe are
            # enough.
            filtered = self._gate.clock() < self._filtered_until
            try:
                answer = await self._trust.send(request, send)
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

    async def _reaches_api(self, request: Request) -> bool:
        """Return whether the API answers the same request without its content.

        After a failure, no probe is sent for SHUT_S.
        """
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


@dataclass(frozen=True, slots=True)
class Seams:
    """Parts that a test replaces: the HTTP layer, and random numbers in [0, 1). The gate has clock and sleep."""

    http: httpx.AsyncBaseTransport | None = None
    rng: Callable[[], float] = random.random


class Transport:
    """Sends requests to one account. It has more than 12 methods: five kinds of request, and a context manager.

    timeout: seconds for one try, plus the time of its bodies. retry_for: seconds for all tries of one request. login:
    reads the credentials again; raises SyncdError if it finds none.
    Raises ValueError for a base_url that is not https (plain http is accepted for loopback only) or that holds a
    password, a query or a fragment.
    """

    def __init__(  # noqa: PLR0913 - six settings and the parts that tests replace
        self,
        base_url: str,
        account_id: str,
        credentials: Credentials,
        gate: Gate,
        *,
        timeout: float = 60.0,
        retry_for: float = 120.0,
        login: Callable[[], Credentials] | None = None,
        seams: Seams = Seams(),
    ) -> None:
        self.base_url = check_base_url(base_url)
        self.account_id = account_id
        self.login = Login(credentials, login)
        self.gate = gate
        self._retry_for = retry_for
        self._rng = seams.rng
        self._answered_at: float | None = None
        self._exchange = Exchange(self.base_url, self.login, gate, timeout, seams.http)
        self.counters = self._exchange.counters
        self.trust = Trust(self.login, gate)
        self._refusals = Refusals(self._once, self.trust, gate)

    @property
    def their_time(self) -> float | None:
        """Time of the remote's clock in its latest answer, as Unix seconds."""
        return self._exchange.their_time

    async def request(self, request: Request) -> Answer:
        """Return the answer, after as many tries as it takes.

        Raises the errors of `attempts`. If it is unknown whether a request was carried out, a request that is not
        repeatable is not sent again; its ambiguous Retry is raised at once.
        """
        return await self.ask(request, lambda answer: answer)

    async def ask(
        self,
        request: Request,
        parse: Callable[[Answer], _T],
        translated: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> _T:
        """Like `request`, with the answer parsed. A Retry of `parse` leads to another try.

        translated: opens the context of each try, which replaces an error by one that says more.
        """
        async for attempt in self.attempts(safe=request.repeatable, method=request.method, path=request.path):
            with attempt, translated():
                return parse(await self.once(request))
        raise AssertionError("attempts() ends with an answer or an error")

    async def fetch(self, request: Request, max_bytes: int) -> bytes:
        """Return the raw body of a successful answer. Raises Park for a body over max_bytes."""
        async for attempt in self.attempts(safe=request.repeatable, method=request.method, path=request.path):
            with attempt:
                return await self._refusals.judged(request, lambda: self._once_raw(request, max_bytes))
        raise AssertionError("attempts() ends with an answer or an error")

    def attempts(self, *, safe: bool = True, **fields: str) -> AsyncRetrying:
        """Return a loop of tries, which ends when its block raises no Retry.

        Use it as `async for attempt in transport.attempts(): with attempt: …`, for a write that needs a look at the
        remote between two tries. Park and Halt are raised at once, with safe = False also an ambiguous Retry. After
        retry_for the loop raises Unreachable if the API answered no request of this transport in that time, else the
        last Retry. fields are logged with each retry.
        """

        def on_retry(error: Retry, wait_s: float) -> None:
            self.counters.retries += 1
            current_contact().failed(str(error), wait_s)
            _log.info("http.retry", **fields, wait_s=round(wait_s, 3), why=str(error))

        policy = RetryPolicy(
            self.gate,
            lambda: self._answered_at,
            self._retry_for,
            self._rng,
            safe,
            self.gate.clock(),
            self.gate.own_time(),
        )
        return policy.attempts(on_retry)

    async def once(self, request: Request) -> Answer:
        """Return the answer of one try. Raises Retry, Park, NotFound, Conflict or Halt. Refusals are examined first."""
        return await self._refusals.judged(request, lambda: self._once(request))

    async def aclose(self) -> None:
        """Close all connections. The caller cancels requests in flight before."""
        await self._exchange.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _once(self, request: Request) -> Answer:
        status, headers, body = await self._exchange.send(request, ANSWER_LIMIT)
        # A token that the remote echoes must not be stored in a key, an error or a reason.
        body = self.login.hide_bytes(body)
        with self._applied(status):
            return decode(status, headers, body, self._context(request))

    async def _once_raw(self, request: Request, max_bytes: int) -> bytes:
        status, headers, body = await self._exchange.send(request, max_bytes, max_bytes)
        with self._applied(status):
            if status != httpx.codes.OK or "cf-mitigated" in headers:
                fail(status, headers, body, self._context(request))
            return body

    def _context(self, request: Request) -> Context:
        return Context(request.permission, self.login.hide, request.partial)

    @contextmanager
    def _applied(self, status: int) -> Iterator[None]:
        """Apply one answer to all requests: hold the gate after a Retry, note the time of any other answer."""
        contact = current_contact()
        try:
            yield
        except Retry as error:
            if error.scope == "request":
                self._answered()  # the other requests go on
            elif error.scope == "instance":
                pass  # the account has other instances; this request waits alone
            elif error.after_s:
                self.gate.hold(error.after_s)
            elif status == httpx.codes.TOO_MANY_REQUESTS:
                self.gate.throttle()
            raise
        except SyncdError:
            self._answered()  # a Park or Halt is an answer of the API, too
            contact.answered()
            raise
        else:
            self._answered()
            contact.answered()

    def _answered(self) -> None:
        self._answered_at = self.gate.own_time()
        self.gate.relax()
