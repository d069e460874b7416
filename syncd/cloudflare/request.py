"""One request as a value: its URL path, its content, and the multipart form that carries a file."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Literal, Protocol
from urllib.parse import quote

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
    first, then the file, whose part is named `part`. slow_s: seconds that the remote may take beyond the timeout.
    partial: see Context. probe: a path whose GET changes nothing, for a request that carries content in its address.
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
    return "".join("/" + _segment(segment) for segment in segments)


def _segment(segment: str) -> str:
    if segment in {"", ".", ".."}:
        raise ValueError(f"{segment!r} cannot stand in a URL path")
    return quote(segment, safe="")


class Form:
    """A multipart body: plain parts first, then a file. It is a Stream of three pieces; memory holds the file once."""

    def __init__(self, fields: Mapping[str, str], part: str, file: tuple[str, bytes, str]) -> None:
        name, self._content, kind = file
        self._boundary = token_hex(16)
        head = "".join(f"{self._begin(field)}\r\n\r\n{value}\r\n" for field, value in fields.items())
        head += f'{self._begin(part)}; filename="{quoted(name)}"\r\nContent-Type: {kind}\r\n\r\n'
        self._head, self._tail = head.encode(), f"\r\n--{self._boundary}--\r\n".encode()

    @property
    def content_type(self) -> str:
        """Value of the header Content-Type."""
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
    """Escape a name in a multipart header with backslashes: the service's runtime does not decode percent signs."""
    return name.replace("\\", "\\\\").replace('"', '\\"')


def body_of(content: bytes | Stream | None) -> tuple[bytes | AsyncIterator[bytes] | None, dict[str, str]]:
    """Return a request's content as httpx takes it, and the header that a stream needs."""
    if content is None or isinstance(content, bytes):
        return content, {}
    return _pieces(content), {"Content-Length": str(content.size)}


async def _pieces(body: Stream) -> AsyncIterator[bytes]:
    for piece in body:
        yield piece
