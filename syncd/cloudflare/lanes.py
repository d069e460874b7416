"""Connections without a pool: as many lanes as there may be requests in flight, each with one connection."""

import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx

from syncd.cloudflare.connection import Connection


class Lanes(httpx.AsyncBaseTransport):
    """Sends every request down an idle lane, the last used first, or opens a new one.

    httpx's own pool asks every idle connection's socket before each request, which costs more than the request once
    there are eight. The gate is what limits how many there are. open_lane: makes a transport with one connection.
    """

    def __init__(self, open_lane: Callable[[], httpx.AsyncBaseTransport]) -> None:
        self._open_lane = open_lane
        self._idle: list[httpx.AsyncBaseTransport] = []
        self._all: list[httpx.AsyncBaseTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its lane is free again when the answer is closed."""
        lane = self._idle.pop() if self._idle else self._new()
        try:
            response = await lane.handle_async_request(request)
        except BaseException:
            self._idle.append(lane)
            raise
        response.stream = _Held(response.stream, lambda: self._idle.append(lane))
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        for lane in self._all:
            await lane.aclose()

    def _new(self) -> httpx.AsyncBaseTransport:
        lane = self._open_lane()
        self._all.append(lane)
        return lane


class Lane(httpx.AsyncBaseTransport):
    """One connection to the host of url, made anew when the other side has closed it. context: for TLS, or None."""

    def __init__(self, url: httpx.URL, context: ssl.SSLContext | None) -> None:
        self._url = url
        self._context = context
        self._connection: Connection | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and return its answer when the head of it is there.

        The request's extension `timeout` says for how many seconds each step may stand still; none: for ever.
        """
        timeout = request.extensions.get("timeout", {})
        connection = await self._connected(timeout.get("connect"))
        try:
            await connection.send(request, timeout.get("write"))
            head = await connection.head(timeout.get("read"))
        except BaseException:
            connection.drop()
            raise
        body = _Body(connection, timeout.get("read"))
        return httpx.Response(head.status_code, headers=head.headers.raw_items(), stream=body)

    async def aclose(self) -> None:
        """Close the connection."""
        if self._connection:
            await self._connection.aclose()

    async def _connected(self, seconds: float | None) -> Connection:
        if self._connection is None or not self._connection.usable:
            await self.aclose()
            self._connection = None
            self._connection = await Connection.open(self._url, self._context, seconds)
        return self._connection


class _Body(httpx.AsyncByteStream):
    """The body of an answer. Unless it was read to its end when it is closed, the connection goes."""

    def __init__(self, connection: Connection, seconds: float | None) -> None:
        self._connection = connection
        self._seconds = seconds

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._connection.body(self._seconds)

    async def aclose(self) -> None:
        """Let go of the connection."""
        self._connection.rest()


class _Held(httpx.AsyncByteStream):
    """An answer's body, which holds a lane until it is closed."""

    def __init__(self, body: Any, release: Callable[[], None]) -> None:
        self._body = body
        self._release = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._body)

    async def aclose(self) -> None:
        """Let go of the body and, once, of the lane."""
        release, self._release = self._release, lambda: None
        try:
            await self._body.aclose()
        finally:
            release()
