"""The HTTP server of the page and of the metrics: its sockets, its limits, and its life over reloads."""

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from syncd.config.daemon_sections import Web, listen_address, metrics_address
from syncd.core.errors import ConfigError
from syncd.service.runtime import Runtime
from syncd.web.app import SecurityMiddleware, WebApp
from syncd.web.history import RecentHistory
from syncd.web.probes import OpenProbes

_log = structlog.get_logger()

SAMPLE_S = 1.0
KEEP_ALIVE_S = 30
CONNECTIONS = 64
"""Maximum number of connections that the server answers. It answers 503 to requests on further connections."""
OPEN_CONNECTIONS = 2 * CONNECTIONS
"""Maximum number of open connections. The server closes further ones at once, because each takes a descriptor."""
REQUEST_HEAD_S = 10.0
"""The server closes a connection that has not sent the head of a request within this time."""
WARN_EVERY_S = 60.0
"""Seconds between two warnings that no descriptor is left for connections."""


class WebServer:
    """Serves the page and the metrics from the first `open` to `close`, over reloads of the config."""

    def __init__(self) -> None:
        self._history = RecentHistory(time.time)
        self._runtime: Runtime | None = None
        self._page = _Place("web.listen", listen_address, self._make_page, "/")
        self._metrics = _Place("web.metrics_listen", metrics_address, self._make_metrics, "/metrics")

    async def open(self, web: Web) -> None:
        """Serve at these addresses from now on, or nowhere for "".

        Raises ConfigError if one is in use. The server then stays at its former address.
        """
        asyncio.get_running_loop().set_exception_handler(throttle_accept_errors(time.monotonic))
        await self._page.open(web.listen)
        await self._metrics.open(web.metrics_listen)

    async def run(self, runtime: Runtime) -> None:
        """Show the state of these objects until cancelled."""
        for name, worker in runtime.workers.items():
            worker.mirror.on_action = self._history.listener(name)
        self._history.load(runtime.session.db)
        self._runtime = runtime
        try:
            while True:
                self._history.sample(runtime)
                self._history.note_states(runtime)
                self._history.save(runtime.session.db)
                await asyncio.sleep(SAMPLE_S)
        finally:
            self._runtime, runtime.closed = None, True
            self._history.sample(runtime)
            self._history.save(runtime.session.db, now=True)

    async def close(self) -> None:
        """Stop serving, within two seconds."""
        await asyncio.gather(self._page.close(), self._metrics.close())

    def _make_page(self, host: str) -> "_Made":
        app = WebApp(self._history, lambda: self._runtime, host)

        async def end() -> None:
            app.feed.close()
            await app.feed.jobs.close()

        return app.asgi, end

    def _make_metrics(self, _host: str) -> "_Made":
        return SecurityMiddleware(OpenProbes(self._history.metrics, lambda: self._runtime).asgi), _end_nothing


_Made = tuple[ASGIApp, Callable[[], Awaitable[None]]]
"""An application, and the function that ends its streams and jobs."""


async def _end_nothing() -> None:
    """End nothing."""


class _Place:
    """One address at which an application is served.

    key: the key of the config. parse: returns (host, port). make: returns the application for a host.
    """

    def __init__(
        self,
        key: str,
        parse: Callable[[str], tuple[str, int]],
        make: Callable[[str], _Made],
        path: str,
    ) -> None:
        self._key = key
        self._parse = parse
        self._make = make
        self._path = path
        self._listen = ""
        self._end_streams: Callable[[], Awaitable[None]] = _end_nothing
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self, listen: str) -> None:
        """Serve at this address from now on, or nowhere for "". Raises ConfigError if it is in use."""
        if listen == self._listen:
            return
        listener = _bind(self._key, listen, self._parse(listen)) if listen else None
        await self.close()
        if listener is None:
            return
        self._listen = listen
        app, self._end_streams = self._make(self._parse(listen)[0])
        self._server = _Server(_settings(app))
        self._serving = asyncio.create_task(self._server.serve([listener]))
        host, port = listener.getsockname()[:2]
        event = "web.ready" if self._path == "/" else "metrics.ready"
        _log.info(event, url=f"http://{f'[{host}]' if ':' in host else host}:{port}{self._path}")

    async def close(self) -> None:
        """Stop serving, within two seconds."""
        if self._serving is None or self._server is None:
            return
        await self._end_streams()
        self._server.should_exit = True
        await self._serving
        self._listen, self._server, self._serving = "", None, None


class _Server(uvicorn.Server):
    """A server that leaves the signals of the process to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture no signal."""
        yield


class LimitedProtocol(H11Protocol):
    """Adds a limit of open connections and a time limit for the head of the first request to uvicorn's protocol."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, or close it at once."""
        super().connection_made(transport)
        if len(self.connections) > OPEN_CONNECTIONS:
            transport.abort()
        else:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Stop the timer when the head is complete."""
        super().data_received(data)
        if self._is_answering():
            self._stop_timer()
        elif self._head_timer is None:
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(REQUEST_HEAD_S, self._on_timeout)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_timeout(self) -> None:
        self._head_timer = None
        if not self._is_answering():
            self.transport.abort()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete


def throttle_accept_errors(
    clock: Callable[[], float],
) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return an exception handler that warns once in WARN_EVERY_S of connections that asyncio cannot accept."""
    warned = -WARN_EVERY_S

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal warned
        if "out of system resource" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif clock() >= warned + WARN_EVERY_S:
            warned = clock()
            why, remedy = str(context.get("exception")), "raise the limit of open files (LimitNOFILE, ulimit -n)"
            _log.warning("web.cannot_accept", why=why, remedy=remedy)

    return handle


def _settings(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=LimitedProtocol,
        # asyncio calls accept this many times in a row, and logs an error for each call that fails.
        backlog=CONNECTIONS,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
    )


def _bind(key: str, listen: str, address: tuple[str, int]) -> socket.socket:
    host, port = address
    # asyncio sets TCP_NODELAY only on sockets with this protocol number. Without it every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Only `listen` fails if another socket listens on the port.
        listener.listen(CONNECTIONS)
    except OSError as error:
        listener.close()
        why = "is in use; stop what holds it or choose another port" if error.errno == errno.EADDRINUSE else None
        raise ConfigError(f"{key}: {listen} {why or f'cannot be used: {os.strerror(error.errno or 0)}'}") from None
    return listener
