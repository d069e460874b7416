import asyncio

import pytest

from syncd.cloudflare.gate import HOLD_LIMIT_S, Gate
from tests.unit.cloudflare.harness import VirtualTime


def gate_of(time: VirtualTime, tpslimit: float = 0, transfers: int = 100) -> Gate:
    return Gate(tpslimit, transfers, time.clock, time.sleep)


async def passing(gate: Gate, times: int) -> list[float]:
    """Return the time at which each of so many concurrent requests passed, in seconds from now."""
    began, passed = gate.clock(), []

    async def one() -> None:
        async with gate.slot():
            passed.append(round(gate.clock() - began, 3))

    await asyncio.gather(*(one() for _ in range(times)))
    return passed


async def test_without_a_limit_nobody_waits(time: VirtualTime) -> None:
    gate = gate_of(time)
    assert await time.run(passing(gate, 50)) == [0.0] * 50
    assert (gate.waits, gate.wait_s) == (0, 0.0)


async def test_a_burst_is_small_and_then_the_rate_holds(time: VirtualTime) -> None:
    gate = gate_of(time, tpslimit=2)
    assert await time.run(passing(gate, 6)) == [0.0, 0.0, 0.5, 1.0, 1.5, 2.0]
    assert gate.waits == 4
    assert gate.wait_s == pytest.approx(2.0)


async def test_a_rate_below_one_lets_one_through_at_once(time: VirtualTime) -> None:
    assert await time.run(passing(gate_of(time, tpslimit=0.5), 3)) == [0.0, 2.0, 4.0]


async def test_a_high_rate_still_has_a_bounded_burst(time: VirtualTime) -> None:
    passed = await time.run(passing(gate_of(time, tpslimit=1000), 12))
    assert passed.count(0.0) == 10


async def test_five_minutes_at_the_default_rate_stay_below_the_account_limit(time: VirtualTime) -> None:
    passed = await time.run(passing(gate_of(time, tpslimit=3.5), 1300))
    assert len([at for at in passed if at < 300]) < 1200


async def test_awkward_clock_steps_never_make_a_waiter_spin(time: VirtualTime) -> None:
    time.now = 1e9 + 1 / 3
    assert len(await time.run(passing(gate_of(time, tpslimit=3.3), 40))) == 40


async def test_no_more_than_transfers_are_in_flight(time: VirtualTime) -> None:
    gate, most = gate_of(time, transfers=3), 0

    async def one() -> None:
        nonlocal most
        async with gate.slot():
            most = max(most, gate.in_flight)
            await time.sleep(1)

    async def all_of_them() -> None:
        await asyncio.gather(*(one() for _ in range(10)))

    await time.run(all_of_them())
    assert most == 3
    assert gate.in_flight == 0


async def test_first_come_is_first_served(time: VirtualTime) -> None:
    gate, order = gate_of(time, tpslimit=1, transfers=2), []

    async def one(number: int) -> None:
        async with gate.slot():
            order.append(number)

    async def all_of_them() -> None:
        await asyncio.gather(*(one(number) for number in range(8)))

    await time.run(all_of_them())
    assert order == list(range(8))


async def test_a_hold_stops_everybody_and_is_followed_by_one_request_first(time: VirtualTime) -> None:
    gate = gate_of(time, tpslimit=2)
    gate.hold(30)
    assert await time.run(passing(gate, 4)) == [30.0, 30.5, 31.0, 31.5]


async def test_a_hold_reaches_requests_that_wait_already(time: VirtualTime) -> None:
    gate = gate_of(time, tpslimit=1)

    async def held_half_a_second_later() -> list[float]:
        waiting = asyncio.ensure_future(passing(gate, 2))
        await time.sleep(0.5)
        gate.hold(60)
        return await waiting

    assert await time.run(held_half_a_second_later()) == [0.0, 60.5]


def test_a_hold_is_never_shortened_and_never_over_the_limit(time: VirtualTime) -> None:
    gate = gate_of(time)
    gate.hold(100)
    gate.hold(5)
    assert gate.held_s() == 100
    gate.hold(float("inf"))
    assert gate.held_s() == HOLD_LIMIT_S


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan")])
def test_a_hold_of_nothing_is_none(time: VirtualTime, seconds: float) -> None:
    gate = gate_of(time)
    gate.hold(seconds)
    assert gate.held_s() <= 0


async def test_a_cancelled_waiter_leaves_no_trace(time: VirtualTime) -> None:
    gate = gate_of(time, tpslimit=1, transfers=1)

    async def with_a_quitter() -> list[float]:
        first = asyncio.ensure_future(passing(gate, 1))
        quitters = [asyncio.ensure_future(passing(gate, 1)) for _ in range(5)]
        last = asyncio.ensure_future(passing(gate, 1))
        await time.rest()
        for quitter in quitters:
            quitter.cancel()
        return [*(await first), *(await last)]

    assert await time.run(with_a_quitter()) == [0.0, 1.0]
    assert gate.in_flight == 0


async def test_a_request_that_raises_gives_its_place_back(time: VirtualTime) -> None:
    gate = gate_of(time, transfers=1)
    with pytest.raises(KeyError):
        async with gate.slot():
            raise KeyError
    assert await time.run(passing(gate, 1)) == [0.0]


@pytest.mark.parametrize(
    ("header", "held"),
    [
        ('"default";r=0;t=30', 30.0),
        ('"default";r=50;t=30', 0.0),
        ('"default";r=50;t=30, "burst";r=0;t=7', 7.0),
        ('"default";r=5;t=30', 30.0),
        ('"default";r=6;t=30', 0.0),
        ('"default";t=30;r=0', 30.0),
        ('"default";r=0;t=999999999999999', HOLD_LIMIT_S),
        ('"default";r=0', 0.0),
        ('"default";r=0;t=soon', 0.0),
        ("nonsense;;=", 0.0),
        ("", 0.0),
        (None, 0.0),
    ],
)
def test_a_ratelimit_header_holds_when_its_reserve_is_left(time: VirtualTime, header: str | None, held: float) -> None:
    gate = gate_of(time)
    gate.hold_for_ratelimit(header)
    assert max(0.0, gate.held_s()) == held


def test_throttles_grow_until_a_request_is_answered(time: VirtualTime) -> None:
    gate, holds = gate_of(time), []
    for _ in range(8):
        gate.throttle()
        gate.throttle()  # the second of the same volley changes nothing
        holds.append(gate.held_s())
        time.now += gate.held_s()
    assert holds == [5, 10, 20, 40, 80, 160, 300, 300]
    gate.answered()
    gate.throttle()
    assert gate.held_s() == 5


def test_own_time_stands_still_while_the_remote_asked_us_to_wait(time: VirtualTime) -> None:
    gate = gate_of(time)
    began = gate.own_time()
    gate.hold(100)
    time.now += 60
    gate.hold(100)  # overlaps the first: 160 s in all
    assert gate.own_time() - began == 0
    time.now += 100
    assert gate.own_time() - began == 0
    time.now += 7
    assert gate.own_time() - began == pytest.approx(7)


def test_own_time_runs_on_in_a_hold_that_nobody_asked_for(time: VirtualTime) -> None:
    gate = gate_of(time)
    began = gate.own_time()
    gate.throttle()
    time.now += 5
    assert gate.own_time() - began == 5


@pytest.mark.parametrize(("tpslimit", "transfers"), [(-1, 1), (float("nan"), 1), (float("inf"), 1), (1, 0)])
def test_settings_that_make_no_sense_are_refused(tpslimit: float, transfers: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        Gate(tpslimit, transfers)
