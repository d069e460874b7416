"""An index that takes nothing: a full instance, a paused one, a quota; and entries that it leaves out."""

import pytest

from syncd.core.errors import Halt, PausedHalt
from syncd.core.problems import LATER_TRIES_S, TRIES_S
from syncd.core.requests import current_priority
from syncd.state.queue import retry_problems
from syncd.sync import index, once
from syncd.sync.mirror import PassOptions
from tests.harness import Core, ScriptedTarget, in_step, is_clean
from tests.memory_target import Indexed

FULL = Indexed("error", "ai_search_is_full")
QUOTA = Indexed("error", "workers_ai_free_allocation_exceeded", again="error")


async def followed(core: Core) -> float | None:
    return await index.follow_up(core.mirror, 1.0)


async def made(core: Core, *, dry_run: bool = False) -> once.Report:
    """Do what `syncd reconcile` does."""
    report = once.Report()
    core.clock.forward(1)
    await once.run(core.mirror, PassOptions(dry_run=dry_run), lambda _: None, report)
    return report


@pytest.mark.parametrize(("how", "bulk"), [({}, False), ({"bulk": False}, False), ({"bulk": True}, True)])
async def test_a_command_leaves_room_for_edits_only_beside_a_daemon(
    core: Core, monkeypatch: pytest.MonkeyPatch, how: dict[str, bool], *, bulk: bool
) -> None:
    seen, listing = set(), ScriptedTarget.listing

    def noting(target: ScriptedTarget) -> object:
        seen.add(current_priority().bulk)
        return listing(target)

    monkeypatch.setattr(ScriptedTarget, "listing", noting)
    report = once.Report()
    await once.run(core.mirror, PassOptions(), lambda _: None, report, **how)
    assert (seen, report.exit_code) == ({bulk}, 0)


# -- full


@pytest.fixture
async def full(core: Core) -> Core:
    """A mirror whose instance has taken a.md and c.md, and not b.md."""
    core.target.index["b.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x", "b.md": "y", "c.md": "z"})
    core.target.index["b.md"] = FULL
    return core


async def test_a_full_instance_halts_the_mirror_and_nothing_is_indexed_again(full: Core) -> None:
    with pytest.raises(Halt, match=r"full \(ai_search_is_full\): ask Cloudflare for a higher limit"):
        await followed(full)
    assert full.problems() == {"b.md": "index_error"}
    for _ in range(10):
        full.clock.forward(10_000)
        with pytest.raises(Halt):
            await followed(full)
    assert full.target.reindexed == []
    assert index.next_reindex_s(full.mirror) is None


async def test_a_temporary_failure_beside_it_waits_too(core: Core) -> None:
    for name in ("a.md", "b.md"):
        core.target.index[name] = Indexed("queued")
    await in_step(core, **{"a.md": "x", "b.md": "y"})
    core.target.index |= {"a.md": Indexed("error", "timeout_error"), "b.md": FULL}
    for _ in range(3):
        with pytest.raises(Halt):
            await followed(core)
        core.clock.forward(10_000)
    assert core.target.reindexed == []


async def test_a_pass_over_a_full_instance_uploads_nothing_and_halts(full: Core) -> None:
    with pytest.raises(Halt):
        await followed(full)
    full.write("d.md", "new")
    with pytest.raises(Halt, match="is full"):
        await full.full()
    assert full.target.applied == []
    full.restart()
    with pytest.raises(Halt, match="is full"):
        await full.full()
    report = await made(full)
    assert report.exit_code == 3
    assert "d.md" not in full.target.store


async def test_a_pass_that_only_deletes_makes_room_in_a_full_instance(full: Core) -> None:
    with pytest.raises(Halt):
        await followed(full)
    full.remove("c.md")
    with pytest.raises(Halt):
        await full.full()
    assert list(full.target.store) == ["a.md", "b.md"]
    # The file that found no room is deleted: the instance counts as full no longer.
    full.remove("b.md")
    assert is_clean(await full.full())
    assert list(full.target.store) == ["a.md"]


async def test_a_dry_run_of_a_full_instance_shows_the_plan(full: Core) -> None:
    with pytest.raises(Halt):
        await followed(full)
    full.write("d.md", "new")
    report = await made(full, dry_run=True)
    assert (report.error, report.results[0].tables.plan.counts["put"]) == (None, 1)


async def test_after_a_retry_by_a_person_the_mirror_goes_on(full: Core) -> None:
    with pytest.raises(Halt):
        await followed(full)
    full.write("d.md", "new")
    assert retry_problems(full.mirror.journal, full.mirror.queue, None, full.clock.now) == 1
    full.target.index["b.md"] = Indexed("queued")
    report = await made(full)
    assert (report.error, full.target.reindexed) == (None, ["b.md"])
    assert sorted(full.target.store) == ["a.md", "b.md", "c.md", "d.md"]
    full.target.index["b.md"] = Indexed()
    await followed(full)
    assert full.problems() == {}


async def test_a_pass_that_sees_the_instance_full_for_the_first_time_halts_at_its_end(core: Core) -> None:
    core.target.index["a.md"] = FULL
    core.write("a.md", "x")
    with pytest.raises(Halt, match="is full"):
        await core.full()
    assert core.problems() == {"a.md": "index_error"}


# -- paused


class Pause:
    """Whether the instance is paused, and how often syncd looked."""

    def __init__(self) -> None:
        self.on = True
        self.looks = 0


@pytest.fixture
def pause(monkeypatch: pytest.MonkeyPatch) -> Pause:
    pause = Pause()

    async def check(_: object) -> str:
        pause.looks += 1
        if pause.on:
            raise PausedHalt("the instance is paused")
        return "memory"

    monkeypatch.setattr(ScriptedTarget, "check", check)
    return pause


async def test_a_pause_is_noticed_while_entries_wait_for_the_index(core: Core, pause: Pause) -> None:
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    core.clock.forward(index.DOUBT_S - 1)
    await followed(core)
    assert pause.looks == 0
    core.clock.forward(1)
    with pytest.raises(PausedHalt):
        await followed(core)
    assert pause.looks == 1


async def test_a_slow_index_costs_one_look_every_few_minutes(core: Core, pause: Pause) -> None:
    pause.on = False
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    for _ in range(0, 3600, 5):
        core.clock.forward(5)
        await followed(core)
    assert pause.looks == pytest.approx(3600 / index.DOUBT_EVERY_S, abs=1)
    core.target.index["a.md"] = Indexed()
    await followed(core)
    core.clock.forward(10_000)
    looks = pause.looks
    await followed(core)
    assert pause.looks == looks, "nothing waits"


@pytest.mark.parametrize(
    ("looked_s", "looks"),
    [(None, 1), (index.DOUBT_EVERY_S, 1), (index.DOUBT_EVERY_S - 1, 0), (1 - index.DOUBT_EVERY_S, 0), (-1e6, 1)],
)
async def test_the_time_of_the_last_look_counts_unless_the_clock_was_set(
    core: Core, pause: Pause, looked_s: float | None, looks: int
) -> None:
    pause.on = False
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    core.clock.forward(index.DOUBT_S)
    before = None if looked_s is None else core.clock.now - looked_s
    core.mirror.meta.set(index.LOOKED, before)
    await index.halt_if_standing(core.mirror)
    assert (pause.looks, core.mirror.meta.get(index.LOOKED)) == (looks, core.clock.now if looks else before)


async def test_a_pass_over_a_paused_instance_is_one_request_until_it_is_resumed(core: Core, pause: Pause) -> None:
    core.write("a.md", "x")
    core.target.raises.append(PausedHalt("paused (HTTP 400, code 7032)"))
    with pytest.raises(PausedHalt, match="7032"):
        await core.full()
    assert pause.looks == 0
    for looks in (1, 2):
        core.restart()
        with pytest.raises(PausedHalt):
            await core.full()
        assert (pause.looks, core.target.applied) == (looks, [])
    pause.on = False
    assert is_clean(await core.full())
    assert sorted(core.target.store) == ["a.md"]
    await core.full()
    assert pause.looks == 3


async def test_a_command_notices_that_older_entries_wait_for_a_paused_instance(core: Core, pause: Pause) -> None:
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "x"})
    assert (await made(core)).exit_code == 0
    core.clock.forward(index.DOUBT_S)
    report = await made(core)
    assert (report.exit_code, str(report.error), pause.looks) == (3, "the instance is paused", 1)


async def test_a_pause_that_shows_when_an_entry_is_indexed_again_is_remembered(
    core: Core, pause: Pause, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(*_: object) -> str:
        raise PausedHalt("the instance is paused")

    core.target.index["a.md"] = FULL
    with pytest.raises(Halt):
        await in_step(core, **{"a.md": "x"})
    monkeypatch.setattr(ScriptedTarget, "reindex", refuses)
    core.mirror.journal.reindexing.request(None)
    with pytest.raises(PausedHalt):
        await index.reindex_due(core.mirror)
    with pytest.raises(PausedHalt):
        await core.full()
    assert pause.looks == 1


async def test_a_dry_run_does_not_ask_whether_the_instance_is_paused(core: Core, pause: Pause) -> None:
    core.write("a.md", "x")
    core.target.raises.append(PausedHalt("paused"))
    with pytest.raises(PausedHalt):
        await core.full()
    assert (await made(core, dry_run=True)).error is None
    assert pause.looks == 0


# -- quotas


async def test_a_quota_is_waited_for_with_long_pauses_and_then_named(core: Core) -> None:
    core.target.index["a.md"] = QUOTA
    await in_step(core, **{"a.md": "x"})
    at: list[float] = []
    began = core.clock.now
    await followed(core)
    assert "with ever longer pauses" in core.problem("a.md").message
    while core.clock.now - began < 2 * sum(LATER_TRIES_S):
        core.clock.forward(300)
        before = len(core.target.reindexed)
        await followed(core)
        at += [core.clock.now - began] * (len(core.target.reindexed) - before)
    assert len(at) == len(LATER_TRIES_S)
    assert at[0] >= LATER_TRIES_S[0] > TRIES_S[0]
    assert at[-1] >= 24 * 3600
    assert "7 times in vain" in core.problem("a.md").message


async def test_an_error_that_becomes_one_of_a_setting_is_not_tried_again(core: Core) -> None:
    core.target.index["a.md"] = Indexed("error", "timeout_error")
    await in_step(core, **{"a.md": "x"})
    await followed(core)
    assert index.next_reindex_s(core.mirror) is not None
    core.target.index["a.md"] = Indexed("error", "ai_gateway_dlp_blocked")
    await core.full()
    core.clock.forward(100_000)
    assert await followed(core) is None
    assert core.target.reindexed == []
    assert "have it indexed again" in core.problem("a.md").message


async def test_content_at_fault_is_not_sent_again_and_a_setting_at_fault_is(core: Core) -> None:
    for name, error in (("content.md", "workers_ai_invalid_input"), ("setting.md", "ai_gateway_dlp_blocked")):
        core.target.index[name] = Indexed("error", error)
        core.write(name, name)
    await core.full()
    core.target.store.clear()
    core.target.applied.clear()
    await core.full(full=True)
    await core.full(full=True)
    assert [action.key for action in core.target.applied] == ["setting.md"]


# -- skipped


async def test_a_skipped_entry_is_a_problem_with_the_remote_s_reason(core: Core) -> None:
    core.target.index["a.md"] = Indexed("skipped", why="The file is larger than 4 MB")
    core.write("a.md", "x")
    report = await made(core)
    assert (report.exit_code, report.kinds) == (1, {"skipped": 1})
    await once.wait_until_indexed(core.mirror, report, 60)
    assert report.exit_code == 1
    [problem] = report.problems(core.mirror)
    assert (problem.kind, problem.key) == ("skipped", "a.md")
    assert "the service says: The file is larger than 4 MB; make it smaller" in problem.message
    assert (await made(core)).exit_code == 1
    assert core.target.reindexed == []


async def test_a_wait_ends_with_1_when_an_entry_is_skipped_meanwhile(core: Core) -> None:
    core.target.index["a.md"] = Indexed("queued")
    core.write("a.md", "x")
    report = await made(core)
    assert report.exit_code == 0
    core.target.index["a.md"] = Indexed("skipped")
    await once.wait_until_indexed(core.mirror, report, 60)
    assert (report.exit_code, report.kinds, report.not_indexed) == (1, {"skipped": 1}, 0)
