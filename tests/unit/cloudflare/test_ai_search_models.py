from typing import Any

import pytest

from syncd.cloudflare.ai_search_models import (
    ItemChunk,
    ItemPage,
    LogEntry,
    LogPage,
    SearchHit,
    Stats,
    StoredItem,
    TokenStatus,
    UploadResult,
)
from syncd.cloudflare.decoding import decode, decode_rows
from syncd.cloudflare.instance_models import (
    Boost,
    IndexMethod,
    Instance,
    Namespace,
    PublicEndpoint,
    PublicRoute,
    RetrievalOptions,
    settings_body,
)
from syncd.cloudflare.response import Answer
from syncd.core.errors import Retry
from tests.unit.cloudflare.harness import row


def item(**more: Any) -> StoredItem:
    return decode(StoredItem, row(**more), "item")


def test_an_item_keeps_every_field_of_the_api_page() -> None:
    full = {
        "id": "i1",
        "key": "a/b.md",
        "checksum": "c",
        "chunks_count": 2,
        "created_at": "2026-01-01T00:00:00Z",
        "file_size": 12.0,
        "last_seen_at": "2026-01-02T00:00:00Z",
        "namespace": "default",
        "next_action": "DELETE",
        "source_id": "builtin",
        "status": "error",
        "error": "timeout_error",
        "metadata": {"folder": "a/"},
        "of_next_year": [1],
    }
    assert decode(StoredItem, full, "item") == StoredItem(
        id="i1",
        key="a/b.md",
        status="error",
        checksum="c",
        file_size=12,
        source_id="builtin",
        next_action="DELETE",
        error="timeout_error",
        chunks_count=2,
        created_at="2026-01-01T00:00:00Z",
        last_seen_at="2026-01-02T00:00:00Z",
        namespace="default",
        metadata={"folder": "a/"},
    )


def test_an_item_needs_id_and_key_alone() -> None:
    assert decode(StoredItem, {"id": "i", "key": "k"}, "item") == StoredItem("i", "k")


@pytest.mark.parametrize(
    "broken", [{"id": None}, {"id": 7}, {"id": ""}, {"key": None}, {"key": ["a"]}, {"key": ""}, {"key": {}}]
)
def test_a_required_field_of_another_type_is_an_unexpected_answer(broken: dict[str, Any]) -> None:
    with pytest.raises(Retry, match="unexpected answer") as caught:
        decode(StoredItem, row() | broken, "item")
    assert caught.value.ambiguous


@pytest.mark.parametrize("size", ["3", True, [], {}, 1.5, float("nan"), float("inf"), None])
def test_an_optional_field_of_another_type_reads_as_absent(size: Any) -> None:
    assert item(file_size=size).file_size is None
    assert item(checksum=7, metadata=[], status="novel", error={}).metadata == {}


@pytest.mark.parametrize("metadata", [None, "surprise", 3])
def test_metadata_of_another_type_is_not_absent_metadata(metadata: Any) -> None:
    assert item(metadata=metadata).metadata == {}
    assert decode(StoredItem, {"id": "i", "key": "k"}, "item").metadata is None


@pytest.mark.parametrize("status", ["queued", "running", "completed", "error", "skipped", "outdated"])
def test_the_six_states_are_known(status: str) -> None:
    assert item(status=status).status == status


@pytest.mark.parametrize("status", ["novel", None, 3])
def test_a_state_we_do_not_know_is_none(status: Any) -> None:
    assert item(status=status).status is None


@pytest.mark.parametrize("value", [None, {}, "x", 3])
def test_a_list_that_is_none_is_an_unexpected_answer(value: Any) -> None:
    with pytest.raises(Retry, match="no list"):
        ItemPage.parse(Answer(value))


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_a_row_that_is_no_object_is_an_unexpected_answer(value: Any) -> None:
    with pytest.raises(Retry, match="no object"):
        decode_rows(StoredItem, [value], "item")


def test_a_page_does_not_hide_the_count() -> None:
    page = ItemPage.parse(Answer([row()], {"total_count": 9, "page": 2, "per_page": 5, "count": 1}))
    assert (page.total_count, page.page, page.per_page, len(page.items)) == (9, 2, 5, 1)
    assert ItemPage.parse(Answer([])).total_count is None


def test_an_upload_tells_its_warnings() -> None:
    warnings = [
        {"code": "custom_metadata_field_not_filterable", "field": "sha256"},
        {"code": "custom_metadata_value_not_indexed", "field": "n", "expected_type": "number"},
        "odd",
    ]
    result = UploadResult.parse(Answer(row(warnings=warnings)))
    assert result.warnings == (
        "custom_metadata_field_not_filterable: sha256",
        "custom_metadata_value_not_indexed: n",
    )
    assert UploadResult.parse(Answer(row(warnings=None))).warnings == ()


def test_stats_keep_counts_and_engine() -> None:
    engine = {"r2": {"objectCount": 4, "payloadSizeBytes": 99}, "vectorize": {"vectorsCount": 12}}
    stats = decode(Stats, {"completed": 3, "error": 1, "engine": engine, "last_activity": "t"}, "stats")
    assert stats == Stats(completed=3, error=1, last_activity="t", object_count=4, payload_bytes=99, vectors_count=12)


def test_degraded_stats_have_no_counts() -> None:
    assert decode(Stats, {"degraded": True, "engine": None}, "stats") == Stats(degraded=True)


def test_small_values_read_their_fields() -> None:
    assert decode(ItemChunk, {"id": "c", "text": "t", "start_byte": 0, "end_byte": 9}, "chunk") == ItemChunk(
        "c", "t", 0, 9
    )
    log = {
        "action": "index",
        "timestamp": "t",
        "message": "m",
        "errorType": "e",
        "chunkCount": 1,
        "processingTimeMs": 5,
    }
    assert decode(LogEntry, log, "log") == LogEntry("index", "t", "m", "e", 1, 5)
    assert LogPage.parse(Answer([log], {"cursor": "n"})).cursor == "n"
    assert LogPage.parse(Answer([], {"cursor": None})) == LogPage(())
    hit = {"id": "c", "score": 0.5, "text": "t", "type": "text", "item": {"key": "a.md", "metadata": {"x": 1}}}
    assert decode(SearchHit, hit, "chunk") == SearchHit("c", 0.5, "t", "a.md", {"x": 1})
    assert decode(SearchHit, {"id": "c"}, "chunk") == SearchHit("c", 0.0, "")
    assert decode(Namespace, {"name": "n"}, "namespace") == Namespace("n")
    token = {"id": "t", "status": "active", "expires_on": "e"}
    assert TokenStatus.parse(Answer(token), "account") == TokenStatus("t", "active", "account", "e")


def test_an_instance_tells_its_declared_metadata() -> None:
    declared = [{"field_name": "sha256", "data_type": "text"}, {"field_name": "n", "data_type": "number"}, 3]
    instance = decode(Instance, {"id": "docs", "custom_metadata": declared, "paused": True}, "instance")
    assert instance == Instance("docs", paused=True, custom_metadata={"sha256": "text", "n": "number"})
    assert decode(Instance, {"id": "docs", "custom_metadata": None}, "instance") == Instance("docs")


def test_an_instance_shows_its_settings() -> None:
    shown = {
        "id": "docs",
        "embedding_model": "@cf/a",
        "chunk_size": 64.0,
        "score_threshold": 0.5,
        "index_method": {"vector": True, "keyword": False},
        "retrieval_options": {"keyword_match_mode": "or", "boost_by": [{"field": "a", "direction": "asc"}, 3, {}]},
        "public_endpoint_params": {"enabled": True, "mcp": {"description": "d"}, "authorized_hosts": ["h", 3]},
        "public_endpoint_id": "e",
    }
    instance = decode(Instance, shown, "instance")
    assert (instance.embedding_model, instance.chunk_size, instance.score_threshold) == ("@cf/a", 64, 0.5)
    assert instance.index_method == IndexMethod(vector=True, keyword=False)
    assert instance.retrieval_options == RetrievalOptions(keyword_match_mode="or", boost_by=(Boost("a", "asc"),))
    assert instance.public_endpoint_params == PublicEndpoint(
        enabled=True, mcp=PublicRoute(description="d"), authorized_hosts=("h",)
    )
    assert instance.public_endpoint_id == "e"


@pytest.mark.parametrize("value", [None, 3, "x", [], {"keyword": "yes"}, {"mcp": 3}, {"boost_by": {}}])
def test_a_setting_of_another_type_reads_as_not_shown(value: Any) -> None:
    names = ("index_method", "indexing_options", "retrieval_options", "public_endpoint_params")
    instance = decode(Instance, {"id": "docs", "chunk_size": value, "cache": value, **dict.fromkeys(names, value)}, "i")
    settings = settings_body(instance)
    assert {name for name, inner in settings.items() if inner not in ({}, 3)} == {"id", "paused"}
