"""The cheap audit against the stand-in: requests, other mirrors in the instance, and a remote that is behind."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.cloudflare.ai_search import PER_PAGE
from syncd.sync import index
from syncd.sync.audit import PAGES
from syncd.sync.once import Report, run
from syncd.sync.passes import PassOptions
from tests.unit.targets.harness_ai_search import Side, World, answers, shows, world

DAY_S = 86400.0
HOUR_S = 3600.0
FEW = PAGES * PER_PAGE
FILES = FEW + 50
PAGE_AND_NUMBERS = ["GET /items", "GET /stats"]


async def mirrored(w: World, files: int = FILES, **more: Any) -> Side:
    """A mirror with so many files in step, all indexed, a while ago."""
    side = w.side(audit_interval=DAY_S, **more)
    for number in range(files):
        side.write(f"{number}.md", f"text {number}", age_s=10)
    await side.full()
    w.clock.now += 2 * HOUR_S
    return side


async def asked(w: World, side: Side, *, audited: bool = True) -> list[str]:
    """What a full pass asks for."""
    w.wire.diary.clear()
    result = await side.full()
    assert result.audited == audited
    return w.wire.diary


async def test_a_pass_after_the_first_and_all_after_it_take_a_few_requests(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=10) as w:
        side = await mirrored(w)
        assert side.mirror.journal.index.index_counts() == {"queued": FILES}
        assert await asked(w, side) == ["GET /items"] * PAGES + ["GET /stats"]
        assert side.mirror.journal.index.index_counts() == {"completed": FILES}
        w.clock.now += HOUR_S
        assert await asked(w, side) == PAGE_AND_NUMBERS
        side.restart()
        assert await asked(w, side) == PAGE_AND_NUMBERS


@pytest.mark.parametrize(("files", "audited"), [(FEW - 1, False), (FEW, False), (FEW + 1, True)])
async def test_an_instance_that_a_few_pages_show_is_listed(tmp_path: Path, files: int, *, audited: bool) -> None:
    async with world(tmp_path) as w:
        side = await mirrored(w, files)
        assert len(await asked(w, side, audited=audited)) <= PAGES + 1


async def test_edits_and_deletes_need_no_listing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await mirrored(w)
        await side.full()
        side.write("0.md", "edited", age_s=5)
        side.write("new.md", "new", age_s=5)
        side.remove("1.md")
        lines = await asked(w, side)
        assert sorted(line.split()[0] for line in lines[2:]) == ["DELETE", "GET", "GET", "GET", "POST", "POST"]
        w.clock.now += 2 * HOUR_S
        assert await asked(w, side) == PAGE_AND_NUMBERS


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_hints_between_two_audits_are_accounted_for(tmp_path: Path, on_existing: str) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        side = await mirrored(w)
        side.write("0.md", "edited")
        side.write("new.md", "new")
        side.remove("1.md")
        await side.hint("0.md", "new.md", "1.md")
        w.clock.now += 2 * HOUR_S
        await asked(w, side)
        w.clock.now += 2 * HOUR_S
        assert await asked(w, side) == PAGE_AND_NUMBERS


async def gone(w: World) -> None:
    await w.delete("7.md")


async def gone_and_one_of_theirs_added(w: World) -> None:
    await w.delete("7.md")
    await w.upload("theirs.md", "text", owner="you")


async def replaced(w: World) -> None:
    await w.upload("7.md", "other text", owner="me", sha256="0" * 64)


async def replaced_without_a_mark(w: World) -> None:
    await w.upload("7.md", "other text")


async def deleted_and_made_anew(w: World) -> None:
    await w.delete("7.md")
    await w.upload("7.md", "other text", owner="me", sha256="0" * 64)


@pytest.mark.parametrize("deed", [replaced, replaced_without_a_mark, deleted_and_made_anew])
async def test_what_somebody_put_in_the_place_of_an_item_of_ours_is_noticed_and_theirs(
    tmp_path: Path, deed: Callable[[World], Awaitable[None]]
) -> None:
    async with world(tmp_path) as w:
        side = await mirrored(w)
        await side.full()
        w.clock.now += 2 * HOUR_S
        await deed(w)
        await asked(w, side, audited=False)
        assert (await w.contents())["7.md"] == "other text"
        assert side.problems() == {"7.md": "foreign"}


@pytest.mark.parametrize("deed", [gone, gone_and_one_of_theirs_added])
async def test_what_somebody_did_to_an_item_of_ours_is_mended(
    tmp_path: Path, deed: Callable[[World], Awaitable[None]]
) -> None:
    async with world(tmp_path) as w:
        side = await mirrored(w)
        await side.full()
        w.clock.now += 2 * HOUR_S
        await deed(w)
        await asked(w, side, audited=False)
        assert (await w.contents())["7.md"] == "text 7"


async def test_two_mirrors_in_one_instance_audit_past_each_other(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await mirrored(w, prefix="a/")
        await side.full()
        w.clock.now += 2 * HOUR_S
        other = w.side("other", prefix="b/")
        for number in range(20):
            other.write(f"{number}.md", f"their text {number}", age_s=10)
        await other.full()
        assert await asked(w, side) == PAGE_AND_NUMBERS
        w.clock.now += 2 * HOUR_S
        other.write("0.md", "their new text", age_s=5)
        await other.full()
        assert await asked(w, side) == PAGE_AND_NUMBERS
        other.remove("1.md")
        await other.full()
        await asked(w, side, audited=False)
        w.clock.now += 2 * HOUR_S
        assert await asked(w, side) == PAGE_AND_NUMBERS


async def test_items_of_other_sources_are_not_in_the_way(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await mirrored(w)

        def more(request: httpx.Request, body: Any) -> None:
            del request
            body["result"]["completed"] += 1000

        w.wire.plays("GET", "/stats", shows(more), times=None)
        await asked(w, side)


async def test_a_remote_that_does_not_show_our_last_write_is_listed(tmp_path: Path) -> None:
    async with world(tmp_path, list_lag=30) as w:
        side = await mirrored(w)
        await side.full()
        w.clock.now += 2 * HOUR_S
        side.write("new.md", "new")
        await side.hint("new.md")
        await asked(w, side, audited=False)
        w.clock.now += 60
        await side.full()
        w.clock.now += 2 * HOUR_S
        await asked(w, side)
        assert w.wire.count("POST") == 0


@pytest.mark.parametrize(
    "act", [answers(404, 7041), answers(400, 7999), shows(lambda _, body: body["result"].update(degraded=True))]
)
async def test_numbers_that_are_not_to_be_had_lead_to_a_listing(tmp_path: Path, act: Any) -> None:
    async with world(tmp_path) as w:
        side = await mirrored(w)
        w.wire.plays("GET", "/stats", act)
        await asked(w, side, audited=False)


async def test_a_total_that_is_not_told_leads_to_a_listing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await mirrored(w)
        w.wire.plays("GET", "/items", shows(lambda _, body: body["result_info"].pop("total_count")))
        await asked(w, side, audited=False)


async def test_newest_pages_that_shift_while_they_are_read_lead_to_a_listing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await mirrored(w)

        def one_more(request: httpx.Request, body: Any) -> None:
            body["result_info"]["total_count"] += request.url.params["page"] == "2"

        w.wire.plays("GET", "/items", shows(one_more), times=2)
        await asked(w, side, audited=False)


async def test_what_the_numbers_do_not_tell_of_the_index_is_asked_for_by_a_single_pass(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=10, fail_index="^7.md") as w:
        side = await mirrored(w)
        report = Report()
        await run(side.mirror, PassOptions(), lambda _: None, report)
        assert report.results[0].audited
        assert side.problems() == {"7.md": "index_error"}
        assert side.mirror.journal.index.unfinished() < report.results[0].unsettled
        w.clock.now += HOUR_S
        assert await asked(w, side) == PAGE_AND_NUMBERS
        assert side.problems() == {"7.md": "index_error"}


async def test_a_pass_that_looks_for_nothing_new_does_not_follow_its_own_puts(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=10) as w:
        side = await mirrored(w)
        await side.full()
        w.clock.now += 2 * HOUR_S
        side.write("new.md", "new", age_s=5)
        w.wire.diary.clear()
        await run(side.mirror, PassOptions(), lambda _: None, Report())
        assert [line.split()[0] for line in w.wire.diary] == ["GET", "GET", "GET", "POST"]
        assert await index.poll(side.mirror) == 1
