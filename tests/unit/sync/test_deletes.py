"""Deletes that may go or wait: moves, short absences, uploads that failed."""

import dataclasses

import pytest

from syncd.core.errors import Brake, FileChanged, Park, Retry
from syncd.core.model import Put
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from syncd.state.deletions import last_delete
from syncd.state.queue import LATER_S, Dirty
from syncd.sync.deletes import SOON_S
from syncd.sync.mirror import Hooks, PassOptions, Result, Scope
from syncd.sync.reconcile import reconcile
from tests.harness import Core, in_step, outcomes, planned

DELETE_AFTER_S = 30.0


def names(folder: str, count: int) -> dict[str, str]:
    return {f"{folder}/{number:02}": f"{folder} {number}" for number in range(count)}


async def forty(core: Core) -> None:
    await in_step(core, **names("guides", 20), **names("news", 20))
    core.use(max_delete="25%")


async def run(core: Core, *, everything: bool = False) -> Result | None:
    """Make the pass that `run` makes when rows are due, or at its interval."""
    rows = core.mirror.queue.settled(core.clock.now)
    scope = Scope() if everything else Scope(rows)
    if not (everything or rows):
        return None
    return await reconcile(core.mirror, scope, PassOptions(delete_after=DELETE_AFTER_S))


def gone(core: Core, *paths: str) -> None:
    core.remove(*paths)
    core.mark(*paths)


# -- moves


async def test_a_folder_that_is_renamed_is_no_loss(core: Core) -> None:
    await forty(core)
    (core.root / "guides").rename(core.root / "handbook")
    assert (await core.full()).done == {"put": 20, "delete": 20}
    assert sorted(core.target.texts()) == sorted([*names("handbook", 20), *names("news", 20)])
    assert core.mirror.journal.tombstones.recent_deletes(core.clock.age) == 0


async def test_a_dry_run_knows_a_move_by_the_bytes(core: Core) -> None:
    await forty(core)
    (core.root / "guides").rename(core.root / "handbook")
    assert (await core.full(dry_run=True)).refusal is None
    core.write("handbook/00", "other 00")
    core.write("handbook/01", "other 01")
    for number in range(2, 12):
        core.write(f"handbook/{number:02}", f"o {number}")
    refusal = (await core.full(dry_run=True)).refusal or ""
    assert "the plan deletes 12 of 40" in refusal
    assert "Nothing would be deleted" in refusal


async def test_a_dry_run_counts_entries_of_excluded_files_as_lost(core: Core) -> None:
    await forty(core)
    core.use(rules=Rules(exclude=("guides/",)), max_delete="25%")
    refusal = (await core.full(dry_run=True, delete_excluded=True)).refusal or ""
    assert "the plan deletes 20 of 40" in refusal


async def test_a_dry_run_knows_a_move_whose_copies_are_uploaded_but_not_recorded(core: Core) -> None:
    await forty(core)
    (core.root / "guides").rename(core.root / "handbook")
    for number, text in enumerate(names("guides", 20).values()):
        core.target.put_by("me", f"handbook/{number:02}", text)
    core.forget_listing()
    result = await core.full(dry_run=True)
    assert (planned(result), result.refusal) == ({"adopt": 20, "delete": 20}, None)
    core.mirror.journal.clear()
    result = await core.full(dry_run=True)
    assert planned(result) == {"adopt": 40, "delete": 20}
    assert "the plan deletes 20 of" in (result.refusal or ""), "an adopted entry is no later copy of an orphan"


@pytest.mark.parametrize("everything", [False, True])
async def test_a_folder_that_is_renamed_and_renamed_back_is_no_loss(core: Core, *, everything: bool) -> None:
    await forty(core)
    for old, new in (("guides", "handbook"), ("handbook", "guides")) * 2:
        (core.root / old).rename(core.root / new)
        core.mirror.queue.mark([(old, True), (new, True)], core.clock.now)
        for _ in range(4):
            core.clock.forward(1.0)
            await run(core, everything=everything)
    for _ in range(40):
        core.clock.forward(1.0)
        await run(core, everything=everything)
    assert sorted(core.target.texts()) == sorted([*names("guides", 20), *names("news", 20)])
    assert core.mirror.journal.tombstones.recent_deletes(core.clock.age) == 0


async def test_a_move_whose_deletes_failed_is_no_loss_in_the_next_pass_either(core: Core) -> None:
    await forty(core)
    (core.root / "guides").rename(core.root / "handbook")
    core.target.failures |= {path: [Retry("no answer")] for path in names("guides", 20)}
    assert (await core.full()).done["delete"] == 0
    core.clock.forward(3600)
    assert (await core.full()).done["delete"] == 20
    assert sorted(core.target.texts()) == sorted([*names("handbook", 20), *names("news", 20)])


async def test_one_copy_makes_up_for_one_file(core: Core) -> None:
    await in_step(core, **{f"{number:02}": "same" for number in range(40)})
    core.use(max_delete="25%")
    core.remove(*(f"{number:02}" for number in range(20)))
    for number in range(9):
        core.write(f"new{number}", "same")
    with pytest.raises(Brake, match="the plan deletes 11 of 40"):
        await core.full()
    core.write("new9", "same")
    await core.full()
    assert len(core.target.store) == 30
    core.remove("20")
    with pytest.raises(Brake, match="after 10 in the last hour"):
        await core.full()


async def test_a_refused_plan_reports_the_finished_actions(core: Core) -> None:
    await forty(core)
    core.remove(*names("guides", 20))
    core.write("new", "1")
    kept: list[Result] = []
    with pytest.raises(Brake):
        await core.full(Hooks(on_progress=kept.append))
    assert (planned(kept[-1]), kept[-1].done) == ({"put": 1, "delete": 20}, {"put": 1})
    assert outcomes(kept[-1])["new"] == "done"
    assert {outcome for key, outcome in outcomes(kept[-1]).items() if key != "new"} == {"refused"}


# -- a moment's absence


async def test_files_that_a_deploy_removes_and_restores_are_not_deleted(core: Core) -> None:
    await forty(core)
    pages = names("guides", 9)
    gone(core, *pages)
    for _ in range(8):
        core.clock.forward(0.5)
        await run(core)
    for path, text in pages.items():
        core.write(path, text)
    core.mark(*pages)
    changes = core.target.changes
    for _ in range(80):
        core.clock.forward(0.5)
        await run(core)
    await run(core, everything=True)
    assert (core.target.changes, core.waiting()) == (changes, [])
    assert core.mirror.absences.count() == 0


@pytest.mark.parametrize("everything", [False, True])
async def test_an_entry_is_deleted_after_delete_after_also_over_a_restart(core: Core, everything: bool) -> None:
    await forty(core)
    gone(core, "guides/00")
    core.clock.forward(1)
    await run(core, everything=everything)
    core.clock.forward(28)
    core.restart()
    await run(core, everything=everything)
    assert "guides/00" in core.target.store
    core.clock.forward(2)
    await run(core, everything=everything)
    assert "guides/00" not in core.target.store
    assert core.mirror.absences.count() == 0


@pytest.mark.parametrize(
    ("gone_s", "delete_after", "due_in_s"),
    [(0.0, 30.0, 30.0), (10.0, 30.0, 20.0), (29.0, 30.0, 1.0), (30.0, 30.0, None), (10.0, 100.0, LATER_S)],
)
async def test_a_young_delete_is_looked_at_again_when_it_is_due(
    core: Core, gone_s: float, delete_after: float, due_in_s: float | None
) -> None:
    await in_step(core, a="1", other="o")
    core.remove("a")
    await reconcile(core.mirror, Scope(), PassOptions(delete_after=delete_after))
    core.clock.forward(gone_s)
    result = await reconcile(core.mirror, Scope(), PassOptions(delete_after=delete_after))
    due = [row.due - core.clock.now for row in core.mirror.queue.every()]
    assert (due, result.held_back) == ([] if due_in_s is None else [due_in_s], False)
    assert ("a" in core.target.store) is (due_in_s is not None)


async def test_the_log_of_deletes_names_the_mirror_and_the_target(core: Core) -> None:
    await in_step(core, a="1", other="o")
    core.use(spec="kv:docs")
    core.remove("a")
    await core.full()
    line = last_delete(core.state, "docs", "a") or {}
    assert (line["mirror"], line["target"], line["key"], line["reason"]) == ("docs", "kv:docs", "a", "stale")


async def test_a_manual_pass_deletes_at_once(core: Core) -> None:
    await forty(core)
    gone(core, "guides/00")
    core.clock.forward(1)
    await run(core)
    await core.full()
    assert "guides/00" not in core.target.store


async def test_orphans_that_are_too_young_are_planned_again_by_a_full_pass(core: Core) -> None:
    await in_step(core, keep="k")
    core.forget_listing()
    core.target.put_by("me", "old", "x")
    result = await run(core, everything=True)
    assert result
    assert result.held_back
    core.clock.forward(DELETE_AFTER_S)
    await run(core)
    await run(core, everything=True)
    assert core.target.texts() == {"keep": "k"}


async def test_a_young_orphan_beside_a_delete_that_is_due_is_planned_again_by_a_full_pass(core: Core) -> None:
    await in_step(core, keep="k", due="d")
    gone(core, "due")
    await run(core, everything=True)
    core.clock.forward(DELETE_AFTER_S)
    core.forget_listing()
    core.target.put_by("me", "old", "x")
    result = await run(core, everything=True)
    assert result
    assert (result.done, result.held_back) == ({"delete": 1}, True)
    assert core.target.texts() == {"keep": "k", "old": "x"}


async def trickled(core: Core, slices: list[list[str]], every_s: int) -> None:
    for paths in slices:
        gone(core, *paths)
        for _ in range(every_s):
            core.clock.forward(1)
            await run(core)


async def test_nineteen_files_that_trickle_away_are_one_plan(core: Core) -> None:
    await forty(core)
    with pytest.raises(Brake, match="the plan deletes 19 of 40"):
        await trickled(core, [[path] for path in names("guides", 19)] + [[]] * 40, 1)
    assert len(core.target.store) == 40


async def test_slices_below_the_floor_are_one_plan(core: Core) -> None:
    await forty(core)
    with pytest.raises(Brake, match="the plan deletes 19 of 40"):
        await trickled(core, [list(names("guides", 9)), list(names("news", 10)), [], [], []], 10)
    assert len(core.target.store) == 40


# -- churn


async def test_a_file_that_comes_and_goes_all_the_time_is_one_loss(core: Core) -> None:
    await forty(core)
    for turn in range(15):
        core.write("status", str(turn))
        await core.hint("status")
        core.remove("status")
        await core.hint("status")
    assert "status" not in core.target.store
    assert core.mirror.journal.tombstones.recent_deletes(core.clock.age) == 1


# -- uploads that did not end well


async def moved(core: Core) -> None:
    await in_step(core, a="the content", other="o")
    (core.root / "a").rename(core.root / "z")
    core.mark("a", "z")
    core.clock.forward(1)


def once(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Let the next read of a file raise FileChanged."""
    real, left = Tree.read, [path]

    def read(self: Tree, path: str, **how: object) -> object:
        if path in left:
            left.remove(path)
            raise FileChanged("changed")
        return real(self, path, **how)  # type: ignore[arg-type]

    monkeypatch.setattr(Tree, "read", read)


@pytest.mark.parametrize("everything", [False, True])
async def test_a_file_that_changes_while_it_is_read_keeps_the_old_entry(
    core: Core, monkeypatch: pytest.MonkeyPatch, everything: bool
) -> None:
    await moved(core)
    once(monkeypatch, "z")
    rows = core.mirror.queue.settled(core.clock.now)
    await reconcile(core.mirror, Scope() if everything else Scope(rows))
    assert core.target.texts()["a"] == "the content"
    for _ in range(4):
        core.clock.forward(1)
        await reconcile(core.mirror, Scope(core.mirror.queue.settled(core.clock.now)))
        assert "the content" in core.target.texts().values()
    assert core.target.texts() == {"z": "the content", "other": "o"}


async def test_a_failed_upload_keeps_the_old_entry_until_it_succeeds(core: Core) -> None:
    await moved(core)
    core.target.failures["z"] = [Retry("no"), Retry("no")]
    for _ in range(3):
        await core.full()
        assert core.target.texts()["a"] == "the content"
        assert all(row.attempts for row in core.mirror.queue.every()), "a single pass does not wait for it"
        if len(core.target.failures["z"]) == 0:
            break
    core.clock.forward(3600)
    await core.full()
    assert core.target.texts() == {"z": "the content", "other": "o"}


async def test_a_delete_waits_for_the_failed_upload_of_its_content_and_not_for_another(core: Core) -> None:
    await moved(core)
    core.write("zz", "other bytes")
    core.write("aa", "other bytes")
    for key in ("aa", "z", "zz"):
        core.target.failures[key] = [Retry("no")]
    await core.full()
    assert core.mirror.absences.get(["a"])["a"].replacement == "z"


async def test_each_delete_waits_for_its_own_reason(core: Core) -> None:
    await in_step(core, a="the content", b="young", other="o")
    (core.root / "a").rename(core.root / "z")
    core.target.failures["z"] = [Retry("no")]
    core.remove("b")
    result = await core.full(delete_after=DELETE_AFTER_S)
    assert core.target.texts() == {"a": "the content", "b": "young", "other": "o"}
    assert (result.waiting, planned(result)) == (1, {"put": 1})
    assert {key: each.replacement for key, each in core.mirror.absences.get(["a", "b"]).items()} == {
        "a": "z",
        "b": None,
    }


async def test_a_file_that_goes_beside_one_of_a_similar_name_is_deleted(core: Core) -> None:
    await in_step(core, **{"app.ts": "1", "app.ts.txt": "2", "other": "3"})
    core.remove("app.ts.txt")
    await core.full()
    assert core.target.texts() == {"app.ts": "1", "other": "3"}


async def test_an_upload_that_failed_in_an_earlier_pass_keeps_the_old_entry(core: Core) -> None:
    await moved(core)
    core.target.failures["z"] = [Retry("no")]
    rows = {row.key: row for row in core.mirror.queue.settled(core.clock.now)}
    await reconcile(core.mirror, Scope([rows["z"]]))
    await reconcile(core.mirror, Scope([rows["a"]]))
    assert core.target.texts() == {"a": "the content", "other": "o"}


async def test_content_that_is_refused_under_a_new_name_stays_under_the_old_one(core: Core) -> None:
    await moved(core)
    core.target.failures["z"] = [Park("refused", "no")]
    for _ in range(3):
        await core.full()
        assert core.target.texts() == {"a": "the content", "other": "o"}
    core.remove("z")
    await core.full()
    await core.full()
    assert core.target.texts() == {"other": "o"}


async def test_a_pending_mark_postpones_deletes_for_settle_max_at_most(core: Core) -> None:
    await moved(core)
    rows = {row.key: row for row in core.mirror.queue.settled(core.clock.now)}
    await reconcile(core.mirror, Scope([rows["a"]]))
    assert "a" in core.target.store
    core.remove("z")
    for _ in range(40):
        core.mark("busy.log")
        core.clock.forward(1)
        await run_now(core, "busy.log", "z")
    assert core.target.texts() == {"other": "o"}


async def test_an_approved_delete_does_not_wait_for_a_file_that_is_marked_meanwhile(core: Core) -> None:
    await forty(core)
    for name in names("guides", 20):
        core.remove(name)
    with pytest.raises(Brake):
        await core.full()
    plan = (await core.full(dry_run=True)).plan_id
    core.mark("busy.log")
    await reconcile(core.mirror, Scope(), PassOptions(approved=plan))
    assert core.target.texts() == names("news", 20)


async def run_now(core: Core, *but: str) -> None:
    rows = [row for row in core.mirror.queue.settled(core.clock.now) if row.key not in but]
    await reconcile(core.mirror, Scope(rows))


async def test_a_pending_put_of_a_longer_pass_keeps_the_old_entry(core: Core) -> None:
    await moved(core)
    other = (await core.full(dry_run=True)).tables
    assert [action.key for action, _ in other.plan.actions() if isinstance(action, Put)] == ["z"]
    rows = {row.key: row for row in core.mirror.queue.every()}
    core.mirror.queue.done([rows["z"]])
    await reconcile(core.mirror, Scope([rows["a"]]))
    assert "a" in core.target.store


async def test_a_delete_does_not_wait_for_the_upload_of_its_own_file(core: Core) -> None:
    await in_step(core, a="one", b="two", other="o")
    core.write("a", "eno")
    core.write("b", "owt")
    longer = (await core.full(dry_run=True)).tables
    gone(core, "a", "b")
    core.clock.forward(1)
    result = await run(core)
    assert result
    assert result.waiting == 0
    longer.drop()
    for _ in range(10):
        core.clock.forward(DELETE_AFTER_S)
        await run(core)
    assert (core.target.texts(), core.waiting()) == ({"other": "o"}, [])


async def test_deletes_that_wait_for_each_other_are_carried_out(core: Core) -> None:
    await in_step(core, a="one", b="two", other="o")
    gone(core, "a", "b")
    core.clock.forward(1)
    await run(core)
    core.mirror.absences.set_replacements([("a", "b"), ("b", "a")])
    for _ in range(10):
        core.clock.forward(DELETE_AFTER_S)
        await run(core)
    assert (core.target.texts(), core.waiting()) == ({"other": "o"}, [])


async def absent(core: Core, for_s: float) -> list[Dirty]:
    """Let a full pass see that the file "a" is gone. Return the row of its key after a time."""
    await in_step(core, a="the content", other="o")
    gone(core, "a")
    await run(core, everything=True)
    core.clock.forward(for_s)
    core.mark("a")
    return [core.row("a")]


@pytest.mark.parametrize("attempts", [0, 2])
@pytest.mark.parametrize(("due_in_s", "wait_s"), [(5.0, 5.0), (0.0, SOON_S), (100.0, LATER_S)])
async def test_a_delete_is_looked_at_again_when_its_upload_is_due(
    core: Core, attempts: int, due_in_s: float, wait_s: float
) -> None:
    rows = await absent(core, 0)
    core.mirror.absences.set_replacements([("a", "z")])
    core.mirror.queue.retry("z", core.clock.now + due_in_s, attempts)
    result = await reconcile(core.mirror, Scope(rows))
    row = core.row("a")
    assert (result.waiting, row.due - core.clock.now, row.attempts) == (1, wait_s, min(attempts, 1))
    assert core.mirror.absences.get(["a"])["a"].replacement == "z"


@pytest.mark.parametrize(("due_in_s", "wait_s"), [(5.0, 5.0), (0.0, SOON_S), (100.0, LATER_S)])
@pytest.mark.parametrize(("absent_s", "waits"), [(29.5, True), (30.0, False)])
async def test_a_delete_is_looked_at_again_when_the_first_marked_file_is_due(
    core: Core, due_in_s: float, wait_s: float, absent_s: float, *, waits: bool
) -> None:
    rows = await absent(core, absent_s)
    core.mark("busy.log", "later.log")
    core.mirror.queue.retry("busy.log", core.clock.now + due_in_s, 0)
    core.mirror.queue.retry("later.log", core.clock.now + 200, 0)
    await reconcile(core.mirror, Scope(rows))
    assert ("a" in core.target.store) is waits
    if waits:
        row = core.row("a")
        assert (row.due - core.clock.now, row.attempts) == (wait_s, 0)
        assert core.mirror.absences.get(["a"])["a"].replacement == ""


async def test_an_entry_that_now_holds_a_file_of_the_same_name_is_not_deleted(core: Core) -> None:
    await in_step(core, **{"app.ts": "1", "app.ts.txt": "2", "other": "3"})
    held = core.mirror.journal.get("app.ts.txt")
    assert held
    # The entry was renamed after the other file, because both keys have the same name under some pattern.
    core.mirror.journal.put(dataclasses.replace(held, key="app.ts"))
    core.remove("app.ts.txt")
    result = await core.hint("app.ts.txt")
    assert outcomes(result)["app.ts.txt"] == "again"
    assert ("app.ts.txt" in core.target.store, core.waiting()) == (True, [("app.ts.txt", False)])


async def test_deletes_refused_with_a_fresh_state_stay_refused(core: Core) -> None:
    for number in range(8):
        core.target.put_by("me", f"{number}", str(number))
    core.write("0", "0")
    core.use(max_delete="25%")
    for _ in range(2):
        with pytest.raises(Brake, match=r"7 of 8 .* allows 2, and no full pass has ended with this state file\. Noth"):
            await core.full()
    assert len(core.target.store) == 8


async def test_a_fresh_state_stays_fresh_while_deletes_are_young(core: Core) -> None:
    for number in range(8):
        core.target.put_by("me", f"{number}", str(number))
    core.write("0", "0")
    core.use(max_delete="25%")
    await run(core, everything=True)
    for _ in range(2):
        core.clock.forward(DELETE_AFTER_S + 1)
        with pytest.raises(Brake, match="7 of 8"):
            await run(core, everything=True)
    assert len(core.target.store) == 8


async def test_a_delete_waits_for_its_upload_although_the_file_has_changed_since(core: Core) -> None:
    await in_step(core, **{"old.md": "text", "kept.md": "kept"})
    core.remove("old.md")
    core.write("new.md", "text")
    core.target.failures["new.md"] = [Retry("busy")]
    assert (await core.full()).waiting == 1
    core.write("new.md", "a longer text")
    assert (await core.hint("old.md")).waiting == 1
    assert core.target.texts() == {"kept.md": "kept", "old.md": "text"}
    core.clock.forward(10)
    await core.full()
    assert core.target.texts() == {"kept.md": "kept", "new.md": "a longer text"}
