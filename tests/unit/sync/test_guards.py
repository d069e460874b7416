"""The guards against deletes: the brake and the root."""

import re
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from syncd.core.errors import Brake, Halt, PlanChanged
from syncd.core.model import Action, Delete, Put
from syncd.local.mounts import MountSurvey
from syncd.local.walk import Tree
from syncd.state.pass_tables import PassTables
from syncd.sync import guard
from syncd.sync.mirror import Hooks, PassOptions, Scope
from syncd.sync.reconcile import reconcile
from tests.harness import Core, ScriptedTarget, in_step, plan, planned

# -- the brake


async def braked(core: Core, files: int, max_delete: str | int) -> None:
    await in_step(core, **{f"{number:03}": "x" for number in range(files)})
    core.use(max_delete=max_delete)


def drop(core: Core, first: int, last: int) -> None:
    core.remove(*(f"{number:03}" for number in range(first, last)))


@pytest.mark.parametrize(("removed", "refused"), [(10, False), (11, True)])
async def test_a_small_mirror_may_lose_ten(core: Core, removed: int, refused: bool) -> None:
    await braked(core, 20, "25%")
    drop(core, 0, removed)
    if refused:
        with pytest.raises(Brake):
            await core.full()
    else:
        await core.full()
    assert len(core.target.store) == (20 if refused else 20 - removed)


@pytest.mark.parametrize(
    ("files", "removed", "max_delete", "said"),
    [
        (20, 11, "25%", "max_delete = 25% allows 5, and up to 10 in an hour always pass. Nothing"),
        (36, 11, "25%", "max_delete = 25% allows 9, and up to 10 in an hour always pass. Nothing"),
        (40, 11, "25%", "max_delete = 25% allows 10. Nothing"),
        (48, 13, "25%", "max_delete = 25% allows 12. Nothing"),
        (20, 11, 3, "max_delete = 3 allows 3, and up to 10 in an hour always pass. Nothing"),
        (20, 1, 0, "max_delete = 0 allows 0. Nothing"),
    ],
)
async def test_a_refusal_names_the_number_that_would_have_passed(
    core: Core, files: int, removed: int, max_delete: str | int, said: str
) -> None:
    await braked(core, files, max_delete)
    drop(core, 0, removed)
    with pytest.raises(Brake) as caught:
        await core.full()
    assert said in str(caught.value)


async def test_a_refused_plan_deletes_nothing_uploads_all_and_names_the_remedy(core: Core) -> None:
    await braked(core, 48, "25%")
    drop(core, 0, 13)
    core.write("new", "1")
    core.mark("new")
    with pytest.raises(Brake) as caught:
        await core.full()
    for part in (
        "13 of 48",
        "000, 001, 002, …",
        "max_delete = 25% allows 12",
        "syncd plan docs",
        "syncd approve docs-",
    ):
        assert part in str(caught.value)
    assert "Nothing was deleted; 1 upload was made." in str(caught.value)
    assert (core.target.changes, len(core.target.store)) == (1, 49)
    assert core.waiting() == [], "a full pass judges all of it again"
    core.restart()
    with pytest.raises(Brake):
        await core.full()


async def test_a_dry_run_reports_the_refusal(core: Core) -> None:
    await braked(core, 20, "25%")
    drop(core, 0, 11)
    result = await core.full(dry_run=True)
    assert result.refusal is not None
    assert "11 of 20" in result.refusal
    assert planned(result) == {"delete": 11}


async def test_second_entries_stay_if_the_mirror_deletes_nothing(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="1")
    core.use(prune="never")
    core.forget_listing()
    seen = core.target.listing()
    second = [entry._replace(ref=f"second {entry.ref}") for entry in seen]
    monkeypatch.setattr(ScriptedTarget, "listing", lambda _: [*seen, *second])
    result = await core.full()
    assert (planned(result), core.problems()) == ({}, {})


async def test_second_entries_of_files_that_are_there_do_not_count(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await braked(core, 40, 0)
    core.forget_listing()
    seen = core.target.listing()
    more = [entry._replace(ref=f"second {entry.ref}") for entry in seen]
    with monkeypatch.context() as doubled:
        doubled.setattr(ScriptedTarget, "listing", lambda _: [*seen, *more])
        assert (await core.full()).done == {"delete": 40}
    core.use(max_delete="25%")
    drop(core, 0, 10)
    await core.full()
    assert len(core.target.store) == 30


async def test_a_second_entry_goes_although_the_first_was_confirmed(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="1")
    core.forget_listing()
    core.target.put_by("me", "a", "drifted")
    (first,) = core.target.listing()
    monkeypatch.setattr(ScriptedTarget, "listing", lambda _: [first, first._replace(ref="second")])
    result = await core.full()
    assert (core.target.confirmed, result.done) == (["a"], {"put": 1, "delete": 1})


async def test_second_entries_of_files_that_are_gone_count(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await braked(core, 40, 11)
    core.forget_listing()
    more = [entry._replace(ref=f"second {entry.ref}") for entry in core.target.listing()]
    kept = core.target.listing()
    drop(core, 0, 6)
    monkeypatch.setattr(ScriptedTarget, "listing", lambda _: [*kept, *more])
    with pytest.raises(Brake, match="12 of 40"):
        await core.full()


async def test_force_passes_once_and_its_deletes_do_not_count_later(core: Core) -> None:
    await braked(core, 100, 20)
    drop(core, 0, 30)
    await core.full(force=True)
    assert len(core.target.store) == 70
    drop(core, 30, 50)
    await core.full()
    assert len(core.target.store) == 50
    drop(core, 50, 51)
    with pytest.raises(Brake, match="after 20 in the last hour"):
        await core.full()
    core.clock.forward(3600)
    await core.full()
    assert len(core.target.store) == 49


async def test_a_directory_removed_file_by_file_is_refused_too(core: Core) -> None:
    await braked(core, 40, "25%")
    for number in range(10):
        drop(core, number, number + 1)
        await core.hint(f"{number:03}")
    drop(core, 10, 11)
    with pytest.raises(Brake):
        await core.hint("010")
    assert len(core.target.store) == 30


async def test_the_brake_counts_every_file_of_a_removed_directory_once(core: Core) -> None:
    await in_step(
        core, **{f"d/{number:02}": "x" for number in range(12)}, **{f"{number:02}": "x" for number in range(36)}
    )
    core.use(max_delete="25%")
    for number in range(12):
        core.remove(f"d/{number:02}")
        core.mark(f"d/{number:02}")
    result = await core.hint("d", subtree=True)
    assert planned(result) == {"delete": 12}
    assert len(core.target.store) == 36


async def test_a_file_in_a_new_directory_is_sent_once(core: Core) -> None:
    core.write("d/a", "1")
    core.mark("d/a")
    await core.hint("d", subtree=True)
    assert core.target.changes == 1


async def test_orphans_count_as_known(core: Core) -> None:
    for number in range(40):
        core.target.put_by("me", f"{number:03}", "x")
        if number >= 11:
            core.write(f"{number:03}", "x")
    core.use(max_delete="25%")
    with pytest.raises(Brake, match="11 of 40"):
        await core.full()
    assert (core.mirror.journal.count(), len(core.target.store)) == (29, 40)


async def test_zero_deletes_nothing(core: Core) -> None:
    await braked(core, 3, 0)
    drop(core, 0, 1)
    with pytest.raises(Brake):
        await core.full()
    assert len(core.target.store) == 3


def test_the_id_of_a_plan_names_all_its_deletes(core: Core) -> None:
    delete = Delete("a", "stale", "a", "m1", "c", size=1)
    plans: list[list[Action]] = [
        [],
        [Put("a", "new", "a", 1)],
        [delete],
        [replace(delete, checksum="d", size=2), Put("b", "new", "b", 1)],
        [replace(delete, key="b")],
        [replace(delete, ref="m2")],
        [replace(delete, reason="orphan")],
        [delete, replace(delete, key="b")],
    ]
    ids = []
    for number, actions in enumerate(plans):
        tables = PassTables(core.mirror.db, number)
        tables.plan.add(actions)
        ids.append(guard.plan_id("docs", tables))
        assert re.fullmatch("docs-[0-9a-f]{12}", ids[-1])
        assert guard.plan_id("other", tables) == ids[-1].replace("docs", "other")
    assert (ids[0], ids[2]) == (ids[1], ids[3]), "uploads do not count"
    assert len(set(ids)) == len(plans) - 2


@pytest.mark.parametrize("change", ["more", "none"])
async def test_an_approval_of_another_plan_changes_nothing(core: Core, change: str) -> None:
    await braked(core, 3, 0)
    drop(core, 0, 1)
    approved = (await core.full(dry_run=True)).plan_id
    if change == "more":
        drop(core, 1, 2)
        now = f"its id is {(await core.full(dry_run=True)).plan_id} now"
    else:
        core.write("000", "x")
        now = "it deletes nothing now"
    core.write("new", "1")
    with pytest.raises(PlanChanged) as caught:
        await core.full(approved=approved)
    assert str(caught.value) == (
        f"the plan has changed since {approved}: {now}. Nothing was changed; see it: syncd plan docs"
    )
    assert len(core.target.store) == 3
    assert "new" not in core.target.store


async def test_the_approved_plan_is_made(core: Core) -> None:
    await braked(core, 3, 0)
    drop(core, 0, 1)
    approved = (await core.full(dry_run=True)).plan_id
    assert (await core.full(approved=approved)).done == {"delete": 1}


# -- the root


async def test_a_missing_root_halts_before_any_plan(core: Core) -> None:
    await in_step(core, a="1")
    core.root.rename(core.root.parent / "away")
    for force in (False, True):
        with pytest.raises(Halt, match="nothing was deleted"):
            await core.full(force=force)
    core.root.write_text("a file in its place")
    with pytest.raises(Halt, match="no directory"):
        await core.full()
    assert core.target.texts() == {"a": "1"}
    core.root.unlink()
    (core.root.parent / "away").rename(core.root)
    assert planned(await core.full()) == {}


async def test_an_emptied_root_halts_unless_forced(core: Core) -> None:
    await in_step(core, a="1", b="2")
    core.remove("a", "b")
    with pytest.raises(Halt, match="is empty, but 2 of its files are known"):
        await core.full()
    with pytest.raises(Halt):
        await core.hint("a")
    core.restart()
    with pytest.raises(Halt):
        await core.full()
    assert len(core.target.store) == 2
    await core.full(force=True)
    assert core.target.store == {}


async def test_an_empty_root_without_records_is_accepted(core: Core) -> None:
    assert planned(await core.full()) == {}


def other_device(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = core.root.stat()
    monkeypatch.setattr(Tree, "identity", lambda _: (seen.st_dev + 1, seen.st_ino))
    monkeypatch.setattr(
        guard, "look_at_mounts", lambda *_: MountSurvey(str(core.root), "/", "another disk", {}, frozenset())
    )


async def test_another_device_halts_until_it_is_back_or_forced(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="1", b="2")
    core.remove("a")
    with monkeypatch.context() as patch:
        other_device(core, patch)
        for _ in range(2):
            with pytest.raises(Halt) as caught:
                await core.full()
            assert str(caught.value) == (
                f"path {core.root} is on another device than when syncd started (a mount came or went); nothing was"
                " deleted. Mount it again, or accept this folder: syncd reconcile --force docs"
            )
    assert core.target.texts() == {"a": "1", "b": "2"}
    assert planned(await core.full(dry_run=True)) == {"delete": 1}
    other_device(core, monkeypatch)
    await core.full(force=True)
    assert core.target.texts() == {"b": "2"}
    assert planned(await core.full()) == {}, "force accepts the new device"


@pytest.mark.parametrize(
    ("device", "mount", "halts"),
    [(0, "a disk", False), (1, "a disk", False), (0, "another", False), (1, "another", True)],
)
async def test_a_root_on_another_device_halts_unless_the_same_file_system_was_mounted_again(
    core: Core, monkeypatch: pytest.MonkeyPatch, device: int, mount: str, *, halts: bool
) -> None:
    mounted, seen = "a disk", core.root.stat()
    monkeypatch.setattr(guard, "look_at_mounts", lambda *_: MountSurvey(str(core.root), "/", mounted, {}, frozenset()))
    await in_step(core, a="1", b="2")
    mounted = mount
    monkeypatch.setattr(Tree, "identity", lambda _: (seen.st_dev + device, seen.st_ino))
    core.remove("a")
    if halts:
        with pytest.raises(Halt, match="is on another device"):
            await core.full()
    else:
        await core.full()
    assert core.target.texts() == ({"a": "1", "b": "2"} if halts else {"b": "2"})


@pytest.mark.parametrize(("moved", "again"), [(False, 0), (True, 1)])
async def test_the_files_of_a_root_that_was_replaced_are_read_once(core: Core, moved: bool, again: int) -> None:
    core.write("a", "1", age_s=10)
    await core.full()
    await core.full()
    if moved:
        core.root.rename(core.root.parent / "old")
        core.root.mkdir()
        (core.root.parent / "old" / "a").rename(core.root / "a")
    for expected in (again, 0):
        core.restart()
        with capture_logs() as lines:
            assert (await core.full()).files_read == expected
        changed = [line for line in lines if line["event"] == "root.changed"]
        about = {"event": "root.changed", "log_level": "warning", "mirror": "docs", "path": str(core.root)}
        assert changed == ([about] if expected else [])


async def test_another_device_at_the_start_of_a_process_is_no_reason_to_halt(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="1")
    core.restart()
    other_device(core, monkeypatch)
    assert planned(await core.full()) == {}


async def test_a_root_swapped_on_the_same_device_goes_on_with_every_file_read(core: Core) -> None:
    core.write("a", "1", age_s=10)
    core.write("b", "2", age_s=10)
    await core.full()
    core.root.rename(core.root.parent / "old")
    core.root.mkdir()
    core.write("a", "1", age_s=10)
    core.write("c", "3", age_s=10)
    result = await core.full()
    assert result.files_read == 1
    assert core.target.texts() == {"a": "1", "c": "3"}
    assert sorted(plan(result)) == [("delete", "b", "stale"), ("put", "c", "new")]


@pytest.mark.parametrize("delete_after", [0.0, 30.0])
async def test_a_root_swapped_for_a_folder_with_none_of_the_files_has_no_floor_of_ten(
    core: Core, delete_after: float
) -> None:
    await in_step(core, a="1", b="2", c="3")
    core.use(max_delete="25%")
    core.root.rename(core.root.parent / "old")
    core.root.mkdir()
    core.write("placeholder", "4")
    if delete_after:
        await reconcile(core.mirror, Scope(), PassOptions(delete_after=delete_after))
        core.clock.forward(delete_after)
    for _ in range(2):
        with pytest.raises(Brake, match="3 of "):
            await reconcile(core.mirror, Scope(), PassOptions(delete_after=delete_after))
        core.restart()
    assert core.target.texts() == {"a": "1", "b": "2", "c": "3", "placeholder": "4"}
    await core.full(force=True)
    core.write("new", "5")
    await core.full()
    core.remove("placeholder")
    await core.full()
    assert core.target.texts() == {"new": "5"}, "the folder is known by then"


@pytest.mark.parametrize(("files", "kept"), [(1, 0), (2, 0), (2, 1)])
async def test_the_floor_of_ten_is_for_a_folder_with_one_of_the_files(core: Core, files: int, kept: int) -> None:
    await in_step(core, **{f"{number}": f"text {number}" for number in range(files)})
    core.use(max_delete="25%")
    core.root.rename(core.root.parent / "old")
    core.root.mkdir()
    core.write("placeholder", "other")
    for number in range(kept):
        core.write(f"{number}", f"text {number}")
    if kept:
        await core.full()
        assert core.target.texts() == {"0": "text 0", "placeholder": "other"}
        return
    with pytest.raises(Brake, match=f"the plan deletes {files} of {files} entries .* allows 0, and no full pass"):
        await core.full()


@pytest.mark.parametrize("gone", [True, False])
async def test_a_root_replaced_between_puts_and_deletes_keeps_the_rest(core: Core, gone: bool) -> None:
    await in_step(core, a="1", b="2")
    core.remove("a")
    core.write("new", "3")

    async def replace() -> None:
        core.root.rename(core.root.parent / "old")
        if not gone:
            core.root.mkdir()

    with pytest.raises(Halt, match=r"nothing was deleted|was not deleted"):
        await core.full(Hooks(replace))
    assert core.target.texts() == {"a": "1", "b": "2", "new": "3"}


async def test_of_two_deletes_under_one_key_each_has_its_outcome(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await braked(core, 3, 0)
    core.forget_listing()
    more = [entry._replace(ref=f"{number} {entry.ref}") for entry in core.target.listing() for number in (2, 3)]
    seen = [*core.target.listing(), *more]
    monkeypatch.setattr(ScriptedTarget, "listing", lambda _: seen)
    result = await core.full()
    assert [(action.kind, outcome) for action, outcome in result.tables.plan.actions()] == [("delete", "done")] * 6
