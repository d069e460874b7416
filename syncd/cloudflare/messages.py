"""What requests and answers are to the HTTP library: bodies as it sends them, headers and bodies as it gets them."""

import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from secrets import token_hex

import httpx

from syncd.cloudflare.request import Stream


@dataclass(frozen=True, slots=True)
class Raw:
    """An answer that is no envelope: its body, and its headers with names in lower case."""

    content: bytes = field(repr=False)
    headers: Mapping[str, str]


class Pieces:
    """A Stream as the HTTP library wants it."""

    def __init__(self, body: Stream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._body:
            yield piece


class Form:
    """A multipart body: plain parts first, then a file. It is sent in three pieces, so the file is never held twice."""

    def __init__(self, fields: Mapping[str, str], part: str, file: tuple[str, bytes, str]) -> None:
        name, self._content, kind = file
        self._boundary = token_hex(16)
        head = "".join(f"{self._begin(field)}\r\n\r\n{value}\r\n" for field, value in fields.items())
        head += f'{self._begin(part)}; filename="{quoted(name)}"\r\nContent-Type: {kind}\r\n\r\n'
        self._head, self._tail = head.encode(), f"\r\n--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        """The header that goes with it."""
        return f"multipart/form-data; boundary={self._boundary}"

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        return len(self._head) + len(self._content) + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield from (self._head, self._content, self._tail)

    def _begin(self, name: str) -> str:
        return f'--{self._boundary}\r\nContent-Disposition: form-data; name="{quoted(name)}"'


def quoted(name: str) -> str:
    """A name between quotes in a multipart header: backslashes, as the service's runtime reads no percent signs."""
    return name.replace("\\", "\\\\").replace('"', '\\"')


def body_of(content: bytes | Stream | None) -> tuple[bytes | Pieces | None, dict[str, str]]:
    """A request's content, and the header that it needs of ours."""
    if content is None or isinstance(content, bytes):
        return content, {}
    return Pieces(content), {"Content-Length": str(content.size)}


def headers_of(response: httpx.Response) -> dict[str, str]:
    """The headers by their names in lower case. Of the library's own, each look-up costs as much as all of this."""
    found: dict[str, str] = {}
    for raw_name, raw_value in response.headers.raw:
        name, value = raw_name.lower().decode("latin-1"), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


async def read(response: httpx.Response, headers: Mapping[str, str], limit: int) -> bytes:
    """The body; when it is longer than limit, its beginning and at least one byte more than limit.

    Raises httpx.DecodingError if it is no gzip or deflate although it says so, or is encoded otherwise, or twice.
    """
    parts: list[bytes] = []
    size = 0
    # As it comes: each layer around it is a tenth of the cost of a small answer, and the library's own decoders make
    # of a piece whatever it unfolds to.
    stream = response.stream
    pieces = aiter(stream) if isinstance(stream, httpx.AsyncByteStream) else response.aiter_raw()
    decoder = _Decoder(headers["content-encoding"]) if "content-encoding" in headers else None
    async for piece in pieces:
        part = decoder.decode(piece, limit + 1 - size) if decoder else piece
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    if decoder and size <= limit:
        decoder.end()
    return b"".join(parts)


class _Decoder:
    """Unfolds one body that was asked for as gzip or deflate, never further than it is told."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in ("gzip", "x-gzip", "deflate", "identity"):
            raise httpx.DecodingError(f"the answer is encoded as {name[:50]!r}, which was not asked for")
        self._begun = False
        self._plain = name == "identity"
        # 32: whether it is gzip or zlib, its first bytes say.
        self._made = zlib.decompressobj(32 + zlib.MAX_WBITS)

    def decode(self, piece: bytes, room: int) -> bytes:
        """What the next piece unfolds to, as far as there is room."""
        if self._plain or not piece:
            return piece
        begun, self._begun = self._begun, True
        try:
            return self._made.decompress(piece, room)
        except zlib.error as error:
            if begun:
                raise httpx.DecodingError(str(error)) from error
            return self._without_header(piece, room)

    def _without_header(self, piece: bytes, room: int) -> bytes:
        """What some servers take deflate for."""
        self._made = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            return self._made.decompress(piece, room)
        except zlib.error as error:
            raise httpx.DecodingError(str(error)) from error

    def end(self) -> None:
        """Raise httpx.DecodingError if the body was cut short."""
        if not self._plain and self._begun and not self._made.eof:
            raise httpx.DecodingError("the answer's encoding is cut short")
