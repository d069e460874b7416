"""Number of requests for the index status of items, and the answers that are believed."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.sync import index
from syncd.targets.ai_search import following
from syncd.targets.ai_search.following import SAME_LOOKS, STRAGGLERS
from tests.unit.targets.harness_ai_search import Harness, MirrorFixture, answers, open_harness, shows
from tests.unit.targets.harness_index import done, filled, restate, strange
from tests.unit.targets.harness_mirrors import Forward

LONG = 10_000.0
OLD_S = 61.0
"""Seconds after which a listing shows every upload."""


def statuses(fixture: MirrorFixture) -> dict[str, int]:
    return fixture.mirror.journal.index.index_counts()


async def looked(h: Harness, fixture: MirrorFixture) -> Counter[str]:
    """Poll the index, and return the requests."""
    h.wire.diary.clear()
    await index.poll(fixture.mirror)
    return Counter("GET ID" if "/items/" in line else line for line in h.wire.diary)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> int:
    """Let a look read so many pages, with 400 items."""
    monkeypatch.setattr(following, "PAGES", 8)
    return 8


async def test_many_items_take_a_request_for_each_fifty_at_most_and_few_at_the_end(tmp_path: Path, pages: int) -> None:
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        refs = filled(h, fixture, 800)
        h.clock.now += OLD_S
        looks = [await looked(h, fixture)]
        assert looks[0].total() <= 800 * 0.1, "nothing has moved, and one request says so"
        assert looks[0] == {"GET /stats": 1}
        done(h, refs[:300])
        looks.append(await looked(h, fixture))
        assert statuses(fixture) == {"queued": 500, "completed": 300}
        done(h, refs[300:700])
        looks.append(await looked(h, fixture))
        assert statuses(fixture) == {"queued": 100, "completed": 700}
        assert looks[-1] == {"GET /stats": 1, "GET /items": 2, "GET ID": 2}
        done(h, refs[700:])
        looks.append(await looked(h, fixture))
        assert statuses(fixture) == {"completed": 800}
        assert looks[-1] == {"GET /stats": 1, "GET ID": 2}
        assert max(look.total() for look in looks) <= 1 + pages


@pytest.mark.usefixtures("pages")
async def test_a_backlog_too_long_to_read_shows_finished_items_and_costs_a_bounded_number(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        refs = filled(h, fixture, 800)
        h.clock.now += OLD_S
        done(h, refs[:60])
        done(h, refs[60:70], error="invalid_pdf")
        assert (await looked(h, fixture)).total() <= 1 + 1 + 60 // 50 + 1
        assert statuses(fixture) == {"queued": 730, "completed": 60, "error": 10}
        done(h, refs[70:700])
        asked = await looked(h, fixture)
        assert statuses(fixture)["queued"] == 100, "now the rest is short enough to be read"
        assert asked.total() <= 1 + 1 + 2 + 2


async def test_unchanged_counts_suffice_for_a_few_looks(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        filled(h, fixture, 200)
        h.clock.now += OLD_S
        assert await looked(h, fixture) == {"GET /stats": 1, "GET /items": 4}
        for _ in range(SAME_LOOKS):
            assert await looked(h, fixture) == {"GET /stats": 1}
        assert await looked(h, fixture) == {"GET /stats": 1, "GET /items": 4}


async def test_foreign_items_and_items_of_other_sources_are_counted_without_effect(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=LONG, fail_index="9000") as h:
        fixture = h.add_mirror()
        refs = filled(h, fixture, 100)
        strange(h, 60)
        strange(h, 60, source="r2:bucket")
        h.clock.now += OLD_S
        done(h, refs[:90])
        await looked(h, fixture)
        assert statuses(fixture) == {"queued": 10, "completed": 90}


async def test_a_fresh_upload_that_no_listing_shows_yet_is_not_taken_for_searchable(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=LONG, list_lag=50) as h:
        fixture = h.add_mirror()
        refs = filled(h, fixture, 100)
        h.clock.now += OLD_S
        done(h, refs)
        h.clock.now += 51
        fixture.write("fresh.md", "text")
        await fixture.hint("fresh.md")
        await looked(h, fixture)
        assert statuses(fixture) == {"queued": 1, "completed": 100}


def moves(h: Harness, ref: str, after: str, **columns: float) -> None:
    """Change an item right after the first page of a status."""

    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        response = await forward()
        if request.url.params.get("status") == after and request.url.params.get("page") == "1":
            restate(h, ref, **columns)
        return response

    h.wire.plays("GET", "/items", act, times=None)


async def test_an_item_that_begins_to_be_indexed_while_lists_are_read_is_met_in_the_next(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        refs = filled(h, fixture, 40)
        h.clock.now += OLD_S
        done(h, refs[20:])
        restate(h, refs[1], started_at=h.clock.now - 1)
        moves(h, refs[0], "queued", started_at=h.clock.now - 1)
        await looked(h, fixture)
        assert statuses(fixture) == {"queued": 18, "running": 2, "completed": 20}


async def test_a_list_that_shifts_while_it_is_read_proves_nothing(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        refs = filled(h, fixture, 200)
        h.clock.now += OLD_S
        done(h, refs[:100])
        # An item of the first page leaves the list, so the second page begins one row further down.
        moves(h, refs[-1], "queued", started_at=h.clock.now - 2, done_at=h.clock.now - 1)
        await looked(h, fixture)
        assert "completed" not in statuses(fixture)
        h.wire.acts.clear()
        await looked(h, fixture)
        assert statuses(fixture) == {"queued": 99, "completed": 101}


async def test_a_removed_item_is_found_before_the_absence_of_others_counts(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        refs = filled(h, fixture, 60)
        h.clock.now += OLD_S
        done(h, refs)
        await h.delete("000000.md")
        await looked(h, fixture)
        assert statuses(fixture)["queued"] >= 58
        await looked(h, fixture)
        assert statuses(fixture) == {"completed": 59}


async def refuses_stats(h: Harness) -> None:
    h.wire.plays("GET", "/stats", answers(404, 7000), times=None)


async def cannot_count(h: Harness) -> None:
    h.wire.plays("GET", "/stats", shows(lambda _, body: body.update(result={"degraded": True})), times=None)


async def ignores_status(h: Harness) -> None:
    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        request.url = request.url.copy_remove_param("status")
        return await forward()

    h.wire.plays("GET", "/items", act, times=None)


async def refuses_status(h: Harness) -> None:
    async def act(request: httpx.Request, forward: Forward) -> httpx.Response:
        if "status" in request.url.params:
            return await answers(400, 7001)(request, forward)
        return await forward()

    h.wire.plays("GET", "/items", act, times=None)


@pytest.mark.parametrize("manners", [refuses_stats, cannot_count, ignores_status, refuses_status])
async def test_a_service_without_lists_by_status_is_followed_by_its_pages(tmp_path: Path, manners: Any) -> None:
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror(retry_for=1)
        refs = filled(h, fixture, 200)
        h.clock.now += OLD_S
        done(h, refs[:150])
        await manners(h)
        assert (await looked(h, fixture)).total() <= 2 + 200 // 50 + 2 + STRAGGLERS
        assert statuses(fixture) == {"queued": 50, "completed": 150}


async def test_old_counts_are_not_believed(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        filled(h, fixture, 100)
        h.clock.now += OLD_S
        old = {"completed": 100, "queued": 0, "running": 0, "error": 0, "skipped": 0, "outdated": 0, "degraded": False}
        h.wire.plays("GET", "/stats", shows(lambda _, body: body.update(result=old)), times=None)
        await looked(h, fixture)
        assert statuses(fixture) == {"queued": 100}


async def test_lists_that_are_wrongly_empty_are_not_believed(tmp_path: Path) -> None:
    def hides(request: httpx.Request, body: Any) -> None:
        if "status" in request.url.params:
            body.update(result=[], result_info={"count": 0, "page": 1, "per_page": 50, "total_count": 0})

    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        filled(h, fixture, 100)
        h.clock.now += OLD_S
        h.wire.plays("GET", "/items", shows(hides), times=None)
        await looked(h, fixture)
        assert statuses(fixture) == {"queued": 100}


async def test_few_items_are_asked_for_on_the_newest_page_and_then_by_id(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        refs = filled(h, fixture, STRAGGLERS)
        strange(h, 30)
        h.clock.now += OLD_S
        assert await looked(h, fixture) == {"GET /items": 1}
        with_others = filled(h, h.add_mirror("you"), 60, start=500)
        assert await looked(h, fixture) == {"GET /items": 1, "GET ID": STRAGGLERS}
        done(h, refs + with_others)
        await looked(h, fixture)
        assert statuses(fixture) == {"completed": STRAGGLERS}
        more = filled(h, fixture, STRAGGLERS + 1, start=2_000)
        h.clock.now += OLD_S
        assert await looked(h, fixture) == {"GET /stats": 1, "GET /items": 1}
        done(h, more)
        assert await looked(h, fixture) == {"GET /stats": 1, "GET /items": 1, "GET ID": 2}
        assert statuses(fixture) == {"completed": 2 * STRAGGLERS + 1}


async def test_more_than_one_look_can_hold_take_turns_and_the_latest_are_always_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "POLLED", 60)
    monkeypatch.setattr(index, "NEWEST", 10)
    async with open_harness(tmp_path, index_delay=LONG) as h:
        fixture = h.add_mirror()
        asked: list[frozenset[str]] = []
        target = fixture.indexed
        statuses = target.statuses

        async def noting(refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Any:
            asked.append(refs)
            return await statuses(refs, fresh)

        target.statuses = noting  # type: ignore[method-assign]
        refs = filled(h, fixture, 60)
        h.clock.now += OLD_S
        await looked(h, fixture)
        assert asked.pop() == set(refs), "so many go at once"
        refs += filled(h, fixture, 61, start=60)
        h.clock.now += OLD_S
        for _ in range(3):
            await looked(h, fixture)
        assert all(len(each) <= 60 and set(refs[-10:]) <= each for each in asked)
        assert frozenset().union(*asked) == set(refs), "everybody had a turn"
