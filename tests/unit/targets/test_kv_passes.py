"""What passes over a KV namespace cost, and where they end: first, idle, after a loss, within and after the lag."""

import asyncio
from pathlib import Path

import httpx
import pytest

from syncd.core.errors import Brake, FileChanged
from syncd.local.walk import Tree
from syncd.sync.passes import Hooks, PassOptions, Preemption, Scope
from syncd.sync.reconcile import reconcile
from tests.unit.targets.harness_ai_search import Forward
from tests.unit.targets.harness_kv import Side, World, keeps, world


async def in_step(w: World, **files: str) -> Side:
    side = w.side()
    for name, text in files.items():
        side.write(name, text)
    await side.full()
    w.wire.diary.clear()
    return side


@pytest.mark.parametrize(("files", "bulks"), [(1, 1), (999, 1), (1000, 1), (1001, 2), (2500, 3)])
async def test_a_first_pass_takes_a_bulk_write_for_every_thousand_files(tmp_path: Path, files: int, bulks: int) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        for number in range(files):
            side.write(f"{number % 10}/{number}.txt", f"text {number}")
        result = await side.full()
        assert result.done["put"] == files
        assert w.changes() == [line for line in w.changes() if line.endswith("/bulk")]
        assert len(w.changes()) == side.changing == bulks == side.mirror.target.requests(files, 0)
        assert len(await w.rows()) == files


async def test_a_pass_with_nothing_to_do_asks_for_listings_only_and_reads_no_file(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, **{f"{number}.txt": "x" * number for number in range(1200)})
        for result in (await side.full(), await side.later()):
            assert result.tables.plan.counts.total() == 0
            assert result.unchanged == 1200
        assert {line.partition(" ")[0] for line in w.wire.diary} == {"GET"}
        assert w.wire.count("GET", "/keys") == len([line for line in w.wire.diary if "/keys" in line]) == 4
        assert not [line for line in w.wire.diary if "/values/" in line or "/metadata/" in line]


async def test_a_lost_journal_costs_no_upload(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a="one", b="two", empty="")
        side.lose_journal()
        result = await side.full()
        assert (result.done["adopt"], result.done["put"]) == (3, 0)
        assert w.changes() == []
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_an_orphan_of_ours_goes_without_a_journal_and_a_strangers_key_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a="one", b="two")
        await w.put("theirs", "x")
        side.lose_journal()
        side.remove("b")
        result = await side.full()
        assert dict(result.reasons) == {"found": 1, "orphan": 1}
        assert await w.contents() == {"a": b"one", "theirs": b"x"}


async def test_missing_entries_are_mended_after_the_lag_and_not_within_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a="one", b="two", c="three")
        await w.drop("b")
        for _ in range(3):
            result = await side.full()
            assert result.tables.plan.counts.total() == 0, "what we wrote lately outranks what the remote shows"
        assert w.changes() == []
        result = await side.later()
        assert dict(result.reasons) == {"missing": 1}
        assert len(w.changes()) == 1
        assert await w.contents() == {"a": b"one", "b": b"two", "c": b"three"}


async def test_a_listing_a_minute_behind_causes_no_second_upload_delete_or_resurrection(tmp_path: Path) -> None:
    async with world(tmp_path, list_lag=60) as w:
        side = await in_step(w, a="one", b="two")
        await side.later()
        side.write("a", "one, edited")
        side.write("new", "three")
        side.remove("b")
        await side.full()
        assert len(w.changes()) == 2
        for _ in range(5):
            w.clock.now += 9
            assert (await side.full()).tables.plan.counts.total() == 0
        assert (await side.later()).tables.plan.counts.total() == 0
        assert len(w.changes()) == 2
        assert await w.contents() == {"a": b"one, edited", "new": b"three"}


async def test_a_file_that_comes_and_goes_within_the_lag_leaves_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, list_lag=60) as w:
        side = await in_step(w, keep="x")
        side.write("a", "one")
        await side.full()
        side.remove("a")
        assert (await side.full()).done["delete"] == 1
        side.write("a", "one")
        assert (await side.full()).done["put"] == 1
        side.remove("a")
        assert (await side.full()).done["delete"] == 1
        assert (await side.full()).tables.plan.counts.total() == 0
        assert (await side.later()).tables.plan.counts.total() == 0
        assert await w.value("a") is None
        assert len(w.changes()) == 4


async def test_a_file_that_is_back_at_once_is_sent_though_reads_still_show_the_deleted_entry(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a="one", b="two")
        marks = await w.marks("a")
        side.remove("a")
        await side.hint("a")
        assert await w.value("a") is None

        async def behind(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request, forward
            return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": marks})

        w.wire.plays("GET", "/metadata/a", behind, None)
        side.write("a", "one")
        result = await side.hint("a")
        assert result.done["put"] == 1, "the entry shown is the one we deleted"
        assert await w.value("a") == b"one"


async def test_a_crash_before_the_journal_knows_costs_an_adopt(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a="one")
        side.write("a", "two")
        other = side.mirror
        await side.full()
        with_row = other.journal.get("a")
        assert with_row is not None
        other.journal.forget("a")
        w.wire.diary.clear()
        assert (await side.later()).done["adopt"] == 1
        assert w.changes() == []


async def test_a_hint_sends_one_bulk_and_asks_whose_each_key_still_is(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a="one", b="two")
        side.write("a", "edited")
        side.write("b", "edited")
        assert (await side.hint("a", "b")).done["put"] == 2
        assert [line.partition(" ")[0] for line in w.wire.diary] == ["GET", "GET", "PUT"]


async def test_many_deletes_go_in_bulk(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        names = [f"{number}.txt" for number in range(1500)]
        side = await in_step(w, keep="x", **dict.fromkeys(names, "x"))
        side.remove(*names)
        assert (await side.full()).done["delete"] == 1500
        assert [line.rpartition("/")[2] for line in w.changes()] == ["delete", "delete"]
        assert side.mirror.target.requests(0, 1500) == 2
        assert list(await w.rows()) == ["keep"]


async def test_the_brake_refuses_a_mass_delete_until_it_is_forced(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(max_delete="25%")
        names = [f"{number}.txt" for number in range(40)]
        for name in names:
            side.write(name, "x")
        await side.full()
        side.remove(*names[:20])
        side.write("new", "x")
        w.wire.diary.clear()
        with pytest.raises(Brake):
            await side.full()
        assert [line.rpartition("/")[2] for line in w.changes()] == ["bulk"], "uploads go on, nothing is deleted"
        assert len(await w.rows()) == 41
        await side.full(force=True)
        assert len(await w.rows()) == 21


async def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = await in_step(w, a="one", b="two")
        side.write("a", "edited")
        side.remove("b")
        result = await side.full(dry_run=True)
        assert result.tables.plan.counts.total() == 2
        assert w.changes() == []


async def test_a_file_that_changes_during_the_read_is_observed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a", "one")
        side.write("b", "two")
        read = Tree.read
        busy = ["a"]

        def changing(tree: Tree, path: str, *, allow_changing: bool = False) -> object:
            if path in busy:
                busy.remove(path)
                raise FileChanged("it changed while it was read")
            return read(tree, path, allow_changing=allow_changing)

        monkeypatch.setattr(Tree, "read", changing)
        result = await side.full()
        assert result.done["put"] == 1
        assert result.clean
        assert side.problems() == {}
        assert await w.contents() == {"b": b"two"}
        assert [row.key for row in side.mirror.queue.every()] == ["a"]
        await side.hint("a")
        assert await w.contents() == {"a": b"one", "b": b"two"}


async def test_an_edit_storm_meets_no_write_limit_and_the_last_edit_wins(tmp_path: Path) -> None:
    async with world(tmp_path, kv_write_limit=True) as w:
        side = await in_step(w, a="one", b="two")
        book: list[dict[str, bytes]] = []
        w.wire.plays("PUT", "/bulk", keeps(book), None)
        started = w.clock.now
        for number in range(10):
            side.write("a", f"edit {number}")
            assert (await side.hint("a", after=0.5)).done["put"] == 1
        assert [list(each) for each in book] == [["a"]] * 10, "each was taken at its first try"
        assert w.clock.now - started >= 9
        assert await w.value("a") == b"edit 9"


async def test_what_steps_back_while_a_body_is_on_its_way_goes_up_in_the_same_pass(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        for number in range(1500):
            side.write(f"{number}.txt", f"text {number}")
        under_way, pressed = False, asyncio.Event()
        served: list[int] = []

        async def waits_for_the_press(request: httpx.Request, forward: Forward) -> httpx.Response:
            nonlocal under_way
            del request
            under_way = True
            await pressed.wait()
            return await forward()

        def has_pending() -> bool:
            if under_way and not served:
                pressed.set()
            return under_way and not served

        async def serve_pending() -> None:
            served.append(len(await w.rows()))

        w.wire.plays("PUT", "/bulk", waits_for_the_press)
        w.clock.now += 1
        result = await reconcile(side.mirror, Scope(), PassOptions(), Hooks(Preemption(serve_pending, has_pending)))
        assert result.done == {"put": 1500}
        assert len(w.changes()) == 3
        assert 1000 < served[0] < 1500, "what was read before is sent before, and the rest after"
        assert len(await w.rows()) == 1500
