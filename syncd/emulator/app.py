"""The application: every request passes the gate here, in one place, before any API sees it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from syncd.emulator import ai_search, auth, kv, vectorize, workers_ai
from syncd.emulator.counters import Requests
from syncd.emulator.envelope import ApiError, error, plain
from syncd.emulator.options import Options
from syncd.emulator.routing import Backend, Call, Endpoint, Routes
from syncd.emulator.store import Store

BASE_PATH = "/client/v4"

_log = logging.getLogger("syncd.emulator")


def create_app(
    options: Options,
    *,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Starlette:
    """The stand-in as an ASGI application over an open store.

    clock gives seconds since 1970, sleep waits; tests bring their own. `app.state.requests` counts (see
    counters.Requests), `app.state.backend.store` is to be closed by the caller. sqlite3.Error if it cannot be
    opened.
    """
    backend = Backend(options, Store(options.store, [ai_search.SCHEMA, kv.SCHEMA, vectorize.SCHEMA]), clock, sleep)
    requests = Requests()
    routes = Routes(
        [
            *auth.ENDPOINTS,
            *ai_search.endpoints(),
            *kv.endpoints(),
            *vectorize.endpoints(),
            *workers_ai.endpoints(),
        ]
    )
    app = Starlette()
    # Not a Route: its pattern would let no line break through, and a key may have one.
    app.router.default = _Gate(backend, routes, requests)
    app.state.requests = requests
    app.state.backend = backend
    return app


TIMER_S = 0.001
"""asyncio wakes up to a millisecond late, and the way here and back takes as long: a client still sees the latency."""


class _Gate:
    def __init__(self, backend: Backend, routes: Routes, requests: Requests) -> None:
        self._backend = backend
        self._routes = routes
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        began = self._backend.clock()
        try:
            response = await self._answer(request)
        except ApiError as refusal:
            response = error(refusal)
        except ClientDisconnect:
            return
        except Exception:  # noqa: BLE001 - a bug of one endpoint is answered in the envelope, like the service does
            _log.exception("emulator.bug path=%s", request.url.path)
            response = error(ApiError(500, 7001, "Internal Error"))
        # A service that is that far away works while it is waited for: our own work is part of it, not on top of it.
        left = self._backend.options.latency - (self._backend.clock() - began) - TIMER_S
        if left > 0 and request.url.path.startswith(BASE_PATH):
            await self._backend.sleep(left)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        auth.check_local(request.headers)
        # Without raw_path (an ASGI server may leave it out) an encoded "/" cannot be told from a plain one.
        path = request.scope.get("raw_path", request.url.path.encode()).split(b"?")[0].decode("latin-1")
        if not path.startswith(f"{BASE_PATH}/"):
            return self._own(request.method, path)
        endpoint, values = self._route(request.method, path.removeprefix(BASE_PATH), request.headers)
        return await endpoint.handler(Call(self._backend, request, values))

    def _route(self, method: str, path: str, headers: Headers) -> tuple[Endpoint, dict[str, str]]:
        template = "(no route)"
        try:
            endpoint, values = self._routes.find(method, path)
            template = endpoint.template
        finally:
            self._requests.count(method, template)
            # Before the 404 of an unknown path: strangers are told nothing.
            auth.check_credentials(headers, self._backend.options.token)
        auth.check_account(values)
        return endpoint, values

    def _own(self, method: str, path: str) -> Response:
        """What is not Cloudflare's: how many requests there were, for tools that measure from another process."""
        if (method, path) == ("GET", "/_syncd/requests"):
            return plain(self._requests.as_json())
        if (method, path) == ("POST", "/_syncd/requests/reset"):
            self._requests.reset()
            return plain(self._requests.as_json())
        raise ApiError(404, 7000, f"No route for that URI; the API is below {BASE_PATH}")
