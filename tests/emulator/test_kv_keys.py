from typing import Any

import pytest

from tests.emulator.harness import KVClient, kv_emulator, pair


async def _fill(kv: KVClient, count: int) -> list[str]:
    names = [f"docs/{number:04}.md" for number in range(count)]
    await kv.write([pair(name) for name in reversed(names)])
    return names


async def test_pages_follow_the_cursor_until_it_is_empty() -> None:
    async with kv_emulator() as kv:
        names = await _fill(kv, 25)
        cursor, pages = "", []
        for _ in range(3):
            rows, cursor = await kv.page(limit=10, cursor=cursor)
            pages.append([row["name"] for row in rows])
        assert pages == [names[:10], names[10:20], names[20:]]
        assert cursor == ""


async def test_a_last_page_that_is_full_has_no_cursor() -> None:
    async with kv_emulator() as kv:
        await _fill(kv, 20)
        _, cursor = await kv.page(limit=10)
        rows, cursor = await kv.page(limit=10, cursor=cursor)
        assert (len(rows), cursor) == (10, "")
        assert await kv.page(prefix="nothing") == ([], "")


async def test_a_page_has_1000_rows_by_default() -> None:
    async with kv_emulator() as kv:
        names = await _fill(kv, 1001)
        rows, cursor = await kv.page()
        assert len(rows) == 1000
        assert [row["name"] for row in (await kv.page(cursor=cursor))[0]] == names[1000:]


async def test_keys_are_ordered_by_their_utf8_bytes() -> None:
    async with kv_emulator() as kv:
        names = ["\ue000", "\uffff", "😀", "é", "z", "a/b", "a", "A", "a!", "a\x00", " "]
        await kv.write([pair(name) for name in names])
        assert await kv.names() == sorted(names, key=str.encode)


async def test_a_prefix_applies_to_each_page() -> None:
    async with kv_emulator() as kv:
        await kv.write([pair(f"é{number:02}") for number in range(15)] + [pair("ê"), pair("d"), pair("e"), pair("é")])
        assert await kv.names(prefix="é", limit=10) == ["é", *(f"é{number:02}" for number in range(15))]
        assert await kv.names(prefix="é1") == [f"é1{number}" for number in range(5)]
        _, cursor = await kv.page(prefix="é", limit=10)
        rows, _ = await kv.page(limit=10, cursor=cursor)
        assert [row["name"] for row in rows][-1] == "ê"


async def test_rows_omit_absent_expiration_and_metadata() -> None:
    async with kv_emulator() as kv:
        end = int(kv.clock.now) + 1000
        await kv.write([pair("a"), pair("b", expiration=end), pair("c", metadata={"hash": "é"})])
        rows, _ = await kv.page()
        assert rows == [{"name": "a"}, {"name": "b", "expiration": end}, {"name": "c", "metadata": {"hash": "é"}}]


@pytest.mark.parametrize(
    "params",
    [{"limit": 9}, {"limit": 1001}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "ééé"}, {"cursor": "YWJj"}],
)
async def test_parameters_outside_the_schema_are_10001(params: dict[str, Any]) -> None:
    async with kv_emulator() as kv:
        assert await kv.api.refusal("GET", f"{kv.at}/keys", params=params) == (400, 10001)


async def test_a_prefix_over_512_bytes_is_414() -> None:
    async with kv_emulator() as kv:
        assert await kv.api.refusal("GET", f"{kv.at}/keys", params={"prefix": "k" * 513}) == (414, 10001)


async def test_a_cursor_outlives_changes_before_and_after_it() -> None:
    async with kv_emulator() as kv:
        names = await _fill(kv, 12)
        _, cursor = await kv.page(limit=10)
        await kv.drop([names[9], names[10]])
        await kv.put("docs/0000a.md")
        rows, _ = await kv.page(limit=10, cursor=cursor)
        assert [row["name"] for row in rows] == names[11:]


async def test_an_option_inserts_empty_pages_with_a_cursor() -> None:
    async with kv_emulator(empty_pages=True) as kv:
        names = await _fill(kv, 25)
        cursor = ""
        counts: list[int] = []
        while cursor or not counts:
            rows, cursor = await kv.page(limit=10, cursor=cursor)
            counts.append(len(rows))
        assert counts == [0, 10, 0, 10, 0, 5]
        assert await kv.names(limit=10) == names
        assert await kv.names(prefix="nothing") == []


async def test_a_lagging_listing_shows_writes_late_and_reads_do_not_lag() -> None:
    async with kv_emulator(list_lag=60) as kv:
        await kv.put("a", b"1")
        assert await kv.names() == []
        assert await kv.value("a") == b"1"
        kv.clock.wait(30)
        await kv.write([pair("a", "2", metadata={"n": 2}), pair("b")])
        assert await kv.metadata("a") == {"n": 2}
        kv.clock.wait(30)
        assert (await kv.page())[0] == [{"name": "a"}]
        kv.clock.wait(30)
        assert (await kv.page())[0] == [{"name": "a", "metadata": {"n": 2}}, {"name": "b"}]


async def test_a_lagging_listing_shows_deletes_late_and_reads_do_not_lag() -> None:
    async with kv_emulator(list_lag=60) as kv:
        await kv.write([pair("a"), pair("b"), pair("c")])
        kv.clock.wait(60)
        await kv.drop(["a"])
        kv.clock.wait(10)
        await kv.api.result("DELETE", kv.path("b"))
        await kv.put("a", b"back")
        assert await kv.names() == ["a", "b", "c"]
        assert await kv.read(["a", "b"]) == {"a": "back", "b": None}
        kv.clock.wait(50)
        assert await kv.names() == ["b", "c"]
        kv.clock.wait(10)
        assert await kv.names() == ["a", "c"]


async def test_a_lagging_listing_shows_expirations_late() -> None:
    async with kv_emulator(list_lag=30) as kv:
        await kv.put("a", expiration_ttl=60)
        kv.clock.wait(60)
        await kv.put("b")
        assert await kv.value("a") is None
        assert await kv.names() == ["a"]
        kv.clock.wait(30)
        assert await kv.names() == ["b"]


async def test_past_states_are_removed_after_the_lag() -> None:
    async with kv_emulator(list_lag=60) as kv:
        for _ in range(5):
            await kv.put("a")
            kv.clock.wait(61)
        store = kv.api.app.backend.store
        assert store.value("SELECT count(*) FROM kv_entries") <= 2
        assert store.value("SELECT count(*) FROM kv_entries WHERE valid_to IS NOT NULL AND data IS NOT NULL") == 0
