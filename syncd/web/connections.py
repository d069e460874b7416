"""Bounds on the page's connections: how many, and how long one may take to send the head of a request."""

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_log = structlog.get_logger()

CONNECTIONS = 64
"""More at a time are answered with 503."""
OPEN_CONNECTIONS = 2 * CONNECTIONS
"""More at a time are closed before anything is read: a connection that says nothing costs a descriptor all the same."""
HEAD_S = 10.0
"""A request whose head has not come by then is not waited for."""
SAY_S = 60.0
"""How often it is said that no descriptor is left for connections."""


class BoundedProtocol(H11Protocol):
    """uvicorn's, but that it knows no time-out before the first answer, and no limit before a request is read."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or close it at once."""
        super().connection_made(transport)
        if len(self.connections) > OPEN_CONNECTIONS:
            transport.abort()
        else:
            self._wait()

    def data_received(self, data: bytes) -> None:
        """Wait no longer once the head is there."""
        super().data_received(data)
        if self._answering():
            self._wait_no_longer()
        elif self._waiting is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._wait_no_longer()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(HEAD_S, self._too_late)

    def _wait_no_longer(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _too_late(self) -> None:
        self._waiting = None
        if not self._answering():
            self.transport.abort()

    def _answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete


def quiet_accept(clock: Callable[[], float]) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
    """Return a handler of the loop's errors that says rarely what asyncio says at each connection it cannot take."""
    said = -SAY_S

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal said
        if "out of system resource" not in context.get("message", ""):
            loop.default_exception_handler(context)
        elif clock() >= said + SAY_S:
            said = clock()
            why, remedy = str(context.get("exception")), "raise the limit of open files (LimitNOFILE, ulimit -n)"
            _log.warning("web.cannot_accept", why=why, remedy=remedy)

    return handle
