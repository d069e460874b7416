"""The lines of an upsert: their form, refused values, and limits."""

import json
import math
from array import array
from random import Random
from typing import Any

import pytest

from syncd.cloudflare.request import BLOCK, Body
from syncd.cloudflare.vectorize import (
    BODY_LIMIT,
    DIMENSIONS_LIMIT,
    ID_LIMIT,
    METADATA_LIMIT,
    VECTORS_LIMIT,
    VectorizeIndex,
    check_id,
    encode_line,
)
from syncd.core.errors import Park
from tests.unit.cloudflare.harness import Remote, ok


def refusal(**given: Any) -> Park:
    with pytest.raises(Park) as caught:
        encode_line(**{"vector_id": "a", "values": [1.0], **given})
    assert caught.value.kind == "refused"
    return caught.value


def test_a_line_is_compact_json_and_a_newline() -> None:
    assert encode_line("a", [1.0, -0.5]) == b'{"id":"a","values":[1,-0.5]}\n'
    line = encode_line('ä"', [0.25], {"key": "ö\n\u2028", "n": 2, "deep": {"x": [None, True]}})
    assert (
        line
        == ('{"id":"ä\\"","values":[0.25],"metadata":{"key":"ö\\n\u2028","n":2,"deep":{"x":[null,true]}}}\n').encode()
    )
    assert line.count(b"\n") == 1


def test_empty_metadata_is_written_and_none_is_not() -> None:
    assert encode_line("a", [1], {}) == b'{"id":"a","values":[1],"metadata":{}}\n'
    assert b"metadata" not in encode_line("a", [1], None)


def test_every_float32_is_read_back_exactly_and_in_nine_digits() -> None:
    rng = Random(7)
    values = array("f", [0.0, -0.0, 1e-45, 3.4028235e38, -1.17549435e-38, 0.1, 1 / 3, 16777217.0])
    values.extend(rng.gauss(0, 0.05) for _ in range(1000))
    line = encode_line("a", values)
    assert array("f", json.loads(line)["values"]) == values
    assert encode_line("a", [0.1]) == b'{"id":"a","values":[0.100000001]}\n'


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e39])
def test_a_value_that_is_no_finite_float32_is_a_mistake(value: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        encode_line("a", [0.0, value, -value])


@pytest.mark.parametrize(
    ("count", "fits"),
    [(0, False), (1, True), (2, True), *((DIMENSIONS_LIMIT + step, step < 1) for step in (-1, 0, 1))],
)
def test_the_dimensions_are_limited(count: int, *, fits: bool) -> None:
    if fits:
        assert len(json.loads(encode_line("a", [0.5] * count))["values"]) == count
        return
    with pytest.raises(ValueError, match="1 to 1536"):
        encode_line("a", [0.5] * count)


@pytest.mark.parametrize("text", ["x" * (ID_LIMIT - 1), "x" * ID_LIMIT, "é" * (ID_LIMIT // 2)])
def test_an_id_fits_up_to_its_bytes(text: str) -> None:
    assert json.loads(encode_line(text, [1])) == {"id": text, "values": [1]}


@pytest.mark.parametrize("text", ["", "x" * (ID_LIMIT + 1), "é" * (ID_LIMIT // 2) + "x", "\udcff"])
def test_an_id_that_does_not_fit_is_refused(text: str) -> None:
    assert "id of a vector" in str(refusal(vector_id=text))
    with pytest.raises(Park):
        check_id(text)


@pytest.mark.parametrize("step", [-1, 0, 1])
@pytest.mark.parametrize("letter", ["x", "é"])
def test_metadata_is_limited_in_bytes_of_its_json(step: int, letter: str) -> None:
    room = METADATA_LIMIT + step - len(b'{"text":""}')
    size = len(letter.encode())
    metadata = {"text": letter * (room // size) + "x" * (room % size)}
    if step <= 0:
        assert json.loads(encode_line("a", [1], metadata))["metadata"] == metadata
        return
    message = str(refusal(metadata=metadata))
    assert "10241" in message
    assert "chunk_size" in message


@pytest.mark.parametrize("name", ["", ".", "a.b", 'a"', "$a", "$"])
@pytest.mark.parametrize("deep", [False, True])
def test_a_name_that_vectorize_does_not_take_is_refused(name: str, *, deep: bool) -> None:
    metadata: dict[str, Any] = {"ok": [{"in": {name: 1}}]} if deep else {name: 1}
    assert repr(name) in str(refusal(metadata=metadata))


@pytest.mark.parametrize("name", ["a", "a$", "ä b", "a/b", "'"])
def test_any_other_name_is_taken(name: str) -> None:
    assert json.loads(encode_line("a", [1], {name: {name: 1}}))["metadata"] == {name: {name: 1}}


def test_metadata_that_is_no_utf8_is_refused() -> None:
    assert "rename" in str(refusal(metadata={"path": "a\udcff"}))


def test_metadata_that_is_no_json_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_line("a", [1], {"n": math.nan})


# bodies


@pytest.mark.parametrize("count", [1, 3, 100])
async def test_a_body_goes_out_in_blocks_and_not_as_a_whole(count: int) -> None:
    body = Body([encode_line(str(number), [0.1] * 768, {"text": "x" * 2000}) for number in range(count)])
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


@pytest.mark.parametrize(("count", "size"), [(VECTORS_LIMIT + 1, 1), (1, BODY_LIMIT + 1)])
async def test_no_upsert_is_larger_than_the_api_takes(remote: Remote, count: int, size: int) -> None:
    with pytest.raises(ValueError, match="at most 5000 lines and 100000000 bytes"):
        await VectorizeIndex(remote.transport(), "docs").upsert([bytes(size)] * count)
    assert not remote.requests


@pytest.mark.parametrize("count", [VECTORS_LIMIT - 1, VECTORS_LIMIT])
async def test_the_largest_number_of_lines_is_sent(remote: Remote, count: int) -> None:
    remote.says(ok({"mutationId": "m"}))
    assert await VectorizeIndex(remote.transport(), "docs").upsert([encode_line("a", [1])] * count) == "m"
