"""One lane over real sockets: what leaves together, what is used again, and how a broken line is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from syncd.cloudflare.connection import HELD_BYTES
from syncd.cloudflare.lanes import Lane, Lanes

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"


class Server:
    """Remembers connections and the reads it took to get each request; answers with what it is told to.

    unasked: said once more after each answer, `pause` seconds later.
    """

    def __init__(self, answer: bytes = OK, *, close: bool = False, unasked: bytes = b"", pause: float = 0.0) -> None:
        self.connections = 0
        self.first_reads: list[bytes] = []
        self.received = 0
        self._answer = answer
        self._close = close
        self._unasked = unasked
        self._pause = pause
        self._talks: list[asyncio.Task[None]] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._talks.append(asyncio.create_task(self._talks_on(reader, writer)))

    async def _talks_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that closes before it has read what it did not ask for resets the connection.
        with suppress(ConnectionResetError):
            await self._talk(reader, writer)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while first := await reader.read(2 * HELD_BYTES):
            self.first_reads.append(first)
            head, _, body = first.partition(b"\r\n\r\n")
            left = _length(head) - len(body)
            while left > 0:
                left -= len(await reader.read(left))
            self.received = _length(head)
            writer.write(self._answer)
            await writer.drain()
            if self._unasked:
                await asyncio.sleep(self._pause)
                writer.write(self._unasked)
            if self._close:
                break
        writer.close()

    @asynccontextmanager
    async def lane(self) -> AsyncIterator[tuple[Lanes, httpx.URL]]:
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0)
        url = httpx.URL(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x")
        lane = Lanes(lambda: Lane(url, None))
        async with server:
            yield lane, url
            await lane.aclose()
            await asyncio.gather(*self._talks)


def _length(head: bytes) -> int:
    lines = [line.split(b":") for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return int(lines[0][1]) if lines else 0


async def ask(lane: Lanes, request: httpx.Request) -> bytes:
    response = await lane.handle_async_request(request)
    try:
        return await response.aread()
    finally:
        await response.aclose()


async def test_the_head_of_a_request_leaves_with_its_body() -> None:
    server = Server()
    async with server.lane() as (lane, url):
        assert await ask(lane, httpx.Request("POST", url, content=b"the body")) == b"ok"
    assert server.first_reads[0].endswith(b"\r\n\r\nthe body")


async def test_a_connection_serves_many_requests() -> None:
    server = Server()
    async with server.lane() as (lane, url):
        for _ in range(3):
            await ask(lane, httpx.Request("GET", url))
    assert (server.connections, len(server.first_reads)) == (1, 3)


@pytest.mark.parametrize("size", [HELD_BYTES - 1, HELD_BYTES, HELD_BYTES + 1, 5_000_000])
async def test_a_body_of_any_size_arrives_whole(size: int) -> None:
    server = Server()
    async with server.lane() as (lane, url):
        await ask(lane, httpx.Request("PUT", url, content=b"x" * size))
    assert server.received == size


async def test_a_body_in_pieces_arrives_whole() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b"y" * 100

    server = Server()
    async with server.lane() as (lane, url):
        await ask(lane, httpx.Request("PUT", url, content=pieces(), headers={"Content-Length": "100000"}))
    assert server.received == 100_000


@pytest.mark.parametrize("last_word", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
async def test_a_connection_that_the_server_has_closed_is_not_used_again(last_word: bytes) -> None:
    server = Server(OK + last_word, close=True)
    async with server.lane() as (lane, url):
        for _ in range(2):
            response = await lane.handle_async_request(httpx.Request("GET", url))
            assert (response.status_code, await response.aread()) == (200, b"ok")
            await response.aclose()
            await asyncio.sleep(0.05)
    assert server.connections == 2


@pytest.mark.parametrize("pause", [0.0, 0.02])
async def test_what_nobody_asked_for_is_not_taken_for_the_next_answer(pause: float) -> None:
    server = Server(OK, unasked=b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", pause=pause)
    async with server.lane() as (lane, url):
        for _ in range(2):
            response = await lane.handle_async_request(httpx.Request("GET", url))
            assert (response.status_code, await response.aread()) == (200, b"ok")
            await response.aclose()
            await asyncio.sleep(2 * pause + 0.02)
    assert server.connections == 2


async def test_an_answer_that_was_not_read_to_its_end_costs_its_connection() -> None:
    server = Server(HALF + b"thing")
    async with server.lane() as (lane, url):
        response = await lane.handle_async_request(httpx.Request("GET", url))
        await response.aclose()
        assert await ask(lane, httpx.Request("GET", url)) == b"something"
    assert server.connections == 2


async def test_nobody_listening_is_an_error_of_connecting() -> None:
    server = Server()
    async with server.lane() as (_, url):
        pass
    lane = Lanes(lambda: Lane(url, None))
    for _ in range(2):
        with pytest.raises(httpx.ConnectError):
            await ask(lane, httpx.Request("GET", url))
    await lane.aclose()


@pytest.mark.parametrize("answer", [b"", HALF, b"no HTTP at all\r\n\r\n"])
async def test_an_answer_that_is_none_is_an_error_of_the_protocol(answer: bytes) -> None:
    server = Server(answer, close=True)
    async with server.lane() as (lane, url):
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(lane, httpx.Request("GET", url))


async def test_a_server_that_says_nothing_is_left_when_its_time_is_over() -> None:
    server = Server(b"", close=False)
    async with server.lane() as (lane, url):
        request = httpx.Request("GET", url, extensions={"timeout": {"read": 0.05}})
        with pytest.raises(httpx.ReadTimeout):
            await ask(lane, request)
