"""One request as a value, and its exchange: sends it through the gate, reads the bytes of its answer, counts both.

The module also chooses the TLS context and the connection pool.
"""

import asyncio
import ssl
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from secrets import token_hex
from typing import Any, Literal, NoReturn, Protocol
from urllib.parse import quote

import httpx
import structlog

from syncd import __version__
from syncd.cloudflare.auth import Login
from syncd.cloudflare.faults import connection_fault
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.proxies import other_side, parsed, proxy_of
from syncd.cloudflare.response import http_date, one_line
from syncd.core.errors import Park, Retry
from syncd.core.plain_text import shown_size
from syncd.core.probe_answers import Quoting
from syncd.core.requests import current_contact

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Stream(Protocol):
    """A body that is sent in pieces, so that memory holds it once. Each iteration begins at its start."""

    @property
    def size(self) -> int:
        """Exact number of bytes of the whole body."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the API, with at most one of json, content and file.

    path: made by `path()`, below the base URL. permission: named in the error if access is refused. reads: the request
    changes nothing although its method is not GET. safe: the request may be sent again if it is unknown whether it was
    carried out; None means all but a POST that changes something. form and file make a multipart body: the plain parts
    first, then the file, whose part is named `part` and whose name is escaped by `quoting`. slow_s: seconds that the
    remote may take beyond the timeout. partial: see Context. probe: a path whose GET changes nothing, for a request
    that carries content in its address.
    """

    method: Method
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = field(default=None, repr=False)
    content: bytes | Stream | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] = field(default_factory=dict, repr=False)
    file: tuple[str, bytes, str] | None = field(default=None, repr=False)
    part: str = "file"
    quoting: Quoting = "backslash"
    permission: str = "for this API"
    reads: bool = False
    safe: bool | None = None
    slow_s: float = 0.0
    partial: Callable[[Any], bool] | None = None
    probe: str | None = None

    @property
    def changing(self) -> bool:
        """Whether the request may change something at the remote."""
        return self.method != "GET" and not self.reads

    @property
    def repeatable(self) -> bool:
        """Whether the request may be sent again although the first one may have been carried out."""
        return self.safe if self.safe is not None else self.method != "POST" or self.reads

    @property
    def carries(self) -> bool:
        """Whether the request carries content. Something before the API may refuse it for its content."""
        return bool(self.json is not None or self.content is not None or self.form or self.file)

    def without_content(self) -> "Request | None":
        """Return a request that shows whether the API can be reached; None if this request carries no content.

        The API refuses a request without its body, and changes nothing.
        """
        if self.probe is not None:
            return Request("GET", self.probe, permission=self.permission)
        if not self.carries:
            return None
        return Request(self.method, self.path, permission=self.permission, reads=self.reads)


def path(*segments: str) -> str:
    """Return `/a/b%2Fc` for ("a", "b/c"): all characters but letters, digits and `_.-~` are percent-encoded.

    Raises ValueError for a segment that a server would not see ("", ".", "..") and for one that is no Unicode text.
    """
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise ValueError(f"{segment!r} cannot stand in a URL path")
    return "".join("/" + quote(segment, safe="") for segment in segments)


class MultipartForm:
    """A multipart body: plain parts first, then a file. A Stream of three pieces: memory holds the file once."""

    def __init__(
        self, fields: Mapping[str, str], part: str, file: tuple[str, bytes, str], quoting: Quoting = "backslash"
    ) -> None:
        name, self._content, kind = file
        self._boundary = token_hex(16)
        head = "".join(f"{self._begin(field)}\r\n\r\n{value}\r\n" for field, value in fields.items())
        head += f'{self._begin(part)}; filename="{quoted(name, quoting)}"\r\nContent-Type: {kind}\r\n\r\n'
        self._head, self._tail = head.encode(), f"\r\n--{self._boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={self._boundary}"
        self.size = len(self._head) + len(self._content) + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield from (self._head, self._content, self._tail)

    def _begin(self, name: str) -> str:
        return f'--{self._boundary}\r\nContent-Disposition: form-data; name="{quoted(name)}"'


def quoted(name: str, quoting: Quoting = "backslash") -> str:
    """Escape a name in a multipart header with backslashes: the service's runtime does not decode percent signs.

    "percent" is the way of browsers, which escape quotes only. `syncd check --probe` learns which of them is read.
    """
    if quoting == "percent":
        return name.replace('"', "%22")
    return name.replace("\\", "\\\\").replace('"', '\\"')


def body_of(content: bytes | Stream | None) -> tuple[bytes | AsyncIterator[bytes] | None, dict[str, str]]:
    """Return a request's content as httpx takes it, and the header that a stream needs."""
    if content is None or isinstance(content, bytes):
        return content, {}
    return _pieces(content), {"Content-Length": str(content.size)}


async def _pieces(body: Stream) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece


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

# Parsing a URL costs as much as sending it, and all uploads of a pass have the same one.
_url = lru_cache(maxsize=128)(httpx.URL)

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Counters:
    """Counts requests. by: (method, status or "failed") -> requests. changing: those that may change something."""

    requests: int = 0
    changing: int = 0
    retries: int = 0
    by: Counter[tuple[str, str]] = field(default_factory=Counter)


class Exchange:
    """Sends requests below a base URL and returns the responses, without judging them.

    timeout: seconds for one request, plus the time of its bodies at SLOWEST_BYTES_PER_S. http: replaces httpx's own
    transport. Raises ValueError for a base_url to which no request may be sent.
    """

    def __init__(
        self, base_url: str, login: Login, gate: Gate, timeout: float, http: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.counters = Counters()
        self.their_time: float | None = None
        """Time of the remote's clock in its latest answer, as Unix seconds."""
        self._base_url = base_url
        self._login = login
        self._gate = gate
        self._timeout = timeout
        self._http = http or make_transport(base_url)
        self._other_side = other_side(base_url)

    async def send(self, request: Request, limit: int, expected_bytes: int = 0) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers (names in lower case) and body of the answer.

        expected_bytes: size of an answer that may take its time. Raises Retry if no whole answer comes, and Park if
        the body of a success is larger than limit.
        """
        # The message is built before it has a slot in the gate, while other requests are in flight.
        message = self._build(request)
        sent = int(message.headers.get("content-length", 0))
        if sent <= ONE_PIECE:
            await message.aread()
        async with self._gate.slot(changing=request.changing):
            self.counters.requests += 1
            self.counters.changing += request.changing
            allowed_s = self._timeout + request.slow_s + (sent + expected_bytes) / SLOWEST_BYTES_PER_S
            try:
                async with asyncio.timeout(allowed_s):
                    with current_contact().under_way(sent, request.slow_s):
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
            _log.debug("http.request", method=request.method, path=request.path, status=response.status_code)
        if self._gate.crowded:
            # The request that waited for this slot is sent before this answer is parsed.
            await asyncio.sleep(0)
        if response.is_success and len(body) > limit:
            raise Park("too_large", f"the answer is over {shown_size(limit)}")
        return response.status_code, headers, body

    async def aclose(self) -> None:
        """Close all connections. The caller cancels requests in flight before."""
        await self._http.aclose()

    def _build(self, request: Request) -> httpx.Request:
        form = MultipartForm(request.form, request.part, request.file, request.quoting) if request.file else None
        body, length = body_of(form or request.content)
        if form:
            length["Content-Type"] = form.content_type
        seconds = self._timeout
        return httpx.Request(
            request.method,
            _url(self._base_url + request.path),
            params=dict(request.params) or None,
            json=request.json,
            content=body,
            headers={**_HEADERS, **self._login.headers, **request.headers, **length},
            extensions={
                "timeout": {"connect": seconds, "write": seconds, "read": seconds + request.slow_s},
                "trace": unrequested_answer_check(),
            },
        )

    def _note_headers(self, headers: Mapping[str, str]) -> None:
        self.their_time = http_date(headers.get("date", "")) or self.their_time
        if held_s := self._gate.hold_for_ratelimit(headers.get("ratelimit"), headers.get("ratelimit-policy")):
            _log.info("http.held", seconds=held_s, why="only the reserve of the rate limit is left")

    def _raise_failed(self, request: Request, error: Exception) -> NoReturn:
        self.counters.by[request.method, "failed"] += 1
        ambiguous = not isinstance(error, _NOT_SENT)
        name = type(error).__name__
        _log.debug("http.failed", method=request.method, path=request.path, error=name)
        # An error before the connection has no detail of its own: httpx keeps the cause in the chain.
        text = str(error) if ambiguous else connection_fault(error, self._other_side).message
        why = one_line(self._login.hide(text), 200)
        if not ambiguous:
            raise Retry(f"could not connect: {why}", ambiguous=False) from error
        raise Retry(f"no whole answer: {name}{why and f': {why}'}", ambiguous=True) from error


def headers_of(response: httpx.Response) -> dict[str, str]:
    """Return the headers with names in lower case. Values are read as Latin-1; repeated headers are joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.lower().decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def read(response: httpx.Response, headers: Mapping[str, str], limit: int) -> bytes:
    """Return the decoded body. If it is longer than limit, return its beginning of at least limit + 1 bytes.

    httpx's own decoders decompress a whole piece at once, which may be a thousand times as large.
    Raises httpx.DecodingError if the body is not compressed as the headers say, or in a way that was not requested.
    """
    parts: list[bytes] = []
    size = 0
    decoder = _Decoder(headers["content-encoding"]) if "content-encoding" in headers else None
    # A response that a test makes of bytes counts as read already; its stream can still be iterated.
    stream = response.stream
    async for piece in stream if isinstance(stream, httpx.AsyncByteStream) else response.aiter_raw():
        part = decoder.decode(piece, limit + 1 - size) if decoder else piece
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    if decoder and size <= limit:
        decoder.end()
    return b"".join(parts)


class _Decoder:
    """Decompresses one gzip or deflate body, at most as many bytes at a time as the caller accepts."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("gzip", "x-gzip", "deflate", "identity"):
            raise httpx.DecodingError(f"the answer is encoded as {name[:50]!r}, which was not asked for")
        self._begun = False
        self._plain = name == "identity"
        # 32 makes zlib detect gzip and zlib headers.
        self._zlib = zlib.decompressobj(32 + zlib.MAX_WBITS)

    def decode(self, piece: bytes, room: int) -> bytes:
        """Return the decompressed piece, cut to `room` bytes."""
        if self._plain or not piece:
            return piece
        begun, self._begun = self._begun, True
        try:
            return self._zlib.decompress(piece, room)
        except zlib.error as error:
            if begun:
                raise httpx.DecodingError(str(error)) from error
            return self._without_header(piece, room)

    def _without_header(self, piece: bytes, room: int) -> bytes:
        """Decompress a first piece as raw deflate, which some servers send under the name of deflate."""
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._zlib.decompress(piece, room)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error

    def end(self) -> None:
        """Raise httpx.DecodingError if the body was cut short."""
        if not self._plain and self._begun and not self._zlib.eof:
            raise httpx.DecodingError("the answer's encoding is cut short")


# -- the connection

POOL = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=5.0)
"""The gate limits the number of requests in flight, so the pool sets no limit of its own."""


def make_transport(base_url: str) -> httpx.AsyncHTTPTransport:
    """Return httpx's transport for a checked base_url. It verifies TLS and uses the proxy of the environment.

    Raises ValueError if no request may be sent to base_url, or if the proxy cannot be used.
    """
    url = parsed(base_url)
    # Plain http needs no CA file, and loading one takes longer than a request. The empty context trusts no server.
    context = httpx.create_ssl_context() if url.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # trust_env is False because `proxy_of` and the context have read the environment already.
    return httpx.AsyncHTTPTransport(verify=context, limits=POOL, trust_env=False, proxy=proxy_of(base_url))


def unrequested_answer_check() -> Callable[[str, Mapping[str, Any]], Awaitable[None]]:
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
