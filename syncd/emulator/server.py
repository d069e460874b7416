"""The stand-in on a loopback port: in a thread for tests and the demo, or in the foreground for the command line."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

import uvicorn
from starlette.applications import Starlette

from syncd.emulator.app import BASE_PATH, create_app
from syncd.emulator.options import EmulatorOptions

if TYPE_CHECKING:
    from syncd.emulator.routing import RequestCounts

HOST = "127.0.0.1"


class Server:
    """A stand-in that serves in a thread. Use it in a `with` block, or call close().

    base_url: the URL that replaces https://api.cloudflare.com/client/v4 in a client. requests: its counters.
    """

    def __init__(self, app: Starlette, port: int) -> None:
        self._app = app
        self._socket = _listen(port)
        self.base_url = _base_url(self._socket)
        self.requests: RequestCounts = app.state.requests
        self._uvicorn = _uvicorn_server(app)
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=([self._socket],), name="syncd-emulator", daemon=True
        )
        self._thread.start()
        # A stop requested before the start is complete would leave the socket open.
        while not self._uvicorn.started and self._thread.is_alive():
            self._thread.join(0.001)

    def close(self) -> None:
        """Stop serving and close the store, within half a second. A second call does nothing."""
        self._uvicorn.should_exit = True
        self._thread.join()
        self._socket.close()
        self._app.state.backend.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve(options: EmulatorOptions, port: int = 0) -> Server:
    """Start a stand-in in a thread of this process. Port 0 selects a free port.

    OSError if the port is taken, sqlite3.Error if the store cannot be opened.
    """
    app = create_app(options)
    try:
        return Server(app, port)
    except BaseException:
        app.state.backend.store.close()
        raise


def run(options: EmulatorOptions, port: int = 0, *, ready: Callable[[str], None]) -> int:
    """Serve in the main thread until SIGINT or SIGTERM, and return the number of the signal.

    `ready` is called with the base URL as soon as the port accepts connections. The errors are those of serve().
    """
    app = create_app(options)
    server = _uvicorn_server(app)
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        server.should_exit = True

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _listen(port) as listener:
            ready(_base_url(listener))
            server.run([listener])
        return received[0]
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        app.state.backend.store.close()


class _UnsignalledServer(uvicorn.Server):
    """A server that leaves signals to its caller. Uvicorn would raise a signal a second time after its stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _uvicorn_server(app: Starlette) -> uvicorn.Server:
    config = uvicorn.Config(
        app,
        http="auto",
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        # Longer than clients keep a connection, so that the server never closes one that a client is about to reuse.
        timeout_keep_alive=75,
        # A stop closes idle connections at once and does not wait for requests that wait for indexing.
        timeout_graceful_shutdown=0,
    )
    return _UnsignalledServer(config)


def _base_url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}{BASE_PATH}"


def _listen(port: int) -> socket.socket:
    # asyncio sets TCP_NODELAY only if the protocol is named; without TCP_NODELAY every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener
