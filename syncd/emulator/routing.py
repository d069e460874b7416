"""The route from a request line to its handler, and the helpers that every handler uses.

Paths are matched while they are percent-encoded, so that an encoded "/" stays within its segment.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path

from syncd.emulator.limits import MAX_JSON_SIZE
from syncd.emulator.messages import ApiError, invalid, read_json
from syncd.emulator.options import EmulatorOptions
from syncd.emulator.store import EmulatorStore

Refusal = Callable[[str], ApiError]
"""A function from a message to the error of a request that is not valid. Each API has its own code for it."""

Schema = TypeVar("Schema", bound=BaseModel)
_READING_POSTS = ("/search", "/chat/completions", "/bulk/get", "/query", "/get_by_ids")
_MODEL_RUN = "/ai/run/"


class RequestCounts:
    """The number of requests by endpoint, since the start or the last reset.

    routes: "METHOD template" -> number. total: all requests. changing: requests that may change data: POST, PUT, PATCH
    and DELETE, except searches, bulk reads and runs of a model. Refused requests count, because they cost the caller
    the same. embedded_texts: the texts that models embedded.
    """

    def __init__(self) -> None:
        self.routes: Counter[str] = Counter()
        self.total = 0
        self.changing = 0
        self.embedded_texts = 0

    def count(self, method: str, template: str) -> None:
        """Count one request; `template` is the path of the endpoint with its parameters in braces."""
        self.routes[f"{method} {template}"] += 1
        self.total += 1
        reading = template.endswith(_READING_POSTS) or _MODEL_RUN in template
        if method in {"POST", "PUT", "PATCH", "DELETE"} and not reading:
            self.changing += 1

    def reset(self) -> None:
        """Set every counter to zero."""
        self.routes.clear()
        self.total = self.changing = self.embedded_texts = 0

    def as_json(self) -> dict[str, Any]:
        """Return {"total", "changing", "embedded_texts", "routes"}."""
        return {
            "total": self.total,
            "changing": self.changing,
            "embedded_texts": self.embedded_texts,
            "routes": dict(self.routes),
        }


@dataclass(frozen=True)
class Backend:
    """The options, the store and the time, which every handler needs.

    clock: returns seconds since 1970; sleep: waits that many seconds.
    """

    options: EmulatorOptions
    store: EmulatorStore
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Call:
    """One request: the backend, the request and the decoded parameters of its path."""

    backend: Backend
    request: Request
    path: dict[str, str]

    def query(self, name: str) -> str | None:
        """Return the query parameter, or None if it is absent."""
        value: str | None = self.request.query_params.get(name)
        return value

    def number(self, name: str, default: int, low: int, high: int = 2**31, *, refuse: Refusal = invalid) -> int:
        """Return the query parameter as an integer within [low, high]; ApiError otherwise."""
        text = self.query(name)
        if text is None:
            return default
        try:
            value = int(text)
        except ValueError:
            raise refuse(f"{name} must be an integer") from None
        if not low <= value <= high:
            raise refuse(f"{name} must be from {low} to {high}")
        return value

    def choice(self, name: str, allowed: Collection[str], *, refuse: Refusal = invalid) -> str:
        """Return the query parameter, or the first of `allowed` if it is absent; ApiError for any other value."""
        value = self.query(name)
        if value is None:
            return next(iter(allowed))
        if value not in allowed:
            raise refuse(f"{name} must be one of {', '.join(allowed)}")
        return value

    async def read(self, limit: int, *, refuse: Refusal = invalid) -> bytes:
        """Return the whole body; ApiError 413 if it exceeds `limit` bytes.

        A body that is too large is read to its end: a client that is still sending would otherwise see a broken
        connection instead of the answer.
        """
        pieces: list[bytes] = []
        size = 0
        async for piece in self.request.stream():
            size += len(piece)
            if size <= limit:
                pieces.append(piece)
            else:
                pieces.clear()
        if size > limit:
            refusal = refuse(f"The request is larger than {limit} bytes")
            raise ApiError(413, refusal.code, refusal.message)
        return b"".join(pieces)

    async def body(self, *, refuse: Refusal = invalid) -> dict[str, Any]:
        """Return the body as a JSON object; ApiError if it is not one."""
        try:
            value = read_json(await self.read(MAX_JSON_SIZE, refuse=refuse))
        except ValueError as reason:
            raise refuse(f"the body is not JSON: {reason}") from None
        if not isinstance(value, dict):
            raise refuse("the body must be a JSON object")
        return value


def validate(schema: type[Schema], body: dict[str, Any], *, refuse: Refusal = invalid) -> Schema:
    """Return the body as an instance of a schema; ApiError names the first field that does not fit."""
    try:
        return schema.model_validate(body, strict=True)
    except ValidationError as problem:
        first = problem.errors()[0]
        raise refuse(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


Handler = Callable[[Call], Awaitable[Response]]


class Endpoint(NamedTuple):
    """One line in the table of an API. template: a path below /client/v4, e.g. /accounts/{account_id}/tokens/verify."""

    method: str
    template: str
    handler: Handler


class Routes:
    """The tables of all APIs together."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._by_depth: dict[int, list[tuple[Any, Endpoint]]] = {}
        for endpoint in endpoints:
            routes = self._by_depth.setdefault(endpoint.template.count("/"), [])
            routes.append((compile_path(endpoint.template)[0], endpoint))

    def find(self, method: str, raw_path: str) -> tuple[Endpoint, dict[str, str]]:
        """Return the endpoint of a percent-encoded path, and its decoded parameters; ApiError 404 or 405 if none."""
        known_path = False
        for pattern, endpoint in self._by_depth.get(raw_path.count("/"), []):
            match = pattern.match(raw_path)
            if match is None:
                continue
            known_path = True
            if endpoint.method == method:
                return endpoint, {name: unquote(value) for name, value in match.groupdict().items()}
        if known_path:
            raise ApiError(405, 10405, "Method not allowed for this path")
        raise ApiError(404, 7000, "No route for that URI")
