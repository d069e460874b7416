"""A rename leaves no hole in the search: what is deleted waits until what takes its place is searchable."""

from pathlib import Path

import pytest

from syncd.core.errors import Unreachable
from syncd.state.pass_tables import PassTables
from syncd.sync import index, once, replacements
from syncd.sync.mirror import Mirror
from syncd.sync.observe import ScopeTooLarge
from syncd.sync.passes import PassOptions, Scope
from syncd.sync.reconcile import reconcile
from syncd.sync.replacements import PATIENCE_S
from tests.unit.targets.harness_ai_search import INSTANCES, Side, World, answers, world

DELAY_S = 10.0


async def found(w: World, word: str) -> set[str]:
    """Keys of the items that a search for the word finds."""
    answer = await w.stranger.post(f"{INSTANCES}/docs/search", json={"query": word})
    return {chunk["item"]["key"] for chunk in answer.raise_for_status().json()["result"]["chunks"]}


async def serve(w: World, side: Side, after_s: float, **options: bool) -> dict[str, int]:
    """Time passes, the index is looked at, what is due is served. Return what was carried out."""
    w.clock.now += after_s
    await index.poll(side.mirror)
    rows = side.mirror.queue.settled(w.clock.now)
    result = await reconcile(side.mirror, Scope(rows), PassOptions(**options))
    return {kind: count for kind, count in result.done.items() if count}


async def searchable(w: World, side: Side, **files: str) -> None:
    """The mirror at rest, with these files in the index."""
    for name, text in files.items():
        side.write(f"{name}.md", text)
    await side.full()
    await serve(w, side, 2 * DELAY_S)
    assert side.mirror.journal.index.unfinished() == 0


def rename(side: Side, old: str, new: str) -> None:
    (side.root / new).parent.mkdir(parents=True, exist_ok=True)
    (side.root / old).rename(side.root / new)


def keys(side: Side) -> list[str]:
    return sorted(side.mirror.journal.keys())


async def test_a_renamed_file_is_found_all_the_time(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="the word is quagga")
        rename(side, "old.md", "new.md")
        first = await side.full()
        assert (first.done["put"], first.done["delete"], first.waiting) == (1, 0, 1)
        assert first.tables.plan.counts["delete"] == 0
        for _ in range(3):
            assert await found(w, "quagga") == {"old.md"}
            assert await serve(w, side, DELAY_S / 4) == {}
        assert await serve(w, side, DELAY_S / 2) == {"delete": 1}
        assert await found(w, "quagga") == {"new.md"}
        assert side.mirror.queue.every() == []


async def test_a_hint_of_a_rename_waits_without_a_request(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="quagga")
        rename(side, "old.md", "new.md")
        assert (await side.hint("old.md", "new.md")).waiting == 1
        w.wire.diary.clear()
        w.clock.now += 1
        again = await reconcile(side.mirror, Scope(side.mirror.queue.settled(w.clock.now)))
        assert (again.waiting, w.wire.diary) == (1, [])


async def test_a_file_renamed_twice_waits_for_its_last_name(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, a="quagga")
        rename(side, "a.md", "b.md")
        await side.full()
        rename(side, "b.md", "c.md")
        await side.full()
        assert await found(w, "quagga") == {"a.md"}
        assert keys(side) == ["a.md", "b.md", "c.md"]
        await serve(w, side, DELAY_S)
        assert await found(w, "quagga") == {"c.md"}
        assert keys(side) == ["c.md"]


async def test_copies_that_are_deleted_together_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, stays="okapi")
        for name in ("a.md", "b.md", "c.md"):
            side.write(name, "quagga")
        await side.full()
        side.remove("a.md", "b.md", "c.md")
        result = await side.full()
        assert (result.done["delete"], result.waiting) == (3, 0)


async def test_a_delete_of_content_that_is_nowhere_else_waits_for_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="quagga", stays="okapi")
        side.remove("old.md")
        side.write("new.md", "zebra")
        assert (await side.full()).done["delete"] == 1


async def test_an_edit_under_the_new_name_ends_the_wait(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="quagga")
        rename(side, "old.md", "new.md")
        await side.full()
        side.write("new.md", "zebra")
        assert (await side.hint("new.md")).done["put"] == 1
        await serve(w, side, 1)
        assert keys(side) == ["new.md"]


async def test_a_file_that_comes_back_while_its_delete_waits_stays(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="quagga")
        rename(side, "old.md", "new.md")
        await side.full()
        side.write("old.md", "quagga")
        assert (await side.hint("old.md")).tables.plan.counts.total() == 0
        await serve(w, side, 2 * DELAY_S)
        assert await found(w, "quagga") == {"old.md", "new.md"}
        assert side.mirror.queue.every() == []


async def test_a_file_that_comes_back_does_not_count_as_changing(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=1000) as w:
        side = w.side()
        side.write("old.md", "quagga")
        await side.full()
        rename(side, "old.md", "new.md")
        await side.full()
        for _ in range(4):
            await serve(w, side, 30)
        [row] = side.mirror.queue.every()
        w.clock.now += 29
        assert not side.mirror.settle_expired(row.key)
        side.mirror.queue.mark([(row.key, False)], w.clock.now)
        due = side.mirror.queue.next_due(w.clock.now)
        assert due == pytest.approx(side.mirror.settings.settle)


@pytest.mark.parametrize("lost", [False, True])
async def test_a_wait_goes_on_after_a_restart(tmp_path: Path, lost: bool) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="quagga")
        rename(side, "old.md", "new.md")
        await side.full()
        if lost:
            side.lose_journal()
        else:
            side.restart()
        assert (await side.full()).waiting == 1
        assert await found(w, "quagga") == {"old.md"}
        await serve(w, side, DELAY_S)
        assert await found(w, "quagga") == {"new.md"}


async def test_a_forced_delete_waits_all_the_same_and_stays_forced(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, **{f"old{number}": f"quagga {number}" for number in range(12)})
        for number in range(12):
            rename(side, f"old{number}.md", f"new/{number}.md")
        assert (await side.full(force=True)).waiting == 12
        assert await serve(w, side, DELAY_S, force=True) == {"delete": 12}
        assert side.mirror.journal.tombstones.recent_deletes(w.clock.now) == 0


@pytest.mark.parametrize(("age_s", "waits"), [(PATIENCE_S - 1, 1), (PATIENCE_S, 1), (PATIENCE_S + 1, 0)])
async def test_patience_with_an_index_that_is_stuck_ends(tmp_path: Path, age_s: float, waits: int) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="quagga")
        rename(side, "old.md", "new.md")
        w.clock.now += 1
        written = w.clock.now
        await side.hint("old.md", "new.md", after=0)
        await side.hint("old.md", "new.md", after=1)
        for record in side.mirror.journal.index.on_the_way(1):
            written = record.written_at
        w.clock.now = written + age_s
        rows = side.mirror.queue.settled(w.clock.now)
        result = await reconcile(side.mirror, Scope(rows))
        assert (result.waiting, result.done["delete"]) == (waits, 1 - waits)


async def test_a_delete_does_not_wait_for_a_replacement_that_cannot_be_indexed(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S, fail_index="new") as w:
        side = w.side()
        await searchable(w, side, old="quagga")
        rename(side, "old.md", "new.md")
        await side.full()
        assert await serve(w, side, DELAY_S) == {"delete": 1}
        assert side.problems() == {"new.md": "index_error"}


async def test_a_removed_replacement_is_put_again_and_awaited(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="quagga")
        rename(side, "old.md", "new.md")
        await side.full()
        await w.delete("new.md")
        await serve(w, side, 1)
        assert await found(w, "quagga") <= {"old.md"}


async def test_a_rename_onto_another_file_is_a_change_of_that(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, a="okapi")
        side.write(".a.md.tmp", "quagga").replace(side.root / "a.md")
        result = await side.full()
        assert (result.tables.plan.counts["put"], result.tables.plan.counts["delete"], result.waiting) == (1, 0, 0)


async def test_a_renamed_folder_of_a_thousand_files_waits_together(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, **{f"old/{number}": f"word{number}" for number in range(1000)})
        (side.root / "old").rename(side.root / "new")
        assert (await side.full()).waiting == 1000
        assert len(side.mirror.queue.every()) == 1000
        assert len(side.mirror.queue.settled(side.mirror.now() + replacements.FIRST_PAUSE_S)) == 1000
        before = len(w.wire.diary)
        asked = 0
        while side.mirror.queue.every():
            asked += 1
            w.clock.now += side.mirror.queue.next_due(w.clock.now) or 0
            try:
                await serve(w, side, 0)
            except ScopeTooLarge:
                await side.full()
        assert asked < 30
        assert sum(line.startswith("DELETE") for line in w.wire.diary[before:]) == 1000
        assert {key.partition("/")[0] for key in keys(side)} == {"new"}


async def test_one_query_finds_the_replacements_of_a_batch(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, **{f"old{number}": f"word{number}" for number in range(50)})
        for number in range(50):
            rename(side, f"old{number}.md", f"new{number}.md")
        said: list[str] = []
        side.mirror.db.set_trace_callback(said.append)
        await side.full()
        side.mirror.db.set_trace_callback(None)
        assert sum(line.startswith("SELECT key, ref, checksum, written_at, status FROM record") for line in said) == 1


async def test_a_delete_that_fails_after_its_wait_is_tried_later(tmp_path: Path) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="quagga")
        rename(side, "old.md", "new.md")
        await side.full()
        w.wire.plays("DELETE", "", answers(400, 7999))
        await serve(w, side, DELAY_S)
        assert list(side.problems()) == ["old.md"]
        await side.full()
        assert keys(side) == ["new.md"]


async def test_a_plan_can_be_taken_back_in_part(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a.md", "1")
        side.write("b.md", "2")
        result = await reconcile(side.mirror, Scope(), PassOptions(dry_run=True))
        tables: PassTables = result.tables
        [(first, _), (second, put)] = next(tables.plan.batches("put"))
        tables.plan.remove("put", [first])
        assert (list(tables.plan.batches("put")), tables.plan.counts["put"]) == ([[(second, put)]], 1)


async def one_shot(side: Side, w: World, monkeypatch: pytest.MonkeyPatch) -> tuple[once.Report, list[int]]:
    """A whole `reconcile`, its sleeps in the stand-in's time; also what was said to be waited for."""

    async def sleep(seconds: float) -> None:
        w.clock.now += seconds

    said: list[int] = []
    report = once.Report()
    w.clock.now += 1
    monkeypatch.setattr(once.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    await once.run(side.mirror, PassOptions(), lambda result: said.append(result.waiting), report)
    monkeypatch.undo()
    return report, said


async def test_a_reconcile_ends_when_the_replacements_are_searchable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side()
        await searchable(w, side, old="quagga", stays="okapi")
        rename(side, "old.md", "new.md")
        began = w.clock.now
        report, said = await one_shot(side, w, monkeypatch)
        assert DELAY_S <= w.clock.now - began <= 1.6 * DELAY_S
        assert (report.exit_code, report.postponed_deletes, report.kinds) == (0, 0, {})
        assert sum(result.done["delete"] for result in report.results) == 1
        assert sum(result.tables.plan.counts["delete"] for result in report.results) == 1
        assert 1 in said
        assert keys(side) == ["new.md", "stays.md"]


async def test_a_reconcile_waits_for_a_limited_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(tmp_path, index_delay=1e6) as w:
        side = w.side()
        side.write("old.md", "quagga")
        await side.full()
        rename(side, "old.md", "new.md")
        began = w.clock.now
        report, _ = await one_shot(side, w, monkeypatch)
        assert PATIENCE_S < w.clock.now - began < PATIENCE_S + 60
        assert report.exit_code == 0
        assert keys(side) == ["new.md"]


async def test_a_delete_that_still_waits_at_the_end_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path, index_delay=DELAY_S) as w:
        side = w.side(retry_for=1.0)
        await searchable(w, side, old="quagga")
        rename(side, "old.md", "new.md")

        async def ends(mirror: Mirror) -> int:
            del mirror
            raise Unreachable("gone")

        monkeypatch.setattr(index, "poll", ends)
        report, _ = await one_shot(side, w, monkeypatch)
        assert (report.postponed_deletes, report.exit_code) == (1, 5)
        assert [row.key for row in side.mirror.queue.every()] == ["old.md"]
