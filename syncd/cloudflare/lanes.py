"""Connections without a pool: as many lanes as there may be requests in flight, each with one connection."""

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from syncd.cloudflare.network import Network

KEEP_S = 5.0
"""Seconds that an unused connection is kept, as httpx does: servers drop theirs at any time after that."""
_PORTS = {"http": 80, "https": 443}
_ERRORS: dict[type[Exception], type[httpx.TransportError]] = {
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadError: httpx.ReadError,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteError: httpx.WriteError,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
}


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
        response.stream = _Held(response.stream, request, lambda: self._idle.append(lane))
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
    """One connection to one origin, made anew when the other side has closed it. context: for TLS, None without."""

    def __init__(self, url: httpx.URL, context: ssl.SSLContext | None) -> None:
        self._origin = httpcore.Origin(url.raw_scheme, url.raw_host, url.port or _PORTS[url.scheme])
        self._network = Network(context)
        self._connection = self._connect()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and return its answer when the head of it is there."""
        if self._connection.is_closed() or self._connection.has_expired():
            await self._connection.aclose()
            self._connection = self._connect()
        url, origin = request.url, self._origin
        sent = httpcore.Request(
            request.method,
            httpcore.URL(scheme=origin.scheme, host=origin.host, port=origin.port, target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx(request):
            answer = await self._connection.handle_async_request(sent)
        # Lanes reads it piece by piece and nothing else; httpx wants a class of its own around it.
        stream: Any = answer.stream
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()

    def _connect(self) -> httpcore.AsyncHTTPConnection:
        # The context is the network's: it connects by TLS at once.
        return httpcore.AsyncHTTPConnection(self._origin, keepalive_expiry=KEEP_S, network_backend=self._network)


class _Held(httpx.AsyncByteStream):
    """An answer's body, which holds a lane until it is closed. Unless it was read to its end, the connection goes."""

    def __init__(self, body: Any, request: httpx.Request, release: Callable[[], None]) -> None:
        self._body = body
        self._request = request
        self._release = release

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx(self._request):
            async for part in self._body:
                yield part

    async def aclose(self) -> None:
        """Let go of the body and, once, of the lane."""
        release, self._release = self._release, lambda: None
        try:
            await self._body.aclose()
        finally:
            release()


@contextmanager
def _as_httpx(request: httpx.Request) -> Iterator[None]:
    """Raise what httpx would: its errors go by the names of those below it."""
    try:
        yield
    except tuple(_ERRORS) as error:
        raise _ERRORS[type(error)](str(error), request=request) from error
