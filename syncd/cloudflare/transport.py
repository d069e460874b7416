"""Sends every request to Cloudflare, through the gate, with retries and counters."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from types import TracebackType
from typing import NoReturn, Self, TypeVar

import httpx
import structlog
from tenacity import AsyncRetrying

from syncd import __version__
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.base_url import check_base_url
from syncd.cloudflare.connect import make_transport, unrequested_answer_check
from syncd.cloudflare.errors import Context, http_date, one_line
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Form, Request, body_of
from syncd.cloudflare.response import Answer, Raw, decode, fail, headers_of, read
from syncd.cloudflare.retry import LastAnswer, Refusals, RetryPolicy
from syncd.errors import Park, Retry, SyncdError

ANSWER_LIMIT = 32 * 1024 * 1024
"""Largest JSON answer that is read, in bytes. A KV page of 1,000 keys with full metadata has 2 MB."""
SLOWEST_BYTES_PER_S = 32 * 1024
"""Lowest rate of a body. Its time at this rate is added to the timeout, so that a slow line can send a large file."""
ONE_PIECE = 256 * 1024
"""Largest multipart body, in bytes, that is joined before it is sent. Each piece of a body costs a write."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)

_HEADERS = {
    "User-Agent": f"syncd/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
}

_T = TypeVar("_T")

# Parsing a URL costs as much as sending it, and all uploads of a pass have the same one.
_url = lru_cache(maxsize=128)(httpx.URL)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counters:
    """Counts requests and bytes. by: (method, status or "failed") -> requests. changing: requests that may have changed
    something. sent_bytes, received_bytes: bytes of the bodies.
    """

    requests: int = 0
    changing: int = 0
    retries: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    by: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Seams:
    """Parts that a test replaces: the HTTP layer, and random numbers in [0, 1). The gate has clock and sleep."""

    http: httpx.AsyncBaseTransport | None = None
    rng: Callable[[], float] = random.random


class Transport:
    """Sends requests to one account.

    timeout: seconds for one try, plus the time of its bodies at SLOWEST_BYTES_PER_S. retry_for: seconds for all tries
    of one request. login: reads the credentials again; raises SyncdError if it finds none.
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
        self.credentials = credentials
        self.gate = gate
        self.counters = Counters()
        self._timeout = timeout
        self._retry_for = retry_for
        self._seams = seams
        self._last_answer = LastAnswer()
        self._http = seams.http or make_transport(self.base_url)
        self._headers = {**_HEADERS, **credentials.headers()}
        self.their_time: float | None = None
        """Time of the remote's clock in its latest answer, as Unix seconds."""
        self._login = login
        self._secrets = [credentials]
        self._refusals = Refusals(self._once, self.renew, lambda: self.credentials, gate)

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

        policy = RetryPolicy(self.gate, self._last_answer, self._retry_for, self._seams.rng, safe=safe)
        return policy.attempts(on_retry)

    async def once(self, request: Request) -> Answer:
        """Return the answer of one try. Raises Retry, Park, NotFound, Conflict or Halt. Refusals are examined first."""
        return await self._refusals.judged(request, lambda: self._once(request))

    async def once_raw(self, request: Request, max_bytes: int) -> Raw:
        """Return the raw answer of one try, as `once` does. Raises Park if its body is larger than max_bytes."""
        return await self._refusals.judged(request, lambda: self._once_raw(request, max_bytes))

    def renew(self) -> bool:
        """Read the credentials again and return whether they have changed. Messages hide the former ones, too.

        Raises the SyncdError of `login`.
        """
        if self._login is None or (credentials := self._login()).headers() == self.credentials.headers():
            return False
        self.credentials = credentials
        self._secrets.append(credentials)
        self._headers = {**_HEADERS, **credentials.headers()}
        _log.info("login.renewed", consequence="requests go out with the credentials that the file holds now")
        return True

    def hide(self, text: str) -> str:
        """Return `text` without the present and the former credentials."""
        for credentials in self._secrets:
            text = credentials.hide(text)
        return text

    async def _once(self, request: Request) -> Answer:
        status, headers, body = await self._exchange(request)
        for credentials in self._secrets:
            # A token that the remote echoes must not be stored in a key, an error or a reason.
            body = credentials.hide_bytes(body)
        with self._applied(status):
            return decode(status, headers, body, self._context(request))

    async def _once_raw(self, request: Request, max_bytes: int) -> Raw:
        status, headers, body = await self._exchange(request, max_bytes)
        with self._applied(status):
            if status != httpx.codes.OK or "cf-mitigated" in headers:
                fail(status, headers, body, self._context(request))
            return Raw(body, headers)

    async def aclose(self) -> None:
        """Close all connections. The caller cancels requests in flight before."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"Transport({self.base_url})"

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

    def _context(self, request: Request) -> Context:
        return Context(request.permission, self.hide, request.partial)

    async def _exchange(self, request: Request, max_bytes: int | None = None) -> tuple[int, Mapping[str, str], bytes]:
        """Send one request through the gate and read its answer. max_bytes: limit of a raw body, else ANSWER_LIMIT."""
        limit = ANSWER_LIMIT if max_bytes is None else max_bytes
        # The message is built before it has a slot in the gate, while other requests are in flight.
        message = self._build(request)
        sent = int(message.headers.get("content-length", 0))
        if sent <= ONE_PIECE:
            await message.aread()
        async with self.gate.slot():
            self.counters.requests += 1
            self.counters.changing += request.changing
            self.counters.sent_bytes += sent
            allowed = self._timeout + request.slow_s + (sent + (max_bytes or 0)) / SLOWEST_BYTES_PER_S
            try:
                async with asyncio.timeout(allowed):
                    response = await self._http.handle_async_request(message)
                    try:
                        headers = headers_of(response)
                        self._note_headers(headers)
                        body = await read(response, headers, limit)
                    finally:
                        await response.aclose()
            except (httpx.RequestError, TimeoutError) as error:
                self._raise_failed(request, error)
            self.counters.by[request.method, str(response.status_code)] += 1
            self.counters.received_bytes += len(body)
            _log.debug("http.request", method=request.method, path=request.path, status=response.status_code)
        if self.gate.crowded:
            # The request that waited for this slot is sent before this answer is parsed.
            await asyncio.sleep(0)
        if response.is_success and len(body) > limit:
            raise Park("too_large", f"the answer is over {limit} bytes")
        return response.status_code, headers, body

    def _note_headers(self, headers: Mapping[str, str]) -> None:
        self.their_time = http_date(headers.get("date", "")) or self.their_time
        if held_s := self.gate.hold_for_ratelimit(headers.get("ratelimit"), headers.get("ratelimit-policy")):
            _log.info("http.held", seconds=held_s, why="only the reserve of the rate limit is left")

    def _build(self, request: Request) -> httpx.Request:
        form = Form(request.form, request.part, request.file) if request.file else None
        body, length = body_of(form or request.content)
        if form:
            length["Content-Type"] = form.content_type
        seconds = self._timeout
        return httpx.Request(
            request.method,
            _url(self.base_url + request.path),
            params=dict(request.params) or None,
            json=request.json,
            content=body,
            headers={**self._headers, **request.headers, **length},
            extensions={
                "timeout": {"connect": seconds, "write": seconds, "read": seconds + request.slow_s},
                "trace": unrequested_answer_check(),
            },
        )

    def _raise_failed(self, request: Request, error: Exception) -> NoReturn:
        self.counters.by[request.method, "failed"] += 1
        ambiguous = not isinstance(error, _NOT_SENT)
        name = type(error).__name__
        _log.debug("http.failed", method=request.method, path=request.path, error=name)
        what = "no whole answer" if ambiguous else "could not connect"
        why = one_line(self.hide(str(error)), 200)
        raise Retry(f"{what}: {name}{why and f': {why}'}", ambiguous=ambiguous) from error
