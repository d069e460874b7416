"""Connections without a pool: as many lanes as there may be requests in flight, each with one connection."""

from collections.abc import AsyncIterator, Callable

import httpx


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
        if isinstance(response.stream, httpx.AsyncByteStream):
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


class _Held(httpx.AsyncByteStream):
    """An answer's body, which holds a lane until it is closed."""

    def __init__(self, body: httpx.AsyncByteStream, release: Callable[[], None]) -> None:
        self._body = body
        self._release = release

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._body:
            yield part

    async def aclose(self) -> None:
        """Let go of the body and, once, of the lane."""
        release, self._release = self._release, lambda: None
        try:
            await self._body.aclose()
        finally:
            release()
