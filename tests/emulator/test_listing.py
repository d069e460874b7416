import json
from typing import Any

import pytest

from tests.emulator.harness import DOCS, ITEMS, ApiClient, emulator


async def _fill(api: ApiClient, count: int) -> list[str]:
    keys = [f"docs/{number:03}.md" for number in range(count)]
    for key in keys:
        await api.upload(key)
        api.clock.wait(1)
    return keys


async def test_pages_cover_the_listing_newest_first() -> None:
    async with emulator() as api:
        keys = await _fill(api, 7)
        pages = []
        for page in range(1, 4):
            response = await api.ask("GET", ITEMS, params={"sort_by": "modified_at", "page": page, "per_page": 3})
            body = response.json()
            assert body["result_info"] == {
                "count": len(body["result"]),
                "page": page,
                "per_page": 3,
                "total_count": 7,
            }
            pages.append([row["key"] for row in body["result"]])
        assert pages == [keys[:3:-1], keys[3:0:-1], keys[:1]]


async def test_a_page_has_20_rows_by_default_and_the_page_after_the_last_is_empty() -> None:
    async with emulator() as api:
        await _fill(api, 21)
        assert len(await api.listed()) == 20
        assert len(await api.listed(page=2)) == 1
        assert await api.listed(page=3) == []
        assert await api.listed(per_page=0) == []
        assert len(await api.listed(per_page=50)) == 21


@pytest.mark.parametrize(
    "params",
    [
        {"page": 0},
        {"page": "x"},
        {"page": 10**20},
        {"per_page": 51},
        {"per_page": -1},
        {"status": "happy"},
        {"sort_by": "key"},
        {"item_id": "i" * 65},
        {"source": "s" * 513},
    ],
)
async def test_parameters_outside_the_schema_are_refused(params: dict[str, Any]) -> None:
    async with emulator() as api:
        assert await api.refusal("GET", ITEMS, params=params) == (400, 7001)


async def test_the_default_order_is_by_status_and_then_last_seen() -> None:
    async with emulator(index_delay=10, fail_index="bad") as api:
        for key in ("old.md", "done.md", "bad.md", "run1.md", "run2.md", "queued.md"):
            api.clock.wait({"run1.md": 20, "queued.md": 7}.get(key, 1))
            await api.upload(key)
        found = [(row["key"], row["status"]) for row in await api.listed()]
        assert found == [
            ("run2.md", "running"),
            ("run1.md", "running"),
            ("queued.md", "queued"),
            ("bad.md", "error"),
            ("done.md", "completed"),
            ("old.md", "completed"),
        ]
        assert [row["key"] for row in await api.listed(status="running", sort_by="modified_at")] == [
            "run2.md",
            "run1.md",
        ]
        assert await api.listed(status="outdated") == []


async def test_an_overwrite_moves_an_item_to_the_front() -> None:
    async with emulator() as api:
        keys = await _fill(api, 3)
        await api.upload(keys[0])
        assert [row["key"] for row in await api.listed(sort_by="modified_at")] == [keys[0], keys[2], keys[1]]


async def test_the_listing_can_be_filtered_by_key_item_id_search_and_source() -> None:
    async with emulator() as api:
        keys = await _fill(api, 12)
        row = (await api.listed(key=keys[4]))[0]
        assert row["key"] == keys[4]
        assert [found["key"] for found in await api.listed(item_id=row["id"])] == [keys[4]]
        assert await api.listed(key="docs/00") == []
        assert {found["key"] for found in await api.listed(search="CS/01")} == set(keys[10:])
        assert len(await api.listed(source="builtin")) == 12
        assert await api.listed(source="r2:x") == []
        assert await api.listed(key=keys[4], search="nothing") == []


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ({"folder": "a/"}, {"a/1.md", "a/2.md"}),
        ({"folder": {"$eq": "a/"}, "filename": "2.md"}, {"a/2.md"}),
        ({"folder": {"$ne": "a/"}}, {"a/b/3.md", "4.md"}),
        ({"folder": {"$in": ["a/b/", ""]}}, {"a/b/3.md", "4.md"}),
        ({"folder": {"$nin": ["a/b/", ""]}}, {"a/1.md", "a/2.md"}),
        ({"folder": {"$gte": "a/", "$lt": "a0"}}, {"a/1.md", "a/2.md", "a/b/3.md"}),
        ({"timestamp": {"$gte": 1_800_000_002_000}}, {"a/b/3.md", "4.md"}),
        ({"timestamp": {"$gt": 1_800_000_002_000}}, {"4.md"}),
        ({"timestamp": {"$lte": 1_800_000_000_000}}, {"a/1.md"}),
        ({"timestamp": {"$lt": "a"}}, set()),
        ({"rank": 1}, {"a/1.md"}),
        ({"rank": True}, set()),
        ({"rank": {"$gt": "0"}}, set()),
        ({"Rank": {"$in": [1, 2]}}, {"a/1.md", "a/2.md"}),
        ({"rank": {"$ne": 1}}, {"a/2.md", "a/b/3.md", "4.md"}),
        ({"note": "n" * 64}, {"a/1.md"}),
        ({"note": "n" * 65}, set()),
        ({"unknown": "x"}, set()),
        ({}, {"a/1.md", "a/2.md", "a/b/3.md", "4.md"}),
    ],
)
async def test_a_metadata_filter_selects_items(expression: dict[str, Any], expected: set[str]) -> None:
    async with emulator() as api:
        fields = [{"field_name": "rank", "data_type": "number"}, {"field_name": "note", "data_type": "text"}]
        await api.result("PUT", DOCS, json={"custom_metadata": fields})
        for number, key in enumerate(("a/1.md", "a/2.md", "a/b/3.md", "4.md"), start=1):
            custom = {"rank": number, "note": "n" * 65} if number == 1 else {"rank": number, "unknown": "x"}
            await api.upload(key, metadata=json.dumps(custom))
            api.clock.wait(1)
        rows = await api.listed(metadata_filter=json.dumps(expression))
        assert {row["key"] for row in rows} == expected


@pytest.mark.parametrize(
    "expression",
    [
        "no json",
        "[]",
        '{"a": {}}',
        '{"a": {"$regex": "x"}}',
        '{"a": {"$in": "x"}}',
        '{"a": {"$in": [[]]}}',
        '{"a": {"$lt": true}}',
        '{"a": {"$eq": {}}}',
        '{"a": []}',
        '{"$eq": 1}',
        '{"": 1}',
        json.dumps({"a": "x" * 2048}),
    ],
)
async def test_an_invalid_metadata_filter_is_7058(expression: str) -> None:
    async with emulator() as api:
        assert await api.refusal("GET", ITEMS, params={"metadata_filter": expression}) == (400, 7058)


async def test_a_lagging_listing_shows_adds_overwrites_and_deletes_late() -> None:
    async with emulator(list_lag=5, index_delay=0) as api:
        item = await api.upload("a.md", b"1")
        assert await api.listed() == []
        assert (await api.item(item["id"]))["file_size"] == 1
        api.clock.wait(5)
        assert [row["file_size"] for row in await api.listed(key="a.md")] == [1]
        await api.upload("a.md", b"22")
        api.clock.wait(4)
        assert [row["file_size"] for row in await api.listed()] == [1]
        assert (await api.item(item["id"]))["file_size"] == 2
        api.clock.wait(1)
        assert [row["file_size"] for row in await api.listed()] == [2]
        await api.result("DELETE", f"{ITEMS}/{item['id']}")
        api.clock.wait(4.5)
        assert len(await api.listed()) == 1
        assert await api.refusal("GET", f"{ITEMS}/{item['id']}") == (404, 7041)
        api.clock.wait(0.5)
        assert await api.listed() == []


async def test_a_lagging_listing_shows_the_status_at_its_time() -> None:
    async with emulator(list_lag=5, index_delay=4) as api:
        await api.upload("a.md")
        seen = []
        for _ in range(6):
            api.clock.wait(2)
            seen += [row["status"] for row in await api.listed()] or ["-"]
        assert seen == ["-", "-", "queued", "running", "completed", "completed"]


async def test_a_lagging_store_removes_states_that_no_listing_can_show() -> None:
    async with emulator(list_lag=5) as api:
        for _ in range(10):
            await api.upload("a.md")
            api.clock.wait(2)
        store = api.app.backend.store
        assert store.value("SELECT count(*) FROM ai_items") <= 4


async def test_stats_do_not_lag_and_count_by_status() -> None:
    async with emulator(list_lag=100, index_delay=2, fail_index="bad") as api:
        await api.upload("a.md", b"12345", wait_for_completion="true")
        await api.upload("bad.md", b"1234", wait_for_completion="true")
        await api.upload("c.md", b"1")
        stats = await api.result("GET", f"{DOCS}/stats")
        assert {name: stats[name] for name in ("queued", "running", "completed", "error", "skipped", "outdated")} == {
            "queued": 1,
            "running": 0,
            "completed": 1,
            "error": 1,
            "skipped": 0,
            "outdated": 0,
        }
        assert stats["last_activity"] == "2027-01-15T08:00:04.000Z"
        assert stats["degraded"] is False
        assert stats["engine"]["r2"]["objectCount"] == 3
        assert stats["engine"]["r2"]["payloadSizeBytes"] == 10
        assert stats["engine"]["r2"]["metadataSizeBytes"] > 0
        assert stats["engine"]["vectorize"] == {"dimensions": 1024, "vectorsCount": 1}


async def test_stats_of_an_empty_instance_are_zero() -> None:
    async with emulator() as api:
        stats = await api.result("GET", f"{DOCS}/stats")
        assert (stats["completed"], stats["last_activity"]) == (0, None)
