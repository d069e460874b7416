"""One connection to the API: HTTP/1.1 as h11 speaks it, over asyncio's own streams.

The way of the HTTP library's own goes through locks and checks for two event loops, which cost as much as everything
else about a small request.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any, Self

import h11
import httpx

HELD_BYTES = 64 * 1024
"""Less than so much of a body is not sent by itself: the head of a small request and its body leave in one call."""
READ_BYTES = 64 * 1024
"""Taken from the socket at a time; twice as much may wait unread before the other side is slowed down."""
HEAD_BYTES = 100 * 1024
"""Largest head of an answer, as httpx has it."""
KEEP_S = 5.0
"""Seconds that an unused connection is kept, as httpx does: servers drop theirs at any time after that."""
NEXT_ADDRESS_S = 0.25
"""Seconds that an address may take to answer before the host's next one is tried beside it (RFC 8305)."""
_GRACE = 2
"""Rounds of the loop in which a connection may say goodbye."""


class Connection:
    """Carries one request after another: `send`, `head`, `body`, then `rest`. After an error of any of them: `drop`."""

    def __init__(self, reader: "_Reader", writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES)
        self._rested_at = time.monotonic()

    @classmethod
    async def open(cls, url: httpx.URL, context: ssl.SSLContext | None, seconds: float | None) -> Self:
        """Connect to the host of url, by TLS if there is a context. seconds: after which that has failed.

        Raises httpx.ConnectError or ConnectTimeout; nothing was sent then.
        """
        loop = asyncio.get_running_loop()
        reader = _Reader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        port = url.port or (80 if context is None else 443)
        try:
            async with asyncio.timeout(seconds):
                transport, _ = await loop.create_connection(
                    lambda: protocol, url.host, port, ssl=context, happy_eyeballs_delay=NEXT_ADDRESS_S
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return cls(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    @property
    def usable(self) -> bool:
        """False once the other side has closed it, or when it has rested for so long that it may any moment."""
        return (
            self._http.our_state is h11.IDLE and not self._reader.ended and time.monotonic() - self._rested_at < KEEP_S
        )

    async def send(self, request: httpx.Request, seconds: float | None) -> None:
        """Send a request. seconds: for which the other side may take nothing of it.

        Raises httpx.WriteTimeout or LocalProtocolError. That it was not taken whole is no error: a server that refuses
        a large body says so and closes.
        """
        headers = request.headers.raw
        self._reader.resting = False
        try:
            held = self._http.send(h11.Request(method=request.method, target=request.url.raw_path, headers=headers))
            async for piece in _pieces(request):
                held += self._http.send(h11.Data(data=piece))
                if len(held) >= HELD_BYTES:
                    await self._write(held, seconds)
                    held = b""
            await self._write(held + self._http.send(h11.EndOfMessage()), seconds)
        except h11.LocalProtocolError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        except TimeoutError as error:
            raise httpx.WriteTimeout(str(error)) from error
        except OSError:
            return

    async def head(self, seconds: float | None) -> h11.Response:
        """Status and headers of the answer. seconds: for which nothing of it may come.

        Raises httpx.ReadTimeout, ReadError or RemoteProtocolError.
        """
        event = await self._event(seconds)
        while not isinstance(event, h11.Response):
            event = await self._event(seconds)
        return event

    async def body(self, seconds: float | None) -> AsyncIterator[bytes]:
        """The pieces of the answer's body; seconds and errors as of `head`."""
        while isinstance(event := await self._event(seconds), h11.Data):
            yield bytes(event.data)

    def rest(self) -> None:
        """Make ready for the next request. Unless the answer was read to its end, the connection is dropped."""
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        # More than the answer would be taken for the next one's.
        if done and not self._http.trailing_data[0]:
            self._http.start_next_cycle()
            self._reader.resting = True
            self._rested_at = time.monotonic()
        else:
            self.drop()

    def drop(self) -> None:
        """Close at once, whatever is under way."""
        self._http.send_failed()
        self._writer.transport.abort()

    async def aclose(self) -> None:
        """Close; what the other side does not take at once is dropped."""
        self._writer.transport.close()
        for _ in range(_GRACE):
            await asyncio.sleep(0)
        self.drop()

    async def _write(self, data: bytes, seconds: float | None) -> None:
        self._writer.write(data)
        # What the system took at once, which is most requests, is not waited for.
        if self._writer.transport.get_write_buffer_size():
            async with asyncio.timeout(seconds):
                await self._writer.drain()

    async def _event(self, seconds: float | None) -> Any:
        """What comes next of the answer, as h11 names it."""
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                async with asyncio.timeout(seconds):
                    data = await self._reader.read(READ_BYTES)
                if not data and self._http.their_state is h11.SEND_RESPONSE:
                    raise httpx.RemoteProtocolError("the server closed the connection without an answer")
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        except TimeoutError as error:
            raise httpx.ReadTimeout(str(error)) from error
        except OSError as error:
            raise httpx.ReadError(str(error)) from error
        return event


class _Reader(asyncio.StreamReader):
    """Notes the end as soon as it comes, and what comes although nothing was asked: after either there is no next."""

    ended = False
    resting = False

    def feed_data(self, data: Any) -> None:
        self.ended = self.ended or self.resting
        super().feed_data(data)

    def feed_eof(self) -> None:
        self.ended = True
        super().feed_eof()


def _pieces(request: httpx.Request) -> AsyncIterator[bytes]:
    """The body of a request. Its type allows one that only blocking code can read; nobody here makes such."""
    stream: Any = request.stream
    return aiter(stream)
