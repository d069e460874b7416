"""A command's pass, its report, and the wait for the index."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from syncd.core.errors import EXIT_BRAKE, EXIT_OK, EXIT_PROBLEMS, Brake, Halt, Retry
from syncd.core.plan import BRAKE_FLOOR
from syncd.core.problems import TRIES_S
from syncd.state.history import stored_state
from syncd.sync import once
from syncd.sync.index import FIRST_POLL_S
from syncd.sync.mirror import PassOptions, Result
from syncd.sync.mirror_status import MirrorStatus
from syncd.sync.observe import FEW_KEYS
from syncd.sync.once import Report, run, serve_due, wait_for_followup, wait_until_indexed
from tests.harness import Core, in_step
from tests.memory_target import Indexed

BUSY = Indexed("error", "timeout_error")


class Time:
    """The time of the event loop and of the mirror, which pass only in sleeps. at: what happens at a time."""

    def __init__(self, core: Core) -> None:
        self.slept: list[float] = []
        self.at: dict[float, Callable[[], None]] = {}
        self._core = core

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._core.clock.forward(seconds)
        for time in [time for time in self.at if time <= sum(self.slept)]:
            self.at.pop(time)()


@pytest.fixture
def time(core: Core, monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time(core)
    loop = SimpleNamespace(time=core.clock)
    monkeypatch.setattr(once, "asyncio", SimpleNamespace(sleep=made.sleep, get_running_loop=lambda: loop))
    return made


def ignore(_: Result) -> None:
    """Take no notice of progress."""


async def waited(core: Core, seconds: float) -> Report:
    report = Report()
    await run(core.mirror, PassOptions(), ignore, report)
    await wait_until_indexed(core.mirror, report, seconds)
    return report


# -- the wait for the index


async def test_the_wait_ends_when_everything_is_searchable(core: Core, time: Time) -> None:
    core.write("a.md", "a")
    core.target.index["a.md"] = Indexed("queued")
    time.at[2.0] = lambda: core.target.index.update({"a.md": Indexed()})
    report = await waited(core, 60.0)
    assert (report.not_indexed, report.waiting, report.exit_code) == (0, [], EXIT_OK)
    assert time.slept == [0.25, 0.375, 0.5625, 0.84375]


async def test_the_wait_ends_in_time_and_names_what_is_left(core: Core, time: Time) -> None:
    for name in ("a.md", "b.md", "c.md"):
        core.write(name, name)
    core.target.index["a.md"] = core.target.index["b.md"] = Indexed("running")
    report = await waited(core, 10.0)
    assert (report.not_indexed, report.waiting, report.exit_code) == (2, ["a.md", "b.md"], EXIT_PROBLEMS)
    assert sum(time.slept) == 10.0
    time.slept.clear()
    assert (await waited(core, 0.0)).not_indexed == 2
    assert time.slept == []


@pytest.mark.parametrize(("seconds", "tried"), [(TRIES_S[0], 0), (TRIES_S[0] + 1, 1)])
async def test_a_temporary_error_is_waited_for_only_if_there_is_time_for_another_try(
    core: Core, time: Time, seconds: float, tried: int
) -> None:
    core.write("a.md", "a")
    core.target.index["a.md"] = BUSY
    report = await waited(core, seconds)
    assert len(core.target.reindexed) == tried
    assert bool(time.slept) == bool(tried)
    assert report.kinds == {"index_error": 1}


async def test_after_an_error_nothing_is_waited_for(core: Core, time: Time) -> None:
    core.write("a.md", "a")
    core.target.index["a.md"] = Indexed("queued")
    report = Report(error=Halt("refused"))
    await wait_until_indexed(core.mirror, report, 60.0)
    assert (time.slept, report.not_indexed) == ([], 0)


# -- the wait while the daemon polls the index


async def waiting(core: Core) -> MirrorStatus:
    """Store an entry that is not searchable yet, and return the status of its mirror."""
    core.target.index["a.md"] = Indexed("queued")
    await in_step(core, **{"a.md": "a"})
    return MirrorStatus(core.mirror)


@pytest.mark.parametrize(("searchable_at", "slept", "left"), [(1.0, 1.0, []), (math.inf, 3.0, ["a.md"])])
async def test_a_wait_beside_the_daemon_ends_with_the_last_entry_or_in_time(
    core: Core, time: Time, searchable_at: float, slept: float, left: list[str]
) -> None:
    status = await waiting(core)
    time.at[searchable_at] = lambda: core.mirror.journal.index.mark_all_completed(core.clock.now, -1.0)
    report = Report()
    await wait_for_followup(core.mirror, report, 3.0, status)
    assert (report.error, report.not_indexed, report.waiting) == (None, len(left), left)
    assert set(time.slept) == {FIRST_POLL_S / 2}
    assert sum(time.slept) == slept


@pytest.mark.parametrize(
    ("detail", "message"), [("the index is full", "the index is full"), (None, "the mirror is halted")]
)
async def test_a_halt_ends_a_wait_beside_the_daemon(core: Core, time: Time, detail: str | None, message: str) -> None:
    status = await waiting(core)
    status.set("halted", detail)
    report = Report()
    await wait_for_followup(core.mirror, report, 3.0, status)
    assert (type(report.error), str(report.error)) == (Halt, f"{message}; not all is searchable yet")
    assert (report.not_indexed, time.slept) == (1, [])


async def test_after_an_error_nothing_is_waited_for_beside_the_daemon(core: Core, time: Time) -> None:
    status, error = await waiting(core), Halt("refused")
    report = Report(error=error)
    await wait_for_followup(core.mirror, report, 3.0, status)
    assert (report.error, report.not_indexed, time.slept) == (error, 1, [])


# -- the stored state


async def test_the_state_is_idle_after_a_pass_and_unchanged_after_a_dry_run(core: Core) -> None:
    core.write("a.md", "a")
    await run(core.mirror, PassOptions(dry_run=True), ignore, Report())
    assert stored_state(core.mirror.meta) == {}
    report = Report()
    await run(core.mirror, PassOptions(), ignore, report)
    assert stored_state(core.mirror.meta)["state"] == "idle"
    assert (report.exit_code, report.kinds, report.problems(core.mirror)) == (EXIT_OK, {}, [])
    assert Report().problems(core.mirror) == []


@pytest.mark.parametrize(("error", "state"), [(Halt("refused"), "halted"), (Retry("no answer"), "degraded")])
async def test_an_error_is_reported_and_stored(core: Core, error: Halt | Retry, state: str) -> None:
    core.write("a.md", "a")
    core.target.raises = [error]
    report = Report()
    await run(core.mirror, PassOptions(), ignore, report)
    assert (report.error, report.exit_code) == (error, error.exit_code)
    stored = stored_state(core.mirror.meta)
    assert (stored["state"], stored["detail"], stored["since"]) == (state, str(error), core.clock.now)


async def test_a_refusal_of_the_full_pass_is_reported_after_the_keys_that_waited(core: Core) -> None:
    await in_step(core, **{name: name for name in "abcdefghijkl"})
    core.use(max_delete="0%")
    core.remove("a")
    core.write("new", "new")
    report = Report()
    await run(core.mirror, PassOptions(), ignore, report)
    assert (type(report.error), report.exit_code) == (Brake, EXIT_BRAKE)
    assert {"a", "new"} <= core.target.texts().keys()


async def test_orphans_that_are_held_back_are_deleted_and_reported_by_the_same_command(core: Core, time: Time) -> None:
    await in_step(core, keep="k")
    core.forget_listing()
    for number in range(BRAKE_FLOOR + 1):
        core.target.put_by("me", f"{number:02}", str(number))
    core.clock.forward(1)
    core.mark("keep")
    core.clock.forward(core.mirror.settings.settle / 2)
    report = Report()
    await run(core.mirror, PassOptions(), ignore, report)
    assert core.target.texts() == {"keep": "k"}
    assert [result.held_back for result in report.results] == [True, False, False]
    assert report.done == {"delete": BRAKE_FLOOR + 1}
    assert time.slept


async def test_an_interruption_stores_how_much_is_left(core: Core) -> None:
    await in_step(core, **{"z.md": "z"})
    for name in "abc":
        core.write(f"{name}.md", name)
    core.target.raises = [asyncio.CancelledError()]
    with pytest.raises(asyncio.CancelledError):
        await run(core.mirror, PassOptions(), ignore, Report())
    stored = stored_state(core.mirror.meta)
    assert (stored["state"], stored["remaining"]) == ("syncing", 3)


# -- keys that are due


async def test_keys_that_are_due_are_served_and_others_wait(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.write("a.md", "changed")
    core.mark("a.md")
    core.clock.forward(1)
    core.write("b.md", "changed")
    core.mark("b.md")
    report = await serve_due(core.mirror)
    assert core.target.texts() == {"a.md": "changed", "b.md": "b"}
    assert [row.key for row in core.mirror.queue.every()] == ["b.md"]
    assert (len(report.results), report.exit_code) == (1, EXIT_OK)
    assert stored_state(core.mirror.meta)["state"] == "idle"


async def test_without_a_due_key_only_chosen_entries_are_indexed_again(core: Core) -> None:
    core.target.index["a.md"] = BUSY
    await in_step(core, **{"a.md": "a"})
    core.mirror.journal.reindexing.request(["a.md"].__contains__)
    report = await serve_due(core.mirror)
    assert (core.target.reindexed, report.results) == (["a.md"], [])
    core.target.index["a.md"] = Indexed()


async def test_many_new_keys_that_are_due_are_served_by_a_full_pass(core: Core) -> None:
    core.target.limits = replace(core.target.limits, page=1)
    names = [f"{number:02}.md" for number in range(FEW_KEYS + 1)]
    for name in names:
        core.write(name, name)
    core.mark(*names)
    core.clock.forward(1)
    report = await serve_due(core.mirror)
    assert (report.error, len(report.results), report.done) == (None, 2, {"put": len(names)})
    assert core.target.confirmed == []


async def test_an_error_while_due_keys_are_served_is_reported_and_stored(core: Core) -> None:
    core.write("a.md", "a")
    core.mark("a.md")
    core.clock.forward(1)
    core.target.raises = [Halt("refused")]
    report = await serve_due(core.mirror)
    assert report.error is not None
    assert stored_state(core.mirror.meta)["state"] == "halted"
