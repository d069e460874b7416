from typing import Any

import pytest

from tests.emulator.harness import DOCS, ApiClient, emulator


async def _library(api: ApiClient) -> None:
    await api.upload("pets/cats.md", b"Cats sleep all day. The cat purrs.\n\nCats again.")
    await api.upload("pets/dogs.md", b"Dogs bark. A dog sees one cat and barks more and more at everything around.")
    await api.upload("cars.md", b"Engines and wheels.", metadata='{"kind": "machine"}')
    api.clock.wait(1)


async def test_search_returns_ranked_chunks_of_indexed_items_only() -> None:
    async with emulator() as api:
        await _library(api)
        await api.upload("late.md", b"cat cat cat")
        chunks = await api.search("what do cats do?")
        assert [chunk["item"]["key"] for chunk in chunks] == ["pets/cats.md", "pets/dogs.md"]
        assert chunks[0]["score"] == 1.0 > chunks[1]["score"] >= 0.5
        assert chunks[0]["type"] == "text"
        assert chunks[0]["text"].startswith("Cats sleep")
        assert chunks[0]["item"]["metadata"]["folder"] == "pets/"
        assert chunks[0]["item"]["timestamp"] == 1_800_000_000_000
        assert set(chunks[0]["scoring_details"]) == {"vector_score", "vector_rank", "keyword_score", "keyword_rank"}


async def test_search_returns_the_query_of_a_conversation() -> None:
    async with emulator() as api:
        await _library(api)
        messages = [
            {"role": "user", "content": "dogs"},
            {"role": "assistant", "content": "woof"},
            {"role": "user", "content": [{"type": "text", "text": "wheels"}, {"type": "image_url", "image_url": {}}]},
        ]
        answer = await api.result("POST", f"{DOCS}/search", json={"messages": messages})
        assert (answer["search_query"], answer["query_kind"]) == ("wheels", "text")
        assert [chunk["item"]["key"] for chunk in answer["chunks"]] == ["cars.md"]


async def test_search_applies_number_threshold_mode_and_filters() -> None:
    async with emulator() as api:
        await _library(api)
        query = "cat dog wheels"
        assert len(await api.search(query)) == 3
        assert len(await api.search(query, max_num_results=1)) == 1
        assert len(await api.search(query, match_threshold=1)) == 1
        assert len(await api.search(query, retrieval_type="vector")) == 3
        assert await api.search(query, retrieval_type="keyword") == []
        assert len(await api.search("cat dog", retrieval_type="keyword")) == 1
        assert len(await api.search(query, retrieval_type="keyword", keyword_match_mode="or")) == 3
        assert len(await api.search(query, filters={"folder": {"$gte": "pets/", "$lt": "pets0"}})) == 2


@pytest.mark.parametrize("query", ["?!", "_", '"', "AND OR NOT", "cat*", "near(", "日本", "w " * 5000])
async def test_search_accepts_any_text_as_a_query(query: str) -> None:
    async with emulator() as api:
        await _library(api)
        assert len(await api.search(query)) <= 2


@pytest.mark.parametrize(
    "body",
    [
        {"query": "x", "messages": [{"role": "user", "content": "x"}]},
        {"query": 7},
        {"messages": "x"},
        {"messages": 7},
        {"query": "x", "ai_search_options": "x"},
        {"query": "x", "ai_search_options": {"retrieval": {"max_num_results": 0}}},
        {"query": "x", "ai_search_options": {"retrieval": {"max_num_results": 51}}},
        {"query": "x", "ai_search_options": {"retrieval": {"match_threshold": 1.1}}},
        {"query": "x", "ai_search_options": {"retrieval": {"context_expansion": 4}}},
        {"query": "x", "ai_search_options": {"retrieval": {"retrieval_type": "magic"}}},
        {"query": "x", "ai_search_options": {"retrieval": {"retrieval_type": ["vector"]}}},
    ],
)
async def test_search_refuses_a_body_outside_the_schema(body: dict[str, Any]) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", f"{DOCS}/search", json=body) == (400, 7001)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"query": " "},
        {"messages": []},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]},
        {"messages": [{"role": "assistant", "content": "x"}]},
    ],
)
async def test_a_search_without_a_query_is_7039(body: dict[str, Any]) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", f"{DOCS}/search", json=body) == (400, 7039)


async def test_search_refuses_an_invalid_filter() -> None:
    async with emulator() as api:
        body = {"query": "x", "ai_search_options": {"retrieval": {"filters": {"a": {"$like": "b"}}}}}
        assert await api.refusal("POST", f"{DOCS}/search", json=body) == (400, 7058)
