"""Index status of items, from upload to search."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.sync import index
from tests.harness import is_clean, reasons
from tests.unit.targets.harness_ai_search import MirrorFixture, open_harness, shows


def statuses(fixture: MirrorFixture) -> dict[str, int]:
    return fixture.mirror.journal.index.index_counts()


async def test_the_way_into_the_index_is_followed_to_its_end(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=10) as h:
        fixture = h.add_mirror()
        for number in range(60):
            fixture.write(f"{number}.md", f"text {number}")
        await fixture.full()
        assert statuses(fixture) == {"queued": 60}
        h.wire.diary.clear()
        assert await index.poll(fixture.mirror) == 60
        h.clock.now += 6
        assert await index.poll(fixture.mirror) == 60
        assert statuses(fixture) == {"running": 60}
        h.clock.now += 5
        assert await index.poll(fixture.mirror) == 0
        assert statuses(fixture) == {"completed": 60}
        assert h.wire.diary == ["GET /items"] * 6
        assert await index.poll(fixture.mirror) == 0
        assert len(h.wire.diary) == 6


async def test_a_full_pass_learns_the_status_from_its_listing(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=10) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "text")
        await fixture.full()
        h.clock.now += 20
        await fixture.full()
        assert statuses(fixture) == {"completed": 1}
        assert h.wire.count("GET") == 2


async def test_an_item_that_cannot_be_indexed_is_a_problem_and_not_sent_again(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=1, fail_index="bad") as h:
        fixture = h.add_mirror()
        fixture.write("bad.md", "text")
        fixture.write("headings only.md", "# one\n")
        fixture.write("good.md", "text")
        await fixture.full()
        h.clock.now += 2
        assert await index.poll(fixture.mirror) == 0
        assert fixture.problems() == {"bad.md": "index_error", "headings only.md": "index_error"}
        messages = [problem.message for problem in fixture.mirror.journal.problems.all()]
        assert "unable_to_convert_to_markdown" in messages[0]
        assert "file_content_empty" in messages[1]
        assert "the service says" not in messages[0]
        h.wire.diary.clear()
        await index.fetch_reasons(fixture.mirror)
        assert [line.rpartition("/")[2] for line in h.wire.diary] == ["logs", "logs"]
        messages = [problem.message for problem in fixture.mirror.journal.problems.all()]
        assert "the service says: Indexing failed: unable_to_convert_to_markdown; save it in" in messages[0]
        assert "the service says: Indexing failed: file_content_empty; add text" in messages[1]
        changing = fixture.changing
        result = await fixture.full()
        assert not is_clean(result)
        assert fixture.problems() == {"bad.md": "index_error", "headings only.md": "index_error"}
        assert fixture.changing == changing
        fixture.write("headings only.md", "# one\n\nand text\n")
        await fixture.hint("headings only.md")
        h.clock.now += 2
        await fixture.full()
        assert fixture.problems() == {"bad.md": "index_error"}


async def test_a_listing_shows_an_unknown_index_error(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=1, fail_index="bad") as h:
        fixture = h.add_mirror()
        fixture.write("bad.md", "text")
        await fixture.full()
        h.clock.now += 2
        await fixture.full()
        assert fixture.problems() == {"bad.md": "index_error"}
        fixture.lose_journal()
        await fixture.full()
        await fixture.full()
        assert fixture.problems() == {"bad.md": "index_error"}


async def test_a_failed_index_is_asked_for_again_without_an_upload(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=1, fail_index="bad") as h:
        fixture = h.add_mirror()
        for name in ("bad.md", "bad too.md", "good.md"):
            fixture.write(name, "text")
        await fixture.full()
        h.clock.now += 2
        await index.poll(fixture.mirror)
        h.wire.diary.clear()
        assert fixture.mirror.journal.reindexing.request(["bad.md", "good.md"].__contains__) == 1
        await index.reindex_due(fixture.mirror)
        [row] = await h.items(key="bad.md")
        assert h.wire.diary == [f"PATCH /items/{row['id']}"]
        assert fixture.problems() == {"bad too.md": "index_error"}
        assert statuses(fixture) == {"queued": 1, "error": 1, "completed": 1}
        h.clock.now += 2
        assert await index.poll(fixture.mirror) == 0
        assert "bad.md" in fixture.problems()


async def test_an_item_that_is_gone_when_it_is_to_be_indexed_again_is_put_by_the_next_pass(tmp_path: Path) -> None:
    async with open_harness(tmp_path, fail_index="bad") as h:
        fixture = h.add_mirror()
        fixture.write("bad.md", "text")
        await fixture.full()
        await index.poll(fixture.mirror)
        await h.delete("bad.md")
        fixture.mirror.journal.reindexing.request(None)
        await index.reindex_due(fixture.mirror)
        result = await fixture.full()
        assert reasons(result) == {"new": 1}
        assert len(await h.items()) == 1


async def test_an_item_that_is_gone_is_not_waited_for_and_is_put_again(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=100) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "text")
        await fixture.full()
        await h.delete("a.md")
        assert await index.poll(fixture.mirror) == 0
        assert h.wire.diary[-1].startswith("GET /items/")
        [row] = fixture.mirror.queue.every()
        assert row.key == "a.md"
        await fixture.hint("a.md")
        assert len(await h.items()) == 1


async def test_an_item_put_anew_by_somebody_is_indexed_again_by_its_key(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=1, fail_index="bad") as h:
        fixture = h.add_mirror()
        fixture.write("bad.md", "text")
        await fixture.full()
        h.clock.now += 2
        await index.poll(fixture.mirror)
        await h.delete("bad.md")
        await h.upload("bad.md", b"text")
        fixture.mirror.journal.reindexing.request(None)
        h.wire.diary.clear()
        await index.reindex_due(fixture.mirror)
        assert [line.partition(" ")[0] for line in h.wire.diary] == ["PATCH", "PUT"]


async def test_a_look_does_not_read_the_whole_listing_for_a_few_fresh_items(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=10) as h:
        fixture = h.add_mirror()
        for number in range(200):
            fixture.write(f"{number}.md", f"text {number}")
        await fixture.full()
        h.clock.now += 20
        await index.poll(fixture.mirror)
        fixture.write("fresh.md", "text")
        await fixture.hint("fresh.md")
        h.wire.diary.clear()
        await index.poll(fixture.mirror)
        assert h.wire.diary == ["GET /items"]


async def test_stragglers_that_the_newest_pages_do_not_show_are_asked_for_by_id(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=10) as h:
        fixture = h.add_mirror()
        for number in range(12):
            fixture.write(f"{number}.md", f"text {number}")
        await fixture.full()
        h.clock.now += 20

        def hides_ours(request: httpx.Request, body: Any) -> None:
            body["result"] = []
            del request

        h.wire.plays("GET", "/items", shows(hides_ours), times=None)
        h.wire.diary.clear()
        assert await index.poll(fixture.mirror) == 2
        assert len(h.wire.diary) == 11
        assert await index.poll(fixture.mirror) == 0


async def hits(fixture: MirrorFixture, query: str) -> list[str]:
    return [hit.key for hit in await fixture.searchable.search(query, 5)]


async def test_an_indexed_file_is_found_under_its_key(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=1) as h:
        fixture = h.add_mirror(prefix="p/")
        fixture.write("zebra.md", "a zebra crossing")
        fixture.write("horse.md", "a horse")
        await fixture.full()
        h.clock.now += 2
        assert await hits(fixture, "zebra") == ["p/zebra.md"]
        fixture.write("zebra.md", "a pedestrian crossing")
        await fixture.full()
        h.clock.now += 2
        assert await hits(fixture, "zebra") == []
        assert await hits(fixture, "pedestrian") == ["p/zebra.md"]


def log_of(*lines: dict[str, Any]) -> Any:
    """Answer with an item's log of these lines."""
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
            "message": " two\n h ",
            "errorType": "invalid_pdf",
        },
        {"action": "error", "timestamp": "2026-11-22T10:00:01Z", "message": "one", "errorType": "timeout_error"},
    ]
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "text")
        await fixture.full()
        [row] = await h.items()
        h.wire.plays("GET", "/logs", log_of(*(lines if newest_first else lines[::-1])))
        assert await fixture.indexed.why(row["id"]) == "two h"


@pytest.mark.parametrize(("length", "kept"), [(299, 299), (300, 300), (301, 300)])
async def test_a_reason_is_kept_up_to_a_length(tmp_path: Path, length: int, kept: int) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        ref = await h.upload("a.md", "text")
        h.wire.plays("GET", "/logs", log_of({"action": "error", "message": "x" * length}))
        assert await fixture.indexed.why(ref) == "x" * kept


async def test_a_skipped_item_is_a_problem_until_it_is_indexed(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=1, skip_index="odd") as h:
        fixture = h.add_mirror()
        fixture.write("odd.md", "x")
        fixture.write("good.md", "y")
        await fixture.full()
        h.clock.now += 5
        for options in ({}, {"full": True}, {}):
            assert not is_clean(await fixture.full(**options))
            assert fixture.problems() == {"odd.md": "skipped"}
        assert (fixture.mirror.journal.stored(), fixture.mirror.journal.in_step()) == (2, 1), "odd.md cannot be found"
        fixture.lose_journal()
        await fixture.full()
        assert fixture.problems() == {"odd.md": "skipped"}
        fixture.remove("odd.md")
        await fixture.full()
        assert fixture.problems() == {}
