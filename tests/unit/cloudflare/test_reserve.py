"""The last requests of a window are left to others, and a 429 holds all requests long enough."""

import asyncio

import httpx
import pytest

from syncd.cloudflare.gate import HOLD_LIMIT_S, Gate, reserve
from syncd.cloudflare.request import Request, path
from syncd.core.errors import Halt
from tests.unit.cloudflare.harness import Remote, VirtualTime, bad, ok

PASSING = Request("GET", path("x"))


@pytest.mark.parametrize(
    ("quota", "left"), [(0, 5), (1200, 120), (100, 10), (50, 5), (20, 5), (10, 5), (8, 4), (2, 1), (1, 0)]
)
def test_a_tenth_and_at_least_five_are_left_and_never_more_than_half(quota: int, left: int) -> None:
    assert reserve(quota) == left


@pytest.mark.parametrize(
    ("limits", "policies", "held"),
    [
        ('"default";r=121;t=30', '"default";q=1200;w=300', 0),
        ('"default";r=120;t=30', '"default";q=1200;w=300', 30),
        # The names may differ: in Cloudflare's own example they do.
        ('"default";r=10;t=30', '"burst";q=100;w=60', 30),
        ('"default";r=11;t=30', '"burst";q=100;w=60', 0),
        ('"a";r=100;t=9, "b";r=5;t=7', '"a";q=1200;w=300, "b";q=20;w=10', 9),
        ('"a";r=130;t=9, "b";r=5;t=7', '"a";q=1200;w=300, "b";q=20;w=10', 7),
        ('"default";r=6;t=30', None, 0),
        ('"default";r=5;t=30', None, 30),
        ('"default";r=5;t=30', "nonsense", 30),
        ('"default";r=2;t=30', '"default";q=1;w=1', 0),
        ('"default";r=-1;t=30', None, 0),
        ('"default";r=1e3;t=30', None, 0),
        ("r=0;t=30", None, 0),
        ('"default";r=0;t=99999999999999999', None, HOLD_LIMIT_S),
    ],
)
def test_a_window_with_only_its_reserve_left_is_waited_for(
    time: VirtualTime, limits: str, policies: str | None, held: float
) -> None:
    gate = Gate(0, 8, time.clock, time.sleep)
    assert (gate.hold_for_ratelimit(limits, policies), max(0.0, gate.held_s())) == (held, held)


async def test_requests_in_flight_may_not_be_counted_yet(time: VirtualTime) -> None:
    gate = Gate(0, 8, time.clock, time.sleep)

    async def four_in_flight() -> float:
        async with gate.slot(), gate.slot(), gate.slot(), gate.slot():
            return gate.hold_for_ratelimit('"default";r=8;t=30')

    assert await time.run(four_in_flight()) == 30


async def test_a_full_window_ends_with_its_reserve_unused(time: VirtualTime, remote: Remote) -> None:
    quota, window = 100, 60
    used: dict[int, int] = {}

    def counted(_: httpx.Request) -> httpx.Response:
        slot = int(time.now // window)
        used[slot] = used.get(slot, 0) + 1
        answer = ok()
        answer.headers["ratelimit"] = f'"default";r={quota - used[slot]};t={window - int(time.now % window)}'
        answer.headers["ratelimit-policy"] = f'"default";q={quota};w={window}'
        return answer

    remote.says(counted)
    transport = remote.transport(remote.gate(transfers=4))

    async def all_of_them() -> None:
        await asyncio.gather(*(transport.request(PASSING) for _ in range(300)))

    await time.run(all_of_them())
    assert sum(used.values()) == 300
    assert max(used.values()) <= 90
    assert len(used) == 4


@pytest.mark.parametrize("asked", [1, 17, 300, 301, 900])
async def test_a_429_holds_every_user_of_the_gate_for_at_least_its_retry_after(
    time: VirtualTime, remote: Remote, asked: int
) -> None:
    remote.says(bad(429, 10429, headers={"retry-after": str(asked)}), ok())
    gate = remote.gate()
    # Two transports on one gate, as two mirrors would be.
    first, second = remote.transport(gate), remote.transport(gate)

    async def both() -> None:
        refused = asyncio.ensure_future(first.request(PASSING))
        await time.rest()
        await second.request(PASSING)
        await refused

    await time.run(both())
    began, *later = remote.at
    assert min(later) - began >= asked


@pytest.mark.parametrize("code", [971, 10100])
@pytest.mark.parametrize("status", [429, 403, 400])
async def test_the_codes_of_the_block_hold_for_its_five_minutes(
    time: VirtualTime, remote: Remote, code: int, status: int
) -> None:
    remote.says(bad(status, code), ok())
    transport = remote.transport()
    await time.run(transport.request(PASSING))
    assert remote.at[1] - remote.at[0] >= 300


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_sent_once(time: VirtualTime, remote: Remote, status: int) -> None:
    remote.says(bad(status, 10000))
    with pytest.raises(Halt):
        await time.run(remote.transport().request(PASSING))
    assert len(remote.requests) == 1
