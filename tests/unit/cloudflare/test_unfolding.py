"""The size of a compressed answer is limited while it is decompressed."""

import gzip
import tracemalloc
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from syncd.cloudflare.response import read_body

LIMIT = 100_000
MIB = 1024 * 1024


async def body(data: bytes, encoding: str, limit: int = LIMIT) -> bytes:
    response = httpx.Response(200, headers={"Content-Encoding": encoding}, stream=_Pieces(data))
    return await read_body(response, limit)


class _Pieces(httpx.AsyncByteStream):
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._data), 65_536):
            yield self._data[start : start + 65_536]


@pytest.mark.parametrize(
    ("encoding", "fold"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("x-gzip", gzip.compress),
        ("identity", bytes),
    ],
)
@pytest.mark.parametrize("size", [0, 1, LIMIT - 1, LIMIT, LIMIT + 1])
async def test_an_answer_is_unfolded_up_to_one_byte_over_the_limit(
    encoding: str, fold: Callable[[bytes], bytes], size: int
) -> None:
    data = bytes(index % 251 for index in range(size))
    assert await body(fold(data), encoding) == data


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,deflate", "deflate", "br", "zstd", "gzip;q=1", ""])
async def test_an_encoding_that_was_not_asked_for_is_refused(encoding: str) -> None:
    with pytest.raises(httpx.DecodingError, match="not asked for"):
        await body(gzip.compress(gzip.compress(b"x")), encoding)


@pytest.mark.parametrize(
    "data", [b"no gzip", gzip.compress(b"x" * 1000, mtime=0)[:-9], gzip.compress(b"x", mtime=0)[:3]]
)
async def test_a_broken_encoding_is_a_bad_answer(data: bytes) -> None:
    with pytest.raises(httpx.DecodingError):
        await body(data, "gzip")


async def test_an_answer_that_unfolds_to_much_takes_little_memory() -> None:
    bomb = gzip.compress(bytes(512 * MIB // 8), 9)
    tracemalloc.start()
    try:
        assert len(await body(bomb, "gzip", MIB)) == MIB + 1
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()
