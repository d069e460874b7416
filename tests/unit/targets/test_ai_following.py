"""What it costs to follow items into the index, and what is believed on the way."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.sync import index
from syncd.targets.ai_search.index import PAGES, SAME_LOOKS, STRAGGLERS
from tests.unit.targets.harness_ai_search import Forward, Side, World, answers, shows, world
from tests.unit.targets.harness_index import done, filled, restate, strange

LONG = 10_000.0
OLD_S = 61.0
"""After so long a listing is sure to know of an upload."""


def statuses(side: Side) -> dict[str, int]:
    return side.mirror.journal.index.index_counts()


async def looked(w: World, side: Side) -> Counter[str]:
    """What one look asks for."""
    w.wire.diary.clear()
    await index.poll(side.mirror)
    return Counter("GET ID" if "/items/" in line else line for line in w.wire.diary)


async def test_ten_thousand_items_take_a_request_for_each_fifty_at_most_and_few_at_the_end(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        refs = filled(w, side, 10_000)
        w.clock.now += OLD_S
        looks = [await looked(w, side)]
        assert looks[0].total() <= 10_000 * 0.1, "nothing has moved, and one request says so"
        assert looks[0] == {"GET /stats": 1}
        done(w, refs[:1_500])
        looks.append(await looked(w, side))
        assert statuses(side) == {"queued": 8_500, "completed": 1_500}
        done(w, refs[1_500:9_900])
        looks.append(await looked(w, side))
        assert statuses(side) == {"queued": 100, "completed": 9_900}
        assert looks[-1] == {"GET /stats": 1, "GET /items": 2, "GET ID": 2}
        done(w, refs[9_900:])
        looks.append(await looked(w, side))
        assert statuses(side) == {"completed": 10_000}
        assert looks[-1] == {"GET /stats": 1, "GET ID": 2}
        assert max(look.total() for look in looks) <= 1 + PAGES


async def test_a_backlog_too_long_to_read_shows_what_has_arrived_and_costs_a_bounded_number(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        refs = filled(w, side, 4_000)
        w.clock.now += OLD_S
        done(w, refs[:300])
        done(w, refs[300:310], error="invalid_pdf")
        assert (await looked(w, side)).total() <= 1 + 1 + 300 // 50 + 1
        assert statuses(side) == {"queued": 3_690, "completed": 300, "error": 10}
        done(w, refs[310:3_500])
        asked = await looked(w, side)
        assert statuses(side)["queued"] == 500, "now the rest is short enough to be read"
        assert asked.total() <= 1 + 1 + 10 + 2


async def test_while_nothing_moves_the_counts_say_so_for_a_few_looks(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        filled(w, side, 200)
        w.clock.now += OLD_S
        assert await looked(w, side) == {"GET /stats": 1, "GET /items": 4}
        for _ in range(SAME_LOOKS):
            assert await looked(w, side) == {"GET /stats": 1}
        assert await looked(w, side) == {"GET /stats": 1, "GET /items": 4}


async def test_items_of_others_and_of_other_sources_are_counted_but_disturb_nobody(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG, fail_index="9000") as w:
        side = w.side()
        refs = filled(w, side, 100)
        strange(w, 60)
        strange(w, 60, source="r2:bucket")
        w.clock.now += OLD_S
        done(w, refs[:90])
        await looked(w, side)
        assert statuses(side) == {"queued": 10, "completed": 90}


async def test_a_fresh_upload_that_no_listing_shows_yet_is_not_taken_for_searchable(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG, list_lag=50) as w:
        side = w.side()
        refs = filled(w, side, 100)
        w.clock.now += OLD_S
        done(w, refs)
        w.clock.now += 51
        side.write("fresh.md", "text")
        await side.hint("fresh.md")
        await looked(w, side)
        assert statuses(side) == {"queued": 1, "completed": 100}


def moves(w: World, ref: str, after: str, **columns: float) -> None:
    """Something happens to an item right after the first page of a state was shown."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        response = await forward()
        if request.url.params.get("status") == after and request.url.params.get("page") == "1":
            restate(w, ref, **columns)
        return response

    w.wire.plays("GET", "/items", act, times=None)


async def test_an_item_that_begins_to_be_indexed_while_lists_are_read_is_met_in_the_next(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        refs = filled(w, side, 40)
        w.clock.now += OLD_S
        done(w, refs[20:])
        restate(w, refs[1], started_at=w.clock.now - 1)
        moves(w, refs[0], "queued", started_at=w.clock.now - 1)
        await looked(w, side)
        assert statuses(side) == {"queued": 18, "running": 2, "completed": 20}


async def test_a_list_that_shifts_while_it_is_read_proves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        refs = filled(w, side, 200)
        w.clock.now += OLD_S
        done(w, refs[:100])
        # One of the first page leaves: the second page begins one further down.
        moves(w, refs[-1], "queued", started_at=w.clock.now - 2, done_at=w.clock.now - 1)
        await looked(w, side)
        assert "completed" not in statuses(side)
        w.wire.acts.clear()
        await looked(w, side)
        assert statuses(side) == {"queued": 99, "completed": 101}


async def test_one_that_somebody_has_removed_is_found_gone_before_the_others_are_believed(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        refs = filled(w, side, 60)
        w.clock.now += OLD_S
        done(w, refs)
        await w.delete("000000.md")
        await looked(w, side)
        assert statuses(side)["queued"] >= 58
        await looked(w, side)
        assert statuses(side) == {"completed": 59}


async def refuses_stats(w: World) -> None:
    w.wire.plays("GET", "/stats", answers(404, 7000), times=None)


async def cannot_count(w: World) -> None:
    w.wire.plays("GET", "/stats", shows(lambda _, body: body.update(result={"degraded": True})), times=None)


async def ignores_status(w: World) -> None:
    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        request.url = request.url.copy_remove_param("status")
        return await forward()

    w.wire.plays("GET", "/items", act, times=None)


async def refuses_status(w: World) -> None:
    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        if "status" in request.url.params:
            return await answers(400, 7001)(request, forward)
        return await forward()

    w.wire.plays("GET", "/items", act, times=None)


@pytest.mark.parametrize("manners", [refuses_stats, cannot_count, ignores_status, refuses_status])
async def test_a_service_that_does_not_tell_by_status_is_followed_by_its_pages(tmp_path: Path, manners: Any) -> None:
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side(retry_for=1)
        refs = filled(w, side, 200)
        w.clock.now += OLD_S
        done(w, refs[:150])
        await manners(w)
        assert (await looked(w, side)).total() <= 2 + 200 // 50 + 2 + STRAGGLERS
        assert statuses(side) == {"queued": 50, "completed": 150}


async def test_counts_that_are_old_convince_nobody(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        filled(w, side, 100)
        w.clock.now += OLD_S
        old = {"completed": 100, "queued": 0, "running": 0, "error": 0, "skipped": 0, "outdated": 0, "degraded": False}
        w.wire.plays("GET", "/stats", shows(lambda _, body: body.update(result=old)), times=None)
        await looked(w, side)
        assert statuses(side) == {"queued": 100}


async def test_lists_that_are_wrongly_empty_convince_nobody(tmp_path: Path) -> None:
    def hides(request: httpx.Request, body: Any) -> None:
        if "status" in request.url.params:
            body.update(result=[], result_info={"count": 0, "page": 1, "per_page": 50, "total_count": 0})

    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        filled(w, side, 100)
        w.clock.now += OLD_S
        w.wire.plays("GET", "/items", shows(hides), times=None)
        await looked(w, side)
        assert statuses(side) == {"queued": 100}


async def test_few_items_are_asked_for_on_the_newest_page_and_then_by_id(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        refs = filled(w, side, STRAGGLERS)
        strange(w, 30)
        w.clock.now += OLD_S
        assert await looked(w, side) == {"GET /items": 1}
        with_others = filled(w, w.side("you"), 60, start=500)
        assert await looked(w, side) == {"GET /items": 1, "GET ID": STRAGGLERS}
        done(w, refs + with_others)
        await looked(w, side)
        assert statuses(side) == {"completed": STRAGGLERS}
        more = filled(w, side, STRAGGLERS + 1, start=2_000)
        w.clock.now += OLD_S
        assert await looked(w, side) == {"GET /stats": 1, "GET /items": 1}
        done(w, more)
        assert await looked(w, side) == {"GET /stats": 1, "GET /items": 1, "GET ID": 2}
        assert statuses(side) == {"completed": 2 * STRAGGLERS + 1}


async def test_more_than_one_look_can_hold_take_turns_and_the_latest_are_always_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "POLLED", 60)
    monkeypatch.setattr(index, "NEWEST", 10)
    async with world(tmp_path, index_delay=LONG) as w:
        side = w.side()
        asked: list[frozenset[str]] = []
        target = side.indexed
        told = target.statuses

        async def noting(refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Any:
            asked.append(refs)
            return await told(refs, fresh)

        target.statuses = noting  # type: ignore[method-assign]
        refs = filled(w, side, 60)
        w.clock.now += OLD_S
        await looked(w, side)
        assert asked.pop() == set(refs), "so many go at once"
        refs += filled(w, side, 61, start=60)
        w.clock.now += OLD_S
        for _ in range(3):
            await looked(w, side)
        assert all(len(each) <= 60 and set(refs[-10:]) <= each for each in asked)
        assert frozenset().union(*asked) == set(refs), "everybody had a turn"
