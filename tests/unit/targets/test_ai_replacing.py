"""Requests for files that are new, changed, or perhaps uploaded already."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from syncd.core.errors import Unreachable
from syncd.core.requests import current_priority
from syncd.state.deletions import log_path
from syncd.state.directory import directory_of
from syncd.sync.mirror import Hooks, PassOptions, Scope
from syncd.sync.reconcile import reconcile
from tests.unit.targets.harness_ai_search import answers, done_but_cut_off, done_but_says, only_for, open_harness, shows
from tests.unit.targets.harness_mirrors import Act, Forward


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_a_changed_file_replaces_its_item_whichever_way_the_remote_has(tmp_path: Path, on_existing: str) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        await fixture.full()
        fixture.write("a.md", "two, longer")
        result = await fixture.full()
        assert (result.done, fixture.problems()) == ({"put": 1}, {})
        assert await h.contents() == {"a.md": "two, longer"}
        [row] = await h.items()
        record = fixture.mirror.journal.get("a.md")
        assert record is not None
        assert record.ref == row["id"]
        log = log_path(directory_of(fixture.mirror.db))
        gone = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        assert [(line["key"], line["reason"]) for line in gone] == (
            [("a.md", "replaced")] * (on_existing == "conflict")
        )


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
async def test_a_changed_file_is_replaced_by_a_hint_too(tmp_path: Path, on_existing: str) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        await fixture.full()
        fixture.write("a.md", "two")
        await fixture.hint("a.md")
        assert await h.contents() == {"a.md": "two"}
        assert fixture.problems() == {}


async def test_a_conflict_with_the_same_content_is_adopted_without_another_upload(tmp_path: Path) -> None:
    async with open_harness(tmp_path, on_existing="conflict") as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        await fixture.full()
        before = await h.items()
        fixture.lose_journal()
        h.wire.plays(
            "GET", "/items", shows(lambda _, body: body.update(result=[], result_info={"total_count": 0})), times=1
        )
        h.wire.diary.clear()
        await fixture.full()
        assert (h.wire.count("POST"), h.wire.count("DELETE")) == (1, 0)
        assert await h.items() == before
        record = fixture.mirror.journal.get("a.md")
        assert record is not None
        assert record.ref == before[0]["id"]


async def test_a_key_that_still_conflicts_after_its_delete_is_tried_until_it_does_not(tmp_path: Path) -> None:
    async with open_harness(tmp_path, on_existing="conflict") as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        await fixture.full()
        fixture.write("a.md", "two")
        h.wire.plays("POST", "/items", answers(409, 7042), times=3)
        await fixture.full()
        assert await h.contents() == {"a.md": "two"}
        assert fixture.problems() == {}
        assert h.wire.count("DELETE") == 1


async def test_a_success_that_kept_the_old_content_is_noticed_and_made_good(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        await fixture.full()
        [old] = await h.items()

        async def keeps_the_old(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request, forward
            return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": old})

        fixture.write("a.md", "two, longer")
        h.wire.plays("POST", "/items", keeps_the_old)
        await fixture.full()
        assert await h.contents() == {"a.md": "two, longer"}
        assert fixture.problems() == {}


async def test_a_strangers_item_that_a_success_shows_unchanged_is_not_deleted(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "mine")
        item = await h.upload("a.md", "theirs, longer", owner="you", sha256="0" * 64)
        [theirs] = await h.items()

        async def keeps_theirs(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request, forward
            return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": theirs})

        h.wire.plays("GET", "/items", shows(lambda _, body: body["result"].clear()), times=1)
        h.wire.plays("POST", "/items", keeps_theirs, times=None)
        await fixture.full()
        assert await h.text(item) == "theirs, longer"
        assert fixture.problems() == {"a.md": "foreign"}
        assert h.wire.count("DELETE") == 0


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
@pytest.mark.parametrize(
    "act", [done_but_cut_off, done_but_says(500, 7001), done_but_says(503, 7017)], ids=["cut off", "500", "503"]
)
async def test_an_upload_that_may_have_arrived_is_looked_up_and_not_sent_twice(
    tmp_path: Path, on_existing: str, act: Act
) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        h.wire.plays("POST", "/items", act)
        result = await fixture.full()
        assert result.done == {"put": 1}
        assert h.wire.count("POST") == 1
        assert await h.contents() == {"a.md": "one"}
        fixture.write("a.md", "two")
        h.wire.plays("POST", "/items", act)
        await fixture.full()
        assert await h.contents() == {"a.md": "two"}
        # One upload met the old item, and one request finds that out: the lost answer may have been a conflict.
        assert h.wire.count("POST") <= (2 if on_existing == "overwrite" else 4)
        assert len(await h.items()) == 1


async def test_an_upload_that_was_lost_is_sent_again(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        h.wire.plays("POST", "/items", answers(500, 7009), times=2)
        await fixture.full()
        assert await h.contents() == {"a.md": "one"}
        assert fixture.problems() == {}


async def test_a_delete_whose_answer_was_lost_is_done(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        fixture.write("b.md", "one")
        await fixture.full()
        fixture.remove("a.md")
        [row] = await h.items(key="a.md")
        h.wire.plays("DELETE", row["id"], done_but_cut_off)
        result = await fixture.full()
        assert result.done == {"delete": 1}
        assert list(await h.contents()) == ["b.md"]


async def test_a_row_that_is_being_deleted_is_as_good_as_gone(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        fixture.write("b.md", "one")
        await fixture.full()
        fixture.remove("a.md")
        await fixture.full()
        ghost = {"id": "ghost", "key": "a.md", "source_id": "builtin", "next_action": "DELETE", "checksum": "0"}

        def haunt(request: httpx.Request, body: Any) -> None:
            if request.url.params.get("key") in (None, "a.md"):
                body["result"].append(ghost)
                body["result_info"]["total_count"] += 1

        h.wire.plays("GET", "/items", shows(haunt), times=None)
        fixture.lose_journal()
        h.wire.diary.clear()
        result = await fixture.full()
        assert result.done == {"adopt": 1}
        assert fixture.problems() == {}
        assert h.wire.count("GET", "/items") == 1


async def test_a_row_that_is_being_deleted_is_not_adopted_although_it_holds_the_same_content(tmp_path: Path) -> None:
    async with open_harness(tmp_path, on_existing="conflict") as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        await fixture.full()
        [old] = await h.items()
        fixture.lose_journal()

        def being_deleted(request: httpx.Request, body: Any) -> None:
            del request
            for row in body["result"]:
                row["next_action"] = "DELETE" if row["id"] == old["id"] else None

        async def until_it_is_gone(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request
            if h.wire.count("POST") == 4:
                await h.delete("a.md")
            return await forward()

        h.wire.plays("GET", "/items", shows(being_deleted), times=None)
        h.wire.plays("POST", "/items", until_it_is_gone, times=None)
        await fixture.full()
        [new] = await h.items()
        record = fixture.mirror.journal.get("a.md")
        assert record is not None
        assert record.ref == new["id"] != old["id"]


async def test_one_request_for_each_file_and_one_for_the_listing(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        for number in range(120):
            fixture.write(f"{number % 7}/{number}.md", f"text {number}")
        result = await fixture.full()
        assert result.done == {"put": 120}
        assert fixture.transport.counters.requests <= 120 * 1.05
        assert len(await h.items()) == 120
        before = fixture.transport.counters.requests
        await fixture.full()
        assert fixture.transport.counters.requests - before == 3


async def test_an_unreachable_remote_ends_the_pass_and_the_next_pass_does_the_rest(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")

        async def cut(request: httpx.Request, forward: Forward) -> httpx.Response:
            del forward
            raise httpx.ConnectError("refused", request=request)

        h.wire.plays("GET", "/items", cut, times=None)
        with pytest.raises(Unreachable, match="no request was answered for 30 s"):
            await fixture.full()
        h.wire.acts.clear()
        await fixture.full()
        assert await h.contents() == {"a.md": "one"}


async def test_a_file_refused_for_now_is_put_off_and_the_others_go_up(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(retry_for=2.0)
        for name in ("a.md", "b.md", "c.md"):
            fixture.write(name, name)
        h.wire.plays("POST", "/items", only_for(b'filename="b.md"', answers(503, 7017)), times=None)
        await fixture.full()
        assert list(await h.contents()) == ["a.md", "c.md"]
        assert fixture.problems() == {"b.md": "failed"}
        assert [row.key for row in fixture.mirror.queue.every()] == ["b.md"]
        h.wire.acts.clear()
        await fixture.full()
        assert list(await h.contents()) == ["a.md", "b.md", "c.md"]
        assert fixture.problems() == {}


async def test_an_upload_that_fails_after_its_item_was_deleted_is_made_good_by_the_next_pass(
    tmp_path: Path,
) -> None:
    async with open_harness(tmp_path, on_existing="conflict") as h:
        fixture = h.add_mirror(retry_for=1.0)
        fixture.write("a.md", "one")
        await fixture.full()
        fixture.write("a.md", "two")
        h.wire.plays("POST", "/items", answers(409, 7042))
        h.wire.plays("POST", "/items", answers(503, 7017), times=None)
        with suppress(Unreachable):
            await fixture.full()
        assert await h.items() == []
        h.wire.acts.clear()
        h.clock.now += 100
        await fixture.full()
        assert await h.contents() == {"a.md": "two"}
        assert fixture.problems() == {}


async def test_the_upload_into_the_place_of_a_deleted_item_leaves_no_reserve_to_edits(tmp_path: Path) -> None:
    async with open_harness(tmp_path, on_existing="conflict") as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "one")
        await fixture.full()
        fixture.write("a.md", "two")
        seen: list[tuple[str, bool]] = []

        async def notes(request: httpx.Request, forward: Forward) -> httpx.Response:
            seen.append((request.method, current_priority().bulk))
            return await forward()

        h.wire.plays("POST", "/items", notes, times=None)
        h.clock.now += 1
        await reconcile(fixture.mirror, Scope(), PassOptions(), Hooks(bulk=True))
        assert seen == [("POST", True), ("POST", False)]
        assert await h.contents() == {"a.md": "two"}
