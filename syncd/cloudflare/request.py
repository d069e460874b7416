"""One request as a value, and the HTTP message that it becomes."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Literal
from urllib.parse import quote

import httpx

from syncd import __version__
from syncd.core.probe_answers import Quoting

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]

BLOCK = 256 * 1024
"""Maximum bytes of a block of joined pieces. Pieces are joined, because each block of a body costs a write."""

_HEADERS = {
    "User-Agent": f"syncd/{__version__}",
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Connection": "keep-alive",
}


class Body:
    """A body in pieces. Joining all of them would double the memory. size: bytes of the body."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces
        self.size = sum(map(len, pieces))

    async def blocks(self) -> AsyncIterator[bytes]:
        """Yield the pieces. Small ones are joined, up to BLOCK bytes."""
        block: list[bytes] = []
        size = 0
        for piece in self.pieces:
            if block and size + len(piece) > BLOCK:
                yield b"".join(block)
                block, size = [], 0
            block.append(piece)
            size += len(piece)
        yield b"".join(block)


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the API, with at most one of json, content and file.

    path: made by `path()`, below the base URL. params: the query; a value None leaves its parameter out. permission:
    named in the error if access is refused. reads: the request changes nothing although its method is not GET. safe:
    the request may be sent again if it is unknown whether it was carried out; None means all but a POST that changes
    something. form and file make a multipart body: the plain parts first, then the file, whose part is named `part` and
    whose name is escaped by `quoting`. slow_s: seconds that the remote may take beyond the timeout. is_partial: returns
    whether the result of a failed request lists its done and its undone parts; such a result is an answer. probe: for
    a request with content in its URL, a path whose GET shows whether the API can be reached.
    """

    method: Method
    path: str
    params: Mapping[str, str | int | None] = field(default_factory=dict)
    json: Any = field(default=None, repr=False)
    content: bytes | Body | None = field(default=None, repr=False)
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
    def has_content(self) -> bool:
        """Whether the request has a body. A firewall between syncd and the API may refuse a request for its body."""
        return bool(self.json is not None or self.content is not None or self.file)

    def without_content(self) -> "Request | None":
        """Return a request that shows whether the API can be reached; None if this request has no content.

        The API refuses the returned request for its missing body, and changes nothing.
        """
        if self.probe is not None:
            return Request("GET", self.probe, permission=self.permission)
        if not self.has_content:
            return None
        return Request(self.method, self.path, permission=self.permission, reads=self.reads)


def compact_json(value: object) -> bytes:
    """Encode JSON in UTF-8 without spaces. Raises ValueError for NaN and for text that is not valid Unicode."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def path(*segments: str) -> str:
    """Return `/a/b%2Fc` for ("a", "b/c"). Percent-encode all characters except ASCII letters, digits and `_.-~`.

    Raises ValueError for a segment that a server would remove ("", ".", "..") or that has a lone surrogate.
    """
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise ValueError(f"{segment!r} cannot stand in a URL path")
    return "".join("/" + quote(segment, safe="") for segment in segments)


def _multipart(request: Request, name: str, content: bytes, kind: str) -> tuple[Body, str]:
    """Return the multipart body of the form of a request and its file, and the content type of the body."""
    boundary = token_hex(16)
    begin = f"--{boundary}\r\nContent-Disposition: form-data; name="
    head = "".join(f'{begin}"{field}"\r\n\r\n{value}\r\n' for field, value in request.form.items())
    head += f'{begin}"{request.part}"; filename="{_quoted(name, request.quoting)}"\r\nContent-Type: {kind}\r\n\r\n'
    body = Body([head.encode(), content, f"\r\n--{boundary}--\r\n".encode()])
    return body, f"multipart/form-data; boundary={boundary}"


def _quoted(name: str, quoting: Quoting) -> str:
    """Escape a file name in a multipart header with backslashes: the service's runtime does not decode percent signs.

    quoting: "percent" escapes only quotes, as browsers do. `syncd check --probe` tests which form the service decodes.
    """
    if quoting == "percent":
        return name.replace('"', "%22")
    return name.replace("\\", "\\\\").replace('"', '\\"')


def build(request: Request, base_url: str, login: Mapping[str, str], extensions: dict[str, Any]) -> httpx.Request:
    """Return the HTTP message of a request. login: the headers of the credentials. extensions: see httpx."""
    body, headers = request.content, {**_HEADERS, **login, **request.headers}
    if request.file:
        body, headers["Content-Type"] = _multipart(request, *request.file)
    if isinstance(body, Body):
        headers["Content-Length"] = str(body.size)
    return httpx.Request(
        request.method,
        base_url + request.path,
        params={name: value for name, value in request.params.items() if value is not None} or None,
        json=request.json,
        content=body.blocks() if isinstance(body, Body) else body,
        headers=headers,
        extensions=extensions,
    )
