from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Emulator
from tests.emulator.harness import (
    LAG,
    NDJSON,
    ApiClient,
    ManualClock,
    VectorizeClient,
    make_index,
    row,
    vectorize_emulator,
)


async def test_a_change_is_visible_after_the_lag_and_not_before() -> None:
    async with vectorize_emulator() as index:
        before = await index.info()
        sent = await index.send([row("a"), row("b")])
        accepted = index.clock.now
        index.clock.wait(LAG - 0.01)
        assert await index.info() == before
        assert await index.ids() == []
        assert await index.get("a") == []
        assert await index.query(1, 0) == []
        index.clock.wait(0.02)
        info = await index.info()
        assert (info["vectorCount"], info["processedUpToMutation"]) == (2, sent)
        processed = datetime.fromisoformat(info["processedUpToDatetime"])
        assert processed == datetime.fromtimestamp(accepted + LAG, UTC)
        assert await index.ids() == ["a", "b"]
        assert [each["id"] for each in await index.get("a")] == ["a"]
        assert len(await index.query(1, 0)) == 2
        await index.drop("a")
        assert await index.ids() == ["a", "b"]
        index.clock.wait(LAG)
        assert await index.ids() == ["b"]


async def test_without_a_lag_a_change_is_visible_at_once() -> None:
    async with vectorize_emulator(mutation_lag=0) as index:
        sent = await index.send([row("a")])
        assert (await index.info())["processedUpToMutation"] == sent
        assert await index.ids() == ["a"]
        await index.drop("a")
        assert await index.ids() == []


async def test_changes_are_applied_in_the_order_of_acceptance() -> None:
    async with vectorize_emulator() as index:
        await index.send([row("a", 1, 1)])
        await index.drop("a")
        await index.send([row("a", 2, 2)])
        last = await index.drop("never there")
        index.clock.wait(LAG)
        assert [each["values"] for each in await index.get("a")] == [[2, 2]]
        assert (await index.info())["processedUpToMutation"] == last


async def test_each_change_has_its_own_lag() -> None:
    async with vectorize_emulator() as index:
        first = await index.send([row("a")])
        index.clock.wait(LAG / 2)
        second = await index.send([row("b")])
        index.clock.wait(LAG / 2)
        assert (await index.info())["processedUpToMutation"] == first
        assert await index.ids() == ["a"]
        index.clock.wait(LAG / 2)
        assert (await index.info())["processedUpToMutation"] == second


async def test_upsert_replaces_the_whole_vector_and_insert_keeps_the_first() -> None:
    async with vectorize_emulator() as index:
        old = row("a", 1, 2, metadata={"hash": "1", "more": True}, namespace="n")
        await index.put([old], "insert")
        await index.put([row("a", 3, 4)], "insert")
        assert await index.get("a") == [old | {"values": [1, 2]}]
        await index.put([row("a", 3, 4, metadata={"hash": "2"})])
        assert await index.get("a") == [{"id": "a", "values": [3, 4], "metadata": {"hash": "2"}}]
        await index.put([row("a", 5, 6)])
        assert await index.get("a") == [{"id": "a", "values": [5, 6]}]
        assert (await index.info())["vectorCount"] == 1


@pytest.mark.parametrize(("verb", "kept"), [("upsert", [2, 2]), ("insert", [1, 1])])
async def test_upsert_keeps_the_last_and_insert_the_first_of_equal_ids(verb: str, kept: list[float]) -> None:
    async with vectorize_emulator() as index:
        await index.put([row("a", 1, 1), row("a", 2, 2)], verb)
        assert [each["values"] for each in await index.get("a")] == [kept]


async def test_pending_changes_survive_a_restart(tmp_path: Path) -> None:
    clock = ManualClock()
    options = EmulatorOptions(store=tmp_path / "emulator.db", mutation_lag=10)

    def start(options: EmulatorOptions) -> VectorizeClient:
        return VectorizeClient(ApiClient(Emulator(options, clock=clock, sleep=clock.sleep), clock), "docs")

    async with (before := start(options)).api.client:
        await make_index(before.api)
        await before.index("folder")
        sent = await before.send([row("a", 0.1, 0.2, metadata={"folder": "x"}, namespace="n"), row("b")])
        gone = await before.drop("b")
    before.api.app.backend.store.close()
    # A shorter lag after the restart does not apply the later change first.
    async with (after := start(EmulatorOptions(store=options.store, mutation_lag=1))).api.client:
        last = await after.send([row("c")])
        clock.wait(5)
        assert await after.ids() == []
        clock.wait(5)
        assert await after.ids() == ["a", "c"]
        assert (await after.info())["processedUpToMutation"] == last
        assert sent != gone
        assert await after.nearest(1, 0, filter={"folder": "x"}, namespace="n") == ["a"]
    after.api.app.backend.store.close()


@pytest.mark.parametrize("count", [99, 100])
async def test_up_to_100_ids_are_deleted_at_once(count: int) -> None:
    async with vectorize_emulator() as index:
        ids = [f"v{number}" for number in range(100)]
        await index.put([row(each) for each in ids])
        await index.drop(*ids[:count])
        index.clock.wait(LAG)
        assert await index.ids() == ids[count:]


@pytest.mark.parametrize("count", [19, 20])
async def test_up_to_20_ids_are_read_at_once(count: int) -> None:
    async with vectorize_emulator() as index:
        ids = [f"v{number:02}" for number in range(20)]
        await index.put([row(each) for each in ids])
        wanted = [*ids[count - 1 :: -1]]
        assert [each["id"] for each in await index.get(*wanted)] == wanted


@pytest.mark.parametrize(("below", "count"), [("delete_by_ids", 101), ("get_by_ids", 21)])
async def test_more_ids_are_40007(below: str, count: int) -> None:
    async with vectorize_emulator() as index:
        response = await index.api.ask("POST", f"{index.at}/{below}", json={"ids": ["x"] * count})
        (error,) = response.json()["errors"]
        message = f"too many ids in payload; max id count is {count - 1}, got {count}"
        assert (response.status_code, error) == (400, {"code": 40007, "message": message})


@pytest.mark.parametrize("below", ["delete_by_ids", "get_by_ids"])
@pytest.mark.parametrize(
    ("body", "code"),
    [(b"[]", 40026), (b"{}", 40026), (b'{"ids": [1]}', 40026), (b"{", 40026), (b'{"ids": [""]}', 40008)],
)
async def test_ids_must_be_a_list_of_ids(below: str, body: bytes, code: int) -> None:
    async with vectorize_emulator() as index:
        assert await index.api.refusal("POST", f"{index.at}/{below}", content=body) == (400, code)
        too_long = {"ids": ["é" * 32 + "x"]}
        assert await index.api.refusal("POST", f"{index.at}/{below}", json=too_long) == (400, 40008)


async def test_a_repeated_id_is_answered_once() -> None:
    async with vectorize_emulator() as index:
        await index.put([row("a")])
        assert [each["id"] for each in await index.get("a", "none", "a")] == ["a"]


async def test_values_are_returned_as_float32() -> None:
    async with vectorize_emulator() as index:
        await index.put([row("a", 58.8, -1e-7)])
        (found,) = await index.get("a")
        assert found["values"][0] == 58.79999923706055
        assert found["values"][1] == pytest.approx(-1e-7)


async def test_a_body_is_checked_before_a_missing_index_is_reported() -> None:
    async with vectorize_emulator() as index:
        read = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal read
            for _ in range(3):
                read += 1
                yield b'{"id": "a", "values": [1, 0]}\n'

        missing = index.at.replace("docs", "never")
        response = await index.api.ask("POST", f"{missing}/upsert", content=body(), headers=NDJSON)
        assert (response.status_code, read) == (404, 3)
