"""TCP and TLS for the HTTP library, by asyncio's own streams.

The library's own way to the network runs under two event loops and asks each time which one it is; that alone costs as
much as everything else about a small request.
"""

import asyncio
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

HELD_BYTES = 64 * 1024
"""What is written in pieces of less is held until there is so much, or until an answer is waited for: the head of a
request and its body then leave in one system call."""
READ_BYTES = 128 * 1024
"""How much may wait unread before the other side is slowed down."""
_GRACE = 2
"""Rounds of the loop in which a connection may say goodbye."""
NEXT_ADDRESS_S = 0.25
"""Seconds that an address may take to answer before the host's next one is tried beside it (RFC 8305)."""


class Network(httpcore.AsyncNetworkBackend):
    """Connects; by TLS at once if there is a context for it."""

    def __init__(self, context: ssl.SSLContext | None) -> None:
        self._context = context

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """Open a connection. Raises httpcore.ConnectError or ConnectTimeout; nothing was sent then."""
        loop = asyncio.get_running_loop()
        reader = _Reader(limit=READ_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        with _as(httpcore.ConnectError, httpcore.ConnectTimeout):
            async with asyncio.timeout(timeout):
                transport, _ = await loop.create_connection(
                    lambda: protocol, host, port, ssl=self._context, happy_eyeballs_delay=NEXT_ADDRESS_S
                )
        return Stream(reader, asyncio.StreamWriter(transport, protocol, reader, loop))

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class _Reader(asyncio.StreamReader):
    """Notes the end as soon as it comes, also while something that nobody asked for is still unread."""

    ended = False

    def feed_eof(self) -> None:
        self.ended = True
        super().feed_eof()


class Stream(httpcore.AsyncNetworkStream):
    """One open connection."""

    def __init__(self, reader: _Reader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._held = bytearray()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """The next bytes, b"" at the end. Raises httpcore.ReadError or ReadTimeout."""
        if self._held:
            await self._flush(timeout)
        with _as(httpcore.ReadError, httpcore.ReadTimeout):
            if timeout is None:
                return await self._reader.read(max_bytes)
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Send, or hold until there is more to send. Raises httpcore.WriteError or WriteTimeout."""
        self._held += buffer
        if len(self._held) >= HELD_BYTES:
            await self._flush(timeout)

    async def _flush(self, seconds: float | None) -> None:
        held, self._held = self._held, bytearray()
        with _as(httpcore.WriteError, httpcore.WriteTimeout):
            self._writer.write(held)
            async with asyncio.timeout(seconds):
                await self._writer.drain()

    async def aclose(self) -> None:
        """Close the connection; what the other side does not take at once is dropped."""
        transport = self._writer.transport
        transport.close()
        for _ in range(_GRACE):
            await asyncio.sleep(0)
        transport.abort()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,  # noqa: ARG002
        server_hostname: str | None = None,  # noqa: ARG002
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Nothing is left to do: the connection was made by TLS."""
        return self

    def get_extra_info(self, info: str) -> Any:
        """What the library asks of a connection: its TLS state, and whether the other side has closed it."""
        if info == "is_readable":
            # Between two requests nothing can come but the end, and perhaps a last word before it.
            return self._reader.ended
        return self._writer.get_extra_info(info)


@contextmanager
def _as(failed: type[Exception], late: type[Exception]) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise late(str(error)) from error
    except OSError as error:
        raise failed(str(error)) from error
