"""Passes over a KV namespace: first and idle passes, a lost journal, and passes within and after the lag."""

import asyncio
from itertools import product
from pathlib import Path

import httpx
import pytest

from syncd.core.errors import Brake, FileChanged
from syncd.local.walk import Tree
from syncd.sync.mirror import Hooks, PassOptions, Scope
from syncd.sync.reconcile import reconcile
from syncd.targets.kv import target, writing
from tests.harness import is_clean, reasons
from tests.unit.targets.harness_kv import Harness, MirrorFixture, keeps, open_harness
from tests.unit.targets.harness_mirrors import Forward


async def in_step(h: Harness, **files: str) -> MirrorFixture:
    fixture = h.add_mirror()
    for name, text in files.items():
        fixture.write(name, text)
    await fixture.full()
    h.wire.diary.clear()
    return fixture


@pytest.fixture
def small_bulks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a bulk request take ten keys. Some tests of test_kv_bulk_trouble.py make bulks of a thousand."""
    for module, name in product((writing, target), ("BULK_PAIRS", "BULK_DELETES")):
        monkeypatch.setattr(module, name, 10)


@pytest.mark.usefixtures("small_bulks")
@pytest.mark.parametrize(("files", "bulks"), [(1, 1), (9, 1), (10, 1), (11, 2)])
async def test_a_first_pass_takes_a_bulk_write_for_as_many_files_as_a_bulk_takes(
    tmp_path: Path, files: int, bulks: int
) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        for number in range(files):
            fixture.write(f"{number % 10}/{number}.txt", f"text {number}")
        result = await fixture.full()
        assert result.done["put"] == files
        assert h.changes() == [line for line in h.changes() if line.endswith("/bulk")]
        assert len(h.changes()) == fixture.changing == bulks == fixture.mirror.target.requests(files, 0)
        assert len(await h.rows()) == files


async def test_a_pass_with_nothing_to_do_asks_for_listings_only_and_reads_no_file(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, **{f"{number}.txt": "x" * number for number in range(1001)})
        for result in (await fixture.full(), await fixture.later()):
            assert result.tables.plan.counts.total() == 0
            assert result.unchanged == 1001
        assert {line.partition(" ")[0] for line in h.wire.diary} == {"GET"}
        assert h.wire.count("GET", "/keys") == len([line for line in h.wire.diary if "/keys" in line]) == 4
        assert not [line for line in h.wire.diary if "/values/" in line or "/metadata/" in line]


async def test_a_lost_journal_costs_no_upload(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a="one", b="two", empty="")
        fixture.lose_journal()
        result = await fixture.full()
        assert (result.done["adopt"], result.done["put"]) == (3, 0)
        assert h.changes() == []
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_an_orphan_of_ours_goes_without_a_journal_and_a_strangers_key_stays(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a="one", b="two")
        await h.put("theirs", "x")
        fixture.lose_journal()
        fixture.remove("b")
        result = await fixture.full()
        assert reasons(result) == {"found": 1, "orphan": 1}
        assert await h.contents() == {"a": b"one", "theirs": b"x"}


async def test_missing_entries_are_mended_after_the_lag_and_not_within_it(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a="one", b="two", c="three")
        await h.drop("b")
        for _ in range(3):
            result = await fixture.full()
            assert result.tables.plan.counts.total() == 0, "our recent writes outrank the listing"
        assert h.changes() == []
        result = await fixture.later()
        assert reasons(result) == {"missing": 1}
        assert len(h.changes()) == 1
        assert await h.contents() == {"a": b"one", "b": b"two", "c": b"three"}


async def test_a_listing_a_minute_behind_causes_no_second_upload_delete_or_resurrection(tmp_path: Path) -> None:
    async with open_harness(tmp_path, list_lag=60) as h:
        fixture = await in_step(h, a="one", b="two")
        await fixture.later()
        fixture.write("a", "one, edited")
        fixture.write("new", "three")
        fixture.remove("b")
        await fixture.full()
        assert len(h.changes()) == 2
        for _ in range(5):
            h.clock.now += 9
            assert (await fixture.full()).tables.plan.counts.total() == 0
        assert (await fixture.later()).tables.plan.counts.total() == 0
        assert len(h.changes()) == 2
        assert await h.contents() == {"a": b"one, edited", "new": b"three"}


async def test_a_file_that_comes_and_goes_within_the_lag_leaves_nothing(tmp_path: Path) -> None:
    async with open_harness(tmp_path, list_lag=60) as h:
        fixture = await in_step(h, keep="x")
        fixture.write("a", "one")
        await fixture.full()
        fixture.remove("a")
        assert (await fixture.full()).done["delete"] == 1
        fixture.write("a", "one")
        assert (await fixture.full()).done["put"] == 1
        fixture.remove("a")
        assert (await fixture.full()).done["delete"] == 1
        assert (await fixture.full()).tables.plan.counts.total() == 0
        assert (await fixture.later()).tables.plan.counts.total() == 0
        assert await h.value("a") is None
        assert len(h.changes()) == 4


async def test_a_file_that_is_back_at_once_is_sent_though_reads_still_show_the_deleted_entry(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a="one", b="two")
        marks = await h.marks("a")
        fixture.remove("a")
        await fixture.hint("a")
        assert await h.value("a") is None

        async def behind(request: httpx.Request, forward: Forward) -> httpx.Response:
            del request, forward
            return httpx.Response(200, json={"success": True, "errors": [], "messages": [], "result": marks})

        h.wire.plays("GET", "/metadata/a", behind, None)
        fixture.write("a", "one")
        result = await fixture.hint("a")
        assert result.done["put"] == 1, "the entry shown is the one we deleted"
        assert await h.value("a") == b"one"


async def test_a_crash_before_the_journal_knows_costs_an_adopt(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a="one")
        fixture.write("a", "two")
        other = fixture.mirror
        await fixture.full()
        with_row = other.journal.get("a")
        assert with_row is not None
        other.journal.forget("a")
        h.wire.diary.clear()
        assert (await fixture.later()).done["adopt"] == 1
        assert h.changes() == []


async def test_a_hint_sends_one_bulk_and_confirms_the_owner_of_each_key(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a="one", b="two")
        fixture.write("a", "edited")
        fixture.write("b", "edited")
        assert (await fixture.hint("a", "b")).done["put"] == 2
        assert [line.partition(" ")[0] for line in h.wire.diary] == ["GET", "GET", "PUT"]


@pytest.mark.usefixtures("small_bulks")
async def test_many_deletes_go_in_bulk(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        names = [f"{number}.txt" for number in range(15)]
        fixture = await in_step(h, keep="x", **dict.fromkeys(names, "x"))
        fixture.remove(*names)
        assert (await fixture.full()).done["delete"] == 15
        assert [line.rpartition("/")[2] for line in h.changes()] == ["delete", "delete"]
        assert fixture.mirror.target.requests(0, 15) == 2
        assert list(await h.rows()) == ["keep"]


async def test_the_brake_refuses_a_mass_delete_until_it_is_forced(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(max_delete="25%")
        names = [f"{number}.txt" for number in range(40)]
        for name in names:
            fixture.write(name, "x")
        await fixture.full()
        fixture.remove(*names[:20])
        fixture.write("new", "x")
        h.wire.diary.clear()
        with pytest.raises(Brake):
            await fixture.full()
        assert [line.rpartition("/")[2] for line in h.changes()] == ["bulk"], "uploads go on, nothing is deleted"
        assert len(await h.rows()) == 41
        await fixture.full(force=True)
        assert len(await h.rows()) == 21


async def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = await in_step(h, a="one", b="two")
        fixture.write("a", "edited")
        fixture.remove("b")
        result = await fixture.full(dry_run=True)
        assert result.tables.plan.counts.total() == 2
        assert h.changes() == []


async def test_a_file_that_changes_during_the_read_is_observed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a", "one")
        fixture.write("b", "two")
        read = Tree.read
        busy = ["a"]

        def changing(tree: Tree, path: str, *, allow_changing: bool = False) -> object:
            if path in busy:
                busy.remove(path)
                raise FileChanged("it changed while it was read")
            return read(tree, path, allow_changing=allow_changing)

        monkeypatch.setattr(Tree, "read", changing)
        result = await fixture.full()
        assert result.done["put"] == 1
        assert is_clean(result)
        assert fixture.problems() == {}
        assert await h.contents() == {"b": b"two"}
        assert [row.key for row in fixture.mirror.queue.every()] == ["a"]
        await fixture.hint("a")
        assert await h.contents() == {"a": b"one", "b": b"two"}


async def test_an_edit_storm_meets_no_write_limit_and_the_last_edit_wins(tmp_path: Path) -> None:
    async with open_harness(tmp_path, kv_write_limit=True) as h:
        fixture = await in_step(h, a="one", b="two")
        book: list[dict[str, bytes]] = []
        h.wire.plays("PUT", "/bulk", keeps(book), None)
        started = h.clock.now
        for number in range(10):
            fixture.write("a", f"edit {number}")
            assert (await fixture.hint("a", after=0.5)).done["put"] == 1
        assert [list(each) for each in book] == [["a"]] * 10, "each was taken at its first try"
        assert h.clock.now - started >= 9
        assert await h.value("a") == b"edit 9"


async def test_puts_that_yield_to_urgent_work_go_in_the_same_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BULK_PAIRS", 100)
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        for number in range(150):
            fixture.write(f"{number}.txt", f"text {number}")
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
            served.append(len(await h.rows()))

        h.wire.plays("PUT", "/bulk", waits_for_the_press)
        h.clock.now += 1
        result = await reconcile(fixture.mirror, Scope(), PassOptions(), Hooks(serve_pending, has_pending))
        assert result.done == {"put": 150}
        assert len(h.changes()) == 3
        assert 100 < served[0] < 150, "the files that were read are sent before the edit, and the others after it"
        assert len(await h.rows()) == 150
