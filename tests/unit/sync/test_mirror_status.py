"""The state of a mirror that people see, and the remaining time of its pass."""

import asyncio

import pytest

from syncd.state.history import MirrorState, stored_state
from syncd.state.pass_tables import PassTables
from syncd.sync.mirror import Result
from syncd.sync.mirror_status import MirrorStatus, Pace, left_s
from tests.harness import Core


@pytest.mark.parametrize(
    ("left", "done", "elapsed_s", "floor_s", "wanted"),
    [
        (0, 5, 10.0, 3.0, 0.0),
        (-1, 5, 10.0, 3.0, 0.0),
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


def test_puts_and_deletes_that_are_left_count_apart(core: Core) -> None:
    now = 0.0
    pace = Pace(lambda puts, deletes: 10 * puts + deletes, float, lambda: now)
    seen = result(core, put=10, delete=10)
    assert pace.look(seen) is None
    seen.done.update(put=2, delete=5)
    now = 0.1
    assert pace.look(seen) == 85.0


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


async def test_times_of_the_steady_clock_are_shown_as_times_of_day(core: Core) -> None:
    status = MirrorStatus(core.mirror)
    steady = asyncio.get_running_loop().time()
    now = core.clock.now
    status.set("degraded", "no answer", remaining=7, left_s=10.2, retry_at=steady + 30.0)
    assert status.shown == MirrorState("degraded", "no answer", 7, now + 10, now + 30)
    status.set("idle")
    status.contact.looked("no route", 60.0)
    status.look()
    assert status.shown == MirrorState("degraded", "no route", next_try=now + 60)


async def test_an_interrupted_command_stores_that_nothing_remains_before_its_plan(core: Core) -> None:
    status = MirrorStatus(core.mirror)
    with pytest.raises(asyncio.CancelledError):
        async with status.watched():
            raise asyncio.CancelledError
    assert status.shown == MirrorState("syncing", remaining=0)
