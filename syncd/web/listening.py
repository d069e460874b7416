"""The common parts of the HTTP servers of syncd: their sockets, their limits, and the change of an address."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from syncd.core.errors import ConfigError
from syncd.service.control import throttle_accept_errors

KEEP_ALIVE_S = 30
"""Seconds for which the server keeps an idle connection open."""
CONNECTIONS = 64
"""Maximum number of connections that the server answers. It answers 503 to requests on further connections."""
OPEN_CONNECTIONS = 2 * CONNECTIONS
"""Maximum number of open connections. The server closes further ones at once, because each takes a descriptor."""
REQUEST_HEAD_S = 10.0
"""The server closes a connection that has not sent the head of a request within this time."""


def served_names(host: str) -> list[str]:
    """Return the host names that a server at a loopback address accepts in the Host header.

    This protects against DNS rebinding, because the page of another site sends the name of its site as Host. The caller
    accepts every port, because the client end of a tunnel may have another port.
    """
    return ["localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host]


class SignallessServer(uvicorn.Server):
    """A server that leaves the signals of the process to the program."""

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


def _server_settings(app: ASGIApp) -> uvicorn.Config:
    """Return the settings of a server: its limits, and no log of its own."""
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
    """Return a listening socket. key: the setting or option with the address. Raises ConfigError if it is in use."""
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
        why = (
            "is in use; stop the program that uses it, or choose another port"
            if error.errno == errno.EADDRINUSE
            else None
        )
        raise ConfigError(f"{key}: {listen} {why or f'cannot be used: {os.strerror(error.errno or 0)}'}") from None
    return listener


App = tuple[ASGIApp, Callable[[], Awaitable[None]] | None]
"""An application, and the function that ends its streams and jobs. None: it has none."""


class HttpServer:
    """Serves an application at one address, which may change.

    key: the setting or option with the address. parse: returns (host, port). make: returns the application for a host.
    path: the path in the URL.
    """

    def __init__(
        self, key: str, parse: Callable[[str], tuple[str, int]], make: Callable[[str], App], path: str
    ) -> None:
        self._key = key
        self._parse = parse
        self._make = make
        self._path = path
        self._listen = ""
        self._end_streams: Callable[[], Awaitable[None]] | None = None
        self._server: SignallessServer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def open(self, listen: str) -> str:
        """Serve at this address from now on, or nowhere for "". Return the URL, "" if the address is not new.

        Raises ConfigError if the address is in use.
        """
        if listen == self._listen:
            return ""
        listener = _bind(self._key, listen, self._parse(listen)) if listen else None
        await self.close()
        if listener is None:
            return ""
        throttle_accept_errors(asyncio.get_running_loop())
        self._listen = listen
        app, self._end_streams = self._make(self._parse(listen)[0])
        self._server = SignallessServer(_server_settings(app))
        self._serving = asyncio.create_task(self._server.serve([listener]))
        host, port = listener.getsockname()[:2]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}{self._path}"

    async def wait(self) -> None:
        """Wait until the server ends. Raises the error that ended it."""
        if self._serving:
            await asyncio.shield(self._serving)

    async def close(self) -> None:
        """Stop serving, within two seconds."""
        if self._serving is None or self._server is None:
            return
        if self._end_streams:
            await self._end_streams()
        self._server.should_exit = True
        await self._serving
        self._listen, self._server, self._serving = "", None, None
