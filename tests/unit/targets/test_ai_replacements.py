"""A renamed file is always found: the old entry is deleted after its replacement is searchable."""

from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import Unreachable
from syncd.core.requests import Contact, reporting_to
from syncd.state.pass_tables import PassTables
from syncd.sync import index, once
from syncd.sync.deletes import FIRST_PAUSE_S, PATIENCE_S
from syncd.sync.mirror import Mirror, PassOptions, Scope
from syncd.sync.observe import ScopeTooLarge
from syncd.sync.reconcile import reconcile
from tests.unit.targets.harness_ai_search import INSTANCES, Harness, MirrorFixture, answers, open_harness

DELAY_S = 10.0


async def found(h: Harness, word: str) -> set[str]:
    """Return the keys of the items that a search for the word finds."""
    answer = await h.stranger.post(f"{INSTANCES}/docs/search", json={"query": word})
    return {chunk["item"]["key"] for chunk in answer.raise_for_status().json()["result"]["chunks"]}


async def serve(h: Harness, fixture: MirrorFixture, after_s: float, **options: Any) -> dict[str, int]:
    """Advance the clock, poll the index, serve due items. Return the number of actions by kind."""
    h.clock.now += after_s
    await index.poll(fixture.mirror)
    rows = fixture.mirror.queue.settled(h.clock.now)
    result = await reconcile(fixture.mirror, Scope(rows), PassOptions(**options))
    return {kind: count for kind, count in result.done.items() if count}


async def searchable(h: Harness, fixture: MirrorFixture, **files: str) -> None:
    """Write these files, and wait until they are searchable."""
    for name, text in files.items():
        fixture.write(f"{name}.md", text)
    await fixture.full()
    await serve(h, fixture, 2 * DELAY_S)
    assert fixture.mirror.journal.index.unfinished() == 0


def rename(fixture: MirrorFixture, old: str, new: str) -> None:
    (fixture.root / new).parent.mkdir(parents=True, exist_ok=True)
    (fixture.root / old).rename(fixture.root / new)


def keys(fixture: MirrorFixture) -> list[str]:
    return sorted(fixture.mirror.journal.keys())


async def test_a_renamed_file_is_found_all_the_time(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="the word is quagga")
        rename(fixture, "old.md", "new.md")
        first = await fixture.full()
        assert (first.done["put"], first.done["delete"], first.waiting) == (1, 0, 1)
        assert first.tables.plan.counts["delete"] == 0
        for _ in range(3):
            assert await found(h, "quagga") == {"old.md"}
            assert await serve(h, fixture, DELAY_S / 4) == {}
        assert await serve(h, fixture, DELAY_S / 2) == {"delete": 1}
        assert await found(h, "quagga") == {"new.md"}
        assert fixture.mirror.queue.every() == []


async def test_a_hint_of_a_rename_waits_without_a_request(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga")
        rename(fixture, "old.md", "new.md")
        assert (await fixture.hint("old.md", "new.md")).waiting == 1
        h.wire.diary.clear()
        h.clock.now += 1
        again = await reconcile(fixture.mirror, Scope(fixture.mirror.queue.settled(h.clock.now)))
        assert (again.waiting, h.wire.diary) == (1, [])


async def test_a_file_renamed_twice_waits_for_its_last_name(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, a="quagga")
        rename(fixture, "a.md", "b.md")
        await fixture.full()
        rename(fixture, "b.md", "c.md")
        await fixture.full()
        assert await found(h, "quagga") == {"a.md"}
        assert keys(fixture) == ["a.md", "b.md", "c.md"]
        await serve(h, fixture, DELAY_S)
        assert await found(h, "quagga") == {"c.md"}
        assert keys(fixture) == ["c.md"]


async def test_copies_that_are_deleted_together_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, stays="okapi")
        for name in ("a.md", "b.md", "c.md"):
            fixture.write(name, "quagga")
        await fixture.full()
        fixture.remove("a.md", "b.md", "c.md")
        result = await fixture.full()
        assert (result.done["delete"], result.waiting) == (3, 0)


async def test_a_delete_of_content_that_is_nowhere_else_waits_for_nothing(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga", stays="okapi")
        fixture.remove("old.md")
        fixture.write("new.md", "zebra")
        assert (await fixture.full()).done["delete"] == 1


async def test_an_edit_under_the_new_name_ends_the_wait(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga")
        rename(fixture, "old.md", "new.md")
        await fixture.full()
        fixture.write("new.md", "zebra")
        assert (await fixture.hint("new.md")).done["put"] == 1
        await serve(h, fixture, 1)
        assert keys(fixture) == ["new.md"]


async def test_a_file_that_comes_back_while_its_delete_waits_stays(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga")
        rename(fixture, "old.md", "new.md")
        await fixture.full()
        fixture.write("old.md", "quagga")
        assert (await fixture.hint("old.md")).tables.plan.counts.total() == 0
        await serve(h, fixture, 2 * DELAY_S)
        assert await found(h, "quagga") == {"old.md", "new.md"}
        assert fixture.mirror.queue.every() == []


async def test_a_file_that_comes_back_does_not_count_as_changing(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=1000) as h:
        fixture = h.add_mirror()
        fixture.write("old.md", "quagga")
        await fixture.full()
        rename(fixture, "old.md", "new.md")
        await fixture.full()
        for _ in range(4):
            await serve(h, fixture, 30)
        [row] = fixture.mirror.queue.every()
        h.clock.now += 29
        assert not fixture.mirror.settle_expired(row.key)
        fixture.mirror.queue.mark([(row.key, False)], h.clock.now)
        due = fixture.mirror.queue.next_due(h.clock.now)
        assert due == pytest.approx(fixture.mirror.settings.settle)


@pytest.mark.parametrize("lost", [False, True])
async def test_a_wait_goes_on_after_a_restart(tmp_path: Path, lost: bool) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga")
        rename(fixture, "old.md", "new.md")
        await fixture.full()
        if lost:
            fixture.lose_journal()
        else:
            fixture.restart()
        assert (await fixture.full()).waiting == 1
        assert await found(h, "quagga") == {"old.md"}
        await serve(h, fixture, DELAY_S)
        assert await found(h, "quagga") == {"new.md"}


async def test_a_forced_delete_waits_all_the_same_and_stays_forced(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, **{f"old{number}": f"quagga {number}" for number in range(12)})
        for number in range(12):
            rename(fixture, f"old{number}.md", f"new/{number}.md")
        assert (await fixture.full(force=True)).waiting == 12
        assert await serve(h, fixture, DELAY_S, force=True) == {"delete": 12}
        assert fixture.mirror.journal.tombstones.recent_deletes(h.clock.now) == 0


@pytest.mark.parametrize(("age_s", "waits"), [(PATIENCE_S - 1, 1), (PATIENCE_S, 1), (PATIENCE_S + 1, 0)])
async def test_patience_with_an_index_that_is_stuck_ends(tmp_path: Path, age_s: float, waits: int) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga")
        rename(fixture, "old.md", "new.md")
        h.clock.now += 1
        written = h.clock.now
        await fixture.hint("old.md", "new.md", after=0)
        await fixture.hint("old.md", "new.md", after=1)
        for record in fixture.mirror.journal.index.on_the_way(1):
            written = record.written_at
        h.clock.now = written + age_s
        rows = fixture.mirror.queue.settled(h.clock.now)
        result = await reconcile(fixture.mirror, Scope(rows))
        assert (result.waiting, result.done["delete"]) == (waits, 1 - waits)


async def test_a_delete_does_not_wait_for_a_replacement_that_cannot_be_indexed(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S, fail_index="new") as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga")
        rename(fixture, "old.md", "new.md")
        await fixture.full()
        assert await serve(h, fixture, DELAY_S) == {"delete": 1}
        assert fixture.problems() == {"new.md": "index_error"}


async def test_a_removed_replacement_is_put_again_and_awaited(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga")
        rename(fixture, "old.md", "new.md")
        await fixture.full()
        await h.delete("new.md")
        await serve(h, fixture, 1)
        assert await found(h, "quagga") <= {"old.md"}


async def test_a_rename_onto_another_file_is_a_change_of_that(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, a="okapi")
        fixture.write(".a.md.tmp", "quagga").replace(fixture.root / "a.md")
        result = await fixture.full()
        assert (result.tables.plan.counts["put"], result.tables.plan.counts["delete"], result.waiting) == (1, 0, 0)


@pytest.mark.slow
async def test_a_renamed_folder_of_many_files_waits_together(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, **{f"old/{number}": f"word{number}" for number in range(200)})
        (fixture.root / "old").rename(fixture.root / "new")
        assert (await fixture.full()).waiting == 200
        assert len(fixture.mirror.queue.every()) == 200
        assert len(fixture.mirror.queue.settled(fixture.mirror.now() + FIRST_PAUSE_S)) == 200
        before = len(h.wire.diary)
        asked = 0
        while fixture.mirror.queue.every():
            asked += 1
            h.clock.now += fixture.mirror.queue.next_due(h.clock.now) or 0
            try:
                await serve(h, fixture, 0)
            except ScopeTooLarge:
                await fixture.full()
        assert asked < 30
        assert sum(line.startswith("DELETE") for line in h.wire.diary[before:]) == 200
        assert {key.partition("/")[0] for key in keys(fixture)} == {"new"}


async def test_one_query_finds_the_replacements_of_a_batch(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, **{f"old{number}": f"word{number}" for number in range(50)})
        for number in range(50):
            rename(fixture, f"old{number}.md", f"new{number}.md")
        statements: list[str] = []
        fixture.mirror.db.set_trace_callback(statements.append)
        await fixture.full()
        fixture.mirror.db.set_trace_callback(None)
        assert sum("OR status <> 'error' AND checksum IN" in line for line in statements) == 1


async def test_a_delete_that_fails_after_its_wait_is_tried_later(tmp_path: Path) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga")
        rename(fixture, "old.md", "new.md")
        await fixture.full()
        h.wire.plays("DELETE", "", answers(400, 7999))
        await serve(h, fixture, DELAY_S)
        assert list(fixture.problems()) == ["old.md"]
        await fixture.full()
        assert keys(fixture) == ["new.md"]


async def test_a_plan_can_be_taken_back_in_part(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "1")
        fixture.write("b.md", "2")
        result = await reconcile(fixture.mirror, Scope(), PassOptions(dry_run=True))
        tables: PassTables = result.tables
        [(first, _), (second, put)] = next(tables.plan.batches("put"))
        tables.plan.remove("put", [first])
        assert (list(tables.plan.batches("put")), tables.plan.counts["put"]) == ([[(second, put)]], 1)


async def one_shot(
    fixture: MirrorFixture, h: Harness, monkeypatch: pytest.MonkeyPatch
) -> tuple[once.Report, list[int]]:
    """Run `reconcile` with sleeps in the emulator's time. Return its report and the reported numbers of waits."""

    async def sleep(seconds: float) -> None:
        h.clock.now += seconds

    reported: list[int] = []
    report = once.Report()
    h.clock.now += 1
    monkeypatch.setattr(once.asyncio, "sleep", sleep)  # type: ignore[attr-defined]
    # In the daemon, which shows the trouble of requests by itself. A command looks for it in sleeps of its own.
    with reporting_to(Contact(lambda: h.clock.now, lambda: h.clock.now)):
        await once.run(fixture.mirror, PassOptions(), lambda result: reported.append(result.waiting), report)
    monkeypatch.undo()
    return report, reported


async def test_a_reconcile_ends_when_the_replacements_are_searchable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror()
        await searchable(h, fixture, old="quagga", stays="okapi")
        rename(fixture, "old.md", "new.md")
        began = h.clock.now
        report, reported = await one_shot(fixture, h, monkeypatch)
        assert DELAY_S <= h.clock.now - began <= 1.6 * DELAY_S
        assert (report.exit_code, report.postponed_deletes, report.kinds) == (0, 0, {})
        assert sum(result.done["delete"] for result in report.results) == 1
        assert sum(result.tables.plan.counts["delete"] for result in report.results) == 1
        assert 1 in reported
        assert keys(fixture) == ["new.md", "stays.md"]


async def test_a_reconcile_waits_for_a_limited_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_harness(tmp_path, index_delay=1e6) as h:
        fixture = h.add_mirror()
        fixture.write("old.md", "quagga")
        await fixture.full()
        rename(fixture, "old.md", "new.md")
        began = h.clock.now
        report, _ = await one_shot(fixture, h, monkeypatch)
        assert PATIENCE_S < h.clock.now - began < PATIENCE_S + 60
        assert report.exit_code == 0
        assert keys(fixture) == ["new.md"]


async def test_a_delete_that_still_waits_at_the_end_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_harness(tmp_path, index_delay=DELAY_S) as h:
        fixture = h.add_mirror(retry_for=1.0)
        await searchable(h, fixture, old="quagga")
        rename(fixture, "old.md", "new.md")

        async def ends(mirror: Mirror) -> int:
            del mirror
            raise Unreachable("gone")

        monkeypatch.setattr(index, "poll", ends)
        report, _ = await one_shot(fixture, h, monkeypatch)
        assert (report.postponed_deletes, report.exit_code) == (1, 5)
        assert [row.key for row in fixture.mirror.queue.every()] == ["old.md"]
