"""Remotes that differ from the journal, and entries of other owners."""

from dataclasses import replace
from threading import Barrier

import pytest

from syncd.core.model import Content, Entry, Record
from syncd.core.problems import Limits
from syncd.local.walk import Tree
from syncd.sync.mirror import CONVERSIONS
from syncd.sync.observe import FAULTS_NAMED
from tests.harness import Core, ScriptedTarget, in_step, is_clean, plan, planned

# -- the journal


async def test_a_lost_journal_is_rebuilt_without_an_upload(core: Core) -> None:
    await in_step(core, a="1", b="2")
    core.mirror.journal.clear()
    result = await core.full()
    assert plan(result) == [("adopt", "a", "found"), ("adopt", "b", "found")]
    assert core.target.changes == 0
    assert planned(await core.full()) == {}


async def test_a_lost_journal_is_rebuilt_without_marks_by_asking_for_each_content(core: Core) -> None:
    core.target.marks = False
    await in_step(core, a="1", b="2")
    core.mirror.journal.clear()
    result = await core.full()
    assert plan(result) == [("adopt", "a", "unverified"), ("adopt", "b", "unverified")]
    assert sorted(core.target.verified) == ["a", "b"]
    assert core.target.changes == 0


async def test_contents_that_are_not_converted_are_verified_at_the_same_time(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.target.marks = False
    names = [f"{number}" for number in range(CONVERSIONS + 1)]
    await in_step(core, **{name: name for name in names})
    core.mirror.journal.clear()
    together, read, calls = Barrier(len(names), timeout=5), Tree.read, dict.fromkeys(names, 0)

    def waiting(tree: Tree, path: str, *, allow_changing: bool = False) -> object:
        calls[path] += 1
        if calls[path] == 2:
            # The first read yields the checksum of the file, the second one the content to compare.
            together.wait()
        return read(tree, path, allow_changing=allow_changing)

    monkeypatch.setattr(Tree, "read", waiting)
    assert planned(await core.full()) == {"adopt": len(names)}
    assert (set(calls.values()), core.problems()) == ({2}, {})


@pytest.mark.parametrize(("keeps_files", "form"), [(True, b"1 as sent"), (False, b"1")])
async def test_a_target_compares_an_entry_with_the_file_in_the_form_that_it_keeps(
    core: Core, monkeypatch: pytest.MonkeyPatch, *, keeps_files: bool, form: bytes
) -> None:
    compared: list[bytes] = []

    async def checksum(_: ScriptedTarget, _entry: Entry, content: Content) -> str:
        compared.append(content.data)
        return content.checksum

    core.target.marks = False
    await in_step(core, a="1")
    core.mirror.journal.clear()
    core.target.limits = replace(core.target.limits, keeps_files=keeps_files)
    monkeypatch.setattr(
        core.mirror, "convert", lambda _key, content, _limits: replace(content, data=content.data + b" as sent")
    )
    monkeypatch.setattr(ScriptedTarget, "checksum", checksum)
    assert plan(await core.full()) == [("adopt", "a", "unverified")]
    assert compared == [form]


async def test_an_entry_missing_from_a_listing_is_confirmed_before_anything_is_done(core: Core) -> None:
    await in_step(core, a="1", b="2")
    core.target.unlisted = {"a", "b"}
    core.remove("b")
    core.target.confirmed.clear()
    result = await core.full()
    assert sorted(core.target.confirmed) == ["a", "b"]
    assert plan(result) == [("delete", "b", "stale")]


async def test_a_truly_missing_entry_is_put_back_and_one_gone_on_both_sides_is_forgotten(core: Core) -> None:
    await in_step(core, a="1", b="2")
    core.target.store.clear()
    core.remove("b")
    assert plan(await core.full()) == [("forget", "b", "gone"), ("put", "a", "missing")]
    assert core.mirror.journal.count() == 1


async def test_drift_is_put_over(core: Core) -> None:
    await in_step(core, a="1")
    core.forget_listing()
    core.target.put_by("me", "a", "tampered")
    assert plan(await core.full()) == [("put", "a", "drift")]
    assert core.target.texts() == {"a": "1"}


async def test_drift_is_put_over_where_the_remote_keeps_no_marks(core: Core) -> None:
    core.target.marks = False
    await in_step(core, a="1")
    core.target.put_by(None, "a", "unmarked")
    assert plan(await core.full()) == [("put", "a", "drift")]
    assert core.target.texts() == {"a": "1"}


async def test_values_of_an_entry_in_step_are_learned(core: Core) -> None:
    await in_step(core, a="1")
    known = core.mirror.journal.get("a")
    assert known is not None
    core.mirror.journal.put(Record("a", known.ref, known.checksum, known.size, known.written_at))
    await core.full()
    learned = core.mirror.journal.get("a")
    assert learned is not None
    assert (learned.version, learned.remote_size, learned.marked) == (known.version, 1, True)


async def test_a_listing_that_still_shows_what_we_deleted_is_not_believed_within_its_lag(core: Core) -> None:
    await in_step(core, a="1", b="2")
    held = core.target.store["a"]
    core.remove("a")
    await core.full()
    core.target.store["a"] = held
    core.target.limits = type(core.target.limits)(max_file_size=1000, lag_s=60)
    assert planned(await core.full()) == {}
    core.clock.forward(60)
    assert planned(await core.full()) == {}
    assert core.problems() == {"a": "foreign"}, "nobody can tell by then who put it there"
    del core.target.store["a"]
    await core.full()
    assert core.problems() == {}


@pytest.mark.parametrize(("deleted_s", "hidden"), [(0, True), (60, True), (61, False), (-60, True), (-61, False)])
async def test_an_entry_that_we_deleted_is_hidden_for_the_lag_before_and_after_the_listing(
    core: Core, deleted_s: float, *, hidden: bool
) -> None:
    core.target.limits = Limits(max_file_size=1000, lag_s=60)
    await in_step(core, a="1", b="2")
    core.target.put_by("me", "old", "deleted")
    core.forget_listing()
    old = core.target.store["old"]
    core.mirror.journal.tombstones.record_delete(
        "old", old.ref, core.clock.now + 1 - deleted_s, consented=True, age=core.clock.age
    )
    result = await core.full()
    assert plan(result) == ([] if hidden else [("delete", "old", "orphan")])
    assert result.tables.remote.hidden == int(hidden)


# -- others


async def test_entries_of_another_owner_stay(core: Core) -> None:
    for owner in ("you", None):
        core.target.put_by(owner, f"alone-{owner}", "theirs")
        core.target.put_by(owner, f"same-{owner}", "theirs")
        core.write(f"same-{owner}", "ours")
    result = await core.full()
    assert set(core.target.texts().values()) == {"theirs"}
    assert core.target.changes == 0
    assert core.problems() == {"same-None": "foreign", "same-you": "foreign"}
    assert not is_clean(result), "a file that a foreign entry keeps out is not in step"
    assert planned(await core.hint("same-None", "same-you")) == {}


async def test_takeover_takes_over_an_entry_of_another_owner(core: Core) -> None:
    core.target.put_by("you", "a", "theirs")
    core.target.put_by(None, "b", "theirs")
    core.write("a", "ours")
    core.write("b", "ours")
    core.use(takeover=True)
    await core.full()
    assert core.target.texts() == {"a": "ours", "b": "ours"}
    core.use()
    assert planned(await core.full()) == {}


async def test_prune_all_and_never(core: Core) -> None:
    await in_step(core, gone="1", keep="2")
    core.target.put_by(None, "theirs", "t")
    core.remove("gone")
    core.use(prune="never")
    assert planned(await core.full()) == {}
    core.use(prune="all")
    assert sorted(plan(await core.full())) == [("delete", "gone", "stale"), ("delete", "theirs", "orphan")]
    assert set(core.target.store) == {"keep"}


async def test_duplicates_of_ours_go_and_those_of_others_stay(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="1")
    core.forget_listing()
    (entry,) = core.target.listing()
    more = [type(entry)("a", "x1", owner="me"), type(entry)("a", "x2", owner="you"), type(entry)("a", "x3")]
    monkeypatch.setattr(ScriptedTarget, "listing", lambda _: [entry, *more])
    result = await core.full()
    assert [(action.key, getattr(action, "ref", None)) for action, _ in result.tables.plan.actions()] == [("a", "x1")]
    assert core.mirror.journal.get("a") is not None
    assert core.target.texts() == {"a": "1"}


async def test_a_key_shared_with_another_owner_stays_ours_without_a_journal(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="1")
    (entry,) = core.target.listing()
    core.mirror.journal.clear()
    monkeypatch.setattr(ScriptedTarget, "listing", lambda _: [type(entry)("a", "a0", owner="you"), entry])
    assert plan(await core.full()) == [("adopt", "a", "found")]


async def test_a_forged_key_uploads_nothing_from_outside_the_root(core: Core) -> None:
    core.write("keep", "1")
    (core.root.parent / "secret").write_text("s3cret")
    core.target.put_by("me", "../secret", "bait")
    await core.full()
    core.clock.forward(5)
    await core.hint("../secret")
    assert core.target.texts() == {"keep": "1"}


@pytest.mark.parametrize(("number", "named"), [(1, 1), (FAULTS_NAMED, FAULTS_NAMED), (FAULTS_NAMED + 1, FAULTS_NAMED)])
async def test_the_first_rows_that_cannot_be_read_are_problems_until_they_are_gone(
    core: Core, number: int, named: int
) -> None:
    rows = [f"row {each:02}: no key" for each in range(number)]
    core.target.unreadable_rows = rows + rows
    await core.full()
    assert core.problems() == {f"(remote row: {row})": "invalid_key" for row in rows[:named]}
    assert "delete it there: row 00: no key" in core.problem("(remote row: row 00: no key)").message
    core.target.unreadable_rows = []
    await core.full()
    assert core.problems() == {}
