from typing import Any

import httpx
import pytest

from syncd.emulator import ai_search_instances, ai_search_items
from syncd.emulator.server import TIMER_S
from tests.emulator.harness import ACCOUNT, DOCS, ITEMS, ROOT, counter, emulator, form

VERIFY = "/user/tokens/verify"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic abc"},
        {"Authorization": "token"},
        {"X-Auth-Email": "a@example.com"},
        {"X-Auth-Key": "key"},
    ],
)
async def test_a_request_without_credentials_is_refused(headers: dict[str, str]) -> None:
    async with emulator() as api:
        del api.client.headers["Authorization"]
        assert await api.refusal("GET", VERIFY, headers=headers) == (401, 10000)
        assert await api.refusal("GET", "/nowhere", headers=headers) == (401, 10000)


@pytest.mark.parametrize(
    "headers", [{"Authorization": "Bearer sesame"}, {"X-Auth-Email": "a@example.com", "X-Auth-Key": "sesame"}]
)
async def test_only_the_token_of_the_options_is_accepted(headers: dict[str, str]) -> None:
    async with emulator(token="sesame") as api:
        assert await api.refusal("GET", VERIFY) == (401, 10000)
        del api.client.headers["Authorization"]
        assert (await api.result("GET", VERIFY, headers=headers))["status"] == "active"


async def test_both_kinds_of_token_are_verified() -> None:
    async with emulator() as api:
        for path in (VERIFY, f"/accounts/{ACCOUNT}/tokens/verify"):
            answer = await api.result("GET", path)
            assert answer == {"id": "0" * 32, "status": "active"}


@pytest.mark.parametrize("account", ["x", "F" * 32, "0" * 31, "0" * 33])
async def test_a_malformed_account_id_is_7003(account: str) -> None:
    async with emulator() as api:
        assert await api.refusal("GET", f"/accounts/{account}/ai-search/instances") == (404, 7003)


@pytest.mark.parametrize("path", ["/", "/nowhere", "/accounts", f"{ROOT}/", f"{DOCS}/items/a/b/c/d", "/accounts//x"])
async def test_an_unknown_path_is_an_enveloped_404(path: str) -> None:
    async with emulator() as api:
        assert await api.refusal("GET", path) == (404, 7000)


async def test_a_path_outside_the_api_is_an_enveloped_404() -> None:
    async with emulator() as api:
        for path in ("/", "/client/v4", "/client/v4x/user/tokens/verify", "/_syncd/other"):
            assert await api.refusal("GET", f"http://127.0.0.1{path}") == (404, 7000)


async def test_an_unknown_method_of_a_path_is_an_enveloped_405() -> None:
    async with emulator() as api:
        assert await api.refusal("PUT", f"{DOCS}/stats") == (405, 10405)


async def test_an_encoded_slash_stays_within_its_segment() -> None:
    async with emulator() as api:
        assert await api.refusal("GET", f"{ITEMS}/a%2Fdownload") == (404, 7041)


@pytest.mark.parametrize("host", ["example.com", "127.0.0.1.example.com", "example.com:8080", "", "[", "10.0.0.1"])
async def test_a_foreign_host_name_is_refused(host: str) -> None:
    async with emulator() as api:
        assert await api.refusal("GET", VERIFY, headers={"Host": host}) == (403, 10403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:9", "[::1]:8787"])
async def test_a_loopback_host_name_is_accepted(host: str) -> None:
    async with emulator() as api:
        await api.result("GET", VERIFY, headers={"Host": host})


@pytest.mark.parametrize("origin", ["http://example.com", "null", "http://localhost:3000", "https://127.0.0.1"])
async def test_a_web_page_of_another_origin_is_refused(origin: str) -> None:
    async with emulator() as api:
        assert await api.refusal("POST", ITEMS, headers={"Origin": origin}, **form("a.md")) == (403, 10403)
        assert await api.refusal("GET", "http://127.0.0.1/_syncd/requests", headers={"Origin": origin}) == (403, 10403)
        await api.result("GET", VERIFY, headers={"Origin": "http://127.0.0.1"})


async def test_a_bug_is_an_enveloped_500(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("broken on purpose")

    async with emulator() as api:
        monkeypatch.setattr(ai_search_instances, "instance_statistics", broken)
        assert await api.refusal("GET", f"{DOCS}/stats") == (500, 7001)
        assert "broken on purpose" in caplog.text


async def test_a_failed_write_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("disk full, say")

    async with emulator() as api:
        with monkeypatch.context() as patch:
            patch.setattr(ai_search_items, "store_content", broken)
            assert await api.refusal("POST", ITEMS, **form("a.md")) == (500, 7001)
        assert await api.listed() == []
        await api.upload("a.md")


async def test_latency_applies_to_every_request() -> None:
    async with emulator(latency=0.25) as api:
        begin = api.clock()
        await api.result("GET", VERIFY)
        await api.refusal("GET", "/nowhere")
        assert api.clock() - begin == pytest.approx(2 * (0.25 - TIMER_S)), "the rest is the timer's and the way's"


async def test_requests_are_counted_by_endpoint_and_changing_ones_separately() -> None:
    async with emulator() as api:
        item_id = (await api.upload("a.md"))["id"]
        await api.item(item_id)
        await api.search("a")
        await api.refusal("GET", "/nowhere")
        await api.refusal("DELETE", f"{ITEMS}/nothing")
        requests = counter(api.app)
        below = "/accounts/{account_id}/ai-search/instances/{id}"
        expected = {
            f"POST {below}/items": 1,
            f"GET {below}/items/{{item_id}}": 1,
            f"POST {below}/search": 1,
            "GET (no route)": 1,
            f"DELETE {below}/items/{{item_id}}": 1,
        }
        assert requests.routes == expected
        assert (requests.total, requests.changing) == (5, 2)

        async with httpx.AsyncClient(transport=httpx.ASGITransport(api.app), base_url="http://localhost") as stranger:
            seen = (await stranger.get("/_syncd/requests")).json()
            assert seen == {"total": 5, "changing": 2, "embedded_texts": 0, "routes": expected}
            empty = (await stranger.post("/_syncd/requests/reset")).json()
            assert empty == {"total": 0, "changing": 0, "embedded_texts": 0, "routes": {}}
            assert (await stranger.get("/_syncd/requests")).json() == empty
