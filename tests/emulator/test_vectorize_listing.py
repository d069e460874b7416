from datetime import UTC, datetime

import pytest

from tests.emulator.harness import LAG, VectorizeClient, make_index, row, vectorize_emulator

LIFE = 300


async def _fill(index: VectorizeClient, count: int) -> list[str]:
    ids = [f"v{number:04}" for number in range(count)]
    await index.put([row(each) for each in reversed(ids)])
    return ids


async def _walk(index: VectorizeClient, cursor: str | None, count: int) -> list[str]:
    """Return the ids of all pages from the cursor on."""
    found = []
    while cursor:
        page = await index.page(cursor=cursor, count=count)
        found += [each["id"] for each in page["vectors"]]
        cursor = page["nextCursor"]
    return found


async def test_a_listing_of_one_page_has_no_cursor() -> None:
    async with vectorize_emulator() as index:
        nothing = {"count": 0, "totalCount": 0, "isTruncated": False, "vectors": []}
        ends = {"nextCursor": None, "cursorExpirationTimestamp": None}
        assert await index.page() == nothing | ends
        await _fill(index, 2)
        rows = [{"id": "v0000"}, {"id": "v0001"}]
        assert await index.page(count=2) == {"count": 2, "totalCount": 2, "isTruncated": False, "vectors": rows} | ends


async def test_pages_follow_the_cursor() -> None:
    async with vectorize_emulator() as index:
        ids = await _fill(index, 5)
        first = await index.page(count=2)
        assert (first["count"], first["totalCount"], first["isTruncated"]) == (2, 5, True)
        expires = datetime.fromisoformat(first["cursorExpirationTimestamp"])
        assert expires == datetime.fromtimestamp(index.clock.now + LIFE, UTC)
        second = await index.page(count=2, cursor=first["nextCursor"])
        third = await index.page(count=2, cursor=second["nextCursor"])
        assert (third["count"], third["totalCount"], third["isTruncated"]) == (1, 5, False)
        assert third["nextCursor"] is None
        pages = [[each["id"] for each in page["vectors"]] for page in (first, second, third)]
        assert pages == [ids[:2], ids[2:4], ids[4:]]
        again = await index.page(count=1, cursor=first["nextCursor"])
        assert [each["id"] for each in again["vectors"]] == [ids[2]]


async def test_all_pages_show_one_snapshot() -> None:
    async with vectorize_emulator() as index:
        ids = await _fill(index, 6)
        first = await index.page(count=2)
        await index.drop("v0003", "v0005")
        await index.put([row("v0000a"), row("v0004a"), row("v0002", 0, 1)])
        assert (await index.info())["vectorCount"] == 6
        assert await _walk(index, first["nextCursor"], 2) == ids[2:]
        now = ["v0000", "v0000a", "v0001", "v0002", "v0004", "v0004a"]
        assert await index.ids() == now
        second = await index.page(count=2)
        assert await _walk(index, second["nextCursor"], 3) == now[2:]


@pytest.mark.parametrize("count", [999, 1000])
async def test_a_page_has_up_to_1000_ids(count: int) -> None:
    async with vectorize_emulator() as index:
        await _fill(index, 1001)
        assert (await index.page(count=count))["count"] == count


async def test_a_page_has_100_ids_by_default() -> None:
    async with vectorize_emulator() as index:
        await _fill(index, 101)
        assert (await index.page())["count"] == 100


@pytest.mark.parametrize("count", ["0", "1001", "x"])
async def test_an_invalid_count_is_refused(count: str) -> None:
    async with vectorize_emulator() as index:
        assert await index.api.refusal("GET", f"{index.at}/list", params={"count": count}) == (400, 10400)


async def test_a_cursor_is_valid_until_it_expires() -> None:
    async with vectorize_emulator() as index:
        ids = await _fill(index, 3)
        cursor = (await index.page(count=1))["nextCursor"]
        index.clock.wait(LIFE - 0.5)
        page = await index.page(count=1, cursor=cursor)
        assert [each["id"] for each in page["vectors"]] == ids[1:2]
        index.clock.wait(0.5)
        for old in (cursor, page["nextCursor"]):
            assert await index.api.refusal("GET", f"{index.at}/list", params={"cursor": old}) == (400, 10400)


async def test_a_replaced_vector_is_kept_for_the_life_of_a_cursor() -> None:
    async with vectorize_emulator() as index:
        store = index.api.app.backend.store
        await index.put([row("a"), row("b")])
        await index.put([row("a", 0, 1)])
        assert store.value("SELECT count(*) FROM vz_vectors") == 3
        index.clock.wait(LIFE)
        await index.drop("b")
        assert store.value("SELECT count(*) FROM vz_vectors") == 2


async def test_a_cursor_of_another_index_or_an_unknown_cursor_is_refused() -> None:
    async with vectorize_emulator() as index:
        await _fill(index, 3)
        cursor = (await index.page(count=1))["nextCursor"]
        await make_index(index.api, "other")
        other = VectorizeClient(index.api, "other")
        assert await other.api.refusal("GET", f"{other.at}/list", params={"cursor": cursor}) == (400, 10400)
        for bad in ("x", "x.1", cursor.partition(".")[0] + ".x", cursor.partition(".")[0] + ".²"):
            assert await index.api.refusal("GET", f"{index.at}/list", params={"cursor": bad}) == (400, 10400)


async def test_a_listing_lags_only_by_the_lag_of_changes() -> None:
    async with vectorize_emulator(list_lag=60) as index:
        await index.send([row("a")])
        index.clock.wait(LAG)
        assert await index.ids() == ["a"]
