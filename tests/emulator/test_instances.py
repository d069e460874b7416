from typing import Any

import pytest

from syncd.emulator import ai_search_instances
from tests.emulator.harness import ACCOUNT, DOCS, ITEMS, ROOT, emulator, form

INSTANCES = f"{ROOT}/instances"
NAMESPACES = f"{ROOT}/namespaces"


async def test_an_instance_is_created_read_updated_listed_and_deleted() -> None:
    async with emulator() as api:
        created = await api.result("POST", INSTANCES, json={"id": "new_one-2", "chunk_size": 512})
        assert (created["id"], created["namespace"], created["chunk_size"]) == ("new_one-2", "default", 512)
        assert created["created_at"] == created["modified_at"] == "2027-01-15T08:00:00.000Z"
        api.clock.wait(1)
        updated = await api.result("PUT", f"{INSTANCES}/new_one-2", json={"paused": True})
        assert (updated["paused"], updated["chunk_size"]) == (True, 512)
        assert updated["modified_at"] == "2027-01-15T08:00:01.000Z"
        assert await api.result("GET", f"{INSTANCES}/new_one-2") == updated
        assert [row["id"] for row in await api.result("GET", INSTANCES)] == ["new_one-2", "docs"]
        await api.result("DELETE", f"{INSTANCES}/new_one-2")
        assert await api.refusal("GET", f"{INSTANCES}/new_one-2") == (404, 7002)


async def test_instances_are_listed_in_pages_in_either_order() -> None:
    async with emulator() as api:
        for name in ("b", "c"):
            await api.result("POST", INSTANCES, json={"id": name})
        response = await api.ask("GET", INSTANCES, params={"per_page": 2, "page": 2, "order_by_direction": "asc"})
        body = response.json()
        assert [row["id"] for row in body["result"]] == ["c"]
        assert body["result_info"] == {"count": 1, "page": 2, "per_page": 2, "total_count": 3}
        assert [row["id"] for row in await api.result("GET", INSTANCES, params={"search": "OC"})] == ["docs"]
        assert await api.refusal("GET", INSTANCES, params={"order_by": "id"}) == (400, 7001)


async def test_deleting_an_instance_deletes_its_items() -> None:
    async with emulator(index_delay=0) as api:
        await api.upload("a.md", b"remembered")
        await api.result("DELETE", DOCS)
        await api.result("POST", INSTANCES, json={"id": "docs"})
        assert await api.listed() == []
        assert await api.search("remembered") == []
        store = api.app.backend.store
        assert [store.value(f"SELECT count(*) FROM ai_{table}") for table in ("contents", "chunks", "logs")] == [0] * 3


@pytest.mark.parametrize("name", ["", "A", "a b", "-a", "a--b", "a-", "a" * 65, 7, None, "a\n"])
async def test_an_instance_needs_a_name_of_64_lowercase_characters(name: Any) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", INSTANCES, json={"id": name}) == (400, 7001)
        assert await api.refusal("POST", NAMESPACES, json={"name": name}) == (400, 7001)
        assert (await api.result("POST", INSTANCES, json={"id": "a" * 64}))["id"] == "a" * 64


@pytest.mark.parametrize(
    "config",
    [
        {"type": "ftp"},
        {"type": ["r2"]},
        {"max_num_results": 0},
        {"score_threshold": "high"},
        {"source": 7},
        {"paused": "yes"},
        {"custom_metadata": "owner"},
        {"custom_metadata": ["owner"]},
        {"custom_metadata": [{"field_name": "owner"}]},
        {"custom_metadata": [{"field_name": "owner", "data_type": "blob"}]},
        {"custom_metadata": [{"field_name": "Folder", "data_type": "text"}]},
        {"custom_metadata": [{"field_name": n, "data_type": "text"} for n in ("a", "A")]},
        {"custom_metadata": [{"field_name": n, "data_type": "text"} for n in "abcdef"]},
    ],
)
async def test_an_invalid_config_of_an_instance_is_refused(config: dict[str, Any]) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", INSTANCES, json={"id": "x"} | config) == (400, 7001)
        assert await api.refusal("PUT", DOCS, json=config) == (400, 7001)


async def test_an_existing_instance_name_is_7022() -> None:
    async with emulator() as api:
        assert await api.refusal("POST", INSTANCES, json={"id": "docs"}) == (400, 7022)


async def test_one_instance_too_many_is_7013(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ai_search_instances, "MAX_INSTANCES", 2)
    async with emulator() as api:
        await api.result("POST", INSTANCES, json={"id": "second"})
        assert await api.refusal("POST", INSTANCES, json={"id": "third"}) == (403, 7013)


ON_INSTANCE = [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/items"), ("POST", "/items"), ("GET", "/stats")]
ON_INSTANCE += [("GET", "/jobs"), ("POST", "/search"), ("GET", "/items/x"), ("GET", "/items/x/download")]


@pytest.mark.parametrize(("method", "below"), ON_INSTANCE)
async def test_an_unknown_instance_is_7002_and_an_unknown_namespace_7063(method: str, below: str) -> None:
    async with emulator() as api:
        assert await api.refusal(method, f"{INSTANCES}/nope{below}") == (404, 7002)
        assert await api.refusal(method, f"{NAMESPACES}/nope/instances/docs{below}") == (404, 7063)


async def test_a_namespace_is_created_read_updated_and_deleted() -> None:
    async with emulator() as api:
        created = await api.result("POST", NAMESPACES, json={"name": "team", "description": "ours"})
        assert created == {"name": "team", "description": "ours", "created_at": "2027-01-15T08:00:00.000Z"}
        assert await api.result("GET", f"{NAMESPACES}/team") == created
        updated = await api.result("PUT", f"{NAMESPACES}/team", json={"description": None})
        assert updated == created | {"description": None}
        assert [row["name"] for row in await api.result("GET", NAMESPACES)] == ["default", "team"]
        assert [row["name"] for row in await api.result("GET", NAMESPACES, params={"search": "TEA"})] == ["team"]
        await api.result("POST", f"{NAMESPACES}/team/instances", json={"id": "docs"})
        assert await api.refusal("DELETE", f"{NAMESPACES}/team") == (400, 7066)
        await api.result("DELETE", f"{NAMESPACES}/team/instances/docs")
        await api.result("DELETE", f"{NAMESPACES}/team")
        assert await api.refusal("GET", f"{NAMESPACES}/team") == (404, 7063)


async def test_namespaces_separate_their_instances() -> None:
    async with emulator() as api:
        await api.result("POST", NAMESPACES, json={"name": "team"})
        await api.result("POST", f"{NAMESPACES}/team/instances", json={"id": "docs"})
        item = await api.result("POST", f"{NAMESPACES}/team/instances/docs/items", **form("a.md"))
        assert item["namespace"] == "team"
        assert await api.listed() == []
        found = await api.result("GET", INSTANCES, params={"namespace": "team"})
        assert [row["namespace"] for row in found] == ["team"]


async def test_the_default_namespace_exists_and_is_protected() -> None:
    async with emulator() as api:
        assert (await api.result("GET", f"{NAMESPACES}/default"))["name"] == "default"
        assert await api.refusal("PUT", f"{NAMESPACES}/default", json={"description": "x"}) == (400, 7065)
        assert await api.refusal("DELETE", f"{NAMESPACES}/default") == (400, 7065)
        assert await api.refusal("POST", NAMESPACES, json={"name": "default"}) == (409, 7064)


async def test_descriptions_and_the_number_of_namespaces_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ai_search_instances, "MAX_NAMESPACES", 2)
    async with emulator() as api:
        assert await api.refusal("POST", NAMESPACES, json={"name": "a", "description": "d" * 257}) == (400, 7001)
        await api.result("POST", NAMESPACES, json={"name": "a", "description": "d" * 256})
        assert await api.refusal("POST", NAMESPACES, json={"name": "b"}) == (403, 7062)


async def test_accounts_do_not_see_each_other() -> None:
    async with emulator() as api:
        other = ROOT.replace(ACCOUNT, "f" * 32)
        assert await api.result("GET", f"{other}/instances") == []
        assert await api.refusal("GET", f"{other}/instances/docs/items") == (404, 7002)


async def test_there_are_no_jobs() -> None:
    async with emulator() as api:
        assert await api.result("GET", f"{DOCS}/jobs") == []


async def test_items_answer_below_both_roots() -> None:
    async with emulator() as api:
        item_id = (await api.upload("a.md"))["id"]
        for path in (ITEMS, f"{NAMESPACES}/default/instances/docs/items"):
            assert (await api.result("GET", f"{path}/{item_id}"))["id"] == item_id
