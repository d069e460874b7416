"""The settings of an instance at its creation and at an update."""

from typing import Any

import pytest

from tests.emulator.harness import DOCS, ITEMS, ROOT, emulator

INSTANCES = f"{ROOT}/instances"
SETTINGS: list[tuple[str, Any]] = [
    ("index_method", {"vector": True, "keyword": False}),
    ("fusion_method", "max"),
    ("indexing_options", {"keyword_tokenizer": "trigram", "use_ocr": True}),
    ("chunk_size", 64),
    ("chunk_overlap", 30),
    ("custom_metadata", [{"field_name": "owner", "data_type": "text"}]),
    ("retrieval_options", {"keyword_match_mode": "or", "boost_by": [{"field": "timestamp", "direction": "desc"}]}),
    ("max_num_results", 50),
    ("score_threshold", 0),
    ("reranking", True),
    ("reranking_model", "@cf/baai/bge-reranker-base"),
    ("rewrite_query", True),
    ("rewrite_model", "@cf/meta/llama"),
    ("ai_search_model", "x"),
    ("ai_gateway_id", "gateway"),
    ("cache", False),
    ("cache_threshold", "anything_goes"),
    ("cache_ttl", 600),
    ("sync_interval", 900),
    ("source", "bucket"),
]


async def test_an_instance_shows_the_documented_defaults() -> None:
    async with emulator() as api:
        shown = await api.result("GET", DOCS)
        assert shown["embedding_model"] == "@cf/qwen/qwen3-embedding-0.6b"
        assert shown["index_method"] == {"vector": True, "keyword": True}
        assert shown["indexing_options"] == {"keyword_tokenizer": "porter", "use_ocr": False}
        assert (shown["fusion_method"], shown["cache_threshold"], shown["cache_ttl"]) == (
            "rrf",
            "close_enough",
            172_800,
        )
        assert (shown["cache"], shown["reranking"], shown["rewrite_query"]) == (True, False, False)


@pytest.mark.parametrize(("name", "value"), SETTINGS)
async def test_a_setting_is_taken_at_the_creation_and_at_an_update(name: str, value: Any) -> None:
    async with emulator() as api:
        created = await api.result("POST", INSTANCES, json={"id": "new", name: value})
        before = await api.result("GET", DOCS)
        updated = await api.result("PUT", DOCS, json={name: value})
        assert created[name] == updated[name] == value
        assert updated == before | {name: value}
        assert await api.result("GET", DOCS) == updated


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"index_method": {"vector": False, "keyword": False}}, 7001),
        ({"index_method": {"vector": True}}, 7001),
        ({"indexing_options": {"keyword_tokenizer": "words"}}, 7001),
        ({"chunk_size": 63}, 7001),
        ({"chunk_size": 8193}, 7036),
        ({"chunk_overlap": 31}, 7001),
        ({"fusion_method": "sum"}, 7001),
        ({"cache_ttl": 601}, 7001),
        ({"sync_interval": 1}, 7001),
        ({"cache_threshold": "close"}, 7001),
        ({"reranking": "yes"}, 7001),
        ({"retrieval_options": {"boost_by": [{"field": "a"}] * 4}}, 7001),
        ({"public_endpoint_params": {"enabled": "yes"}}, 7001),
        ({"public_endpoint_params": {"default_domain_enabled": False}}, 7096),
    ],
)
async def test_a_value_outside_the_schema_is_refused(config: dict[str, Any], code: int) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", INSTANCES, json={"id": "x"} | config) == (400, code)
        assert await api.refusal("PUT", DOCS, json=config) == (400, code)


async def test_a_model_is_known_and_limits_the_chunk_size() -> None:
    async with emulator() as api:
        assert await api.refusal("POST", INSTANCES, json={"id": "x", "embedding_model": "@cf/nobody/none"}) == (
            400,
            7010,
        )
        small = {"id": "x", "embedding_model": "@cf/baai/bge-base-en-v1.5", "chunk_size": 512}
        assert await api.refusal("POST", INSTANCES, json=small | {"chunk_size": 513}) == (400, 7036)
        await api.result("POST", INSTANCES, json=small)
        assert await api.refusal("PUT", f"{INSTANCES}/x", json={"chunk_size": 513}) == (400, 7036)


@pytest.mark.parametrize("permanent", ["refuse", "ignore"])
@pytest.mark.parametrize("change", [{"embedding_model": "@cf/baai/bge-m3"}, {"type": "r2"}])
async def test_a_permanent_setting_does_not_change(permanent: str, change: dict[str, str]) -> None:
    async with emulator(permanent=permanent) as api:
        before = await api.result("GET", DOCS)
        if permanent == "refuse":
            assert await api.refusal("PUT", DOCS, json=change) == (400, 7001)
        else:
            await api.result("PUT", DOCS, json=change)
        assert await api.result("GET", DOCS) == before
        (name,) = change
        await api.result("PUT", DOCS, json={name: before[name]})


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"chunk_size": 512}, "queued"),
        ({"indexing_options": {"use_ocr": True}}, "queued"),
        ({"cache": False}, "completed"),
    ],
)
async def test_some_settings_index_every_item_again(change: dict[str, Any], status: str) -> None:
    async with emulator(index_delay=1) as api:
        await api.upload("a.md")
        api.clock.wait(1)
        await api.result("PUT", DOCS, json=change)
        assert (await api.result("GET", ITEMS))[0]["status"] == status


async def test_an_update_merges_options_and_replaces_the_public_endpoint() -> None:
    async with emulator() as api:
        await api.result("PUT", DOCS, json={"indexing_options": {"use_ocr": True}})
        options = await api.result("PUT", DOCS, json={"indexing_options": {"keyword_tokenizer": "trigram"}})
        assert options["indexing_options"] == {"keyword_tokenizer": "trigram", "use_ocr": True}
        first = {"enabled": True, "default_domain_enabled": False, "custom_domains": ["docs.example.com"]}
        await api.result("PUT", DOCS, json={"public_endpoint_params": first})
        second = await api.result("PUT", DOCS, json={"public_endpoint_params": {"enabled": True}})
        assert second["public_endpoint_params"]["default_domain_enabled"] is True
        assert second["public_endpoint_params"]["custom_domains"] is None


async def test_settings_that_the_sdk_does_not_have_in_answers_are_hidden() -> None:
    async with emulator(index_delay=1) as api:
        await api.upload("a.md")
        api.clock.wait(1)
        shown = await api.result("PUT", DOCS, json={"chunk": False, "system_prompt_ai_search": "x"})
        assert not {"chunk", "system_prompt_ai_search", "summarization"} & shown.keys()
        assert (await api.listed())[0]["status"] == "queued", "the change of chunk was stored"


async def test_an_answer_may_omit_settings_that_nobody_has_set() -> None:
    async with emulator(show_defaults=False) as api:
        assert "cache" not in await api.result("GET", DOCS)
        assert (await api.result("PUT", DOCS, json={"cache": True}))["cache"] is True
        assert await api.refusal("PUT", DOCS, json={"embedding_model": "@cf/baai/bge-m3"}) == (400, 7001)


async def test_read_only_fields_of_a_request_are_ignored() -> None:
    async with emulator() as api:
        before = await api.result("GET", DOCS)
        assert await api.result("PUT", DOCS, json={"status": "broken", "id": "other"}) == before


@pytest.mark.parametrize(("method", "refused"), [("vector", "keyword"), ("keyword", "vector")])
async def test_a_search_needs_the_index_of_its_retrieval_type(method: str, refused: str) -> None:
    async with emulator(index_delay=0) as api:
        await api.upload("a.md", b"fox")
        await api.result("PUT", DOCS, json={"index_method": {method: True, refused: False}})
        for kind in (refused, "hybrid"):
            body = {"query": "fox", "ai_search_options": {"retrieval": {"retrieval_type": kind}}}
            assert await api.refusal("POST", f"{DOCS}/search", json=body) == (400, 7070)
        assert len(await api.search("fox")) == len(await api.search("fox", retrieval_type=method)) == 1
