"""The option `quota`: a sliding window over all requests, its headers and the block that follows."""

from typing import Any

import httpx
import pytest

from syncd.emulator.quota import read_quota
from tests.emulator.harness import ACCOUNT, ApiClient, emulator

VERIFY = f"/accounts/{ACCOUNT}/tokens/verify"
COUNTS = "http://127.0.0.1/_syncd/requests"


async def _ask(api: ApiClient, times: int = 1) -> httpx.Response:
    for _ in range(times - 1):
        assert (await api.ask("GET", VERIFY)).is_success
    return await api.ask("GET", VERIFY)


async def _window(api: ApiClient) -> Any:
    return (await api.ask("GET", COUNTS)).json()["window"]


async def test_a_quota_accepts_n_requests_in_any_window_and_blocks_for_one_window() -> None:
    async with emulator(quota="5/10") as api:
        api.clock.wait(10)  # the request that made the instance leaves the window
        await _ask(api, 2)
        api.clock.wait(6)
        assert (await _ask(api, 3)).is_success
        api.clock.wait(3.9)
        assert (await _ask(api)).status_code == 429, "9.9 s after the first of 5"
        api.clock.wait(9.9)
        refused = await _ask(api)
        assert (refused.status_code, refused.json()["errors"][0]["code"]) == (429, 971)
        assert refused.headers["retry-after"] == "1"
        api.clock.wait(0.1)
        assert (await _ask(api, 5)).is_success


async def test_the_window_slides() -> None:
    async with emulator(quota="3/10") as api:
        api.clock.wait(10)
        for _ in range(9):
            assert (await _ask(api)).is_success
            api.clock.wait(3.4)
        assert await _window(api) == {"requests": 3, "seconds": 10.0, "now": 2, "most": 3, "refused": 0}


async def test_answers_under_a_quota_carry_the_headers() -> None:
    async with emulator(quota="3/10") as api:
        api.clock.wait(10)
        first = await _ask(api)
        assert first.headers["ratelimit"] == '"default";r=2;t=10'
        assert first.headers["ratelimit-policy"] == '"default";q=3;w=10'
        assert "retry-after" not in first.headers
        api.clock.wait(2.5)
        assert (await _ask(api, 2)).headers["ratelimit"] == '"default";r=0;t=8'
        refused = await _ask(api)
        assert refused.headers["ratelimit"] == '"default";r=0;t=10'
        assert refused.headers["retry-after"] == "10"
        assert "ratelimit" not in (await api.ask("GET", COUNTS)).headers


async def test_a_refusal_for_another_reason_has_no_retry_after() -> None:
    async with emulator(quota="3/10") as api:
        absent = await api.ask("GET", "/nowhere")
        assert absent.status_code == 404
        assert absent.headers["ratelimit"] == '"default";r=1;t=10'
        assert "retry-after" not in absent.headers


async def test_the_headers_may_be_absent() -> None:
    async with emulator(quota="2/10", quota_headers=False) as api:
        accepted, refused = await _ask(api), await _ask(api)
        assert "ratelimit" not in accepted.headers
        assert "ratelimit" not in refused.headers
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")


async def test_the_most_requests_in_a_window_and_the_refusals_can_be_read_and_reset() -> None:
    async with emulator(quota="3/10") as api:
        await _ask(api, 3)
        await _ask(api)
        assert await _window(api) == {"requests": 3, "seconds": 10.0, "now": 5, "most": 5, "refused": 2}
        api.clock.wait(5)
        await api.ask("POST", f"{COUNTS}/reset")
        assert await _window(api) == {"requests": 3, "seconds": 10.0, "now": 5, "most": 5, "refused": 0}
        api.clock.wait(5)
        await api.ask("POST", f"{COUNTS}/reset")
        assert await _window(api) == {"requests": 3, "seconds": 10.0, "now": 0, "most": 0, "refused": 0}


async def test_without_a_quota_there_is_neither_header_nor_window() -> None:
    async with emulator() as api:
        assert "ratelimit" not in (await _ask(api)).headers
        assert "window" not in (await api.ask("GET", COUNTS)).json()


@pytest.mark.parametrize(
    ("text", "expected"), [("1200/300", (1200, 300)), ("5/0.5", (5, 0.5)), ("1050/300s", (1050, 300))]
)
def test_a_quota_is_two_numbers(text: str, expected: tuple[int, float]) -> None:
    assert read_quota(text) == expected


@pytest.mark.parametrize("text", ["", "5", "0/5", "5/0", "-1/5", "5/nan", "5/5m", "1e3/5"])
def test_another_quota_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="N/S"):
        read_quota(text)
