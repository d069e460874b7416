import json
from typing import Any

import httpx
import pytest

from syncd.cloudflare.ai_search import (
    AISearch,
    FoundChunk,
    Instance,
    LogEntry,
    Namespace,
    Stats,
    StoredItem,
)
from syncd.cloudflare.decoding import decode, decode_page, decode_rows
from syncd.core.errors import Retry
from tests.unit.cloudflare.harness import Remote, row


def item(**more: Any) -> StoredItem:
    return decode(StoredItem, row(**more), "item")


def test_an_item_keeps_the_fields_that_syncd_reads() -> None:
    full = {
        "id": "i1",
        "key": "a/b.md",
        "checksum": "c",
        "created_at": "2026-01-01T00:00:00Z",
        "file_size": 12.0,
        "last_seen_at": "2026-01-02T00:00:00Z",
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
        created_at="2026-01-01T00:00:00Z",
        last_seen_at="2026-01-02T00:00:00Z",
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
        decode_page(StoredItem, value, "item")


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_a_row_that_is_no_object_is_an_unexpected_answer(value: Any) -> None:
    with pytest.raises(Retry, match="no object"):
        decode_rows(StoredItem, [value], "item")


def test_stats_keep_counts() -> None:
    stats = decode(Stats, {"completed": 3, "error": 1, "engine": {}, "last_activity": "t"}, "stats")
    assert stats == Stats(completed=3, error=1)


def test_degraded_stats_have_no_counts() -> None:
    assert decode(Stats, {"degraded": True, "engine": None}, "stats") == Stats(degraded=True)


def test_small_values_read_their_fields() -> None:
    log = {"action": "index", "timestamp": "t", "message": "m", "errorType": "e", "chunkCount": 1}
    assert decode(LogEntry, log, "log") == LogEntry("index", "t", "m", "e")
    hit = {"id": "c", "score": 0.5, "text": "t", "type": "text", "item": {"key": "a.md", "metadata": {"x": 1}}}
    assert decode(FoundChunk, hit, "chunk") == FoundChunk("c", 0.5, "t", "a.md", {"x": 1})
    assert decode(FoundChunk, {"id": "c"}, "chunk") == FoundChunk("c", 0.0, "")
    assert decode(Namespace, {"name": "n"}, "namespace") == Namespace("n")


def test_an_instance_tells_its_declared_metadata() -> None:
    declared = [{"field_name": "sha256", "data_type": "text"}, {"field_name": "n", "data_type": "number"}, 3]
    instance = decode(Instance, {"id": "docs", "custom_metadata": declared, "paused": True}, "instance")
    assert instance == Instance("docs", paused=True, custom_metadata={"sha256": "text", "n": "number"})
    assert decode(Instance, {"id": "docs", "custom_metadata": None}, "instance") == Instance("docs")


async def test_an_instance_shows_its_settings(remote: Remote) -> None:
    deep = {"a": {"b": ["\ud800", 2**70, None]}}
    shown = {"id": "docs", "chunk_size": 64, "index_method": {"vector": True, "keyword": False}, "odd": deep}
    remote.says(httpx.Response(200, content=json.dumps({"success": True, "result": shown})))
    settings = (await AISearch(remote.transport(), "default", "docs").read_instance()).settings
    assert settings == {**shown, "odd": {"a": {"b": ["\\ud800", None, None]}}}
