"""Transport over real sockets: which connections are used again, and which error each broken exchange becomes."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.request import Request
from syncd.cloudflare.transport import ANSWER_LIMIT, Transport
from syncd.core.errors import Park, Retry, Unreachable
from tests.unit.cloudflare.harness import ACCOUNT, TOKEN

BODY = b'{"success":true,"errors":[],"messages":[],"result":"ok"}'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
TOO_LARGE = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
UNREQUESTED = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
GET = Request("GET", "/x")
LARGE = Request("PUT", "/x", content=b"x" * 25_000_000)

Talk = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """A TCP server on loopback that runs `talk` for each connection, and records connections and received bodies."""

    talk: Talk
    connections: int = 0
    heads: list[bytes] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    _talks: list[asyncio.Task[None]] = field(default_factory=list)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._talks.append(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await self.talk(self, reader, writer)
        finally:
            writer.close()

    async def read_head(self, reader: asyncio.StreamReader) -> int:
        """Read one request's head; return the length of its body."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return int(lengths[0].partition(b":")[2]) if lengths else 0

    async def read_request(self, reader: asyncio.StreamReader) -> None:
        """Read one request with its body."""
        left = length = await self.read_head(reader)
        while left > 0:
            piece = await reader.read(min(left, 1 << 20))
            if not piece:
                raise ConnectionError
            left -= len(piece)
        self.received.append(length)

    @asynccontextmanager
    async def transport(self, *, within_s: float = 10.0, retry_for: float = 0.0) -> AsyncIterator[Transport]:
        server = await asyncio.start_server(self.accept, "127.0.0.1", 0, limit=1 << 20)
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/client/v4"
        gate = Gate(0, 8)
        async with server:
            made = Transport(base, ACCOUNT, Credentials.bearer(TOKEN), gate, timeout=within_s, retry_for=retry_for)
            try:
                async with made as transport:
                    yield transport
                    assert gate.in_flight == 0
            finally:
                for talk in self._talks:
                    talk.cancel()
                await asyncio.gather(*self._talks, return_exceptions=True)


def answering(*answers: bytes, close: bool = False, pause: float = 0.0) -> Talk:
    """Send the answers to each request, with a pause before each but the first; close: then close the connection."""

    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read_request(reader)
            for at, answer in enumerate(answers):
                if at:
                    await asyncio.sleep(pause)
                writer.write(answer)
                await writer.drain()
            if close:
                return

    return talk


def chunked(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


async def test_requests_share_a_connection() -> None:
    server = Server(answering(OK))
    async with server.transport() as transport:
        for _ in range(3):
            assert (await transport.once(GET)).result == "ok"
    assert (server.connections, len(server.heads)) == (1, 3)


async def test_at_most_one_connection_is_opened_for_each_request_in_flight() -> None:
    server = Server(answering(OK))
    async with server.transport() as transport:
        for _ in range(3):
            await asyncio.gather(*(transport.once(GET) for _ in range(30)))
    assert server.connections <= 8
    assert len(server.heads) == 90


@pytest.mark.parametrize("size", [0, 1, 65_536, 5_000_000])
async def test_a_body_of_any_size_arrives_whole(size: int) -> None:
    server = Server(answering(OK))
    async with server.transport() as transport:
        await transport.once(Request("PUT", "/x", content=b"x" * size))
    assert server.received == [size]


@pytest.mark.parametrize(
    "answer",
    [
        chunked(BODY),
        chunked(BODY[:7], BODY[7:]),
        chunked(BODY, end=b"0\r\nX-Trailer: 1\r\n\r\n"),
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK,
    ],
)
async def test_other_forms_of_an_answer_are_read_and_leave_the_connection_usable(answer: bytes) -> None:
    server = Server(answering(answer))
    async with server.transport() as transport:
        for _ in range(2):
            assert (await transport.once(GET)).result == "ok"
    assert server.connections == 1


async def test_an_answer_without_length_ends_with_its_connection() -> None:
    server = Server(answering(b"HTTP/1.1 200 OK\r\n\r\n" + BODY, close=True))
    async with server.transport() as transport:
        for _ in range(2):
            assert (await transport.once(GET)).result == "ok"
    assert server.connections == 2


async def test_headers_are_read_as_latin_1() -> None:
    answer = b"HTTP/1.1 400 Bad\r\nCF-Ray: caf\xe9\r\nContent-Length: 2\r\n\r\n{}"
    server = Server(answering(answer))
    async with server.transport() as transport:
        with pytest.raises(Retry, match=r"cf-ray caf."):
            await transport.once(GET)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + BODY,
        chunked(BODY, end=b""),
        chunked(BODY, end=b"zz\r\n"),
        b"no HTTP at all\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
    ids=[
        "nothing",
        "half a head",
        "half a body",
        "chunks without an end",
        "no chunk size",
        "no HTTP",
        "no status",
        "no header",
        "a negative length",
        "two lengths",
        "a head over 100 kB",
        "TLS",
    ],
)
async def test_a_broken_answer_is_an_ambiguous_retry(answer: bytes) -> None:
    server = Server(answering(answer, close=True))
    async with server.transport() as transport:
        with pytest.raises(Retry, match="no whole answer") as caught:
            await transport.once(Request("POST", "/x", json={}))
    assert caught.value.ambiguous
    assert type(caught.value) is Retry


async def test_an_answer_over_the_limit_is_parked_and_not_read_to_its_end() -> None:
    sent = 0

    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await server.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 1_000_000)
            await writer.drain()
            sent += 1_000_000

    async with Server(talk).transport() as transport:
        with pytest.raises(Park) as caught:
            await transport.once(GET)
    assert caught.value.kind == "too_large"
    assert sent < ANSWER_LIMIT + 20_000_000


async def test_a_download_is_cut_at_its_limit_and_the_next_one_gets_a_new_connection() -> None:
    server = Server(answering(OK))
    async with server.transport() as transport:
        assert await transport.fetch(GET, len(BODY)) == BODY
        with pytest.raises(Park):
            await transport.fetch(GET, len(BODY) - 1)
        assert await transport.fetch(GET, len(BODY)) == BODY


@pytest.mark.parametrize("last", [b"", UNREQUESTED], ids=["closed", "a last answer, then closed"])
async def test_a_connection_closed_by_the_server_between_requests_is_not_used_again(last: bytes) -> None:
    server = Server(answering(OK, last, close=True, pause=0.01))
    async with server.transport() as transport:
        for _ in range(3):
            assert (await transport.once(GET)).result == "ok"
            await asyncio.sleep(0.05)
    assert server.connections == 3


async def test_an_unrequested_answer_is_not_taken_for_the_next_one() -> None:
    server = Server(answering(OK, UNREQUESTED, pause=0.02))
    async with server.transport() as transport:
        for _ in range(2):
            assert (await transport.once(GET)).result == "ok"
            await asyncio.sleep(0.06)
    assert server.connections == 2


async def test_an_unrequested_answer_behind_an_answer_is_never_taken_for_that_of_another_request() -> None:
    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in itertools.count():
            await server.read_request(reader)
            await asyncio.sleep(0.01)
            name = server.heads[-1].split()[1].rpartition(b"/")[2]
            body = BODY.replace(b"ok", name)
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            writer.write(answer + OK if at == 0 else answer)

    server = Server(talk)
    async with server.transport(retry_for=10) as transport:
        for name in "abcd":
            assert (await transport.request(Request("GET", f"/{name}"))).result == name
    assert server.connections == 4


async def test_a_request_that_met_a_closing_connection_is_sent_again() -> None:
    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(OK)
        if server.connections == 1:
            await server.read_head(reader)
        else:
            await answering(OK)(server, reader, writer)

    server = Server(talk)
    async with server.transport(retry_for=10) as transport:
        for _ in range(2):
            assert (await transport.request(GET)).result == "ok"
    assert server.connections == 2


async def test_a_refused_connection_is_not_ambiguous() -> None:
    async with Server(answering(OK)).transport() as served:
        base = served.base_url
    async with Transport(base, ACCOUNT, Credentials.bearer(TOKEN), Gate(0, 8), retry_for=0) as transport:
        for _ in range(2):
            with pytest.raises(Unreachable, match="could not connect") as caught:
                await transport.request(GET)
            assert not caught.value.ambiguous


@pytest.mark.parametrize("drained", [True, False], ids=["reads the rest", "half-closes, then reads the rest"])
async def test_an_early_413_is_read_once_the_server_has_taken_the_body(drained: bool) -> None:
    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_head(reader)
        writer.write(TOO_LARGE)
        if not drained:
            writer.write_eof()
        while await reader.read(1 << 20):
            pass

    async with Server(talk).transport() as transport:
        with pytest.raises(Park) as caught:
            await transport.once(LARGE)
    assert caught.value.kind == "too_large"


async def test_an_early_413_of_a_small_body_is_read_although_the_server_closes() -> None:
    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_head(reader)
        writer.write(TOO_LARGE)

    async with Server(talk).transport() as transport:
        with pytest.raises(Park) as caught:
            await transport.once(Request("PUT", "/x", content=b"x" * 1000))
    assert caught.value.kind == "too_large"


async def test_an_early_413_with_a_closed_connection_is_too_large_or_tried_again() -> None:
    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_head(reader)
        writer.write(TOO_LARGE)

    async with Server(talk).transport() as transport:
        with pytest.raises((Park, Retry)) as caught:
            await transport.once(LARGE)
    assert getattr(caught.value, "kind", "") == "too_large" or getattr(caught.value, "ambiguous", False)


@pytest.mark.parametrize("after", [0, 1, 1_000_000])
async def test_a_reset_while_sending_is_an_ambiguous_retry(after: int) -> None:
    async def talk(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_head(reader)
        if after:
            await reader.readexactly(after)
        writer.transport.abort()

    async with Server(talk).transport() as transport:
        with pytest.raises(Retry, match="no whole answer") as caught:
            await transport.once(LARGE)
    assert caught.value.ambiguous


async def never(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read one request and answer nothing."""
    del writer
    await server.read_request(reader)
    await asyncio.Event().wait()


async def takes_nothing(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stop reading after the head."""
    del writer
    await server.read_head(reader)
    await asyncio.Event().wait()


async def stops_half_way(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send half an answer."""
    await server.read_request(reader)
    writer.write(OK[:-9])
    await asyncio.Event().wait()


async def drips(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send one byte at a time, each sooner than any timeout."""
    await server.read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("talk", "request_"), [(never, GET), (stops_half_way, GET), (drips, GET), (takes_nothing, LARGE)]
)
async def test_a_server_that_stands_still_or_is_too_slow_times_out(talk: Talk, request_: Request) -> None:
    server = Server(talk)
    async with server.transport(within_s=0.1) as transport:
        began = time.monotonic()
        with pytest.raises(Retry, match="no whole answer") as caught:
            await transport.once(request_)
        assert time.monotonic() - began < 5
    assert caught.value.ambiguous


@pytest.mark.parametrize("talk", [never, stops_half_way, drips])
async def test_a_cancelled_request_leaves_place_and_connection(talk: Talk) -> None:
    async def first_hangs(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (talk if server.connections == 1 else answering(OK))(server, reader, writer)

    server = Server(first_hangs)
    async with server.transport() as transport:
        hanging = asyncio.create_task(transport.once(GET))
        await asyncio.sleep(0.05)
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        assert transport.gate.in_flight == 0
        assert (await transport.once(GET)).result == "ok"
    assert server.connections == 2
