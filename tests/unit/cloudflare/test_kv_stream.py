"""A bulk body of 90 MB over a real socket: it is in memory once, and a retry sends it from its start."""

import asyncio
import hashlib
import os
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.kv import KVNamespace
from syncd.cloudflare.kv_bodies import VALUE_LIMIT, BulkBody, encode_pair
from syncd.cloudflare.transport import Transport
from tests.unit.cloudflare.harness import ACCOUNT, TOKEN, Remote, ok

DONE = b'{"success":true,"result":{"successful_key_count":1,"unsuccessful_keys":[]}}'


async def at_once(_: float) -> None:
    await asyncio.sleep(0)


class Sink:
    """A server that reads a body and forgets it; answers with the statuses in turn, then with 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.received: list[tuple[int, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                lines = dict(line.lower().split(": ", 1) for line in head.decode().split("\r\n")[1:] if line)
                await self._read(reader, int(lines["content-length"]))
                status = self.statuses.pop(0) if self.statuses else 200
                body = DONE if status == 200 else b'{"success":false}'
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
                await writer.drain()
        except asyncio.IncompleteReadError:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader, size: int) -> None:
        digest = hashlib.sha256()
        left = size
        while left:
            piece = await reader.read(min(left, 256 * 1024))
            assert piece, "the body ends early"
            digest.update(piece)
            left -= len(piece)
        self.received.append((size, digest.hexdigest()))

    @asynccontextmanager
    async def namespace(self) -> AsyncIterator[KVNamespace]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/client/v4"
        async with server, Transport(base, ACCOUNT, Credentials.bearer(TOKEN), Gate(0, 8, sleep=at_once)) as transport:
            yield KVNamespace(transport, "id")


def digest_of(body: BulkBody) -> str:
    digest = hashlib.sha256()
    for piece in body.pieces():
        digest.update(piece)
    return digest.hexdigest()


async def test_a_full_bulk_is_held_once() -> None:
    sink = Sink()
    tracemalloc.start()
    try:
        body = BulkBody(max_pairs=1000, max_bytes=90_000_000)
        for key in ("a", "b"):
            assert body.add(encode_pair(key, os.urandom(VALUE_LIMIT)))
        assert body.add(encode_pair("text", b"some text\n" * 1_700_000))
        held, built = tracemalloc.get_traced_memory()
        assert 85_000_000 < body.size < held < body.size * 1.02
        assert built < body.size + 2 * VALUE_LIMIT
        tracemalloc.reset_peak()
        async with sink.namespace() as docs:
            assert await docs.bulk_write(body) == ()
        _, sending = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sending < body.size * 1.1
    assert sink.received == [(body.size, digest_of(body))]


@pytest.mark.parametrize("size", [10, 300_000, 3_000_000])
async def test_a_bulk_is_sent_again_from_its_start(size: int) -> None:
    body = BulkBody()
    assert body.add(encode_pair("a", os.urandom(size)))
    sink = Sink(503, 500)
    async with sink.namespace() as docs:
        assert await docs.bulk_write(body) == ()
    assert sink.received == [(body.size, digest_of(body))] * 3


async def test_a_stream_goes_out_with_its_length_and_is_counted(remote: Remote) -> None:
    remote.says(httpx.ReadTimeout("lost"), ok({}))
    docs = KVNamespace(remote.transport(), "id")
    body = BulkBody()
    assert body.add(encode_pair("a", b"\xff" * 1_000_000))
    await remote.time.run(docs.bulk_write(body))
    assert [request.content for request in remote.requests] == [b"".join(body.pieces())] * 2
    assert {request.headers["content-length"] for request in remote.requests} == {str(body.size)}
