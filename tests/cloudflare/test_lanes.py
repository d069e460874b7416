"""Lanes: one connection each, the last used first, free again when the answer is closed."""

import httpx
import pytest

from syncd.cloudflare.lanes import Lanes


class Lane(httpx.AsyncBaseTransport):
    def __init__(self, *, broken: bool = False) -> None:
        self.requests = 0
        self.closed = False
        self._broken = broken

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self._broken:
            raise httpx.ConnectError("no way", request=request)
        return httpx.Response(200, stream=httpx.ByteStream(b"answer"))

    async def aclose(self) -> None:
        self.closed = True


class Opened:
    def __init__(self, *, broken: bool = False) -> None:
        self.lanes: list[Lane] = []
        self._broken = broken

    def __call__(self) -> Lane:
        self.lanes.append(Lane(broken=self._broken))
        return self.lanes[-1]


async def test_requests_in_turn_share_one_lane() -> None:
    opened = Opened()
    async with httpx.AsyncClient(transport=Lanes(opened)) as client:
        for _ in range(3):
            assert (await client.get("http://x/")).content == b"answer"
    assert [lane.requests for lane in opened.lanes] == [3]


async def test_a_lane_is_taken_until_its_answer_is_closed_and_then_used_again() -> None:
    opened = Opened()
    async with httpx.AsyncClient(transport=Lanes(opened)) as client:
        async with client.stream("GET", "http://x/") as first:
            await client.get("http://x/")
            await first.aread()
        await client.get("http://x/")
    assert len(opened.lanes) == 2
    assert sum(lane.requests for lane in opened.lanes) == 3


async def test_a_lane_that_failed_is_free_again() -> None:
    opened = Opened(broken=True)
    async with httpx.AsyncClient(transport=Lanes(opened)) as client:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError):
                await client.get("http://x/")
    assert [lane.requests for lane in opened.lanes] == [2]


async def test_closing_twice_frees_a_lane_once() -> None:
    opened = Opened()
    lanes = Lanes(opened)
    response = await lanes.handle_async_request(httpx.Request("GET", "http://x/"))
    await response.aclose()
    await response.stream.aclose()  # type: ignore[union-attr]
    assert len(lanes._idle) == 1


async def test_closing_closes_every_lane() -> None:
    opened = Opened()
    lanes = Lanes(opened)
    held = [await lanes.handle_async_request(httpx.Request("GET", "http://x/")) for _ in range(2)]
    for response in held:
        await response.aclose()
    await lanes.aclose()
    assert [lane.closed for lane in opened.lanes] == [True, True]
