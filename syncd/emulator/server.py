"""The stand-in on a loopback port: in a thread for tests and the demo, or until a signal for the command line."""

import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

import uvicorn
from starlette.applications import Starlette

from syncd.emulator.app import BASE_PATH, create_app
from syncd.emulator.options import Options

if TYPE_CHECKING:
    from syncd.emulator.counters import Requests

HOST = "127.0.0.1"


class Server:
    """A stand-in that is answering. Use it in a `with` block, or call close().

    base_url: what a client takes for https://api.cloudflare.com/client/v4. requests: its counters.
    """

    def __init__(self, app: Starlette, port: int) -> None:
        self._app = app
        self._socket = _listen(port)
        self.base_url = f"http://{HOST}:{self._socket.getsockname()[1]}{BASE_PATH}"
        self.requests: Requests = app.state.requests
        config = uvicorn.Config(
            app,
            http="auto",
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",
            access_log=False,
            # Longer than clients keep theirs, so that none is closed just as it is used again.
            timeout_keep_alive=75,
            # Idle connections close at once; a request that waits for its index is not worth waiting for.
            timeout_graceful_shutdown=0,
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._uvicorn.run, args=([self._socket],), name="syncd-emulator", daemon=True
        )
        self._thread.start()
        # An exit asked for before the start is over would leave the socket open.
        while not self._uvicorn.started and self._thread.is_alive():
            self._thread.join(0.001)

    def close(self) -> None:
        """Stops answering and closes the store, in well under half a second; a second call does nothing."""
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


def serve(options: Options, port: int = 0) -> Server:
    """Starts a stand-in in a thread of this process. port 0 takes a free one. OSError if the port is taken,
    sqlite3.Error if the store cannot be opened.
    """
    app = create_app(options)
    try:
        return Server(app, port)
    except BaseException:
        app.state.backend.store.close()
        raise


def run(options: Options, port: int = 0, *, ready: Callable[[str], None]) -> int:
    """Serves until SIGINT or SIGTERM and gives the signal's number. For the main thread only.

    ready is called with the base URL as soon as requests are taken. Errors as serve().
    """
    stop = threading.Event()
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        received.append(number)
        stop.set()

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with serve(options, port) as server:
            ready(server.base_url)
            stop.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return received[0]


def _listen(port: int) -> socket.socket:
    # With the protocol named asyncio sets TCP_NODELAY on its connections; without it every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener
