from typing import Any

import pytest

from tests.emulator.kv_world import kv_world, pair

MAX_VALUE = 25 * 1024 * 1024


async def test_many_values_are_read_at_once() -> None:
    async with kv_world() as kv:
        end = int(kv.clock.now) + 500
        await kv.write([pair("a", '{"n": 1}', metadata={"m": 1}), pair("b", "[2]", expiration=end), pair("c", "")])
        assert await kv.read(["b", "a", "c", "none", "a"]) == {"b": "[2]", "a": '{"n": 1}', "c": "", "none": None}
        assert await kv.read(["a", "b", "none"], type="json") == {"a": {"n": 1}, "b": [2], "none": None}
        assert await kv.read(["a", "b", "none"], type="text", withMetadata=True) == {
            "a": {"value": '{"n": 1}', "metadata": {"m": 1}},
            "b": {"value": "[2]", "metadata": None, "expiration": end},
            "none": None,
        }


async def test_a_value_that_is_not_what_was_asked_for_spoils_a_bulk_read() -> None:
    async with kv_world() as kv:
        await kv.put("text", b"no json")
        await kv.put("binary", b"\xff")
        at = f"{kv.at}/bulk/get"
        assert await kv.api.refusal("POST", at, json={"keys": ["text", "binary"]}) == (400, 10001)
        assert await kv.api.refusal("POST", at, json={"keys": ["text"], "type": "json"}) == (400, 10001)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"keys": []}, 400),
        ({"keys": "a"}, 400),
        ({"keys": [1]}, 400),
        ({"keys": ["."]}, 400),
        ({"keys": ["k" * 513]}, 414),
        ({"keys": ["a"] * 101}, 400),
        ({"keys": ["a"], "type": "arrayBuffer"}, 400),
        ([], 400),
    ],
)
async def test_a_bulk_read_outside_the_schema_is_10001(body: Any, status: int) -> None:
    async with kv_world() as kv:
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/get", json=body) == (status, 10001)


async def test_a_bulk_read_gives_at_most_25_mebibytes() -> None:
    async with kv_world() as kv:
        await kv.put("a", b"v" * MAX_VALUE)
        await kv.put("b", b"v")
        assert len((await kv.read(["a"]))["a"]) == MAX_VALUE
        assert await kv.api.refusal("POST", f"{kv.at}/bulk/get", json={"keys": ["a", "b"]}) == (413, 10001)
