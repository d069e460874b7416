"""From a request line to the function that answers it.

Paths are matched segment by segment on the raw path, so that an encoded "/" stays within its segment.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from syncd.emulator.envelope import ApiError, invalid, read_json
from syncd.emulator.options import Options
from syncd.emulator.store import Store


@dataclass(frozen=True)
class Backend:
    """What every endpoint works with. clock: seconds since 1970; sleep: waits that many seconds."""

    options: Options
    store: Store
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Call:
    """One request on its way: the backend, the request and the values of the path's parameters."""

    backend: Backend
    request: Request
    path: dict[str, str]

    def query(self, name: str) -> str | None:
        """The query parameter, or None if it is absent."""
        value: str | None = self.request.query_params.get(name)
        return value

    def number(self, name: str, default: int, low: int, high: int = 2**31) -> int:
        """The query parameter as an integer within [low, high]; ApiError 400 otherwise."""
        text = self.query(name)
        if text is None:
            return default
        try:
            value = int(text)
        except ValueError:
            raise invalid(f"{name} must be an integer") from None
        if not low <= value <= high:
            raise invalid(f"{name} must be from {low} to {high}")
        return value

    def choice(self, name: str, allowed: Iterable[str]) -> str | None:
        """The query parameter if it is one of `allowed`, None if absent; ApiError 400 otherwise."""
        value = self.query(name)
        if value is not None and value not in allowed:
            raise invalid(f"{name} must be one of {', '.join(allowed)}")
        return value

    async def body(self) -> dict[str, Any]:
        """The body as a JSON object; ApiError 400 if it is none."""
        try:
            value = read_json(await self.request.body())
        except ValueError:
            raise invalid("the body is no JSON") from None
        if not isinstance(value, dict):
            raise invalid("the body must be a JSON object")
        return value


Handler = Callable[[Call], Awaitable[Response]]


class Endpoint(NamedTuple):
    """One line of an API's table. template: a path below /client/v4, e.g. /accounts/{account_id}/tokens/verify."""

    method: str
    template: str
    handler: Handler


class Routes:
    """The tables of all APIs together."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._by_length: dict[int, list[tuple[list[str], Endpoint]]] = {}
        for endpoint in endpoints:
            pattern = endpoint.template.split("/")
            self._by_length.setdefault(len(pattern), []).append((pattern, endpoint))

    def find(self, method: str, raw_path: str) -> tuple[Endpoint, dict[str, str]]:
        """The endpoint for a percent-encoded path, and its decoded parameters; ApiError 404 or 405 if there is none."""
        segments = raw_path.split("/")
        known_path = False
        for pattern, endpoint in self._by_length.get(len(segments), []):
            values = _match(pattern, segments)
            if values is None:
                continue
            known_path = True
            if endpoint.method == method:
                return endpoint, values
        if known_path:
            raise ApiError(405, 10405, "Method not allowed for this path")
        raise ApiError(404, 7000, "No route for that URI")


def _match(pattern: list[str], segments: list[str]) -> dict[str, str] | None:
    values = {}
    for expected, segment in zip(pattern, segments, strict=True):
        if expected.startswith("{"):
            if not segment:
                return None
            values[expected[1:-1]] = unquote(segment)
        elif expected != segment:
            return None
    return values
