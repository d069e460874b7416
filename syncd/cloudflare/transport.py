"""Sends every request to Cloudflare, with retries, and turns each failure into an error that names its remedy.

These retries end after `retry_for` seconds and are kept in memory only. After that, the queue of the mirror
(`state/queue.py`), which is stored, repeats the work for hours.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self, TypeVar

import httpx
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from syncd.cloudflare.auth import Credentials, Login, RefusalRetry
from syncd.cloudflare.connection import connection_fault, make_transport, other_side
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request, build
from syncd.cloudflare.response import Answer, Response, http_date, one_line, read_body
from syncd.core.errors import Blocked, Later, Park, Retry, SyncdError, Unreachable
from syncd.core.plain_text import shown_size
from syncd.core.requests import check_base_url, current_contact, current_priority

ANSWER_LIMIT = 32 * 1024 * 1024
"""Maximum bytes of a JSON answer. A KV page of 1,000 keys with full metadata has 2 MB."""
BACKOFF_MIN_S = 0.2
"""Shortest pause between two tries, in seconds."""
BACKOFF_MAX_S = 20.0
"""Longest pause between two tries, in seconds, unless the remote asks for more."""
ASKED_LIMIT_S = 3600.0
"""Maximum seconds that one request waits because the remote asks for it. A remote may answer 429 for ever."""
REFUSED_PAUSE_S = 1.0
"""Pause before a request that a proxy or firewall refused is sent again, in seconds."""
REFUSED_LIMIT = 200
"""Number of refused requests in a row that counts as an outage, if no request with content is accepted in between."""
SHUT_S = 20.0
"""Seconds without another probe after a probe did not reach the API."""
SLOWEST_BYTES_PER_S = 32 * 1024
"""Lowest rate of a body. Its time at this rate is added to the timeout, so that a slow line can send a large file."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counters:
    """Counts requests. by: (method, status or "failed") -> requests. changing: requests that may change something."""

    requests: int = 0
    changing: int = 0
    retries: int = 0
    by: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(slots=True)
class RetryPolicy:
    """Decides when one request is tried again and when it is given up. Each loop of tries has its own object.

    A request is given up `retry_for` seconds after its first try. Time in which the remote made it wait (Retry-After
    and similar) does not count, up to ASKED_LIMIT_S. rng: returns numbers in [0, 1). safe: an ambiguous error is
    retried, too. fields: logged with each retry. began, began_own: the time of the first try, by the gate's `clock` and
    by its `own_time`. asked_s: seconds for which the remote asked this request alone to wait.
    """

    gate: Gate
    counters: Counters
    retry_for: float
    rng: Callable[[], float]
    safe: bool
    fields: Mapping[str, str]
    began: float
    began_own: float
    asked_s: float = 0.0

    def attempts(self) -> AsyncRetrying:
        """Return the tenacity loop: `async for attempt in …: with attempt: …`."""
        return AsyncRetrying(
            sleep=self.gate.sleep,
            retry=retry_if_exception(self._retries),
            wait=self._wait_s,
            stop=self._is_over,
            before_sleep=self._note_pause,
            retry_error_callback=self._give_up,
        )

    def _note_pause(self, state: RetryCallState) -> None:
        error, pause_s = _error_of(state), state.upcoming_sleep
        if error.scope != "account":
            self.asked_s += error.after_s or 0.0
        self.counters.retries += 1
        current_contact().failed(str(error), pause_s)
        _log.info("http.retry", **self.fields, wait_s=round(pause_s, 3), why=str(error))

    def _retries(self, error: BaseException) -> bool:
        if not isinstance(error, Retry) or isinstance(error, (Unreachable, Later)):
            return False
        if error.scope == "request" and (error.after_s or 0.0) > current_priority().longest_wait_s:
            return False
        return self.safe or not error.ambiguous

    def _wait_s(self, state: RetryCallState) -> float:
        ceiling = min(BACKOFF_MAX_S, 2.0 * BACKOFF_MIN_S * 2.0 ** min(state.attempt_number - 1, 16))
        pause = BACKOFF_MIN_S + self.rng() * (ceiling - BACKOFF_MIN_S)
        # The last try is made at the end of the time, even if the pause would be longer.
        left = max(BACKOFF_MIN_S, self.retry_for - self._own_s())
        return max(min(pause, left), _error_of(state).after_s or 0.0)

    def _is_over(self, _state: RetryCallState) -> bool:
        own = self._own_s()
        asked = self.gate.clock() - self.began - own
        return own >= self.retry_for or asked >= ASKED_LIMIT_S

    def _own_s(self) -> float:
        """Return the seconds since the first try, without the time for which the remote asked."""
        return self.gate.own_time() - self.began_own - self.asked_s

    def _give_up(self, state: RetryCallState) -> None:
        error = _error_of(state)
        last = self.gate.answered_at
        # A request that stays blocked means an outage, although the API may answer other requests meanwhile.
        if isinstance(error, Blocked) or last is None or self.gate.own_time() - last >= self.retry_for:
            silent = f"no request was answered for {self.retry_for:g} s: " if self.retry_for else ""
            message, after_s = f"{silent}{error}", error.after_s
            raise Unreachable(message, after_s=after_s, ambiguous=error.ambiguous, status=error.status) from error
        raise error


def _error_of(state: RetryCallState) -> Retry:
    """Return the error of the last try. `_retries` accepts no other type."""
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, Retry):
        raise TypeError("only a Retry is retried")
    return error


class Refusals:
    """Finds out whether a proxy or firewall refuses the content of a request, or every request.

    send_probe: sends a request without its content, once.
    """

    def __init__(
        self, send_probe: Callable[[Request], Awaitable[Answer]], refusal_retry: RefusalRetry, gate: Gate
    ) -> None:
        self._send_probe = send_probe
        self._refusal_retry = refusal_retry
        self._gate = gate
        self._refused = 0
        self._shut_until = -math.inf

    async def send(self, request: Request, send: Callable[[], Awaitable[_T]]) -> _T:
        """Return the answer of `send`. Raises Park if only this content is refused, Blocked if every request is.

        The content is refused if `send` is refused twice and a probe between these two tries reaches the API.
        """
        try:
            answer = await self._refusal_retry.send(request, send)
        except Blocked:
            if not await self._reaches_api(request):
                raise
            await self._gate.sleep(REFUSED_PAUSE_S)
            try:
                answer = await self._refusal_retry.send(request, send)
            except Blocked as error:
                raise self._content_refused(error) from error
        if request.has_content:
            self._refused = 0
        return answer

    async def _reaches_api(self, request: Request) -> bool:
        """Return whether the API answers the same request without its content.

        After a failure, no probe is sent for SHUT_S.
        """
        probe = request.without_content()
        if probe is None or self._gate.clock() < self._shut_until:
            return False
        try:
            await self._send_probe(probe)
        except Retry:
            self._shut_until = self._gate.clock() + SHUT_S
            return False
        except SyncdError:
            return True  # any other error is an answer of the API itself
        return True

    def _content_refused(self, error: Blocked) -> Park:
        self._refused += 1
        if self._refused >= REFUSED_LIMIT:
            self._refused = 0
            self._shut_until = self._gate.clock() + SHUT_S
        reason = "the API can be reached, but a proxy or firewall before it refuses what this request carries"
        return Park("refused", f"{reason}: {error}", status=error.status)


class Transport:
    """Sends requests to one account. It has more than 12 methods: five kinds of request, and a context manager.

    timeout: seconds for one try, plus the time of its bodies at SLOWEST_BYTES_PER_S. retry_for: seconds for all tries
    of one request. login: reads the credentials again; raises SyncdError if it finds none. http, rng: tests replace
    the HTTP layer, and the random numbers in [0, 1).
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
        http: httpx.AsyncBaseTransport | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self.base_url = check_base_url(base_url)
        self.account_id = account_id
        self.login = Login(credentials, login)
        self.gate = gate
        self.counters = Counters()
        self.refusal_retry = RefusalRetry(self.login, gate)
        self._timeout = timeout
        self._retry_for = retry_for
        self._rng = rng
        self._http = http or make_transport(self.base_url)
        self._other_side = other_side(self.base_url)
        self._refusals = Refusals(self._once, self.refusal_retry, gate)
        self._date = ""

    @property
    def their_time(self) -> float | None:
        """Time of the remote's clock in its latest answer, as Unix seconds. None if no answer gave it."""
        return http_date(self._date)

    async def request(self, request: Request) -> Answer:
        """Return the answer of a request. Repeat a failed try, see `attempts`.

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
        """Return the result of `parse` for the answer of a request. A Retry of `parse` leads to another try.

        translated: returns the context of each try, which may replace an error by a more specific error.
        """

        async def send() -> _T:
            with translated():
                return parse(await self.once(request))

        return await self._repeat(request, send)

    async def fetch(self, request: Request, max_bytes: int) -> bytes:
        """Return the raw body of a successful answer. Raises Park for a body over max_bytes."""

        async def send() -> bytes:
            response = await self._send(request, max_bytes, max_bytes)
            return self._judge(response, response.content)

        return await self._repeat(request, lambda: self._refusals.send(request, send))

    async def once(self, request: Request) -> Answer:
        """Return the answer of one try. Raises Retry, Park, NotFound, Conflict or Halt. Refusals are examined first."""
        return await self._refusals.send(request, lambda: self._once(request))

    def attempts(self, *, safe: bool = True, **fields: str) -> AsyncRetrying:
        """Return a loop of tries, which ends when its block raises no Retry.

        Use it as `async for attempt in transport.attempts(): with attempt: …`, for a write that needs a look at the
        remote between two tries. Park and Halt are raised at once, with safe = False also an ambiguous Retry. After
        retry_for the loop raises Unreachable if the API answered no request in that time, else the last Retry. fields
        are logged with each retry.
        """
        began, began_own = self.gate.clock(), self.gate.own_time()
        policy = RetryPolicy(self.gate, self.counters, self._retry_for, self._rng, safe, fields, began, began_own)
        return policy.attempts()

    async def aclose(self) -> None:
        """Close all connections. The caller cancels requests in flight before."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _repeat(self, request: Request, send: Callable[[], Awaitable[_T]]) -> _T:
        async for attempt in self.attempts(safe=request.repeatable, method=request.method, path=request.path):
            with attempt:
                return await send()
        raise AssertionError("attempts() ends with an answer or an error")

    async def _once(self, request: Request) -> Answer:
        response = await self._send(request, ANSWER_LIMIT)
        # If the remote repeats the token, it must not be stored in a key, an error or a reason.
        response.body = self.login.hide_bytes(response.body)
        return self._judge(response, lambda: response.answer(request.is_partial))

    async def _send(self, request: Request, limit: int, expected_bytes: int = 0) -> Response:
        """Send a request through the gate, and return its response without judging it.

        expected_bytes: the size of a large answer, which extends the time limit. Raises Retry if no whole answer
        comes, and Park if the body of a success is larger than limit.
        """
        # The message is built before the request takes a slot of the gate, while other requests are in flight.
        seconds = {"connect": self._timeout, "write": self._timeout, "read": self._timeout + request.slow_s}
        extensions = {"timeout": seconds, "trace": _unrequested_answer_check()}
        message = build(request, self.base_url, self.login.credentials.headers, extensions)
        sent = int(message.headers.get("content-length", 0))
        allowed_s = self._timeout + request.slow_s + (sent + expected_bytes) / SLOWEST_BYTES_PER_S
        async with self.gate.slot(changing=request.changing):
            self.counters.requests += 1
            self.counters.changing += request.changing
            try:
                async with asyncio.timeout(allowed_s):
                    with current_contact().under_way(sent, request.slow_s):
                        response = await self._http.handle_async_request(message)
                    try:
                        self._note_headers(response.headers)
                        body = await read_body(response, limit)
                    finally:
                        await response.aclose()
            except (httpx.RequestError, TimeoutError) as error:
                self._raise_failed(request, error)
            self.counters.by[request.method, str(response.status_code)] += 1
            _log.debug("http.request", method=request.method, path=request.path, status=response.status_code)
        if response.is_success and len(body) > limit:
            raise Park("too_large", f"the answer is over {shown_size(limit)}")
        return Response(response.status_code, response.headers, body, request.permission)

    def _note_headers(self, headers: Mapping[str, str]) -> None:
        self._date = headers.get("date") or self._date
        if held_s := self.gate.hold_for_ratelimit(headers.get("ratelimit"), headers.get("ratelimit-policy")):
            _log.info("http.held", seconds=held_s, why="only the reserve of the rate limit is left")

    def _raise_failed(self, request: Request, error: Exception) -> NoReturn:
        self.counters.by[request.method, "failed"] += 1
        ambiguous = not isinstance(error, _NOT_SENT)
        name = type(error).__name__
        _log.debug("http.failed", method=request.method, path=request.path, error=name)
        # An error before the connection has no detail of its own: httpx keeps the cause in the chain.
        text = str(error) if ambiguous else connection_fault(error, self._other_side).message
        why = one_line(text, 200)
        if not ambiguous:
            raise Retry(f"could not connect: {why}", ambiguous=False) from error
        raise Retry(f"no whole answer: {name}{why and f': {why}'}", ambiguous=True) from error

    def _judge(self, response: Response, read: Callable[[], _T]) -> _T:
        """Return the result of a response, and apply it to all requests.

        A Retry holds the gate. Any other answer shows that the remote works.
        """
        try:
            result = read()
        except Retry as error:
            if error.scope == "request":
                self.gate.answered()  # the other requests go on
            elif error.scope == "instance":
                pass  # the account has other instances; this request waits alone
            elif error.after_s:
                self.gate.hold(error.after_s)
            elif response.status == httpx.codes.TOO_MANY_REQUESTS:
                self.gate.throttle()
            raise
        except SyncdError:
            self.gate.answered()  # a Park or Halt is an answer of the API, too
            current_contact().answered()
            raise
        self.gate.answered()
        current_contact().answered()
        return result


def _unrequested_answer_check() -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
    """Return a value for the extension "trace" of one request, which fails on an answer that came before the request.

    A server may send a second answer behind the first one. httpx would take it for the answer to the next request on
    that connection, and each later answer for the answer to the request after its own. The head of a requested answer
    is read from the socket, so the event loop turns at least once between the two events. Raises
    httpx.RemoteProtocolError, after which httpx closes the connection.
    """
    turned = asyncio.Event()

    async def trace(event: str, info: Mapping[str, Any]) -> None:
        del info
        if event == "http11.receive_response_headers.started":
            asyncio.get_running_loop().call_soon(turned.set)
        elif event == "http11.receive_response_headers.complete" and not turned.is_set():
            raise httpx.RemoteProtocolError("the connection held an answer that nobody had requested")

    return trace
