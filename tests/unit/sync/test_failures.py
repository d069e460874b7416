"""Files and remotes that fail."""

import pytest

from syncd.core.errors import Conflict, NotFound, Park, Retry, TargetMissing, Unreachable
from syncd.core.model import Problem, ProblemKind
from syncd.core.rules import Rules
from syncd.state.queue import FAR_S, Dirty
from syncd.sync.mirror import Scope
from syncd.sync.reconcile import reconcile
from tests.harness import Core, ScriptedTarget, in_step, is_clean, outcomes, planned

# -- problems


async def test_problems_are_noted_and_cleared_when_they_are_solved(core: Core) -> None:
    core.write("big", "x" * 1001)
    core.write("fine", "1")
    (core.root / "link").symlink_to("fine")
    result = await core.full()
    assert core.problems() == {"big": "too_large", "link": "unsupported_type"}
    assert dict(result.problems) == {"too_large": 1, "unsupported_type": 1}
    assert not is_clean(result)
    core.write("big", "small")
    await core.hint("big")
    assert core.problems() == {"link": "unsupported_type"}
    (core.root / "link").unlink()
    assert is_clean(await core.full())
    assert core.problems() == {}
    assert core.target.texts() == {"big": "small", "fine": "1"}


async def test_a_file_that_outgrew_the_target_keeps_its_last_entry(core: Core) -> None:
    await in_step(core, a="1")
    core.write("a", "x" * 1001)
    assert planned(await core.full()) == {}
    assert core.target.texts() == {"a": "1"}


async def test_an_entry_that_could_not_be_indexed_is_a_problem(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="1")
    (entry,) = core.target.listing()
    bad = type(entry)("a", entry.ref, entry.checksum, entry.version, 1, "me", marked=True, status="error", error="odd")
    monkeypatch.setattr(ScriptedTarget, "listing", lambda _: [bad])
    result = await core.full()
    assert core.problem("a").kind == "index_error"
    assert "odd" in core.problem("a").message
    assert planned(result) == {}, "it is indexed again, not uploaded again"


# -- failures


async def test_a_failed_item_stops_no_other_and_is_tried_again_later(core: Core) -> None:
    for name in "abc":
        core.write(name, name)
    core.target.failures["b"] = [Retry("busy")]
    result = await core.full()
    assert outcomes(result) == {"a": "done", "b": "failed", "c": "done"}
    assert (result.done["put"], result.done["failed"], dict(result.problems)) == (2, 1, {"failed": 1})
    assert core.problems() == {"b": "failed"}
    assert core.row("b").due == core.clock.now + 5
    core.clock.forward(5)
    await reconcile(core.mirror, Scope(core.mirror.queue.settled(core.clock.now)))
    assert set(core.target.store) == {"a", "b", "c"}
    assert core.problems() == {}
    assert core.waiting() == []


async def test_failing_again_and_again_waits_longer_and_longer(core: Core) -> None:
    core.write("a", "1")
    core.target.failures["a"] = [Retry("busy") for _ in range(3)]
    waits = []
    await core.full()
    for _ in range(3):
        due = core.row("a").due
        waits.append(due - core.clock.now)
        core.clock.now = due
        await reconcile(core.mirror, Scope(core.mirror.queue.settled(due)))
    assert waits == [5, 10, 20]
    assert core.waiting() == []


@pytest.mark.parametrize(("asked", "waits"), [(60.0, 60.0), (3 * 86400.0, FAR_S)])
async def test_the_wait_that_the_remote_requests_has_a_limit(core: Core, asked: float, waits: float) -> None:
    core.write("a", "1")
    core.target.failures["a"] = [Retry("busy", after_s=asked)]
    await core.full()
    assert core.row("a").due == core.clock.now + waits
    assert core.mirror.queue.settled(core.clock.now) == [], "a long wait is no clock that was ahead"


@pytest.mark.parametrize("error", [NotFound("gone"), Conflict("exists")])
async def test_a_conflict_or_a_missing_entry_is_retried(core: Core, error: Park) -> None:
    core.write("a", "1")
    core.target.failures["a"] = [error]
    await core.full()
    assert core.problems() == {"a": "failed"}
    core.clock.forward(5)
    await core.full()
    assert core.target.texts() == {"a": "1"}


async def test_a_question_that_was_not_answered_is_asked_again_later(core: Core) -> None:
    core.write("a", "1")
    core.target.confirm_failures["a"] = [Retry("busy")]
    await core.hint("a")
    assert core.problems() == {"a": "failed"}
    assert core.row("a").due == core.clock.now + 5
    core.clock.forward(5)
    await reconcile(core.mirror, Scope(core.mirror.queue.settled(core.clock.now)))
    assert core.target.texts() == {"a": "1"}
    assert core.problems() == {}


@pytest.mark.parametrize(
    ("error", "kind", "message", "due_s"),
    [
        (Park("foreign", "it is theirs"), "foreign", "it is theirs", None),
        (Retry("busy", after_s=90.0), "failed", "busy", 90.0),
        (
            RuntimeError("odd"),
            "failed",
            "unexpected RuntimeError: odd; syncd tries it again, and the log has the traceback",
            5.0,
        ),
    ],
)
async def test_a_question_that_fails_is_a_problem_of_its_key(
    core: Core, error: Exception, kind: ProblemKind, message: str, due_s: float | None
) -> None:
    core.write("a", "1")
    core.target.confirm_failures["a"] = [error]
    await core.hint("a")
    assert core.problem("a") == Problem("a", kind, message)
    now = core.clock.now
    due = [Dirty("a", subtree=False, attempts=1, seq=2, due=now + due_s, first_seen=now - 1)] if due_s else []
    assert core.mirror.queue.every() == due


@pytest.mark.parametrize(("key", "subtree"), [("p/", True), ("p/a", False)])
async def test_only_a_retry_of_the_root_concerns_everything_below_it(core: Core, key: str, *, subtree: bool) -> None:
    core.use(prefix="p/")
    now = core.clock.now
    assert core.mirror.try_later(key, None) == (5.0, 1)
    assert core.mirror.try_later(key, 70.0) == (70.0, 2)
    assert core.mirror.queue.every() == [
        Dirty(key, subtree=subtree, attempts=2, seq=2, due=now + 70, first_seen=now + 5)
    ]


async def test_an_unreachable_remote_ends_the_pass_and_keeps_the_queue(core: Core) -> None:
    core.write("a", "1")
    core.target.raises = [Unreachable("no route")]
    with pytest.raises(Unreachable):
        await core.hint("a")
    assert core.waiting() == [("a", False)]
    core.target.confirm_failures["a"] = [Unreachable("no route")]
    with pytest.raises(Unreachable):
        await core.hint("a")
    await core.hint("a")
    assert core.target.texts() == {"a": "1"}


async def test_an_error_that_ends_the_pass_is_not_tried_with_a_part_of_the_batch(core: Core) -> None:
    for name in "abc":
        core.write(name, name)
    core.target.raises = [Unreachable("no answer")]
    with pytest.raises(Unreachable):
        await core.full()
    assert (core.target.applied, core.problems()) == ([], {})


async def test_a_crash_in_the_middle_loses_nothing(core: Core) -> None:
    for name in "abc":
        core.write(name, name)
    core.mark("a", "b", "c")
    core.target.raises = [KeyboardInterrupt()]
    core.clock.forward(1)
    rows = core.mirror.queue.settled(core.clock.now)
    with pytest.raises(KeyboardInterrupt):
        await reconcile(core.mirror, Scope(rows))
    core.restart()
    assert core.waiting() == [("a", False), ("b", False), ("c", False)]
    await reconcile(core.mirror, Scope(core.mirror.queue.settled(core.clock.now)))
    assert set(core.target.store) == {"a", "b", "c"}


async def test_refused_content_is_not_sent_again_until_it_changes(core: Core) -> None:
    core.write("a", "bad")
    core.write("b", "fine")
    core.target.failures["a"] = [Park("refused", "malware", code=7005)]
    await core.full()
    assert "malware (code 7005)" in core.problem("a").message
    core.target.applied.clear()
    for result in (await core.full(), await core.hint("a")):
        assert planned(result) == {}
        assert dict(result.problems) == {"refused": 1}
    core.restart()
    assert planned(await core.full()) == {}
    assert core.target.applied == []
    core.write("a", "good")
    await core.hint("a")
    assert core.target.texts() == {"a": "good", "b": "fine"}
    assert core.problems() == {}


async def test_refused_new_content_keeps_the_old_entry(core: Core) -> None:
    await in_step(core, a="1")
    core.write("a", "bad")
    core.target.failures["a"] = [Park("refused", "no")]
    await core.full()
    await core.full()
    assert core.target.texts() == {"a": "1"}


async def test_every_pass_asks_again_for_an_entry_found_foreign(core: Core) -> None:
    core.write("a", "1")
    core.target.failures["a"] = [Park("foreign", "theirs")]
    assert not is_clean(await core.full())
    await core.full()
    assert core.target.texts() == {"a": "1"}


async def test_a_missing_target_is_made_only_if_the_settings_say_so(core: Core) -> None:
    core.write("a", "1")
    made: list[int] = []

    class Absent(ScriptedTarget):
        def listing(self) -> list[object]:  # type: ignore[override]
            if not made:
                raise TargetMissing("no such instance")
            return []

        async def create(self) -> None:
            made.append(1)

    core.mirror.target = Absent(owner="me", limits=core.target.limits)
    with pytest.raises(TargetMissing):
        await core.full()
    core.mirror.settings = type(core.mirror.settings)(core.mirror.policy, Rules(), create=True)
    planned = await core.full(dry_run=True)
    assert planned.tables.plan.counts["put"] == 1, "a dry run plans against an empty target"
    assert made == []
    await core.full()
    assert made == [1]


async def test_an_unexpected_error_of_one_file_is_its_problem_alone(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="1", b="1")
    core.write("a", "22")
    core.write("b", "22")
    read = core.mirror.tree.read

    def fail(path: str, *, allow_changing: bool = False) -> object:
        if path == "a":
            raise RuntimeError("odd")
        return read(path, allow_changing=allow_changing)

    monkeypatch.setattr(core.mirror.tree, "read", fail)
    await core.full()
    assert core.problem("a").kind == "failed"
    assert "odd" in core.problem("a").message
    assert core.target.texts() == {"a": "1", "b": "22"}
