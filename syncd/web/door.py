"""The listener: opens where the config says, and stays over reloads."""

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator

import structlog
import uvicorn
from starlette.types import ASGIApp

from syncd.config.schema import listen_address
from syncd.errors import ConfigError
from syncd.web.app import Web
from syncd.web.connections import CONNECTIONS, BoundedProtocol, quiet_accept
from syncd.web.history import History
from syncd.web.live import Live

_log = structlog.get_logger()

SAMPLE_S = 1.0
KEEP_ALIVE_S = 30


class _Server(uvicorn.Server):
    """One that leaves the process's signals to the daemon."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class Door:
    """Serves the page from the first `open` to `close`, whatever configuration is at work behind it."""

    def __init__(self) -> None:
        self._history = History(time.time)
        self._live: Live | None = None
        self._listen = ""
        self._web: Web | None = None
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self, listen: str) -> None:
        """Answer at this address from now on; "" at none. Raises ConfigError, and stays as it was, if it is taken."""
        if listen == self._listen:
            return
        listener = _bound(listen) if listen else None
        await self.close()
        if listener is None:
            return
        self._listen = listen
        asyncio.get_running_loop().set_exception_handler(quiet_accept(time.monotonic))
        self._web = Web(self._history, lambda: self._live)
        self._server = _Server(_settings(self._web.app))
        self._serving = asyncio.create_task(self._server.serve([listener]))
        host, port = listener.getsockname()[:2]
        _log.info("web.ready", url=f"http://{f'[{host}]' if ':' in host else host}:{port}/")

    async def run(self, live: Live) -> None:
        """Show what is at work, until cancelled."""
        for name, keeper in live.keepers.items():
            keeper.mirror.heard = self._history.hears(name)
        transport, watcher = live.session.transport, live.watcher
        self._live = live
        try:
            while True:
                self._history.sample(transport.counters, transport.gate, watcher, watcher.overflows)
                await asyncio.sleep(SAMPLE_S)
        finally:
            self._live, live.over = None, True
            self._history.sample(transport.counters, transport.gate, watcher, watcher.overflows)

    async def close(self) -> None:
        """Stop answering, within a second or two."""
        if self._serving is None or self._server is None or self._web is None:
            return
        self._web.news.close()
        self._server.should_exit = True
        await self._serving
        self._listen, self._web, self._server, self._serving = "", None, None, None


def _settings(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        # asyncio tries to accept so many in a row, and once more for each of them when it can accept none.
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


def _bound(listen: str) -> socket.socket:
    host, port = listen_address(listen)
    # With the protocol named asyncio sets TCP_NODELAY on its connections; without it every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # Here, not later: a second listener on the port is refused only now.
        listener.listen(CONNECTIONS)
    except OSError as error:
        listener.close()
        why = "is in use; stop what holds it or choose another port" if error.errno == errno.EADDRINUSE else None
        raise ConfigError(f"web.listen: {listen} {why or f'cannot be used: {os.strerror(error.errno or 0)}'}") from None
    return listener
