"""Errors of KV bulk requests: unsuccessful keys, bodies too large, a refused pair, an outage."""

import json
from pathlib import Path

import httpx
import pytest

from syncd.core.errors import Halt, Unreachable
from syncd.targets.kv import writing
from tests.harness import is_clean
from tests.unit.targets.harness_ai_search import answers, done_but_says, only_for
from tests.unit.targets.harness_kv import MIB, Harness, MirrorFixture, keeps, open_harness, refuses_key, sent
from tests.unit.targets.harness_mirrors import Forward


def fill(fixture: MirrorFixture, files: int) -> dict[str, bytes]:
    """Write files, and return the values that the remote must have at the end."""
    for number in range(files):
        fixture.write(f"{number}.txt", f"text {number}")
    return {f"{number}.txt": f"text {number}".encode() for number in range(files)}


async def settle(h: Harness, fixture: MirrorFixture) -> None:
    """Make full passes with waiting items due, until a plan is empty."""
    for _ in range(10):
        h.clock.now += 600
        if not (await fixture.full()).tables.plan.counts.total():
            return
    raise AssertionError("no end")


async def test_a_fifth_of_all_keys_unsuccessful_still_ends_exact_and_is_not_sent_twice(tmp_path: Path) -> None:
    async with open_harness(tmp_path, unsuccessful=0.2, list_lag=5) as h:
        fixture = h.add_mirror()
        wanted = fill(fixture, 400)
        result = await fixture.full()
        assert result.done["put"] + result.done["failed"] == 400
        assert 2 <= len(h.changes()) <= 6, "only failed keys are sent again"
        await settle(h, fixture)
        assert await h.contents() == wanted
        assert fixture.problems() == {}
        fixture.remove(*(f"{number}.txt" for number in range(100, 200)))
        for number in range(50):
            fixture.write(f"{number}.txt", "edited")
        await fixture.full()
        await settle(h, fixture)
        h.clock.now += 10
        gone = {f"{number}.txt" for number in range(100, 200)}
        edited = {f"{number}.txt": b"edited" for number in range(50)}
        left = {key: value for key, value in (wanted | edited).items() if key not in gone}
        assert await h.contents() == left
        h.wire.diary.clear()
        assert (await fixture.later()).tables.plan.counts.total() == 0
        assert h.changes() == []


async def test_keys_that_never_succeed_fail_for_now_and_no_other_with_them(tmp_path: Path) -> None:
    async with open_harness(tmp_path, unsuccessful=1.0) as h:
        fixture = h.add_mirror()
        fill(fixture, 3)
        result = await fixture.full()
        assert result.done["failed"] == 3
        assert set(fixture.problems().values()) == {"failed"}
        assert len(h.changes()) == 6
        assert [row.key for row in fixture.mirror.queue.every()] == ["0.txt", "1.txt", "2.txt"]


@pytest.mark.parametrize("most", [1, 7, 100])
async def test_a_bulk_that_times_out_is_halved_until_it_succeeds(tmp_path: Path, most: int) -> None:
    async with open_harness(tmp_path, bulk_fail_over=most) as h:
        fixture = h.add_mirror()
        wanted = fill(fixture, 120)
        result = await fixture.full()
        assert result.done["put"] == 120
        assert is_clean(result)
        assert await h.contents() == wanted
        fixture.remove(*list(wanted)[1:])
        assert (await fixture.full()).done["delete"] == 119
        assert list(await h.rows()) == ["0.txt"]


async def test_a_bulk_that_is_too_large_is_halved_and_a_single_value_is_named(tmp_path: Path) -> None:
    async with open_harness(tmp_path, bulk_max_bytes=20_000) as h:
        fixture = h.add_mirror()
        wanted = {f"{number}.txt": b"x" * 3000 for number in range(30)}
        for name, data in {**wanted, "huge.txt": b"y" * 30_000}.items():
            fixture.write(name, data)
        result = await fixture.full()
        assert result.done["put"] == 30
        assert fixture.problems() == {"huge.txt": "too_large"}
        assert await h.contents() == wanted
        changes = len(h.changes())
        assert (await fixture.later()).done["put"] == 0
        assert len(h.changes()) == changes, "the same bytes are not sent again"


async def test_one_refused_pair_is_found_and_parked_and_the_rest_is_sent(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        wanted = fill(fixture, 300)
        h.wire.plays("PUT", "/bulk", refuses_key("137.txt"), None)
        result = await fixture.full()
        assert (result.done["put"], result.done["failed"]) == (299, 1)
        assert fixture.problems() == {"137.txt": "refused"}
        assert "10001" in next(iter(fixture.mirror.journal.problems.all())).message
        assert len(h.changes()) <= 19, "two for each halving"
        assert await h.contents() == {key: value for key, value in wanted.items() if key != "137.txt"}
        changes = len(h.changes())
        for _ in range(2):
            await fixture.later()
            assert fixture.problems() == {"137.txt": "refused"}
        assert len(h.changes()) == changes, "not sent again until it changes"
        h.wire.acts.clear()
        fixture.write("137.txt", "changed")
        assert (await fixture.full()).done["put"] == 1
        assert fixture.problems() == {}


async def test_one_key_that_cannot_be_deleted_stops_no_other(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fill(fixture, 40)
        await fixture.full()
        fixture.remove(*(f"{number}.txt" for number in range(1, 40)))
        h.wire.plays("POST", "/bulk/delete", refuses_key("7.txt"), None)
        result = await fixture.full()
        assert (result.done["delete"], result.done["failed"]) == (38, 1)
        assert set(await h.rows()) == {"0.txt", "7.txt"}
        h.wire.acts.clear()
        await fixture.later()
        assert set(await h.rows()) == {"0.txt"}


async def test_a_bulk_whose_answer_was_lost_is_sent_again_by_itself(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        wanted = fill(fixture, 20)
        h.wire.plays("PUT", "/bulk", done_but_says(502, 1))
        assert (await fixture.full()).done["put"] == 20
        assert len(h.changes()) == 2
        assert await h.contents() == wanted
        assert (await fixture.later()).tables.plan.counts.total() == 0


async def test_values_written_before_an_outage_are_adopted_by_the_next_pass(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        wanted = fill(fixture, 1200)
        # The second body of the pass is the one that holds the last file in order.
        h.wire.plays("PUT", "/bulk", only_for(b'"key":"999.txt"', answers(503, 1)), None)
        with pytest.raises(Unreachable):
            await fixture.full()
        assert len(await h.rows()) == 1000
        h.wire.acts.clear()
        book: list[dict[str, bytes]] = []
        h.wire.plays("PUT", "/bulk", keeps(book), None)
        await fixture.later()
        assert [len(body) for body in book] == [200]
        assert await h.contents() == wanted


async def test_a_refused_token_halts(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fill(fixture, 5)
        h.wire.plays("PUT", "/bulk", answers(403, 10000), None)
        with pytest.raises(Halt, match="Workers KV Storage"):
            await fixture.full()
        assert len(h.changes()) == 1


async def test_large_files_are_spread_over_bodies_below_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert writing.BULK_BYTES == 90_000_000
    monkeypatch.setattr(writing, "BULK_BYTES", 9_000_000)
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(sizes=(512, 25 * MIB))
        for number in range(5):
            with fixture.write(f"{number}.bin", b"\xff%d" % number).open("r+b") as file:
                file.truncate(18 * MIB // 10)
        sizes: list[int] = []

        async def measure(request: httpx.Request, forward: Forward) -> httpx.Response:
            sizes.append(len(request.content))
            return await forward()

        h.wire.plays("PUT", "/bulk", measure, None)
        assert (await fixture.full()).done["put"] == 5
        assert len(sizes) == 2
        assert max(sizes) <= 9_000_000


async def test_text_travels_as_text(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a", "Größe")
        fixture.write("b", b"\xff\xfe")
        bodies: list[bytes] = []

        async def read(request: httpx.Request, forward: Forward) -> httpx.Response:
            bodies.append(request.content)
            assert sent(request) == {"a": "Größe".encode(), "b": b"\xff\xfe"}
            return await forward()

        h.wire.plays("PUT", "/bulk", read)
        await fixture.full()
        assert [pair.get("base64", False) for pair in json.loads(bodies[0])] == [False, True]
