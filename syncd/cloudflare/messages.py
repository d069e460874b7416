"""What requests and answers are to the HTTP library: bodies as it sends them, headers and bodies as it gets them."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

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
    """The body; when it is longer than limit, its beginning and at least one byte more than limit."""
    parts: list[bytes] = []
    size = 0
    # As it comes, if it comes as it is: each layer around it is a tenth of the cost of a small answer.
    stream = response.stream
    pieces = response.aiter_bytes()
    if isinstance(stream, httpx.AsyncByteStream) and "content-encoding" not in headers:
        pieces = aiter(stream)
    async for part in pieces:
        parts.append(part)
        size += len(part)
        if size > limit:
            break
    return b"".join(parts)
