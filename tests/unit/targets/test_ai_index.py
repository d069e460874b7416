"""From uploaded to searchable."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.sync import index
from tests.unit.targets.harness_ai_search import Side, shows, world


def statuses(side: Side) -> dict[str, int]:
    return side.mirror.journal.index.index_counts()


async def test_the_way_into_the_index_is_followed_to_its_end(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=10) as w:
        side = w.side()
        for number in range(60):
            side.write(f"{number}.md", f"text {number}")
        await side.full()
        assert statuses(side) == {"queued": 60}
        w.wire.diary.clear()
        assert await index.poll(side.mirror) == 60
        w.clock.now += 6
        assert await index.poll(side.mirror) == 60
        assert statuses(side) == {"running": 60}
        w.clock.now += 5
        assert await index.poll(side.mirror) == 0
        assert statuses(side) == {"completed": 60}
        assert w.wire.diary == ["GET /items"] * 6
        assert await index.poll(side.mirror) == 0
        assert len(w.wire.diary) == 6


async def test_a_full_pass_learns_the_status_from_its_listing(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=10) as w:
        side = w.side()
        side.write("a.md", "text")
        await side.full()
        w.clock.now += 20
        await side.full()
        assert statuses(side) == {"completed": 1}
        assert w.wire.count("GET") == 2


async def test_what_could_not_be_indexed_is_a_problem_and_not_sent_again(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=1, fail_index="bad") as w:
        side = w.side()
        side.write("bad.md", "text")
        side.write("headings only.md", "# one\n")
        side.write("good.md", "text")
        await side.full()
        w.clock.now += 2
        assert await index.poll(side.mirror) == 0
        assert side.problems() == {"bad.md": "index_error", "headings only.md": "index_error"}
        messages = [problem.message for problem in side.mirror.journal.problems.all()]
        assert "unable_to_convert_to_markdown" in messages[0]
        assert "file_content_empty" in messages[1]
        assert "the service says" not in messages[0]
        w.wire.diary.clear()
        await index.fetch_reasons(side.mirror)
        assert [line.rpartition("/")[2] for line in w.wire.diary] == ["logs", "logs"]
        messages = [problem.message for problem in side.mirror.journal.problems.all()]
        assert "the service says: The converter returned no result for this file; save it in" in messages[0]
        assert "the service says: No text was found in the file; add text" in messages[1]
        changing = side.changing
        result = await side.full()
        assert not result.clean
        assert side.problems() == {"bad.md": "index_error", "headings only.md": "index_error"}
        assert side.changing == changing
        side.write("headings only.md", "# one\n\nand text\n")
        await side.hint("headings only.md")
        w.clock.now += 2
        await side.full()
        assert side.problems() == {"bad.md": "index_error"}


async def test_a_listing_shows_an_index_error_that_nobody_looked_for(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=1, fail_index="bad") as w:
        side = w.side()
        side.write("bad.md", "text")
        await side.full()
        w.clock.now += 2
        await side.full()
        assert side.problems() == {"bad.md": "index_error"}
        side.lose_journal()
        await side.full()
        await side.full()
        assert side.problems() == {"bad.md": "index_error"}


async def test_a_failed_index_is_asked_for_again_without_an_upload(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=1, fail_index="bad") as w:
        side = w.side()
        for name in ("bad.md", "bad too.md", "good.md"):
            side.write(name, "text")
        await side.full()
        w.clock.now += 2
        await index.poll(side.mirror)
        w.wire.diary.clear()
        assert side.mirror.journal.reindexing.request(["bad.md", "good.md"].__contains__) == 1
        assert await index.reindex_due(side.mirror) == 1
        [row] = await w.items(key="bad.md")
        assert w.wire.diary == [f"PATCH /items/{row['id']}"]
        assert side.problems() == {"bad too.md": "index_error"}
        assert statuses(side) == {"queued": 1, "error": 1, "completed": 1}
        w.clock.now += 2
        assert await index.poll(side.mirror) == 0
        assert "bad.md" in side.problems()


async def test_an_item_that_is_gone_when_it_is_to_be_indexed_again_is_put_by_the_next_pass(tmp_path: Path) -> None:
    async with world(tmp_path, fail_index="bad") as w:
        side = w.side()
        side.write("bad.md", "text")
        await side.full()
        await index.poll(side.mirror)
        await w.delete("bad.md")
        side.mirror.journal.reindexing.request(None)
        assert await index.reindex_due(side.mirror) == 1
        result = await side.full()
        assert result.reasons == {"new": 1}
        assert len(await w.items()) == 1


async def test_an_item_that_is_gone_is_not_waited_for_and_is_put_again(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=100) as w:
        side = w.side()
        side.write("a.md", "text")
        await side.full()
        await w.delete("a.md")
        assert await index.poll(side.mirror) == 0
        assert w.wire.diary[-1].startswith("GET /items/")
        [row] = side.mirror.queue.every()
        assert row.key == "a.md"
        await side.hint("a.md")
        assert len(await w.items()) == 1


async def test_an_item_put_anew_by_somebody_is_indexed_again_by_its_key(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=1, fail_index="bad") as w:
        side = w.side()
        side.write("bad.md", "text")
        await side.full()
        w.clock.now += 2
        await index.poll(side.mirror)
        await w.delete("bad.md")
        await w.upload("bad.md", b"text")
        side.mirror.journal.reindexing.request(None)
        w.wire.diary.clear()
        assert await index.reindex_due(side.mirror) == 1
        assert [line.partition(" ")[0] for line in w.wire.diary] == ["PATCH", "PUT"]


async def test_a_look_does_not_read_the_whole_listing_for_a_few_fresh_items(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=10) as w:
        side = w.side()
        for number in range(200):
            side.write(f"{number}.md", f"text {number}")
        await side.full()
        w.clock.now += 20
        await index.poll(side.mirror)
        side.write("fresh.md", "text")
        await side.hint("fresh.md")
        w.wire.diary.clear()
        await index.poll(side.mirror)
        assert w.wire.diary == ["GET /items"]


async def test_stragglers_that_the_newest_pages_do_not_show_are_asked_for_by_id(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=10) as w:
        side = w.side()
        for number in range(12):
            side.write(f"{number}.md", f"text {number}")
        await side.full()
        w.clock.now += 20

        def hides_ours(request: httpx.Request, body: Any) -> None:
            body["result"] = []
            del request

        w.wire.plays("GET", "/items", shows(hides_ours), times=None)
        w.wire.diary.clear()
        assert await index.poll(side.mirror) == 2
        assert len(w.wire.diary) == 11
        assert await index.poll(side.mirror) == 0


async def hits(side: Side, query: str) -> list[str]:
    return [hit.key for hit in await side.searchable.search(query, 5)]


async def test_what_is_indexed_is_found_under_its_key(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=1) as w:
        side = w.side(prefix="p/")
        side.write("zebra.md", "a zebra crossing")
        side.write("horse.md", "a horse")
        await side.full()
        w.clock.now += 2
        assert await hits(side, "zebra") == ["p/zebra.md"]
        side.write("zebra.md", "a pedestrian crossing")
        await side.full()
        w.clock.now += 2
        assert await hits(side, "zebra") == []
        assert await hits(side, "pedestrian") == ["p/zebra.md"]


def told(*lines: dict[str, Any]) -> Any:
    """An item's log of these lines."""
    return shows(lambda _, body: body.update(result=list(lines)))


@pytest.mark.parametrize("newest_first", [True, False])
async def test_the_reason_is_that_of_the_latest_failure_whichever_end_of_the_log_it_stands_at(
    tmp_path: Path, newest_first: bool
) -> None:
    lines = [
        {"action": "queued", "timestamp": "2026-11-22T10:00:03Z", "message": "Waiting"},
        {
            "action": "error",
            "timestamp": "2026-11-22T10:00:02Z",
            "message": " two\n w ",
            "errorType": "invalid_pdf",
        },
        {"action": "error", "timestamp": "2026-11-22T10:00:01Z", "message": "one", "errorType": "timeout_error"},
    ]
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "text")
        await side.full()
        [row] = await w.items()
        w.wire.plays("GET", "/logs", told(*(lines if newest_first else lines[::-1])))
        assert await side.indexed.why(row["id"]) == "two w"


@pytest.mark.parametrize(("length", "kept"), [(299, 299), (300, 300), (301, 300)])
async def test_a_reason_is_kept_up_to_a_length(tmp_path: Path, length: int, kept: int) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        ref = await w.upload("a.md", "text")
        w.wire.plays("GET", "/logs", told({"action": "error", "message": "x" * length}))
        assert await side.indexed.why(ref) == "x" * kept


async def test_what_the_index_leaves_out_is_a_problem_until_it_is_indexed(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=1, skip_index="odd") as w:
        side = w.side()
        side.write("odd.md", "x")
        side.write("good.md", "y")
        await side.full()
        w.clock.now += 5
        for options in ({}, {"full": True}, {}):
            assert not (await side.full(**options)).clean
            assert side.problems() == {"odd.md": "skipped"}
        assert (side.mirror.journal.stored(), side.mirror.journal.in_step()) == (2, 1), "odd.md cannot be found"
        side.lose_journal()
        await side.full()
        assert side.problems() == {"odd.md": "skipped"}
        side.remove("odd.md")
        await side.full()
        assert side.problems() == {}
