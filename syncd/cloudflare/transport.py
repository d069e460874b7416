"""The one way to Cloudflare: a pooled HTTP client with gate, retry, counting and error map."""

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
from syncd.cloudflare.envelope import Answer, Context, decode, fail, http_date, one_line
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.messages import Form, Raw, body_of, headers_of, read
from syncd.cloudflare.refusals import Refusals
from syncd.cloudflare.request import Request
from syncd.cloudflare.retry import Patience, Pulse
from syncd.errors import Park, Retry, SyncdError

ANSWER_LIMIT = 32 * 1024 * 1024
"""Largest JSON answer that is read, bytes: a KV page of 1,000 keys with full metadata is 2 MB."""
SLOWEST_BYTES_PER_S = 32 * 1024
"""A body is given this much time on top of the timeout, so that a large file on a slow line can end at all."""
ONE_PIECE = 256 * 1024
"""A multipart body of at most so many bytes is sent in one piece: each of its dozen small parts costs a write."""

_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)

_HEADERS = {
    "User-Agent": f"syncd/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
}

_T = TypeVar("_T")

# Parsing a URL costs as much as sending it, and a pass of uploads has only one.
_url = lru_cache(maxsize=128)(httpx.URL)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counters:
    """What went over the wire. by: (method, status or "failed") -> requests; changing: requests that may have
    changed something; bytes are those of the bodies.
    """

    requests: int = 0
    changing: int = 0
    retries: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    by: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Seams:
    """What a test replaces: the HTTP layer, and chance in [0, 1). Clock and sleep are the gate's."""

    http: httpx.AsyncBaseTransport | None = None
    rng: Callable[[], float] = random.random


class Transport:
    """Sends requests to one account.

    timeout: seconds for one try (plus SLOWEST_BYTES_PER_S for its bodies). retry_for: seconds of trying one request.
    login: reads the credentials again, SyncdError if there are none just now.
    ValueError: a base_url that is not https (plain http is taken for loopback only) or that holds a password, a
    query or a fragment.
    """

    def __init__(  # noqa: PLR0913 - six settings and the seams of the tests
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
        self._pulse = Pulse()
        self._http = seams.http or make_transport(self.base_url)
        self._headers = {**_HEADERS, **credentials.headers()}
        self.their_time: float | None = None
        """What time the remote's clock showed in its latest answer, in Unix s."""
        self._login = login
        self._secrets = [credentials]
        self._refusals = Refusals(self._once, self.renew, lambda: self.credentials, gate)

    async def request(self, request: Request) -> Answer:
        """The answer, after as many tries as it takes.

        Raises what `attempts` raises. A request that is not repeatable is not sent again once it is unknown whether
        it was carried out: then the ambiguous Retry comes out at once.
        """
        return await self.ask(request, lambda answer: answer)

    async def ask(self, request: Request, parse: Callable[[Answer], _T]) -> _T:
        """Like `request`, but parsed: an answer that does not parse is tried again like any other bad answer."""
        async for attempt in self.attempts(safe=request.repeatable, method=request.method, path=request.path):
            with attempt:
                return parse(await self.once(request))
        raise AssertionError("attempts() ends with an answer or an error")

    async def download(self, request: Request, max_bytes: int) -> bytes:
        """The raw body of a successful answer, after as many tries as it takes; Park when it is over max_bytes."""
        return (await self.fetch(request, max_bytes)).content

    async def fetch(self, request: Request, max_bytes: int) -> Raw:
        """Like `download`, with the headers."""
        async for attempt in self.attempts(safe=request.repeatable, method=request.method, path=request.path):
            with attempt:
                return await self.once_raw(request, max_bytes)
        raise AssertionError("attempts() ends with an answer or an error")

    def attempts(self, *, safe: bool = True, **fields: str) -> AsyncRetrying:
        """`async for attempt in transport.attempts(): with attempt: …`: tries until no Retry is raised inside.

        For writes that must be looked up between tries. Park and Halt come out at once. When retry_for is over:
        Unreachable if no request of this transport was answered well in that time, else the last Retry.
        safe = False: an ambiguous Retry comes out at once too. fields are logged with each retry.
        """

        def on_retry(error: Retry, wait_s: float) -> None:
            self.counters.retries += 1
            _log.info("http.retry", **fields, wait_s=round(wait_s, 3), why=str(error))

        return Patience(self.gate, self._pulse, self._retry_for, self._seams.rng, safe=safe).attempts(on_retry)

    async def once(self, request: Request) -> Answer:
        """The answer of one try, or Retry, Park, NotFound, Conflict or Halt. What is refused is judged by Refusals."""
        return await self._refusals.judged(request, lambda: self._once(request))

    async def once_raw(self, request: Request, max_bytes: int) -> Raw:
        """The raw answer of one try, as in `once`; Park when its body is over max_bytes."""
        return await self._refusals.judged(request, lambda: self._once_raw(request, max_bytes))

    def renew(self) -> bool:
        """Read the credentials again. True if they have changed; the former ones stay hidden in all messages.

        Raises the SyncdError of `login`.
        """
        if self._login is None or (found := self._login()).headers() == self.credentials.headers():
            return False
        self.credentials = found
        self._secrets.append(found)
        self._headers = {**_HEADERS, **found.headers()}
        _log.info("login.renewed", consequence="requests go out with the credentials that the file holds now")
        return True

    def hide(self, text: str) -> str:
        """`text` without the credentials, present and former."""
        for each in self._secrets:
            text = each.hide(text)
        return text

    async def _once(self, request: Request) -> Answer:
        status, headers, body = await self._exchange(request)
        for each in self._secrets:
            # What the remote echoes of a token would else be kept as a key, an error or a reason.
            body = each.hide_bytes(body)
        with self._judged(status):
            return decode(status, headers, body, self._context(request))

    async def _once_raw(self, request: Request, max_bytes: int) -> Raw:
        status, headers, body = await self._exchange(request, max_bytes)
        with self._judged(status):
            if status != httpx.codes.OK or "cf-mitigated" in headers:
                fail(status, headers, body, self._context(request))
            return Raw(body, headers)

    async def aclose(self) -> None:
        """Close all connections; requests under way are the caller's to cancel."""
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
    def _judged(self, status: int) -> Iterator[None]:
        """Draw what one answer means for all requests: holds after a refusal, the pulse after an answer."""
        try:
            yield
        except Retry as error:
            if error.after_s:
                self.gate.hold(error.after_s)
            elif status == httpx.codes.TOO_MANY_REQUESTS:
                self.gate.throttle()
            raise
        except SyncdError:
            self._answered()  # a Park or Halt is an answer too: the remote is there and means it
            raise
        else:
            self._answered()

    def _answered(self) -> None:
        self._pulse.last_good = self.gate.own_time()
        self.gate.relax()

    def _context(self, request: Request) -> Context:
        return Context(request.permission, self.hide, request.partial)

    async def _exchange(self, request: Request, max_bytes: int | None = None) -> tuple[int, Mapping[str, str], bytes]:
        """One request through the gate and its whole answer; max_bytes for a raw body, else ANSWER_LIMIT."""
        limit = ANSWER_LIMIT if max_bytes is None else max_bytes
        # Made before there is a place to send it: while one request is put together, others are on their way.
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
                    # Not by a client: cookies, redirects and logins, which no API has, are a tenth of its cost.
                    response = await self._http.handle_async_request(message)
                    try:
                        headers = headers_of(response)
                        self._heed(headers)
                        body = await read(response, headers, limit)
                    finally:
                        await response.aclose()
                        # Request and response refer to each other; a body of 90 MB is not left to the cycle collector.
                        message.stream = httpx.ByteStream(b"")
            except (httpx.RequestError, TimeoutError) as error:
                self._lost(request, error)
            self.counters.by[request.method, str(response.status_code)] += 1
            self.counters.received_bytes += len(body)
            _log.debug("http.request", method=request.method, path=request.path, status=response.status_code)
        if self.gate.crowded:
            # Whoever has waited for the place sends before this answer is looked at.
            await asyncio.sleep(0)
        if response.is_success and len(body) > limit:
            raise Park("too_large", f"the answer is over {limit} bytes")
        return response.status_code, headers, body

    def _heed(self, headers: Mapping[str, str]) -> None:
        self.their_time = http_date(headers.get("date", "")) or self.their_time
        if held_s := self.gate.heed(headers.get("ratelimit"), headers.get("ratelimit-policy")):
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

    def _lost(self, request: Request, error: Exception) -> NoReturn:
        self.counters.by[request.method, "failed"] += 1
        ambiguous = not isinstance(error, _NOT_SENT)
        name = type(error).__name__
        _log.debug("http.failed", method=request.method, path=request.path, error=name)
        what = "no whole answer" if ambiguous else "could not connect"
        why = one_line(self.hide(str(error)), 200)
        raise Retry(f"{what}: {name}{why and f': {why}'}", ambiguous=ambiguous) from error
