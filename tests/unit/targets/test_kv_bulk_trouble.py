"""KV where bulk requests go wrong: keys not stored, too much at once, one pair refused, the remote away."""

import json
from pathlib import Path

import httpx
import pytest

from syncd.core.errors import Halt, Unreachable
from tests.unit.targets.harness_ai_search import Forward, answers, done_but_says, only_for
from tests.unit.targets.harness_kv import MIB, Side, World, keeps, refuses_key, sent, world


def fill(side: Side, files: int) -> dict[str, bytes]:
    """Write files; return what must be at the remote in the end."""
    for number in range(files):
        side.write(f"{number}.txt", f"text {number}")
    return {f"{number}.txt": f"text {number}".encode() for number in range(files)}


async def settle(w: World, side: Side) -> None:
    """Full passes, with what waits becoming due in between, until nothing is planned any more."""
    for _ in range(10):
        w.clock.now += 600
        if not (await side.full()).tables.plan.counts.total():
            return
    raise AssertionError("no end")


async def test_a_fifth_of_all_keys_unsuccessful_still_ends_exact_and_is_not_sent_twice(tmp_path: Path) -> None:
    async with world(tmp_path, unsuccessful=0.2, list_lag=5) as w:
        side = w.side()
        wanted = fill(side, 400)
        result = await side.full()
        assert result.done["put"] + result.done["failed"] == 400
        assert 2 <= len(w.changes()) <= 6, "only what failed goes again"
        await settle(w, side)
        assert await w.contents() == wanted
        assert side.problems() == {}
        side.remove(*(f"{number}.txt" for number in range(100, 200)))
        for number in range(50):
            side.write(f"{number}.txt", "edited")
        await side.full()
        await settle(w, side)
        w.clock.now += 10
        gone = {f"{number}.txt" for number in range(100, 200)}
        edited = {f"{number}.txt": b"edited" for number in range(50)}
        left = {key: value for key, value in (wanted | edited).items() if key not in gone}
        assert await w.contents() == left
        w.wire.diary.clear()
        assert (await side.later()).tables.plan.counts.total() == 0
        assert w.changes() == []


async def test_keys_that_never_succeed_fail_for_now_and_no_other_with_them(tmp_path: Path) -> None:
    async with world(tmp_path, unsuccessful=1.0) as w:
        side = w.side()
        fill(side, 3)
        result = await side.full()
        assert result.done["failed"] == 3
        assert set(side.problems().values()) == {"failed"}
        assert len(w.changes()) == 6
        assert [row.key for row in side.mirror.queue.every()] == ["0.txt", "1.txt", "2.txt"]


@pytest.mark.parametrize("most", [1, 7, 100])
async def test_what_times_out_is_halved_until_it_goes(tmp_path: Path, most: int) -> None:
    async with world(tmp_path, bulk_fail_over=most) as w:
        side = w.side()
        wanted = fill(side, 120)
        result = await side.full()
        assert result.done["put"] == 120
        assert result.clean
        assert await w.contents() == wanted
        side.remove(*list(wanted)[1:])
        assert (await side.full()).done["delete"] == 119
        assert list(await w.rows()) == ["0.txt"]


async def test_what_is_too_large_is_halved_and_what_is_too_large_alone_is_named(tmp_path: Path) -> None:
    async with world(tmp_path, bulk_max_bytes=20_000) as w:
        side = w.side()
        wanted = {f"{number}.txt": b"x" * 3000 for number in range(30)}
        for name, data in {**wanted, "huge.txt": b"y" * 30_000}.items():
            side.write(name, data)
        result = await side.full()
        assert result.done["put"] == 30
        assert side.problems() == {"huge.txt": "too_large"}
        assert await w.contents() == wanted
        changes = len(w.changes())
        assert (await side.later()).done["put"] == 0
        assert len(w.changes()) == changes, "the same bytes are not sent again"


async def test_one_refused_pair_is_found_and_parked_and_the_rest_is_sent(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        wanted = fill(side, 300)
        w.wire.plays("PUT", "/bulk", refuses_key("137.txt"), None)
        result = await side.full()
        assert (result.done["put"], result.done["failed"]) == (299, 1)
        assert side.problems() == {"137.txt": "refused"}
        assert "10001" in next(iter(side.mirror.journal.problems.all())).message
        assert len(w.changes()) <= 19, "two for each halving"
        assert await w.contents() == {key: value for key, value in wanted.items() if key != "137.txt"}
        changes = len(w.changes())
        for _ in range(2):
            await side.later()
            assert side.problems() == {"137.txt": "refused"}
        assert len(w.changes()) == changes, "not sent again until it changes"
        w.wire.acts.clear()
        side.write("137.txt", "changed")
        assert (await side.full()).done["put"] == 1
        assert side.problems() == {}


async def test_one_key_that_cannot_be_deleted_stops_no_other(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        fill(side, 40)
        await side.full()
        side.remove(*(f"{number}.txt" for number in range(1, 40)))
        w.wire.plays("POST", "/bulk/delete", refuses_key("7.txt"), None)
        result = await side.full()
        assert (result.done["delete"], result.done["failed"]) == (38, 1)
        assert set(await w.rows()) == {"0.txt", "7.txt"}
        w.wire.acts.clear()
        await side.later()
        assert set(await w.rows()) == {"0.txt"}


async def test_a_bulk_whose_answer_was_lost_is_sent_again_by_itself(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        wanted = fill(side, 20)
        w.wire.plays("PUT", "/bulk", done_but_says(502, 1))
        assert (await side.full()).done["put"] == 20
        assert len(w.changes()) == 2
        assert await w.contents() == wanted
        assert (await side.later()).tables.plan.counts.total() == 0


async def test_what_went_before_the_remote_was_away_is_adopted_by_the_next_pass(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        wanted = fill(side, 1200)
        # The second body of the pass is the one that holds the last file in order.
        w.wire.plays("PUT", "/bulk", only_for(b'"key":"999.txt"', answers(503, 1)), None)
        with pytest.raises(Unreachable):
            await side.full()
        assert len(await w.rows()) == 1000
        w.wire.acts.clear()
        book: list[dict[str, bytes]] = []
        w.wire.plays("PUT", "/bulk", keeps(book), None)
        await side.later()
        assert [len(body) for body in book] == [200]
        assert await w.contents() == wanted


async def test_a_refused_token_halts(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        fill(side, 5)
        w.wire.plays("PUT", "/bulk", answers(403, 10000), None)
        with pytest.raises(Halt, match="Workers KV Storage"):
            await side.full()
        assert len(w.changes()) == 1


async def test_large_files_are_spread_over_bodies_below_the_limit(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(sizes=(512, 25 * MIB))
        for number in range(5):
            with side.write(f"{number}.bin", b"\xff%d" % number).open("r+b") as file:
                file.truncate(18 * MIB)
        sizes: list[int] = []

        async def measure(request: httpx.Request, forward: Forward) -> httpx.Response:
            sizes.append(len(request.content))
            return await forward()

        w.wire.plays("PUT", "/bulk", measure, None)
        assert (await side.full()).done["put"] == 5
        assert len(sizes) == 2
        assert max(sizes) <= 90_000_000


async def test_text_travels_as_text(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a", "Größe")
        side.write("b", b"\xff\xfe")
        bodies: list[bytes] = []

        async def read(request: httpx.Request, forward: Forward) -> httpx.Response:
            bodies.append(request.content)
            assert sent(request) == {"a": "Größe".encode(), "b": b"\xff\xfe"}
            return await forward()

        w.wire.plays("PUT", "/bulk", read)
        await side.full()
        assert [pair.get("base64", False) for pair in json.loads(bodies[0])] == [False, True]


async def test_what_one_body_could_not_store_goes_with_the_next(tmp_path: Path) -> None:
    async with world(tmp_path, unsuccessful=0.2) as w:
        side = w.side()
        for number in range(4000):
            side.write(f"{number}.txt", f"text {number}")
        began = w.clock.now
        result = await side.full()
        assert result.done["put"] == 4000
        assert len(await w.rows()) == 4000
        # Each body by itself would have had to insist for some four seconds.
        assert w.clock.now - began < 12
        assert len(w.changes()) < 12
