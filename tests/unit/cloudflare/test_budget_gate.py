"""The gate with a budget: a sliding window, its reserve for edits, and requests that give way."""

import asyncio
from bisect import bisect_right
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from syncd.cloudflare.gate import Budget, Gate
from syncd.core.errors import Deferred
from syncd.core.requests import Priority, Quota, current_priority, requests_at
from tests.unit.cloudflare.harness import VirtualTime

QUOTA = Quota(100, 300.0)
BULK = Priority(bulk=True)


class Spent:
    """The times of the window, in memory."""

    def __init__(self, time: VirtualTime, window_s: float = QUOTA.window_s) -> None:
        self.clock = time.clock
        self.all: list[float] = []
        self._window_s = window_s

    def sent(self) -> Sequence[float]:
        return [at for at in self.all if at > self.clock() - self._window_s]

    def add(self) -> None:
        self.all.append(self.clock())


def gate_of(time: VirtualTime, spent: Spent, transfers: int = 8) -> Gate:
    return Gate(0, transfers, time.clock, time.sleep, budget=Budget(QUOTA, spent))


async def requests(gate: Gate, times: int, priority: Priority = BULK) -> None:
    async def one() -> None:
        with requests_at(priority):
            async with gate.slot():
                await gate.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(times)))


def most_in_a_window(sent: Sequence[float]) -> int:
    return max(number - bisect_right(sent, at - QUOTA.window_s + 1e-6) + 1 for number, at in enumerate(sent))


async def test_the_budget_is_spent_at_once_and_then_in_step_with_the_window(time: VirtualTime) -> None:
    spent, began = Spent(time), time.now
    await time.run(requests(gate_of(time, spent), 250, Priority()))
    at = [moment - began for moment in spent.all]
    assert at[99] < 2.0
    assert 300.0 <= at[100] <= 301.5
    assert 600.0 <= at[200] <= 602.0
    assert most_in_a_window(at) <= 100


async def test_a_full_pass_leaves_room_for_edits_and_takes_the_unused_rest(time: VirtualTime) -> None:
    spent, began = Spent(time), time.now
    await time.run(requests(gate_of(time, spent), 300))
    at = [moment - began for moment in spent.all]
    assert 85 <= bisect_right(at, 10.0) <= 90
    assert bisect_right(at, 299.0) >= 97
    assert most_in_a_window(at) <= 100


async def test_edits_do_not_wait_while_a_full_pass_fills(time: VirtualTime) -> None:
    gate, waited = gate_of(time, spent := Spent(time)), []

    async def edits() -> None:
        for _ in range(10):
            await gate.sleep(60.0)
            began = gate.clock()
            await requests(gate, 1, Priority())
            waited.append(gate.clock() - began)

    async def both() -> None:
        await asyncio.gather(requests(gate, 290), edits())

    await time.run(both())
    assert max(waited) <= 0.4
    assert most_in_a_window(spent.all) <= 100


async def test_a_pass_that_fits_is_not_held_up(time: VirtualTime) -> None:
    left = [97]

    async def one(gate: Gate) -> None:
        with requests_at(Priority(bulk=True, left=lambda: left[0])):
            async with gate.slot():
                left[0] -= 1

    async def every() -> None:
        gate = gate_of(time, Spent(time))
        await asyncio.gather(*(one(gate) for _ in range(97)))

    began = time.now
    await time.run(every())
    assert time.now - began < 1.0


async def test_a_request_that_gives_way_is_deferred_instead_of_waiting_for_the_budget(time: VirtualTime) -> None:
    gate, pending = gate_of(time, Spent(time)), False

    async def edit_arrives() -> None:
        nonlocal pending
        await gate.sleep(5.0)
        pending = True

    async def scenario() -> float:
        await requests(gate, 95, Priority())
        began = gate.clock()
        with pytest.raises(Deferred):
            await asyncio.gather(edit_arrives(), requests(gate, 1, Priority(bulk=True, gives_way=lambda: pending)))
        return gate.clock() - began

    assert 5.0 <= await time.run(scenario()) <= 5.5


async def test_a_task_that_has_changed_something_gives_way_no_more(time: VirtualTime) -> None:
    gate = gate_of(time, spent := Spent(time))
    gives_way = Priority(bulk=True, gives_way=lambda: True)

    async def delete_and_upload() -> None:
        with requests_at(gives_way):
            async with gate.slot(changing=False):
                assert current_priority() == gives_way
            async with gate.slot():
                assert current_priority() == BULK
            await requests(gate, 98, Priority())
            async with gate.slot():
                pass

    await time.run(delete_and_upload())
    assert len(spent.all) == 101
    assert spent.all[-1] - spent.all[0] >= 300.0


async def test_time_spent_waiting_for_the_budget_does_not_count_as_own_time(time: VirtualTime) -> None:
    gate = gate_of(time, Spent(time))
    began = gate.own_time()
    await time.run(requests(gate, 101, Priority()))
    assert gate.own_time() - began < 5.0


async def test_a_restart_every_minute_does_not_exceed_the_window(time: VirtualTime) -> None:
    spent = Spent(time)
    for _ in range(12):
        with pytest.raises(asyncio.CancelledError):
            await time.run(requests(gate_of(time, spent), 400), until=time.now + 60.0)
    assert most_in_a_window(spent.all) <= 100
    assert len(spent.all) >= 190


async def test_a_request_that_waits_for_the_budget_says_how_long(time: VirtualTime) -> None:
    gate = gate_of(time, Spent(time))
    seen = []

    async def look() -> None:
        for _ in range(4):
            seen.append(gate.waiting_s)
            await gate.sleep(100.0)

    async def both() -> None:
        await requests(gate, 100, Priority())
        await asyncio.gather(look(), requests(gate, 1, Priority()))

    with capture_logs() as logs:
        await time.run(both())
    assert seen[0] == 0.0
    assert seen[1:3] == [pytest.approx(200.0, abs=3.0), pytest.approx(100.0, abs=3.0)]
    assert seen[3] == gate.waiting_s == 0.0
    [line] = logs
    assert (line["event"], line["log_level"]) == ("budget.waits", "warning")
    assert line["seconds"] == pytest.approx(300.0, abs=3.0)
    assert "cloudflare.quota" in line["why"]


async def test_a_full_pass_that_waits_again_and_again_warns_nobody(time: VirtualTime) -> None:
    gate = gate_of(time, Spent(time))
    with capture_logs() as logs:
        await time.run(requests(gate, 250))
    assert {line["log_level"] for line in logs} == {"info"}
    assert 1 <= len(logs) <= 3


async def test_a_cancelled_request_waits_no_more(time: VirtualTime) -> None:
    gate = gate_of(time, Spent(time))
    with pytest.raises(asyncio.CancelledError):
        await time.run(requests(gate, 101, Priority()), until=time.now + 50.0)
    assert gate.waiting_s == 0.0
