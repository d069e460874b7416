"""The state of a mirror that people see, and the remaining time of its pass."""

import asyncio
import contextlib
import os
from dataclasses import asdict

import pytest

from syncd.core.errors import StateHalt
from syncd.core.requests import Contact, current_contact, reporting_to
from syncd.state.history import MirrorState, State, last_contact, stored_state
from syncd.state.pass_tables import PassTables
from syncd.sync import mirror_status
from syncd.sync.mirror import Result
from syncd.sync.mirror_status import MirrorStatus, Pace, left_s
from tests.harness import START, Core, in_step


@pytest.mark.parametrize(
    ("left", "done", "elapsed_s", "floor_s", "wanted"),
    [
        (0, 5, 10.0, 3.0, 0.0),
        (-1, 5, 10.0, 3.0, 0.0),
        (1, 1, 10.0, 3.0, 10.0),
        (100, 0, 10.0, 30.0, 30.0),
        (100, 0, 10.0, 0.0, None),
        (100, 50, 10.0, 5.0, 20.0),
        (100, 50, 10.0, 30.0, 30.0),
    ],
)
def test_the_rest_takes_as_long_as_the_slower_of_rate_and_limit(
    left: int, done: int, elapsed_s: float, floor_s: float, wanted: float | None
) -> None:
    assert left_s(left, done, elapsed_s, floor_s) == wanted


def result(core: Core, put: int, delete: int = 0, adopt: int = 0) -> Result:
    made = Result(PassTables(core.mirror.db, 1), 1, dry_run=False)
    made.tables.plan.counts.update({"put": put, "delete": delete, "adopt": adopt})
    return made


def test_the_pace_begins_when_the_remote_is_changed_and_anew_with_each_pass(core: Core) -> None:
    now = 0.0
    pace = Pace(lambda puts, deletes: puts + deletes, lambda requests: requests / 10.0, lambda: now)
    seen = result(core, put=90, delete=10, adopt=1000)
    now = 0.0
    assert pace.look(seen) is None
    seen.done["adopt"] = 1000
    now = 100.0
    assert pace.look(seen) is None
    seen.done["put"] = 20
    now = 110.0
    assert pace.look(seen) == 40.0
    seen.done["put"], seen.done["failed"] = 85, 5
    now = 111.0
    assert pace.look(seen) == pytest.approx(10 * 11 / 90)
    seen.done["delete"] = 10
    now = 112.0
    assert pace.look(seen) == 0.0
    other = result(core, put=10)
    now = 200.0
    assert pace.look(other) is None
    other.done["put"] = 5
    now = 200.1
    assert pace.look(other) == 0.5, "no faster than the limit"


@pytest.mark.parametrize(
    ("puts", "deletes", "expected"), [(2, 5, 85.0), (2, 10, 80.0), (10, 5, 5.0), (10, 9, 1.0), (9, 10, 10.0)]
)
def test_puts_and_deletes_that_are_left_count_apart(core: Core, puts: int, deletes: int, expected: float) -> None:
    now = 0.0
    pace = Pace(lambda puts, deletes: 10 * puts + deletes, float, lambda: now)
    seen = result(core, put=10, delete=10)
    assert pace.look(seen) is None
    seen.done.update(put=puts, delete=deletes)
    now = 0.1
    assert pace.look(seen) == expected


async def test_a_halt_of_an_earlier_process_is_shown_with_its_reason(core: Core) -> None:
    MirrorStatus(core.mirror).set("halted", "the folder is missing")
    assert MirrorStatus(core.mirror).shown == MirrorState("halted", "the folder is missing")
    MirrorStatus(core.mirror).set("syncing")
    assert MirrorStatus(core.mirror).shown == MirrorState("idle")


async def test_the_time_of_a_change_of_state_is_stored(core: Core) -> None:
    status = MirrorStatus(core.mirror)
    core.clock.forward(5)
    status.set("halted", "full")
    core.clock.forward(5)
    status.set("halted", "still full")
    assert stored_state(core.mirror.meta)["since"] == core.clock.now - 5


async def test_an_interrupted_command_stores_that_nothing_remains_before_its_plan(core: Core) -> None:
    status = MirrorStatus(core.mirror)
    with pytest.raises(asyncio.CancelledError):
        async with status.watched():
            raise asyncio.CancelledError
    assert status.shown == MirrorState("syncing", remaining=0)


# -- the shown and the stored state


class Watch:
    """The status of a mirror by two clocks that a test moves: the steady clock begins at 500 seconds."""

    def __init__(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steady = 500.0
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: self.steady)
        self._core = core
        self.status = MirrorStatus(core.mirror)
        self.contact = self.status.contact

    def forward(self, seconds: float) -> None:
        self.steady += seconds
        self._core.clock.forward(seconds)

    def stored(self) -> dict[str, object]:
        """Return the stored state, without the fields that have their defaults."""
        stored = stored_state(self._core.mirror.meta)
        assert stored.pop("pid") == os.getpid()
        defaults = asdict(MirrorState("idle"))
        return {name: value for name, value in stored.items() if name == "state" or value != defaults[name]}


@pytest.fixture
async def watch(core: Core, monkeypatch: pytest.MonkeyPatch) -> Watch:
    return Watch(core, monkeypatch)


async def test_a_state_is_shown_and_stored_with_its_numbers_and_times(core: Core, watch: Watch) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    began = core.clock.now
    assert (watch.status.shown, watch.status.since, watch.status.fault) == (MirrorState("idle"), START, None)
    watch.status.set("syncing", remaining=3, left_s=60.4)
    assert watch.status.shown == MirrorState("syncing", None, 3, round(began + 60.4))
    numbers = {"remaining": 3, "until": round(began + 60.4), "since": began, "stored": 2, "under_way": True}
    assert watch.stored() == {"state": "syncing", **numbers}
    watch.forward(7)
    watch.status.set("degraded", "no answer", retry_at=watch.steady + 30)
    assert watch.status.shown == MirrorState("degraded", "no answer", 0, None, began + 37)
    assert watch.stored() == {"state": "degraded", "detail": "no answer", "next_try": began + 37, "since": began + 7}
    watch.forward(5)
    watch.status.set("idle")
    assert watch.stored() == {"state": "idle", "since": began + 12}


@pytest.mark.parametrize("state", ["idle", "syncing", "halted", "degraded"])
async def test_only_a_degraded_mirror_has_seconds_of_trouble(core: Core, watch: Watch, state: State) -> None:
    watch.status.set("halted" if state != "halted" else "idle")
    watch.status.set(state)
    assert watch.status.degraded_s() == 0
    watch.forward(0.5)
    assert watch.status.degraded_s() == (0.5 if state == "degraded" else 0)
    core.clock.now -= 60
    assert watch.status.degraded_s() == 0, "the clock was set back"


@pytest.mark.parametrize(("state", "becomes"), [("idle", "degraded"), ("syncing", "degraded"), ("halted", "halted")])
async def test_failing_requests_degrade_a_mirror_that_is_not_halted(
    core: Core, watch: Watch, state: State, becomes: State
) -> None:
    watch.status.set(state, remaining=4, left_s=10)
    own = watch.status.shown
    watch.forward(1)
    watch.contact.failed("no answer", 30)
    watch.status.look()
    degraded = MirrorState("degraded", "no answer", 4, None, core.clock.now + 30)
    assert watch.status.shown == (degraded if becomes == "degraded" else own)
    assert stored_state(core.mirror.meta)["under_way"] == (state == "syncing")
    watch.contact.answered()
    watch.status.look()
    assert watch.status.shown == own


async def test_only_a_mirror_without_work_is_at_rest(watch: Watch) -> None:
    found = {}
    for state in ("idle", "syncing", "degraded", "halted"):
        watch.status.set(state)
        found[state] = watch.status.at_rest
    assert found == {"idle": True, "syncing": False, "degraded": False, "halted": False}


async def test_the_time_of_the_last_answer_is_stored_with_another_state(core: Core, watch: Watch) -> None:
    watch.contact.answered()
    watch.status.set("idle")
    assert last_contact(core.mirror.meta) is None, "the state is the same"
    watch.status.set("syncing")
    assert last_contact(core.mirror.meta) == round(core.clock.now)


async def test_a_look_stores_a_state_only_if_it_has_changed_or_could_not_be_stored(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[State] = []
    faults: list[str | None] = []

    def keep(_: object, state: MirrorState) -> None:
        kept.append(state.state)
        if len(kept) == 1:
            raise StateHalt("the disk is full")

    monkeypatch.setattr(mirror_status, "keep_state", keep)
    watch.status.set("syncing")
    for _ in range(2):
        faults.append(watch.status.fault)
        watch.status.look()
    assert (faults, kept) == (["the disk is full", None], ["syncing", "syncing"])


async def test_progress_is_shown_every_two_seconds_unless_an_error_is_shown(core: Core, watch: Watch) -> None:
    seen = result(core, put=5)
    watch.status.start_pass(hidden=True)
    watch.status.update_pass(seen)
    assert watch.status.shown == MirrorState("syncing", None, 5), "the error ended"
    watch.status.set("degraded", "no answer")
    watch.status.start_pass(hidden=True)
    watch.forward(9)
    watch.status.update_pass(seen, 1.0, hidden=True)
    assert watch.status.shown == MirrorState("degraded", "no answer")
    watch.status.start_pass()
    shown = [watch.status.shown]
    for seconds, done in ((1.9, 1), (0.1, 2), (1.9, 3), (0.1, 9)):
        watch.forward(seconds)
        seen.done["put"] = done
        watch.status.update_pass(seen, 10.0)
        shown.append(watch.status.shown)
    until = round(core.clock.now) + 8, round(core.clock.now) + 10
    halfway = MirrorState("syncing", None, 3, until[0])
    begin = MirrorState("syncing")
    assert shown == [begin, begin, halfway, halfway, MirrorState("syncing", None, 0, until[1])]


async def test_a_command_that_is_interrupted_stores_what_its_last_progress_left(core: Core, watch: Watch) -> None:
    async def interrupted(seen: Result | None) -> MirrorState:
        with contextlib.suppress(asyncio.CancelledError):
            async with watch.status.watched():
                if seen:
                    watch.status.update_pass(seen)
                raise asyncio.CancelledError
        return watch.status.shown

    assert await interrupted(result(core, put=5)) == MirrorState("syncing", remaining=5)
    assert await interrupted(None) == MirrorState("syncing")


async def test_a_command_shows_its_trouble_while_it_runs_and_stores_its_last_answer(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_status, "LOOK_EVERY_S", 0.001)
    status = MirrorStatus(core.mirror)
    async with status.watched():
        current_contact().answered()
        current_contact().failed("no answer", 30)
        await asyncio.sleep(0.05)
        assert (status.shown.state, status.shown.detail) == ("degraded", "no answer")
    assert last_contact(core.mirror.meta) == round(core.clock.now)
    async with status.watched():
        pass
    with reporting_to(Contact(core.clock, core.clock)):
        async with status.watched():
            current_contact().failed("no answer", 30)
            await asyncio.sleep(0.05)
            assert status.shown == MirrorState("syncing"), "the loop of the daemon shows it"
