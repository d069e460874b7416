"""Sends every request to Cloudflare, with retries, and turns each failure into an error by remedy."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar

import httpx
import structlog
from tenacity import AsyncRetrying

from syncd.cloudflare.auth import Credentials, Login
from syncd.cloudflare.errors import Context
from syncd.cloudflare.exchange import Counters, Exchange
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request
from syncd.cloudflare.response import Answer, Raw, decode, fail
from syncd.cloudflare.retry import LastAnswer, Refusals, RetryPolicy
from syncd.core.base_url import check_base_url
from syncd.core.errors import Retry, SyncdError

ANSWER_LIMIT = 32 * 1024 * 1024
"""Largest JSON answer that is read, in bytes. A KV page of 1,000 keys with full metadata has 2 MB."""

_T = TypeVar("_T")

_log = structlog.get_logger(__name__)


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
        self._last_answer = LastAnswer()
        self._exchange = Exchange(self.base_url, self.login, gate, timeout, seams.http)
        self._refusals = Refusals(self._once, self.login, gate)

    @property
    def counters(self) -> Counters:
        """Counts of requests and bytes."""
        return self._exchange.counters

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

    async def ask(self, request: Request, parse: Callable[[Answer], _T]) -> _T:
        """Like `request`, with the answer parsed. A Retry of `parse` leads to another try."""
        async for attempt in self.attempts(safe=request.repeatable, method=request.method, path=request.path):
            with attempt:
                return parse(await self.once(request))
        raise AssertionError("attempts() ends with an answer or an error")

    async def download(self, request: Request, max_bytes: int) -> bytes:
        """Return the raw body of a successful answer. Raises Park if it is larger than max_bytes."""
        return (await self.fetch(request, max_bytes)).content

    async def fetch(self, request: Request, max_bytes: int) -> Raw:
        """Like `download`, with the headers."""
        async for attempt in self.attempts(safe=request.repeatable, method=request.method, path=request.path):
            with attempt:
                return await self.once_raw(request, max_bytes)
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
            _log.info("http.retry", **fields, wait_s=round(wait_s, 3), why=str(error))

        policy = RetryPolicy(self.gate, self._last_answer, self._retry_for, self._rng, safe=safe)
        return policy.attempts(on_retry)

    async def once(self, request: Request) -> Answer:
        """Return the answer of one try. Raises Retry, Park, NotFound, Conflict or Halt. Refusals are examined first."""
        return await self._refusals.judged(request, lambda: self._once(request))

    async def once_raw(self, request: Request, max_bytes: int) -> Raw:
        """Return the raw answer of one try, as `once` does. Raises Park if its body is larger than max_bytes."""
        return await self._refusals.judged(request, lambda: self._once_raw(request, max_bytes))

    async def aclose(self) -> None:
        """Close all connections. The caller cancels requests in flight before."""
        await self._exchange.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _once(self, request: Request) -> Answer:
        status, headers, body = await self._exchange.send(request, ANSWER_LIMIT)
        # A token that the remote echoes must not be stored in a key, an error or a reason.
        body = self.login.hide_bytes(body)
        with self._applied(status):
            return decode(status, headers, body, self._context(request))

    async def _once_raw(self, request: Request, max_bytes: int) -> Raw:
        status, headers, body = await self._exchange.send(request, max_bytes, max_bytes)
        with self._applied(status):
            if status != httpx.codes.OK or "cf-mitigated" in headers:
                fail(status, headers, body, self._context(request))
            return Raw(body, headers)

    def _context(self, request: Request) -> Context:
        return Context(request.permission, self.login.hide, request.partial)

    @contextmanager
    def _applied(self, status: int) -> Iterator[None]:
        """Apply one answer to all requests: hold the gate after a Retry, note the time of any other answer."""
        try:
            yield
        except Retry as error:
            if error.after_s:
                self.gate.hold(error.after_s)
            elif status == httpx.codes.TOO_MANY_REQUESTS:
                self.gate.throttle()
            raise
        except SyncdError:
            self._answered()  # a Park or Halt is an answer of the API, too
            raise
        else:
            self._answered()

    def _answered(self) -> None:
        self._last_answer.at = self.gate.own_time()
        self.gate.relax()
