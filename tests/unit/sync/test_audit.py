"""The cheap audit: when the journal can take the place of the listing."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from syncd.core.errors import Park, Retry, Unreachable
from syncd.core.model import Entry, IndexStatus, Problem
from syncd.core.problems import Limits
from syncd.sync import audit
from syncd.sync.mirror import Result
from syncd.sync.observe import FEW_KEYS
from syncd.targets.base import Newest, NewestPage
from tests.harness import Core, ScriptedTarget, open_core, plan, planned
from tests.memory_target import PAGE, MemoryTarget

DAY_S = 86400.0
HOUR_S = 3600.0
NAMES = [f"{number}.md" for number in range(9)]


@pytest.fixture
async def core(tmp_path: Path) -> AsyncIterator[Core]:
    """A mirror with nine files in step and a full listing of two hours ago."""
    with open_core(tmp_path, Limits(lag_s=60.0)) as made:
        made.use(audit_interval=DAY_S)
        for name in NAMES:
            made.write(name, f"text of {name}", age_s=10)
        await made.full()
        made.clock.forward(2 * HOUR_S)
        await made.full(list_all=True)
        made.clock.forward(2 * HOUR_S)
        made.target.applied.clear()
        yield made


async def audited(core: Core) -> Result:
    result = await core.full()
    assert result.audited, await audit.why_list(core.mirror)
    return result


async def listed(core: Core) -> Result:
    result = await core.full()
    assert not result.audited
    return result


def base(core: Core) -> audit.Baseline:
    found = audit.baseline(core.mirror)
    assert found is not None
    return found


def hide(core: Core, name: str) -> None:
    """Let another writer delete an entry."""
    del core.target.store[name]


async def test_a_remote_as_the_journal_says_is_not_listed(core: Core) -> None:
    before = base(core)
    result = await audited(core)
    assert (planned(result), result.unchanged) == ({}, 9)
    assert base(core) == audit.Baseline(before.listed, core.clock.now, 0, before.newest)


async def test_local_changes_are_carried_out_on_an_audit(core: Core) -> None:
    core.write("0.md", "other text", age_s=5)
    core.write("new.md", "new text")
    core.remove("1.md")
    result = await audited(core)
    assert set(plan(result)) == {("put", "0.md", "changed"), ("put", "new.md", "new"), ("delete", "1.md", "stale")}
    assert core.target.texts()["new.md"] == "new text"
    core.clock.forward(100)
    assert not planned(await audited(core))


@pytest.mark.parametrize("interval", [0.0, 3 * HOUR_S - 1])
async def test_everything_is_listed_at_each_audit_interval(core: Core, interval: float) -> None:
    core.use(audit_interval=interval)
    core.clock.forward(HOUR_S)
    await listed(core)


async def test_the_time_for_a_listing_is_counted_from_the_last_one(core: Core) -> None:
    began = base(core).listed
    core.clock.now = began + DAY_S - 2
    await audited(core)
    assert base(core).listed == began
    await listed(core)
    assert base(core).listed == core.clock.now


async def test_a_clock_that_was_set_back_lists_everything(core: Core) -> None:
    core.clock.forward(-DAY_S)
    await listed(core)


@pytest.mark.parametrize("option", ["full", "list_all", "delete_excluded"])
async def test_options_that_need_a_listing_get_one(core: Core, option: str) -> None:
    assert not (await core.full(None, **{option: True})).audited


@pytest.mark.parametrize("change", [{"takeover": True}, {"prune": "all"}])
async def test_a_policy_that_needs_entries_of_others_lists_them(core: Core, change: dict[str, object]) -> None:
    core.use(**change)
    await listed(core)


async def test_a_restart_keeps_the_baseline(core: Core) -> None:
    core.restart()
    await audited(core)


@pytest.mark.parametrize(("pages", "cheap"), [(8, True), (9, False)])
async def test_few_entries_are_listed_at_once(core: Core, pages: int, *, cheap: bool) -> None:
    core.target.limits = Limits(lag_s=60.0, page=pages // audit.PAGES)
    assert (await core.full()).audited == cheap


async def test_an_entry_of_ours_that_is_gone_is_put_again(core: Core) -> None:
    hide(core, "4.md")
    assert plan(await listed(core)) == [("put", "4.md", "missing")]


async def test_a_lost_entry_and_an_added_one_are_both_noticed(core: Core) -> None:
    hide(core, "4.md")
    core.target.put_by("you", "theirs.md", "text")
    assert plan(await listed(core)) == [("put", "4.md", "missing")]


async def test_an_entry_of_ours_that_was_changed_is_put_again(core: Core) -> None:
    core.forget_listing()
    core.target.put_by("me", "4.md", "drifted")
    assert plan(await listed(core)) == [("put", "4.md", "drift")]


async def test_an_entry_that_was_deleted_and_made_anew_is_noticed(core: Core) -> None:
    hide(core, "4.md")
    core.target.put_by(None, "4.md", "drifted")
    await listed(core)


async def test_an_unrecorded_entry_with_our_mark_is_noticed(core: Core) -> None:
    core.forget_listing()
    core.target.put_by("me", "orphan.md", "text")
    assert plan(await listed(core)) == [("delete", "orphan.md", "orphan")]


async def test_entries_that_others_add_are_counted_and_left_alone(core: Core) -> None:
    core.target.put_by("you", "a.md", "text")
    core.target.put_by(None, "b.md", "text")
    await audited(core)
    assert base(core).others == 2
    core.target.put_by("you", "a.md", "changed by them")
    await audited(core)
    assert base(core).others == 2
    hide(core, "4.md")
    assert plan(await listed(core)) == [("put", "4.md", "missing")]
    assert base(core).others == 2


async def test_the_listing_counts_earlier_entries_of_others(core: Core) -> None:
    core.target.put_by("you", "a.md", "text")
    await core.full(list_all=True)
    assert base(core).others == 1
    core.target.put_by("you", "a.md", "changed by them")
    await audited(core)
    hide(core, "a.md")
    await listed(core)
    assert base(core).others == 0


async def test_more_of_others_than_the_newest_pages_show_is_listed(core: Core) -> None:
    for number in range(PAGE * audit.PAGES):
        core.target.put_by("you", f"theirs {number}.md", "text")
    await listed(core)
    assert base(core).others == PAGE * audit.PAGES


async def test_one_of_others_less_than_the_newest_pages_show_is_counted(core: Core) -> None:
    for number in range(PAGE * audit.PAGES - 1):
        core.target.put_by("you", f"theirs {number}.md", "text")
    await audited(core)


async def test_more_of_our_own_than_the_newest_pages_show_needs_no_listing(core: Core) -> None:
    for number in range(20):
        core.write(f"more {number}.md", "text")
    await core.full()
    core.clock.forward(100)
    await audited(core)


async def test_young_deletes_wait_for_a_listing(core: Core) -> None:
    core.remove("1.md")
    await audited(core)
    core.clock.forward(59)
    await listed(core)
    core.clock.forward(1)
    await audited(core)


async def test_a_new_file_under_the_key_of_another_is_foreign_without_a_listing(core: Core) -> None:
    core.target.put_by("you", "a.md", "theirs")
    await core.full(list_all=True)
    core.write("a.md", "ours", age_s=5)
    result = await audited(core)
    assert core.problems() == {"a.md": "foreign"}
    assert not planned(result)
    assert core.target.texts()["a.md"] == "theirs"
    assert core.target.confirmed == ["a.md"]
    await audited(core)
    assert core.problems() == {"a.md": "foreign"}
    hide(core, "a.md")
    await listed(core)
    assert core.target.texts()["a.md"] == "ours"


async def test_an_adopted_or_forgotten_entry_makes_the_next_pass_list(core: Core) -> None:
    core.target.put_by(None, "a.md", "same")
    await core.full(list_all=True)
    core.write("a.md", "same", age_s=5)
    assert plan(await audited(core)) == [("adopt", "a.md", "unverified")]
    await listed(core)
    await audited(core)


async def test_many_new_files_cause_a_listing_instead_of_single_requests(core: Core) -> None:
    core.target.limits = Limits(lag_s=60.0, page=1)
    for number in range(29):
        core.write(f"new {number}.md", "text")
    assert (await core.full(dry_run=True)).audited
    assert len(core.target.confirmed) == 29
    core.target.confirmed.clear()
    core.write("one more.md", "text")
    result = await listed(core)
    assert core.target.confirmed == []
    assert planned(result) == {"put": 30}
    assert (result.unchanged, result.problems.total()) == (9, 0)


async def test_a_pass_that_could_not_repair_a_difference_leaves_no_baseline(core: Core) -> None:
    core.forget_listing()
    core.target.put_by("me", "4.md", "drifted")
    core.target.failures["4.md"] = [Park("refused", "no"), Retry("no")]
    await listed(core)
    assert core.problems() == {"4.md": "refused"}
    await listed(core)
    assert core.problems() == {"4.md": "refused"}
    assert audit.baseline(core.mirror) is None


async def test_a_listing_that_may_have_missed_rows_leaves_no_baseline(core: Core) -> None:
    await core.full(list_all=True)
    assert audit.baseline(core.mirror)
    core.target.unlisted = {"4.md"}
    await core.full(list_all=True)
    assert audit.baseline(core.mirror) is None


async def test_an_entry_of_ours_that_stays_without_a_record_leaves_no_baseline(core: Core) -> None:
    core.use(prune="never")
    core.forget_listing()
    core.target.put_by("me", "orphan.md", "text")
    assert not planned(await core.full(list_all=True))
    assert audit.baseline(core.mirror) is None


async def test_a_listing_without_a_landmark_leaves_no_baseline(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryTarget, "_landmark", lambda *_: None)
    await core.full(list_all=True)
    assert audit.baseline(core.mirror) is None


async def test_a_pass_that_was_cut_off_leaves_no_baseline(core: Core) -> None:
    core.write("0.md", "other text", age_s=5)
    core.target.raises.append(Unreachable("cut off"))
    with pytest.raises(Unreachable, match="cut off"):
        await core.full(list_all=True)
    assert audit.baseline(core.mirror) is None


async def test_an_adopted_entry_of_another_owner_leaves_no_baseline(core: Core) -> None:
    """The number of entries of other owners is no longer that of the last listing."""
    core.target.put_by("me", "new.md", "text")
    core.write("new.md", "text")
    assert audit.baseline(core.mirror)
    assert planned(await core.hint("new.md")) == {"adopt": 1}
    assert audit.baseline(core.mirror) is None


async def test_numbers_that_prove_all_to_be_indexed_are_learned(core: Core) -> None:
    core.mirror.db.execute("UPDATE record SET status = 'queued'")
    core.mirror.db.execute("UPDATE record SET status = 'error', error = 'bad' WHERE key = '3.md'")
    result = await audited(core)
    assert core.mirror.journal.index.index_counts() == {"completed": 9}
    assert core.problems() == {}
    assert result.unsettled == 0


async def test_an_entry_that_an_audit_shows_as_searchable_has_a_line_at_level_debug(core: Core) -> None:
    core.mirror.db.execute("UPDATE record SET status = 'queued' WHERE key = '8.md'")
    with capture_logs() as lines:
        await audited(core)
    (line,) = [line for line in lines if line["event"] == "index.done"]
    assert (line["log_level"], line["key"]) == ("debug", "8.md")


async def test_the_numbers_change_no_status_of_a_recent_write(core: Core) -> None:
    core.mirror.db.execute("UPDATE record SET status = 'queued', written_at = ?", (core.clock.now - 59,))
    await audited(core)
    newest = PAGE * audit.PAGES
    assert core.mirror.journal.index.index_counts() == {"completed": newest, "queued": 9 - newest}


@pytest.mark.parametrize("counts", [None, {"completed": 8}, {"completed": 8, "error": 1}])
async def test_numbers_that_do_not_fit_lead_to_a_listing(core: Core, counts: dict[IndexStatus, int] | None) -> None:
    core.target.numbers.append(counts)
    await listed(core)


async def test_numbers_that_prove_nothing_leave_unfinished_entries_to_the_polls(core: Core) -> None:
    core.target.numbers.append({"completed": 8, "error": 1})
    core.mirror.db.execute("UPDATE record SET status = 'queued' WHERE key = '0.md'")
    result = await audited(core)
    assert (result.unsettled, core.mirror.journal.index.unfinished()) == (1, 1)


async def test_every_pass_reports_a_known_index_error(core: Core) -> None:
    core.mirror.db.execute("UPDATE record SET status = 'error', error = 'bad' WHERE key = '3.md'")
    core.target.numbers += [{"completed": 8, "error": 1}] * 2
    for _ in range(2):
        await audited(core)
        assert core.problems() == {"3.md": "index_error"}


# -- the reasons for a listing


def rebase(core: Core, **changes: Any) -> None:
    core.mirror.meta.set("audit", asdict(replace(base(core), **changes)))


async def newest_rows(core: Core) -> list[Newest]:
    return [row async for page in core.target.newest() for row in page.rows]


def show(
    core: Core, monkeypatch: pytest.MonkeyPatch, *pages: tuple[Sequence[Newest], int | None], counted: int = 100
) -> list[int | None]:
    """Let the target show these pages of newest entries. Return the list of pages that were read, by their totals."""
    read: list[int | None] = []

    async def newest(_: ScriptedTarget) -> AsyncIterator[NewestPage]:
        for rows, total in pages:
            read.append(total)
            yield NewestPage(rows, total)

    monkeypatch.setattr(ScriptedTarget, "newest", newest)
    core.target.numbers.append({"completed": counted})
    return read


async def why(core: Core) -> str:
    return await audit.why_list(core.mirror) or ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"listed": 0.0}, ""),
        ({"listed": 1.0}, "the last full listing is too old"),
        ({"listed": -DAY_S}, "the last full listing is too old"),
        ({"listed": 1.0 - DAY_S}, ""),
        ({"at": 0.0}, ""),
        ({"at": 1.0}, "the last full listing is too old"),
    ],
)
async def test_a_listing_must_be_younger_than_the_interval_and_not_from_the_future(
    core: Core, changes: dict[str, float], reason: str
) -> None:
    """changes: times of the baseline, relative to now."""
    rebase(core, **{name: core.clock.now + value for name, value in changes.items()})
    assert await why(core) == reason


@pytest.mark.parametrize("kind", ["foreign", "refused", "failed", "too_large"])
@pytest.mark.parametrize("more", [0, 1])
async def test_too_many_unsent_files_lead_to_a_listing(core: Core, kind: Any, more: int) -> None:
    core.mirror.note([Problem(f"{number}", kind, "why") for number in range(FEW_KEYS + more)], 1)
    expected = "too many files would be asked for one by one" if more and kind != "too_large" else ""
    assert await why(core) == expected


@pytest.mark.parametrize(("before_s", "pages"), [(audit.SETTLED_S, 1), (audit.SETTLED_S - 1, audit.PAGES)])
async def test_pages_are_read_down_to_an_entry_that_was_complete_at_the_last_audit(
    core: Core, monkeypatch: pytest.MonkeyPatch, before_s: float, pages: int
) -> None:
    written = core.mirror.journal.get("0.md")
    assert written
    rebase(core, at=written.written_at + before_s)
    rows = await newest_rows(core)
    read = show(core, monkeypatch, *((rows[start : start + 2], 9) for start in range(0, 10, 2)))
    assert (await why(core), read) == ("", [9] * pages)


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ([("012345678", 9)], ""),
        ([("01234", 9), ("5678", 9)], ""),
        ([("01234", 9), ("45678", 9)], ""),
        ([("01234", 9), ("0567", 9)], "the newest entries end too early"),
        ([], "the newest entries end too early"),
        ([("01234", 9), ("5678", 10)], "the number of entries changes right now"),
        ([("01234", None)], "the number of entries changes right now"),
        ([("0", 9), ("1", 9), ("2", 9), ("3", 10)], ""),
        ([("012345678", 10)], "the newest entries end too early"),
        ([("0", 10), ("1", 10), ("2", 10)], "the number of entries differs"),
        ([("0", 8), ("1", 8), ("2", 8)], "the number of entries differs"),
    ],
)
async def test_the_pages_of_the_newest_entries_must_agree(
    core: Core, monkeypatch: pytest.MonkeyPatch, pages: list[tuple[str, int | None]], reason: str
) -> None:
    rebase(core, at=core.clock.now - 4 * HOUR_S)
    rows = await newest_rows(core)
    show(core, monkeypatch, *(([rows[int(place)] for place in places], total) for places, total in pages))
    assert await why(core) == reason


@pytest.mark.parametrize(
    ("changes", "created", "known", "others"),
    [
        ({}, 101.0, 100.0, 1),
        ({}, 100.0, 100.0, 0),
        ({}, None, 100.0, None),
        ({}, 101.0, None, None),
        ({"ref": "deleted"}, 101.0, 100.0, None),
        ({"owner": "me"}, 101.0, 100.0, None),
        ({"owner": "me", "prefix": "old/"}, 101.0, 100.0, 1),
    ],
)
async def test_an_entry_without_a_record_is_of_another_writer_or_a_reason_to_list(
    core: Core,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    created: float | None,
    known: float | None,
    others: int | None,
) -> None:
    """known: the creation time of the newest entry until now. others: the number of added entries, None: list."""
    rebase(core, newest=known, others=1)
    core.mirror.journal.tombstones.record_delete("x.md", "deleted", core.clock.now - 1000, consented=True)
    theirs = Newest(Entry("x.md", "ref", "c", owner="you")._replace(**changes), created)
    rows = await newest_rows(core)
    # The second page shows the same entry again, because another one came in before it.
    show(core, monkeypatch, ([theirs], 10 + (others or 0)), ([theirs, *rows], 10 + (others or 0)))
    reason = "the entry of 'x.md' differs from its record" if others is None else ""
    assert await why(core) == reason
    assert base(core).others == 1 + (others or 0)
    if others is not None:
        assert base(core).newest == max(created or 0, known or 0)
        assert base(core).at == core.clock.now


async def test_the_time_of_the_newest_entry_is_unknown_if_one_entry_has_none(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *rows = await newest_rows(core)
    show(core, monkeypatch, ([first._replace(created_at=None), *rows], 9))
    assert (await why(core), base(core).newest) == ("", None)


@pytest.mark.parametrize(
    ("changes", "present", "agrees"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"checksum": None}, True, True),
        ({"checksum": "other"}, True, False),
        ({"version": "other"}, True, False),
        ({"owner": None}, True, True),
        ({"owner": "you"}, True, False),
    ],
)
async def test_a_recorded_entry_must_be_as_recorded(
    core: Core, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], *, present: bool, agrees: bool
) -> None:
    first, *rows = await newest_rows(core)
    row = Newest(first.entry._replace(**changes), first.created_at, present)
    show(core, monkeypatch, ([row, *rows], 9))
    assert await why(core) == ("" if agrees else f"the entry of {first.entry.key!r} differs from its record")


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (None, "the numbers by index status are unknown"),
        ({"completed": 8}, "the numbers by index status are unknown"),
        ({"completed": 7, "error": 2}, "the numbers by index status differ"),
        ({"completed": 9, "error": 0}, ""),
        ({"completed": 10}, ""),
        ({"completed": 8, "error": 2}, ""),
    ],
)
async def test_the_numbers_by_index_status_must_agree(
    core: Core, counts: dict[IndexStatus, int] | None, reason: str
) -> None:
    core.target.numbers.append(counts)
    assert await why(core) == reason


async def test_numbers_do_not_prove_an_entry_to_be_indexed_that_a_page_shows_on_its_way(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.mirror.db.execute("UPDATE record SET status = 'error', error = 'bad' WHERE key = '3.md'")
    first, second, *_ = await newest_rows(core)
    show(core, monkeypatch, ([first._replace(entry=first.entry._replace(status="queued")), second], 9), counted=9)
    assert await why(core) == ""
    third = core.mirror.journal.get("3.md")
    assert third
    assert third.status == "error"
