"""Answers outside the schema cost one more request and fail no pass."""

import sqlite3
from array import array
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.state.directory import FILE_NAME
from tests.unit.targets import harness_kv as kv_harness
from tests.unit.targets import harness_vectorize as vectorize_harness
from tests.unit.targets.harness_mirrors import Act, Forward

ZERO: list[float] = [0.0] * 384
ODD_VECTORS = {"short": [0.5] * 100, "long": [0.5] * 2000, "zero": ZERO, "strings": ["1"] * 384, "huge": [1e39] * 384}


def embeds(vector: list[Any]) -> Act:
    """Answer with this vector for every text."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        body = (await forward()).json()
        body["result"]["data"] = [vector for _ in body["result"]["data"]]
        body["result"]["shape"] = [len(body["result"]["data"]), len(vector)]
        del request
        return httpx.Response(200, json=body)

    return act


@pytest.mark.parametrize("vector", ODD_VECTORS.values(), ids=ODD_VECTORS)
async def test_one_wrong_embedding_answer_is_asked_for_again(tmp_path: Path, vector: list[Any]) -> None:
    async with vectorize_harness.open_harness(tmp_path) as harness:
        fixture = harness.add_mirror()
        fixture.write("a.md", "some text")
        await fixture.full()
        fixture.write("b.md", "other text")
        harness.wire.plays("POST", "/bge-small-en-v1.5", embeds(vector))
        assert (await fixture.full()).done["put"] == 1
        assert await harness.ids() == fixture.expected()
        assert not fixture.problems()


@pytest.mark.parametrize(
    "kept", [b"", b"abc", array("f", ZERO).tobytes(), array("f", [1.0] * 100).tobytes(), "text", 7]
)
async def test_a_remembered_vector_that_does_not_fit_is_made_anew(tmp_path: Path, kept: object) -> None:
    async with vectorize_harness.open_harness(tmp_path) as harness:
        fixture = harness.add_mirror()
        fixture.write("a.md", "some text")
        await fixture.full()
        with sqlite3.connect(fixture.state / FILE_NAME) as db:
            assert db.execute("UPDATE embedding SET vector = ?", (kept,)).rowcount
        db.close()
        fixture.write("b.md", "some text")
        assert (await fixture.full()).done["put"] == 1
        assert await harness.ids() == fixture.expected()


async def test_a_cursor_that_is_refused_once_has_the_listing_made_anew(tmp_path: Path) -> None:
    refused: list[httpx.Request] = []

    async def refuse(request: httpx.Request, forward: Forward) -> httpx.Response:
        if "cursor" in request.url.params and not refused:
            refused.append(request)
            errors = [{"code": 10001, "message": "invalid cursor"}]
            return httpx.Response(400, json={"success": False, "errors": errors, "result": None})
        return await forward()

    async with kv_harness.open_harness(tmp_path, empty_pages=True) as harness:
        fixture = harness.add_mirror()
        fixture.write("a.md", "x")
        await fixture.full()
        harness.wire.plays("GET", "/keys", refuse, times=None)
        fixture.write("b.md", "y")
        assert (await fixture.full()).done["put"] == 1
        assert refused
        assert await harness.contents() == {"a.md": b"x", "b.md": b"y"}
