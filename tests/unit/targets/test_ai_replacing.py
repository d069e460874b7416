"""What is sent when a file is new, changed, or may have arrived already."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.core.errors import Unreachable
from syncd.state.db import directory_of
from syncd.state.history import log_path
from tests.unit.targets.harness_ai_search import (
    Act,
    Forward,
    answers,
    done_but_cut_off,
    done_but_says,
    only_for,
    shows,
    world,
)


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_a_changed_file_replaces_its_item_whichever_way_the_remote_has(tmp_path: Path, on_existing: str) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        side = w.side()
        side.write("a.md", "one")
        await side.full()
        side.write("a.md", "two, longer")
        result = await side.full()
        assert (result.done, side.problems()) == ({"put": 1}, {})
        assert await w.contents() == {"a.md": "two, longer"}
        [row] = await w.items()
        record = side.mirror.journal.get("a.md")
        assert record is not None
        assert record.ref == row["id"]
        log = log_path(directory_of(side.mirror.db))
        gone = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        assert [(line["key"], line["reason"]) for line in gone] == (
            [("a.md", "replaced")] * (on_existing == "conflict")
        )


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_a_changed_file_is_replaced_by_a_hint_too(tmp_path: Path, on_existing: str) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        side = w.side()
        side.write("a.md", "one")
        await side.full()
        side.write("a.md", "two")
        await side.hint("a.md")
        assert await w.contents() == {"a.md": "two"}
        assert side.problems() == {}


async def test_a_conflict_with_the_same_content_is_adopted_without_another_upload(tmp_path: Path) -> None:
    async with world(tmp_path, on_existing="conflict") as w:
        side = w.side()
        side.write("a.md", "one")
        await side.full()
        before = await w.items()
        side.lose_journal()
        w.wire.plays(
            "GET", "/items", shows(lambda _, body: body.update(result=[], result_info={"total_count": 0})), times=1
        )
        w.wire.diary.clear()
        await side.full()
        assert (w.wire.count("POST"), w.wire.count("DELETE")) == (1, 0)
        assert await w.items() == before
        record = side.mirror.journal.get("a.md")
        assert record is not None
        assert record.ref == before[0]["id"]


async def test_a_key_that_still_conflicts_after_its_delete_is_tried_until_it_does_not(tmp_path: Path) -> None:
    async with world(tmp_path, on_existing="conflict") as w:
        side = w.side()
        side.write("a.md", "one")
        await side.full()
        side.write("a.md", "two")
        w.wire.plays("POST", "/items", answers(409, 7042), times=3)
        await side.full()
        assert await w.contents() == {"a.md": "two"}
        assert side.problems() == {}
        assert w.wire.count("DELETE") == 1


async def test_a_success_that_kept_the_old_content_is_noticed_and_made_good(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "one")
        await side.full()
        [old] = await w.items()

        async def keeps_the_old(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request, forward
            return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": old})

        side.write("a.md", "two, longer")
        w.wire.plays("POST", "/items", keeps_the_old)
        await side.full()
        assert await w.contents() == {"a.md": "two, longer"}
        assert side.problems() == {}


async def test_a_strangers_item_that_a_success_shows_unchanged_is_not_deleted(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "mine")
        item = await w.upload("a.md", "theirs, longer", owner="you", sha256="0" * 64)
        [theirs] = await w.items()

        async def keeps_theirs(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request, forward
            return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": theirs})

        w.wire.plays("GET", "/items", shows(lambda _, body: body["result"].clear()), times=1)
        w.wire.plays("POST", "/items", keeps_theirs, times=None)
        await side.full()
        assert await w.text(item) == "theirs, longer"
        assert side.problems() == {"a.md": "foreign"}
        assert w.wire.count("DELETE") == 0


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
@pytest.mark.parametrize(
    "act", [done_but_cut_off, done_but_says(500, 7001), done_but_says(503, 7017)], ids=["cut off", "500", "503"]
)
async def test_an_upload_that_may_have_arrived_is_looked_up_and_not_sent_twice(
    tmp_path: Path, on_existing: str, act: Act
) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        side = w.side()
        side.write("a.md", "one")
        w.wire.plays("POST", "/items", act)
        result = await side.full()
        assert result.done == {"put": 1}
        assert w.wire.count("POST") == 1
        assert await w.contents() == {"a.md": "one"}
        side.write("a.md", "two")
        w.wire.plays("POST", "/items", act)
        await side.full()
        assert await w.contents() == {"a.md": "two"}
        # One that met the old item and one to see so: the answer that was lost may have been a conflict.
        assert w.wire.count("POST") <= (2 if on_existing == "overwrite" else 4)
        assert len(await w.items()) == 1


async def test_an_upload_that_was_lost_is_sent_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "one")
        w.wire.plays("POST", "/items", answers(500, 7009), times=2)
        await side.full()
        assert await w.contents() == {"a.md": "one"}
        assert side.problems() == {}


async def test_a_delete_whose_answer_was_lost_is_done(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "one")
        side.write("b.md", "one")
        await side.full()
        side.remove("a.md")
        [row] = await w.items(key="a.md")
        w.wire.plays("DELETE", row["id"], done_but_cut_off)
        result = await side.full()
        assert result.done == {"delete": 1}
        assert list(await w.contents()) == ["b.md"]


async def test_a_row_that_is_being_deleted_is_as_good_as_gone(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "one")
        side.write("b.md", "one")
        await side.full()
        side.remove("a.md")
        await side.full()
        ghost = {"id": "ghost", "key": "a.md", "source_id": "builtin", "next_action": "DELETE", "checksum": "0"}

        def haunt(request: httpx.Request, body: Any) -> None:
            if request.url.params.get("key") in (None, "a.md"):
                body["result"].append(ghost)
                body["result_info"]["total_count"] += 1

        w.wire.plays("GET", "/items", shows(haunt), times=None)
        side.lose_journal()
        w.wire.diary.clear()
        result = await side.full()
        assert result.done == {"adopt": 1}
        assert side.problems() == {}
        assert w.wire.count("GET", "/items") == 1


async def test_a_row_that_is_being_deleted_is_not_adopted_although_it_holds_the_same_content(tmp_path: Path) -> None:
    async with world(tmp_path, on_existing="conflict") as w:
        side = w.side()
        side.write("a.md", "one")
        await side.full()
        [old] = await w.items()
        side.lose_journal()

        def being_deleted(request: httpx.Request, body: Any) -> None:
            del request
            for row in body["result"]:
                row["next_action"] = "DELETE" if row["id"] == old["id"] else None

        async def until_it_is_gone(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request
            if w.wire.count("POST") == 4:
                await w.delete("a.md")
            return await forward()

        w.wire.plays("GET", "/items", shows(being_deleted), times=None)
        w.wire.plays("POST", "/items", until_it_is_gone, times=None)
        await side.full()
        [new] = await w.items()
        record = side.mirror.journal.get("a.md")
        assert record is not None
        assert record.ref == new["id"] != old["id"]


async def test_one_request_for_each_file_and_one_for_the_listing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        for number in range(120):
            side.write(f"{number % 7}/{number}.md", f"text {number}")
        result = await side.full()
        assert result.done == {"put": 120}
        assert side.transport.counters.requests <= 120 * 1.05
        assert len(await w.items()) == 120
        before = side.transport.counters.requests
        await side.full()
        assert side.transport.counters.requests - before == 3


async def test_what_cannot_be_reached_ends_the_pass_and_is_kept_for_the_next(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "one")

        async def cut(request: httpx.Request, forward: Forward) -> httpx.Response:
            del forward
            raise httpx.ConnectError("refused", request=request)

        w.wire.plays("GET", "/items", cut, times=None)
        with pytest.raises(Unreachable, match="no request was answered for 30 s"):
            await side.full()
        w.wire.acts.clear()
        await side.full()
        assert await w.contents() == {"a.md": "one"}


async def test_a_file_refused_for_now_is_put_off_and_the_others_go_up(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(retry_for=2.0)
        for name in ("a.md", "b.md", "c.md"):
            side.write(name, name)
        w.wire.plays("POST", "/items", only_for(b'filename="b.md"', answers(503, 7017)), times=None)
        await side.full()
        assert list(await w.contents()) == ["a.md", "c.md"]
        assert side.problems() == {"b.md": "failed"}
        assert [row.key for row in side.mirror.queue.every()] == ["b.md"]
        w.wire.acts.clear()
        await side.full()
        assert list(await w.contents()) == ["a.md", "b.md", "c.md"]
        assert side.problems() == {}


async def test_an_upload_that_fails_after_its_item_was_deleted_is_made_good_by_the_next_pass(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, on_existing="conflict") as w:
        side = w.side(retry_for=1.0)
        side.write("a.md", "one")
        await side.full()
        side.write("a.md", "two")
        w.wire.plays("POST", "/items", answers(409, 7042))
        w.wire.plays("POST", "/items", answers(503, 7017), times=None)
        with suppress(Unreachable):
            await side.full()
        assert await w.items() == []
        w.wire.acts.clear()
        w.clock.now += 100
        await side.full()
        assert await w.contents() == {"a.md": "two"}
        assert side.problems() == {}
