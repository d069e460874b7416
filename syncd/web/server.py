"""The HTTP servers of the page and of the metrics. They stay open while the config is read again."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from starlette.applications import Starlette
from starlette.types import ASGIApp

from syncd.config.schema import Web
from syncd.config.values import listen_address, metrics_address
from syncd.service.runtime import Runtime
from syncd.web.app import SecurityMiddleware, WebApp
from syncd.web.history import RecentHistory
from syncd.web.listening import SignallessServer, bind, server_settings, throttle_accept_errors, url_of
from syncd.web.probes import Probes
from syncd.web.view import StatusCache

_log = structlog.get_logger()

SAMPLE_S = 1.0


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
        return app.asgi, app.close

    def _make_metrics(self, _host: str) -> "_Made":
        probes = Probes(self._history.metrics, StatusCache(), lambda: self._runtime, is_open=True)
        return SecurityMiddleware(Starlette(routes=probes.routes())), None


_Made = tuple[ASGIApp, Callable[[], Awaitable[None]] | None]
"""An application, and the function that ends its streams and jobs, if it has any."""


class _Place:
    """One address at which an application is served.

    key: the key of the config. parse: returns (host, port). make: returns the application for a host.
    """

    def __init__(
        self, key: str, parse: Callable[[str], tuple[str, int]], make: Callable[[str], _Made], path: str
    ) -> None:
        self._key = key
        self._parse = parse
        self._make = make
        self._path = path
        self._listen = ""
        self._end_streams: Callable[[], Awaitable[None]] | None = None
        self._server: SignallessServer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self, listen: str) -> None:
        """Serve at this address from now on, or nowhere for "". Raises ConfigError if it is in use."""
        if listen == self._listen:
            return
        listener = bind(self._key, listen, self._parse(listen)) if listen else None
        await self.close()
        if listener is None:
            return
        self._listen = listen
        app, self._end_streams = self._make(self._parse(listen)[0])
        self._server = SignallessServer(server_settings(app))
        self._serving = asyncio.create_task(self._server.serve([listener]))
        event = "web.ready" if self._path == "/" else "metrics.ready"
        _log.info(event, url=url_of(listener, self._path))

    async def close(self) -> None:
        """Stop serving, within two seconds."""
        if self._serving is None or self._server is None:
            return
        if self._end_streams:
            await self._end_streams()
        self._server.should_exit = True
        await self._serving
        self._listen, self._server, self._serving = "", None, None
