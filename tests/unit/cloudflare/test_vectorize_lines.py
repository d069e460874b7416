"""The lines of an upsert, and the blocks of its body."""

import json
import math
from array import array
from random import Random

import pytest

from syncd.cloudflare.request import BLOCK, Body
from syncd.cloudflare.vectorize import encode_line
from syncd.core.errors import Park

ONE = array("f", [1.0])


def test_a_line_is_compact_json_and_a_newline() -> None:
    assert encode_line("a", array("f", [1.0, -0.5]), {}) == b'{"id":"a","values":[1,-0.5],"metadata":{}}\n'
    line = encode_line('ä"', array("f", [0.25]), {"key": "ö\n\u2028", "n": 2, "deep": {"x": [None, True]}})
    assert (
        line
        == ('{"id":"ä\\"","values":[0.25],"metadata":{"key":"ö\\n\u2028","n":2,"deep":{"x":[null,true]}}}\n').encode()
    )
    assert line.count(b"\n") == 1


def test_every_float32_is_read_back_exactly_and_in_nine_digits() -> None:
    rng = Random(7)
    values = array("f", [0.0, -0.0, 1e-45, 3.4028235e38, -1.17549435e-38, 0.1, 1 / 3, 16777217.0])
    values.extend(rng.gauss(0, 0.05) for _ in range(1000))
    line = encode_line("a", values, {})
    assert array("f", json.loads(line)["values"]) == values
    assert b'"values":[0.100000001]' in encode_line("a", array("f", [0.1]), {})


def test_metadata_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(Park, match="rename") as caught:
        encode_line("a", ONE, {"path": "a\udcff"})
    assert caught.value.kind == "refused"


def test_metadata_that_is_no_json_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_line("a", ONE, {"n": math.nan})


# bodies


@pytest.mark.parametrize("count", [1, 3, 100])
async def test_a_body_goes_out_in_blocks_and_not_as_a_whole(count: int) -> None:
    body = Body([encode_line(str(number), array("f", [0.1] * 768), {"text": "x" * 2000}) for number in range(count)])
    for _ in range(2):
        blocks = [block async for block in body.blocks()]
        assert b"".join(blocks) == b"".join(body.pieces)
        assert sum(map(len, blocks)) == body.size
        assert len(blocks) == -(-body.size // BLOCK)
        assert max(map(len, blocks)) <= BLOCK


async def test_a_piece_over_the_size_of_a_block_is_not_copied() -> None:
    large = b"x" * (BLOCK + 1)
    blocks = [block async for block in Body([b"a", large, b"b", b"c"]).blocks()]
    assert blocks == [b"a", large, b"bc"]
    assert blocks[1] is large
