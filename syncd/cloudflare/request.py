"""One request as a value, and the HTTP message that it becomes."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from secrets import token_hex
from typing import Any, Literal, Protocol
from urllib.parse import quote

import httpx

from syncd import __version__
from syncd.core.probe_answers import Quoting

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

ONE_PIECE = 256 * 1024
"""Largest body, in bytes, that is joined before it is sent. Each piece of a body costs a write."""

_HEADERS = {
    "User-Agent": f"syncd/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Connection": "keep-alive",
}

# Parsing a URL costs as much as sending it, and all uploads of a pass have the same one.
_url = lru_cache(maxsize=128)(httpx.URL)


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

    path: made by `path()`, below the base URL. params: the query; a value None leaves its parameter out. permission:
    named in the error if access is refused. reads: the request changes nothing although its method is not GET. safe:
    the request may be sent again if it is unknown whether it was carried out; None means all but a POST that changes
    something. form and file make a multipart body: the plain parts first, then the file, whose part is named `part` and
    whose name is escaped by `quoting`. slow_s: seconds that the remote may take beyond the timeout. is_partial: returns
    whether the result of a failed request lists its done and its undone parts; such a result is an answer. probe: a
    path whose GET changes nothing, for a request that carries content in its address.
    """

    method: Method
    path: str
    params: Mapping[str, str | int | None] = field(default_factory=dict)
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
    is_partial: Callable[[Any], bool] | None = None
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
        return bool(self.json is not None or self.content is not None or self.file)

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


class _MultipartForm:
    """A multipart body: plain parts first, then a file. A Stream of three pieces: memory holds the file once."""

    def __init__(self, fields: Mapping[str, str], part: str, file: tuple[str, bytes, str], quoting: Quoting) -> None:
        name, self._content, kind = file
        boundary = token_hex(16)
        begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
        head = "".join(f'{begin}"{field}"\r\n\r\n{value}\r\n' for field, value in fields.items())
        head += f'{begin}"{part}"; filename="{_quoted(name, quoting)}"\r\nContent-Type: {kind}\r\n\r\n'
        self._head, self._tail = head.encode(), f"\r\n--{boundary}--\r\n".encode()
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.size = len(self._head) + len(self._content) + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        yield from (self._head, self._content, self._tail)


def _quoted(name: str, quoting: Quoting) -> str:
    """Escape a file name in a multipart header with backslashes: the service's runtime does not decode percent signs.

    "percent" is the way of browsers, which escape quotes only. `syncd check --probe` learns which of them is read.
    """
    if quoting == "percent":
        return name.replace('"', "%22")
    return name.replace("\\", "\\\\").replace('"', '\\"')


def build(request: Request, base_url: str, login: Mapping[str, str], extensions: Mapping[str, Any]) -> httpx.Request:
    """Return the HTTP message of a request. login: the headers of the credentials. extensions: those of httpx."""
    body, headers = request.content, {**_HEADERS, **login, **request.headers}
    if request.file:
        body = form = _MultipartForm(request.form, request.part, request.file, request.quoting)
        headers["Content-Type"] = form.content_type
    content: bytes | AsyncIterator[bytes] | None
    if body is None or isinstance(body, bytes):
        content = body
    elif body.size <= ONE_PIECE:
        content = b"".join(body)
    else:
        content, headers["Content-Length"] = _pieces(body), str(body.size)
    return httpx.Request(
        request.method,
        _url(base_url + request.path),
        params={name: value for name, value in request.params.items() if value is not None} or None,
        json=request.json,
        content=content,
        headers=headers,
        extensions=dict(extensions),
    )


async def _pieces(body: Stream) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece
