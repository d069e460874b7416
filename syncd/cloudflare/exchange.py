"""One request as a value, and its exchange: sends it through the gate, reads the bytes of its answer, counts both."""

import asyncio
import json
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Literal, NoReturn, Protocol
from urllib.parse import quote, urlencode

import httpcore
import structlog

from syncd import __version__
from syncd.cloudflare.auth import Login
from syncd.cloudflare.faults import connection_fault
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.network import FAILED, NOT_SENT, Pool, make_pool, unrequested_answer_check
from syncd.cloudflare.proxies import other_side, parse_url
from syncd.cloudflare.response import http_date, one_line
from syncd.core.contact import current_contact
from syncd.core.errors import Park, Retry
from syncd.core.plain_text import shown_size
from syncd.core.probe_answers import Quoting

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


class Form:
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


async def _pieces(body: Stream) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece


SLOWEST_BYTES_PER_S = 32 * 1024
"""Lowest rate of a body. Its time at this rate is added to the timeout, so that a slow line can send a large file."""
ONE_PIECE = 256 * 1024
"""Largest multipart body, in bytes, that is joined before it is sent. Each piece of a body costs a write."""

_HEADERS = {
    "User-Agent": f"syncd/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "keep-alive",
}

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


class Exchange:
    """Sends requests below a base URL and returns the responses, without judging them.

    timeout: seconds for one request, plus the time of its bodies at SLOWEST_BYTES_PER_S. pool: replaces the connection
    pool. Raises ValueError for a base_url to which no request may be sent.
    """

    def __init__(self, base_url: str, login: Login, gate: Gate, timeout: float, pool: Pool | None = None) -> None:
        self.counters = Counters()
        self.their_time: float | None = None
        """Time of the remote's clock in its latest answer, as Unix seconds."""
        self._url = parse_url(base_url)
        self._login = login
        self._gate = gate
        self._timeout = timeout
        self._pool = pool or make_pool(base_url)
        self._other_side = other_side(base_url)

    async def send(self, request: Request, limit: int, expected_bytes: int = 0) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers (names in lower case) and body of the answer.

        expected_bytes: size of an answer that may take its time. Raises Retry if no whole answer comes, and Park if
        the body of a success is larger than limit.
        """
        # The message is built before it has a slot in the gate, while other requests are in flight.
        body, content_type = body_of(request)
        sent = len(body) if isinstance(body, bytes) else body.size
        message = self._build(request, body, sent, content_type)
        async with self._gate.slot(changing=request.changing):
            self.counters.requests += 1
            self.counters.changing += request.changing
            self.counters.sent_bytes += sent
            allowed_s = self._timeout + request.slow_s + (sent + expected_bytes) / SLOWEST_BYTES_PER_S
            try:
                async with asyncio.timeout(allowed_s):
                    with current_contact().under_way(sent, request.slow_s):
                        response = await self._pool.handle_async_request(message)
                    try:
                        headers = headers_of(response)
                        self._note_headers(headers)
                        answer = await read(response, headers, limit)
                    finally:
                        await response.aclose()
            except (*FAILED, DecodingError, TimeoutError) as error:
                self._raise_failed(request, error)
            self.counters.by[request.method, str(response.status)] += 1
            self.counters.received_bytes += len(answer)
            _log.debug("http.request", method=request.method, path=request.path, status=response.status)
        if self._gate.crowded:
            # The request that waited for this slot is sent before this answer is parsed.
            await asyncio.sleep(0)
        if 200 <= response.status < 300 and len(answer) > limit:
            raise Park("too_large", f"the answer is over {shown_size(limit)}")
        return response.status, headers, answer

    async def aclose(self) -> None:
        """Close all connections. The caller cancels requests in flight before."""
        await self._pool.aclose()

    def _build(self, request: Request, body: bytes | Stream, size: int, content_type: str | None) -> httpcore.Request:
        url, seconds = self._url, self._timeout
        query = f"?{urlencode(request.params)}" if request.params else ""
        headers = {"Host": url.netloc, **_HEADERS, **self._login.headers}
        if content_type:
            headers["Content-Type"] = content_type
        if size or request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = str(size)
        return httpcore.Request(
            request.method,
            httpcore.URL(scheme=url.scheme, host=url.host, port=url.port, target=f"{url.path}{request.path}{query}"),
            headers=[(name.encode(), value.encode("ascii")) for name, value in (headers | {**request.headers}).items()],
            content=body if isinstance(body, bytes) else _pieces(body),
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
        ambiguous = not isinstance(error, NOT_SENT)
        name = type(error).__name__
        _log.debug("http.failed", method=request.method, path=request.path, error=name)
        # An error before the connection has no detail of its own: httpcore keeps the cause in the chain.
        text = str(error) if ambiguous else connection_fault(error, self._other_side).message
        why = one_line(self._login.hide(text), 200)
        if not ambiguous:
            raise Retry(f"could not connect: {why}", ambiguous=False) from error
        raise Retry(f"no whole answer: {name}{why and f': {why}'}", ambiguous=True) from error


def body_of(request: Request) -> tuple[bytes | Stream, str | None]:
    """Return the body of a request and the content type that its form requires. A small multipart body is joined."""
    if request.file:
        form = Form(request.form, request.part, request.file, request.quoting)
        return b"".join(form) if form.size <= ONE_PIECE else form, form.content_type
    if request.json is not None:
        text = json.dumps(request.json, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode(), "application/json"
    return request.content or b"", None


def headers_of(response: httpcore.Response) -> dict[str, str]:
    """Return the headers with names in lower case. Values are read as Latin-1; repeated headers are joined."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in response.headers:
        name, value = raw_name.lower().decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def read(response: httpcore.Response, headers: Mapping[str, str], limit: int) -> bytes:
    """Return the decoded body. If it is longer than limit, return its beginning of at least limit + 1 bytes.

    Raises DecodingError if the body is not compressed as the headers say, or in a way that was not requested.
    """
    parts: list[bytes] = []
    size = 0
    decoder = _Decoder(headers["content-encoding"]) if "content-encoding" in headers else None
    async for piece in response.aiter_stream():
        part = decoder.decode(piece, limit + 1 - size) if decoder else piece
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    if decoder and size <= limit:
        decoder.end()
    return b"".join(parts)


class DecodingError(Exception):
    """The body of an answer cannot be decompressed."""


class _Decoder:
    """Decompresses one gzip or deflate body, at most as many bytes at a time as the caller accepts."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("gzip", "x-gzip", "deflate", "identity"):
            raise DecodingError(f"the answer is encoded as {name[:50]!r}, which was not asked for")
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
                raise DecodingError(str(error)) from error
            return self._without_header(piece, room)

    def _without_header(self, piece: bytes, room: int) -> bytes:
        """Decompress a first piece as raw deflate, which some servers send under the name of deflate."""
        self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._zlib.decompress(piece, room)
        except zlib.error as error:
            raise DecodingError(str(error)) from error

    def end(self) -> None:
        """Raise DecodingError if the body was cut short."""
        if not self._plain and self._begun and not self._zlib.eof:
            raise DecodingError("the answer's encoding is cut short")
