import math
from typing import Any

import pytest

from tests.emulator.harness import LAG, VectorizeClient, row, vectorize_emulator


async def test_cosine_compares_directions_and_the_best_is_first() -> None:
    async with vectorize_emulator() as index:
        await index.put([row("up", 0, 5), row("right", 2, 0), row("left", -1, 0), row("between", 3, 3)])
        matches = await index.query(1, 0)
        assert [match["id"] for match in matches] == ["right", "between", "up", "left"]
        assert [match["score"] for match in matches] == pytest.approx([1, math.sqrt(0.5), 0, -1], abs=1e-6)
        assert set(matches[0]) == {"id", "score"}


async def test_a_vector_of_length_0_scores_0() -> None:
    async with vectorize_emulator() as index:
        await index.put([row("zero", 0, 0), row("left", -1, 0)])
        assert [(match["id"], match["score"]) for match in await index.query(1, 0)] == [("zero", 0), ("left", -1)]
        assert [match["score"] for match in await index.query(0, 0)] == [0, 0]


async def test_euclidean_has_the_shortest_distance_first() -> None:
    async with vectorize_emulator(metric="euclidean") as index:
        await index.put([row("far", 4, 3), row("near", 1, 0), row("same", 0, 0)])
        matches = await index.query(0, 0)
        assert [(match["id"], match["score"]) for match in matches] == [("same", 0), ("near", 1), ("far", 5)]


async def test_dot_product_has_the_largest_first() -> None:
    async with vectorize_emulator(metric="dot-product") as index:
        await index.put([row("small", 1, 0), row("large", 9, 1), row("against", -1, 0)])
        matches = await index.query(2, 0)
        assert [(match["id"], match["score"]) for match in matches] == [("large", 18), ("small", 2), ("against", -2)]


async def test_the_best_are_found_among_many_blocks_of_vectors() -> None:
    async with vectorize_emulator(metric="dot-product") as index:
        for start in (0, 5000):
            await index.put([row(str(number), 5000 - number % 7000, 0) for number in range(start, start + 5000)])
        assert await index.nearest(1, 0, topK=4) == ["0", "7000", "1", "7001"]


@pytest.mark.parametrize("count", [99, 100])
async def test_up_to_100_matches_are_returned_without_content(count: int) -> None:
    async with vectorize_emulator() as index:
        await index.put([row(str(number), 1, number) for number in range(120)])
        assert len(await index.query(1, 0)) == 5
        assert len(await index.query(1, 0, topK=float(count), returnMetadata="indexed")) == count
        assert await index.query_refused(topK=101) == (400, 40025)


@pytest.mark.parametrize("content", [{"returnValues": True}, {"returnMetadata": "all"}, {"returnMetadata": True}])
async def test_up_to_50_matches_are_returned_with_content(content: dict[str, Any]) -> None:
    async with vectorize_emulator() as index:
        await index.put([row(str(number), 1, number) for number in range(60)])
        for count in (49, 50):
            assert len(await index.query(1, 0, topK=count, **content)) == count
        assert await index.query_refused(topK=51, **content) == (400, 40025)


async def test_a_match_shows_the_requested_fields() -> None:
    async with vectorize_emulator() as index:
        await index.index("folder")
        metadata = {"folder": "é" * 40, "size": 1}
        await index.put([row("a", 0.5, 0, metadata=metadata, namespace="n"), row("b", 0, 1)])
        plain = {"id": "a", "score": 1, "namespace": "n"}
        for nothing in ({}, {"returnMetadata": "none"}, {"returnMetadata": False}, {"returnMetadata": None}):
            assert await index.query(1, 0, **nothing) == [plain, {"id": "b", "score": 0}]
        full = plain | {"values": [0.5, 0], "metadata": metadata}
        for everything in ("all", True):
            given = {"returnValues": True, "returnMetadata": everything}
            assert await index.query(1, 0, **given) == [full, {"id": "b", "score": 0, "values": [0, 1]}]
        (match,) = await index.query(1, 0, returnMetadata="indexed", topK=1)
        assert match == plain | {"metadata": {"folder": "é" * 32}}


async def test_a_query_may_be_limited_to_a_namespace() -> None:
    async with vectorize_emulator() as index:
        await index.put([row("a", namespace="x"), row("b", namespace="y"), row("c")])
        assert await index.nearest(1, 0, namespace="y") == ["b"]
        assert await index.nearest(1, 0, namespace="z") == []
        assert await index.nearest(1, 0) == ["a", "b", "c"]


async def test_a_query_may_name_a_stored_vector() -> None:
    async with vectorize_emulator() as index:
        await index.put([row("a", 1, 0), row("b", 0, 1)])
        answer = await index.api.result("POST", f"{index.at}/query", json={"vectorId": "b", "topK": 1})
        assert [match["id"] for match in answer["matches"]] == ["b"]
        assert await index.api.refusal("POST", f"{index.at}/query", json={"vectorId": "c"}) == (400, 40026)


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_vector_of_wrong_dimensions_is_40006(count: int) -> None:
    async with vectorize_emulator() as index:
        body = {"vector": [1] * count}
        assert await index.api.refusal("POST", f"{index.at}/query", json=body) == (400, 40006)


FILTERS: list[Any] = [{}, [], "x", {"p": {}}, {"p": {"$or": 1}}, {"p": {"$in": 1}}, {"p": [1]}]
NAMES = ["", "$p", 'p"', "a..b", "p" * 513]
UNREADABLE: list[dict[str, Any]] = [
    {"vector": None},
    {"vector": "x"},
    {"vector": [1, "x"]},
    {"vector": [1, 1e39]},
    *({"topK": bad} for bad in (0, -1, 1.5, "5", True)),
    {"returnMetadata": "some"},
    {"returnMetadata": 1},
    {"returnMetadata": []},
    {"returnValues": "yes"},
    {"namespace": 1},
    *({"filter": bad} for bad in FILTERS),
    *({"filter": {bad: 1}} for bad in NAMES),
]


@pytest.mark.parametrize("body", UNREADABLE)
async def test_an_invalid_query_is_40026(body: dict[str, Any]) -> None:
    async with vectorize_emulator() as index:
        assert await index.query_refused(**body) == (400, 40026)


@pytest.mark.parametrize("size", [2047, 2048])
async def test_a_filter_has_less_than_2048_bytes(size: int) -> None:
    async with vectorize_emulator() as index:
        given = {"p": "x" * (size - len('{"p":""}'))}
        response = await index.api.ask("POST", f"{index.at}/query", json={"vector": [1, 0], "filter": given})
        assert response.is_success is (size < 2048)


async def _indexed(index: VectorizeClient) -> None:
    for name, kind in (("folder", "string"), ("size", "number"), ("draft", "boolean"), ("deep.er", "string")):
        await index.index(name, kind)
    await index.put(
        [
            row("a", metadata={"folder": "docs/", "size": 1, "draft": True, "deep": {"er": "x"}}),
            row("b", metadata={"folder": "notes/", "size": 2.5, "draft": False}),
            row("c", metadata={"folder": 7, "size": "1", "Folder": "docs/"}),
            row("d"),
        ]
    )


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"folder": "docs/"}, "a"),
        ({"folder": {"$eq": "notes/"}}, "b"),
        ({"folder": {"$ne": "docs/"}}, "bcd"),
        ({"folder": {"$in": ["docs/", "notes/"]}}, "ab"),
        ({"folder": {"$nin": ["docs/"]}}, "bcd"),
        ({"folder": {"$gte": "docs/", "$lt": "docs0"}}, "a"),
        ({"size": {"$gt": 1}}, "b"),
        ({"size": {"$lte": 2.5}}, "ab"),
        ({"size": 1}, "a"),
        ({"draft": True}, "a"),
        ({"draft": {"$ne": True}}, "bcd"),
        ({"folder": "docs/", "size": 1}, "a"),
        ({"folder": "docs/", "size": 2.5}, ""),
        ({"deep.er": "x"}, "a"),
        ({"Folder": "docs/"}, ""),
        ({"never": "x"}, ""),
    ],
)
async def test_a_filter_sees_properties_with_an_index_and_values_of_its_type(given: Any, found: str) -> None:
    async with vectorize_emulator() as index:
        await _indexed(index)
        assert await index.nearest(1, 0, filter=given) == list(found)


async def test_a_filter_applies_before_the_limit_of_matches() -> None:
    async with vectorize_emulator() as index:
        await _indexed(index)
        assert await index.nearest(1, 0, filter={"folder": "notes/"}, topK=1) == ["b"]


async def test_a_metadata_index_covers_only_later_writes() -> None:
    async with vectorize_emulator() as index:
        old = row("old", metadata={"folder": "x"})
        await index.put([old])
        await index.index("folder")
        await index.put([row("new", metadata={"folder": "x"})])
        assert await index.nearest(1, 0, filter={"folder": "x"}) == ["new"]
        await index.put([old])
        assert sorted(await index.nearest(1, 0, filter={"folder": "x"})) == ["new", "old"]


async def test_a_vector_pending_before_the_metadata_index_is_not_covered() -> None:
    async with vectorize_emulator() as index:
        await index.send([row("before", metadata={"folder": "x"})])
        await index.index("folder")
        await index.send([row("after", metadata={"folder": "x"})])
        index.clock.wait(LAG)
        assert await index.nearest(1, 0, filter={"folder": "x"}) == ["after"]


async def test_a_filter_sees_the_first_64_bytes_of_a_text() -> None:
    async with vectorize_emulator() as index:
        await index.index("folder")
        await index.put([row("a", metadata={"folder": "x" * 65}), row("b", metadata={"folder": "x" * 63 + "é"})])
        assert await index.nearest(1, 0, filter={"folder": "x" * 64}) == ["a"]
        assert await index.nearest(1, 0, filter={"folder": "x" * 63}) == ["b"]
