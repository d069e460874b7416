"""The stand-in as an ASGI application that checks, counts and routes requests, and its server on a loopback port."""

import asyncio
import hmac
import logging
import math
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack, closing, suppress
from types import FrameType
from urllib.parse import unquote

import uvicorn
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import Receive, Scope, Send

from syncd.emulator import (
    ai_search_instances,
    ai_search_items,
    ai_search_jobs,
    ai_search_search,
    ai_search_store,
    kv_store,
    kv_values,
    vectorize_store,
    vectorize_vectors,
    workers_ai,
)
from syncd.emulator.options import EmulatorOptions
from syncd.emulator.quota import QuotaWindow, read_quota
from syncd.emulator.requests import ApiError, Call, Endpoint, error, json_response, ok
from syncd.emulator.store import Backend, EmulatorStore

HOST = "127.0.0.1"
BASE_PATH = "/client/v4"
TIMER_S = 0.001
"""Subtracted from the latency: asyncio wakes up to a millisecond late, and the network takes as long."""

_SCHEMAS = [ai_search_store.SCHEMA, ai_search_jobs.SCHEMA, kv_store.SCHEMA, vectorize_store.SCHEMA]
_LOOPBACK = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?", re.IGNORECASE)
_ACCOUNT = re.compile(r"[0-9a-f]{32}")

_log = logging.getLogger("syncd.emulator")


class Emulator:
    """The stand-in as an ASGI application. It opens its store; the caller closes `backend.store`.

    clock: returns seconds since 1970. sleep: waits for a number of seconds.
    Raises sqlite3.Error if the store cannot be opened.
    """

    def __init__(
        self,
        options: EmulatorOptions,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        window = None if options.quota is None else QuotaWindow(read_quota(options.quota), clock)
        self.backend = Backend(options, EmulatorStore(options.store, _SCHEMAS), clock, sleep, window)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        began = self.backend.clock()
        try:
            response = await self._answer(request)
        except ApiError as refusal:
            response = error(refusal)
        except ClientDisconnect:
            return
        except Exception:  # noqa: BLE001 - the service too answers a bug of one endpoint in the envelope
            _log.exception("emulator.bug path=%s", scope["path"])
            response = error(ApiError(500, 7001, "internal_error"))
        # The latency includes the time that the handler took.
        left = self.backend.options.latency - (self.backend.clock() - began) - TIMER_S
        if scope["path"].startswith(BASE_PATH):
            if left > 0:
                await self.backend.sleep(left)
            if self.backend.window is not None and self.backend.options.quota_headers:
                response.headers.update(self.backend.window.headers())
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        _check_local(request.headers)
        path = request.scope["raw_path"].decode("latin-1")
        if not path.startswith(f"{BASE_PATH}/"):
            return self._answer_own(request.method, path)
        endpoint, values = self._route(request.method, path.removeprefix(BASE_PATH), request.headers)
        return await endpoint.handler(Call(self.backend, request, values))

    def _route(self, method: str, path: str, headers: Headers) -> tuple[Endpoint, dict[str, str]]:
        template = "(no route)"
        try:
            endpoint, values = _find(method, path)
            template = endpoint.template
        finally:
            self.backend.requests.count(method, template)
            if self.backend.window is not None and (blocked := self.backend.window.admit()):
                # Users of the service report this code and message.
                message = "Please wait and consider throttling your request speed"
                raise ApiError(429, 971, message, {"Retry-After": str(math.ceil(blocked))})
            # In `finally`, so that a client without credentials sees 401 for an unknown path too.
            _check_credentials(headers, self.backend.options.token)
        _check_account(values)
        _check_permission(template, self.backend.options)
        return endpoint, values

    def _answer_own(self, method: str, path: str) -> Response:
        """Answer a path outside Cloudflare's API: the request counts, for tools that measure in another process."""
        if (method, path) == ("POST", "/_syncd/requests/reset"):
            self.backend.requests.reset()
            if self.backend.window is not None:
                self.backend.window.reset()
        elif (method, path) != ("GET", "/_syncd/requests"):
            raise ApiError(404, 7000, f"No route for that URI; the API is below {BASE_PATH}")
        window = {} if self.backend.window is None else {"window": self.backend.window.as_json()}
        return json_response(self.backend.requests.as_json() | window)


def _check_local(headers: Headers) -> None:
    """Raise ApiError 403 unless the Host is a loopback name and the Origin, if present, is this server.

    The Host check stops a foreign name that resolves to 127.0.0.1, the Origin check a page in a browser on this
    machine.
    """
    host = headers.get("host", "")
    if _LOOPBACK.fullmatch(host) is None:
        raise ApiError(403, 10403, "This stand-in answers to loopback names only")
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        raise ApiError(403, 10403, "Requests from web pages are refused")


def _check_credentials(headers: Headers, token: str | None) -> None:
    """Raise ApiError 401 unless there is a bearer token, or an email and a key. If `token` is set, it must match."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = headers.get("x-auth-key", "") if headers.get("x-auth-email") else ""
    given = given.strip()
    if not given or (token is not None and not hmac.compare_digest(given.encode(), token.encode())):
        raise ApiError(401, 10000, "Authentication error")


def _check_account(path: dict[str, str]) -> None:
    """Raise ApiError 404 if the path names an account whose id is malformed."""
    account = path.get("account_id")
    if account is not None and _ACCOUNT.fullmatch(account) is None:
        message = f"Could not route to /accounts/{account}, perhaps your object identifier is invalid?"
        raise ApiError(404, 7003, message)


def _check_permission(template: str, options: EmulatorOptions) -> None:
    """Raise ApiError 10000 if the token may not use this endpoint of AI Search.

    Searches and chats need AI Search:Run, everything else AI Search:Edit. Source: "AI Search: REST API, create an API
    token". The answer to a token without one of them is unknown.
    """
    if "/ai-search/" not in template:
        return
    needed = "run" if template.endswith(("/search", "/chat/completions")) else "edit"
    if needed not in options.permissions.split("+"):
        raise ApiError(options.permission_status, 10000, "Authentication error")


async def _verify_token(_call: Call) -> Response:
    return ok({"id": "0" * 32, "status": "active"})


_ROUTES = [
    (compile_path(endpoint.template)[0], endpoint)
    for endpoint in (
        Endpoint("GET", "/user/tokens/verify", _verify_token),
        Endpoint("GET", "/accounts/{account_id}/tokens/verify", _verify_token),
        *ai_search_instances.ENDPOINTS,
        *ai_search_items.ENDPOINTS,
        *ai_search_search.ENDPOINTS,
        *ai_search_jobs.ENDPOINTS,
        *kv_store.ENDPOINTS,
        *kv_values.ENDPOINTS,
        *vectorize_store.ENDPOINTS,
        *vectorize_vectors.ENDPOINTS,
        *workers_ai.ENDPOINTS,
    )
]


def _find(method: str, raw_path: str) -> tuple[Endpoint, dict[str, str]]:
    """Return the endpoint of a percent-encoded path, and its decoded parameters. Raises ApiError 404 or 405 if none."""
    for route, endpoint in _ROUTES:
        if endpoint.method == method and (match := route.match(raw_path)):
            return endpoint, {name: unquote(value) for name, value in match.groupdict().items()}
    if any(route.match(raw_path) for route, _ in _ROUTES):
        raise ApiError(405, 10405, "Method not allowed for this path")
    raise ApiError(404, 7000, "No route for that URI")


class Server(ExitStack):
    """A stand-in that serves in a thread. Use it in a `with` block, or call close().

    base_url: the URL that replaces https://api.cloudflare.com/client/v4 in a client. requests: its counters.
    """

    def __init__(self, app: Emulator, port: int) -> None:
        super().__init__()
        self.callback(app.backend.store.close)
        try:
            listener = self.enter_context(_listen(port))
        except OSError:
            self.close()
            raise
        self.base_url = _base_url(listener)
        self.requests = app.backend.requests
        self._uvicorn = _PromptServer(app)
        thread = threading.Thread(target=self._uvicorn.run, args=([listener],), name="syncd-emulator", daemon=True)
        thread.start()
        self.callback(thread.join)
        self.callback(self._uvicorn.stop)
        # A stop requested before the start is complete would leave the socket open.
        while not self._uvicorn.started and thread.is_alive():
            thread.join(0.001)


def serve(options: EmulatorOptions, port: int = 0) -> Server:
    """Start a stand-in in a thread of this process. Port 0 selects a free port.

    Raises OSError if the port is taken, sqlite3.Error if the store cannot be opened.
    """
    return Server(Emulator(options), port)


def run(options: EmulatorOptions, port: int = 0, *, ready: Callable[[str], None]) -> int:
    """Serve in the main thread until SIGINT or SIGTERM, and return the number of the signal.

    `ready` is called with the base URL as soon as the port accepts connections. Raises the errors of serve().
    """
    app = Emulator(options)
    with closing(app.backend.store), _listen(port) as listener:
        server = _PromptServer(app, lambda: ready(_base_url(listener)))
        server.run([listener])
    return server.signal


class _PromptServer(uvicorn.Server):
    """A server that stops at once.

    Uvicorn looks only every 0.1 s whether it should stop, and waits as long for idle connections. It would raise a
    signal a second time after its stop.

    ready: called as soon as the sockets accept connections. signal: the number of the signal that stopped the server.
    """

    def __init__(self, app: Emulator, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                # Longer than clients keep a connection: the server never closes one that a client is about to reuse.
                timeout_keep_alive=75,
            )
        )
        self.signal = 0
        self._ready = ready
        self._stopping = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def stop(self) -> None:
        """Stop serving. Other threads and signal handlers may call it, more than once."""
        self.should_exit = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        del frame
        self.signal = sig
        self.stop()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready()
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        del sockets
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        # Requests that wait for indexing are not answered.
        for task in self.server_state.tasks:
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)


def _base_url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}{BASE_PATH}"


def _listen(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only if the protocol is named; without TCP_NODELAY every answer takes 40 ms.
    with ExitStack() as failed:
        listener = failed.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
        failed.pop_all()
    return listener
