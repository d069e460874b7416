"""A proxy that refuses some contents or every request, and credentials that change meanwhile."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from syncd.cloudflare import transport as limits
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.request import Request
from syncd.core.errors import AuthHalt, Blocked, ConfigError, Park, Retry, Unreachable
from syncd.core.plain_text import encoded_forms
from tests.unit.cloudflare.harness import TOKEN, Remote, VirtualTime, bad, html, ok

REFUSALS = [html(status) for status in (400, 403, 406, 431, 451)] + [
    html(403, cf_mitigated="challenge"),
    html(302, location="http://block.example/"),
    httpx.Response(403, json={"error": "policy"}),
    httpx.Response(403),
]
PUT = Request("PUT", "/bulk", content=b"a bad word")
ODD = Request("PUT", "/values/word", content=b"x", probe="/values")


def unless_empty(refusal: httpx.Response) -> Callable[[httpx.Request], httpx.Response]:
    """Return the answers of a proxy that refuses requests with a certain word."""
    return lambda request: refusal if b"word" in request.content or b"word" in request.url.raw_path else bad(400, 10001)


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("request_", [PUT, ODD])
async def test_a_content_that_alone_is_refused_on_the_way_is_parked(
    remote: Remote, time: VirtualTime, refusal: httpx.Response, request_: Request
) -> None:
    remote.says(unless_empty(refusal))
    began = time.now
    with pytest.raises(Park, match="refuses what this request carries") as caught:
        await time.run(remote.transport().request(request_))
    assert caught.value.kind == "refused"
    assert len(remote.requests) == 3
    assert time.now - began < 5


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_way_that_is_shut_is_an_outage_with_few_requests(
    remote: Remote, time: VirtualTime, refusal: httpx.Response
) -> None:
    remote.says(refusal)
    with pytest.raises(Unreachable):
        await time.run(remote.transport(chance=0.5).request(PUT))
    assert len(remote.requests) < 40


async def test_a_refusal_that_passes_is_no_refusal(remote: Remote, time: VirtualTime) -> None:
    remote.says(html(403), bad(400, 10001), ok("done"))
    assert (await time.run(remote.transport().request(PUT))).result == "done"


async def test_a_request_without_content_is_never_parked(remote: Remote, time: VirtualTime) -> None:
    remote.says(html(403))
    with pytest.raises(Unreachable):
        await time.run(remote.transport().request(Request("GET", "/keys")))


async def test_many_refusals_in_a_row_count_as_an_outage(remote: Remote, time: VirtualTime) -> None:
    remote.says(unless_empty(html(403)))
    transport = remote.transport()
    for _ in range(limits.REFUSED_LIMIT):
        with pytest.raises(Park):
            await time.run(transport.once(PUT))
    asked = len(remote.requests)
    with pytest.raises(Blocked):
        await time.run(transport.once(PUT))
    assert len(remote.requests) == asked + 1
    time.now += limits.SHUT_S
    with pytest.raises(Park):
        await time.run(transport.once(PUT))


# credentials


def takes(token: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: ok() if request.headers["authorization"] == f"Bearer {token}" else bad(401, 10000, TOKEN)


async def test_a_token_file_is_read_again_before_a_halt(remote: Remote, time: VirtualTime) -> None:
    remote.says(takes("new-token"))
    transport = remote.transport(login=lambda: Credentials.bearer("new-token"))
    await time.run(transport.request(PUT))
    assert len(remote.requests) == 2
    assert transport.login.hide_bytes(f"{TOKEN} new-token".encode()) == b"[hidden] [hidden]"


async def test_the_same_token_again_halts(remote: Remote, time: VirtualTime) -> None:
    remote.says(takes("new-token"))
    with pytest.raises(AuthHalt) as caught:
        await time.run(remote.transport(login=lambda: Credentials.bearer(TOKEN)).request(PUT))
    assert TOKEN not in str(caught.value)
    assert len(remote.requests) == 1


async def test_a_token_file_that_is_being_written_is_waited_for(remote: Remote, time: VirtualTime) -> None:
    remote.says(takes("new-token"))
    found = iter([None, None, "new-token"])

    def login() -> Credentials:
        if (token := next(found)) is None:
            raise ConfigError("the file should hold the token alone, on one line")
        return Credentials.bearer(token)

    await time.run(remote.transport(login=login).request(PUT))
    assert len(remote.requests) == 4


async def test_a_secret_that_the_remote_echoes_is_in_no_error(remote: Remote) -> None:
    for answer in (
        bad(500, 1, f"no {TOKEN}", headers={"cf-ray": TOKEN}),
        html(403, content_type=TOKEN, cf_ray=TOKEN),
    ):
        remote.says(answer)
        with pytest.raises(Retry) as caught:
            await remote.transport().once(Request("GET", "/x"))
        assert TOKEN not in str(caught.value)
        assert "[hidden]" in str(caught.value)


@pytest.mark.parametrize("form", encoded_forms(TOKEN))
async def test_a_secret_that_the_remote_echoes_is_in_no_answer(remote: Remote, time: VirtualTime, form: str) -> None:
    remote.says(ok({"key": f"x {form}", "error": [form]}))
    transport = remote.transport(login=lambda: Credentials.bearer("new-token-4711"))
    assert transport.login.renew()
    answer = await time.run(transport.request(Request("GET", "/x")))
    assert form not in str(answer)


async def test_a_secret_as_short_as_a_word_leaves_answers_as_they_are(remote: Remote, time: VirtualTime) -> None:
    remote.says(ok({"key": "demo.md", "owner": "demo"}))
    transport = remote.transport(login=lambda: Credentials.bearer("demo"))
    assert transport.login.renew()
    answer = await time.run(transport.request(Request("GET", "/x")))
    assert "demo.md" in str(answer)


async def test_many_contents_side_by_side_are_all_judged(remote: Remote, time: VirtualTime) -> None:
    remote.says(unless_empty(html(403)))
    transport = remote.transport()

    async def one(number: int) -> str:
        await transport.gate.sleep(number * 0.03)
        with pytest.raises(Park) as caught:
            await transport.request(Request("PUT", "/bulk", content=b"a bad word"))
        return caught.value.kind

    async def everything() -> list[str]:
        return await asyncio.gather(*(one(number) for number in range(150)))

    assert set(await time.run(everything())) == {"refused"}
    assert len(remote.requests) < 500
