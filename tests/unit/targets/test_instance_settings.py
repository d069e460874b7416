"""The settings of an instance: the differences from the config, the cost of a change, and the remedy."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syncd.cloudflare.ai_search import Instance
from syncd.cloudflare.decoding import decode
from syncd.targets.ai_search.advice import Drift, find_drift, settings_advice
from tests.unit.targets.harness_ai_search import INSTANCES, open_harness


def instance(**settings: Any) -> Instance:
    shown = {"id": "docs", "namespace": "default", **settings}
    return decode(Instance, {**shown, "settings": shown}, "instance")


def drift(wanted: dict[str, Any], **shown: Any) -> list[Drift]:
    return list(find_drift(wanted, instance(**shown)))


def lines(wanted: dict[str, Any], **shown: Any) -> list[str]:
    found = settings_advice(wanted, instance(**shown))
    return [f"{advice.message} -> {advice.remedy}" for advice in found]


CLASSES = [
    ({"embedding_model": "@cf/a"}, {"embedding_model": "@cf/b"}, "never"),
    ({"chunk": True}, {"chunk": False}, "reindex"),
    ({"chunk_size": 512}, {"chunk_size": 256}, "reindex"),
    ({"chunk_overlap": 0}, {"chunk_overlap": 10}, "reindex"),
    (
        {"index_method": {"vector": True, "keyword": False}},
        {"index_method": {"vector": True, "keyword": True}},
        "reindex",
    ),
    ({"indexing_options": {"use_ocr": True}}, {"indexing_options": {"use_ocr": False}}, "reindex"),
    ({"indexing_options": {"keyword_tokenizer": "trigram"}}, {}, "reindex"),
    ({"fusion_method": "max"}, {"fusion_method": "rrf"}, "free"),
    ({"max_num_results": 5}, {"max_num_results": 10}, "free"),
    ({"score_threshold": 0.5}, {"score_threshold": 0.4}, "free"),
    ({"reranking": True}, {"reranking": False}, "free"),
    ({"reranking_model": "@cf/a"}, {"reranking_model": "@cf/b"}, "free"),
    ({"rewrite_query": True}, {}, "free"),
    ({"rewrite_model": "a"}, {"rewrite_model": "b"}, "free"),
    ({"ai_search_model": "a"}, {"ai_search_model": "b"}, "free"),
    ({"ai_gateway_id": "a"}, {"ai_gateway_id": "b"}, "free"),
    ({"cache": False}, {"cache": True}, "free"),
    ({"cache_threshold": "close_enough"}, {"cache_threshold": "anything_goes"}, "free"),
    ({"cache_ttl": 600}, {}, "free"),
    ({"retrieval_options": {"keyword_match_mode": "or"}}, {"retrieval_options": {"keyword_match_mode": "and"}}, "free"),
    ({"retrieval_options": {"boost_by": [{"field": "a"}]}}, {"retrieval_options": {"boost_by": []}}, "free"),
    ({"public_endpoint_params": {"enabled": True}}, {"public_endpoint_params": None}, "replace"),
    (
        {"public_endpoint_params": {"mcp": {"disabled": True}}},
        {"public_endpoint_params": {"mcp": {"disabled": False}}},
        "replace",
    ),
]


@pytest.mark.parametrize(("wanted", "shown", "change"), CLASSES)
def test_each_setting_names_the_cost_of_its_change(wanted: dict[str, Any], shown: dict[str, Any], change: str) -> None:
    [found] = drift(wanted, **shown)
    assert found.name.startswith(next(iter(wanted)))
    assert found.change == change
    assert found.found is not None
    assert drift(wanted, **wanted) == []


def test_a_setting_that_the_config_does_not_name_is_not_compared() -> None:
    assert drift({}, chunk_size=64, embedding_model="@cf/a", cache=False) == []
    assert drift({"index_method": {"vector": True, "keyword": True}, "chunk_size": 64}, chunk_size=64) == [
        Drift("index_method.vector", True, None, "reindex"),
        Drift("index_method.keyword", True, None, "reindex"),
    ]
    assert settings_advice({}, instance(chunk_size=64)) == []


@pytest.mark.parametrize("shown", [{}, {"cache": None}, {"cache": "yes"}, {"cache": 3}])
def test_a_setting_that_is_not_shown_has_its_documented_default(shown: dict[str, Any]) -> None:
    assert drift({"cache": True}, **shown) == []
    assert drift({"cache": False}, **shown) == [Drift("cache", False, True, "free")]


@pytest.mark.parametrize("shown", [{}, {"index_method": None}, {"index_method": []}, {"index_method": {"vector": 1}}])
def test_a_setting_that_is_not_shown_and_has_no_default_is_not_called_different(shown: dict[str, Any]) -> None:
    wanted = {"index_method": {"vector": True, "keyword": True}}
    assert lines(wanted, **shown) == [
        "the service does not show index_method.vector, index_method.keyword, so they are not compared -> None"
    ]


def test_numbers_and_lists_are_compared_by_their_meaning() -> None:
    assert drift({"score_threshold": 0.4}, score_threshold=0.4000000059604645) == []
    assert drift({"score_threshold": 1.0}, score_threshold=1) == []
    hosts = {"public_endpoint_params": {"authorized_hosts": ["a", "b"]}}
    assert drift(hosts, public_endpoint_params={"authorized_hosts": ["b", "a"]}) == []
    assert len(drift(hosts, public_endpoint_params={"authorized_hosts": ["b", "c"]})) == 1
    assert len(drift(hosts, public_endpoint_params={"authorized_hosts": ["a", "b", "c"]})) == 1
    boosts = {"retrieval_options": {"boost_by": [{"field": "a"}, {"field": "b", "direction": "desc"}]}}
    shown = [{"field": "b", "direction": "desc"}, {"field": "a", "direction": "asc"}]
    assert drift(boosts, retrieval_options={"boost_by": shown}) == []
    shown[0]["direction"] = "asc"
    assert len(drift(boosts, retrieval_options={"boost_by": shown})) == 1


@pytest.mark.parametrize("shown", [None, 3, "x", [], [3], {"keyword": "yes"}, {"mcp": 3}, {"boost_by": {}}])
def test_a_setting_of_another_type_counts_as_not_shown(shown: Any) -> None:
    objects = {"index_method": {"keyword": True}, "retrieval_options": {"boost_by": [{"field": "a"}]}}
    wanted = {"chunk_size": 64, "chunk": True, "embedding_model": "@cf/a", **objects}
    shown_values = {
        "chunk_size": str(shown),
        "chunk": shown,
        "embedding_model": [shown],
        **dict.fromkeys(objects, shown),
    }
    assert [difference.found for difference in drift(wanted, **shown_values)] == [None] * 5


def test_an_odd_element_of_a_list_is_another_element() -> None:
    wanted = {"retrieval_options": {"boost_by": [{"field": "a"}]}}
    assert len(drift(wanted, retrieval_options={"boost_by": ["a"]})) == 1
    assert (
        len(
            drift(
                {"public_endpoint_params": {"authorized_hosts": ["a"]}},
                public_endpoint_params={"authorized_hosts": [{}]},
            )
        )
        == 1
    )


NEVER = (
    "it can never be changed -> set it to {} in the config, or name another instance there, which create = true makes"
)
KEEP = " -> set it to {} in the config, or {}"
REINDEX = f"it can be changed in place, but then the service indexes all items again{KEEP}"
FREE = f"it can be changed in place, and nothing is indexed again{KEEP}"
REPLACE = f"it can be changed in place, but an update replaces the whole object{KEEP}"
WRANGLER = "run: npx wrangler ai-search update docs"
DASHBOARD = "change it in the dashboard (AI Search, docs, Settings)"
REMEDIES = {
    '{"embedding_model": "@cf/a"}': NEVER.format('"@cf/b"') + " with this setting",
    '{"chunk_size": 512}': REINDEX.format("256", f"{WRANGLER} --chunk-size 512"),
    '{"indexing_options": {"use_ocr": true}}': REINDEX.format("false", DASHBOARD),
    '{"reranking": false}': FREE.format("true", f"{WRANGLER} --no-reranking"),
    '{"cache": true}': FREE.format("false", f"{WRANGLER} --cache"),
    '{"cache_ttl": 600}': FREE.format("172800", DASHBOARD),
    '{"public_endpoint_params": {"enabled": true}}': (
        REPLACE.format("false", DASHBOARD) + "; a PUT by the API has to contain all of public_endpoint_params"
    ),
}


@pytest.mark.parametrize("setting", REMEDIES)
def test_each_line_names_both_values_and_a_remedy(setting: str) -> None:
    [line] = lines(json.loads(setting), embedding_model="@cf/b", chunk_size=256, reranking=True, cache=False)
    start, _, rest = line.partition(" in the config; ")
    assert rest == REMEDIES[setting]
    assert re.fullmatch(r"[\w.]+ is \S+ in the instance and \S+", start)


def test_settings_in_step_are_counted() -> None:
    assert lines({"cache": True, "chunk_size": 64, "chunk": True}, chunk_size=64) == [
        "as in the config: 2 of 3 -> None",
        "the service does not show chunk, so they are not compared -> None",
    ]


def test_wrangler_is_named_for_the_default_namespace_only() -> None:
    [other] = lines({"chunk_size": 512}, chunk_size=256, namespace="team")
    assert "wrangler" not in other
    assert "in the dashboard" in other


def test_an_external_source_is_named() -> None:
    [line] = lines({}, type="r2", source="bucket")
    assert line.startswith('type is "r2" in the instance, but a mirror uses built-in storage; it can never be changed')


WANTED = {
    "embedding_model": "@cf/baai/bge-m3",
    "chunk_size": 512,
    "index_method": {"vector": True, "keyword": False},
    "indexing_options": {"use_ocr": True, "keyword_tokenizer": "trigram"},
    "retrieval_options": {"boost_by": [{"field": "title", "direction": "exists"}]},
    "public_endpoint_params": {"enabled": True, "mcp": {"description": "The handbook"}},
}


async def test_an_instance_is_made_with_the_settings_and_keeps_its_own_afterwards(tmp_path: Path) -> None:
    async with open_harness(tmp_path, instance=False) as h:
        fixture = h.add_mirror(create=True, fields={"title": "title"})
        fixture.marks = replace(fixture.marks, settings=WANTED)
        fixture.restart()
        fixture.write("a.md", "# A\n\ntext")
        await fixture.full()
        made = (await h.stranger.get(f"{INSTANCES}/docs")).json()["result"]
        assert (made["embedding_model"], made["chunk_size"]) == ("@cf/baai/bge-m3", 512)
        assert {field["field_name"] for field in made["custom_metadata"]} == {"sha256", "owner", "title"}
        [advice] = [each for each in await fixture.mirror.target.advice() if each.about == "settings"]
        assert (advice.message, advice.remedy) == ("as in the config: 9 of 9", None)
        fixture.marks = replace(fixture.marks, settings={"chunk_size": 128})
        fixture.restart()
        fixture.write("b.md", "# B")
        await fixture.full()
        assert (await h.stranger.get(f"{INSTANCES}/docs")).json()["result"] == made
        assert h.wire.count("PUT", "/instances/docs") == 0
        [advice] = [each for each in await fixture.mirror.target.advice() if each.about == "settings"]
        assert advice.message.startswith("chunk_size is 512 in the instance and 128 in the config;")
