"""One request as a value, and the URL path of one."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import quote

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


class Stream(Protocol):
    """A body that is sent piece by piece, so that it is never held twice. Each iteration begins at its start."""

    @property
    def size(self) -> int:
        """Bytes of the whole body, exactly."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class Request:
    """What to send; at most one of json, content and file.

    path: from `path()`, below the base URL. permission: named when access is refused. reads: it changes nothing
    although it is no GET. safe: may be sent again when it is not known whether it was carried out; None = all but a
    POST that changes something. form and file make a multipart body: plain parts first, then the file, whose part is
    named `part`. slow_s: seconds the remote may think longer than over other requests. partial: see Context.
    probe: a path whose GET changes nothing and carries nothing, for a request that carries something in its address.
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
        """Whether it may change something at the remote."""
        return self.method != "GET" and not self.reads

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again although the first one may have been carried out."""
        return self.safe if self.safe is not None else self.method != "POST" or self.reads

    @property
    def carries(self) -> bool:
        """Whether it carries content, for which alone it may be refused."""
        return bool(self.json is not None or self.content is not None or self.form or self.file)

    def without_content(self) -> "Request | None":
        """A request that shows whether the API can be reached; None if this one carries nothing by itself.

        An API refuses a request without its body, and does nothing.
        """
        if self.probe is not None:
            return Request("GET", self.probe, permission=self.permission)
        if not self.carries:
            return None
        return Request(self.method, self.path, permission=self.permission, reads=self.reads)


def path(*segments: str) -> str:
    """`/a/b%2Fc` of ("a", "b/c"): everything but letters, digits and `_.-~` is percent-encoded.

    ValueError for a segment that a server could not see ("", ".", "..") or that is no Unicode text.
    """
    return "".join("/" + _segment(segment) for segment in segments)


def _segment(segment: str) -> str:
    if segment in {"", ".", ".."}:
        raise ValueError(f"{segment!r} cannot stand in a URL path")
    return quote(segment, safe="")
