"""Credentials that worked and are refused: trouble of the service that passes, or a token that was revoked."""

import asyncio
from collections.abc import Callable

import httpx
import pytest

from syncd.cloudflare.auth import PAUSES_S, Credentials
from syncd.cloudflare.request import Request
from syncd.cloudflare.transport import Transport
from syncd.core.errors import AuthHalt, ConfigError, Retry
from tests.unit.cloudflare.harness import TOKEN, Remote, VirtualTime, bad, ok

READ = Request("GET", "/items", permission="AI Search:Edit")
WRITE = Request("POST", "/items", json={}, permission="AI Search:Edit")
SEARCH = Request("POST", "/search", json={}, permission="AI Search:Run", reads=True)
REFUSALS = [bad(401, 10000), bad(403, 10000), bad(403), bad(401, 9109)]


async def worked(remote: Remote, time: VirtualTime, request: Request = READ) -> Transport:
    """A transport whose token has worked for a request."""
    transport = remote.transport()
    remote.says(ok())
    await time.run(transport.request(request))
    remote.requests.clear()
    remote.at.clear()
    return transport


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_token_that_never_worked_halts_at_once(
    remote: Remote, time: VirtualTime, refusal: httpx.Response
) -> None:
    remote.says(refusal)
    with pytest.raises(AuthHalt):
        await time.run(remote.transport().request(READ))
    assert (len(remote.requests), time.slept) == (1, [])


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("refusals", range(1, len(PAUSES_S) + 1))
async def test_a_refusal_that_passes_is_waited_out(
    remote: Remote, time: VirtualTime, refusal: httpx.Response, refusals: int
) -> None:
    transport = await worked(remote, time)
    remote.says(*[refusal] * refusals, ok("done"))
    assert (await time.run(transport.request(READ))).result == "done"
    assert time.slept == list(PAUSES_S[:refusals])


async def test_a_token_that_was_revoked_halts_after_minutes_and_few_requests(remote: Remote, time: VirtualTime) -> None:
    transport = await worked(remote, time)
    remote.says(bad(403, 10000))
    began = time.now
    with pytest.raises(AuthHalt, match="it worked before, and was then refused for 180 s") as caught:
        await time.run(transport.request(READ))
    assert TOKEN not in str(caught.value)
    assert len(remote.requests) == 1 + len(PAUSES_S)
    assert 120 <= time.now - began <= 300
    # From now on it counts as a token that never worked, until it works again.
    with pytest.raises(AuthHalt):
        await time.run(transport.request(READ))
    assert len(remote.requests) == 2 + len(PAUSES_S)
    remote.says(ok(), bad(403, 10000), ok("again"))
    await time.run(transport.request(READ))
    assert (await time.run(transport.request(READ))).result == "again"


@pytest.mark.parametrize("request_", [WRITE, SEARCH, Request("GET", "/kv", permission="KV:Edit")])
async def test_a_request_that_the_token_never_made_is_refused_at_once(
    remote: Remote, time: VirtualTime, request_: Request
) -> None:
    transport = await worked(remote, time)
    remote.says(bad(403, 10000))
    with pytest.raises(AuthHalt):
        await time.run(transport.request(request_))
    assert len(remote.requests) == 1


async def test_a_header_that_the_api_cannot_read_does_not_pass(remote: Remote, time: VirtualTime) -> None:
    transport = await worked(remote, time)
    remote.says(bad(400, 6003))
    with pytest.raises(AuthHalt):
        await time.run(transport.request(READ))
    assert len(remote.requests) == 1


def refused_until(time: VirtualTime, end: float) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: bad(403, 10000) if time.now < end else ok()


async def test_of_many_refused_requests_one_tries_again_for_all(remote: Remote, time: VirtualTime) -> None:
    transport = await worked(remote, time)
    remote.says(refused_until(time, time.now + 30))

    async def all_of_them() -> None:
        await asyncio.gather(*(transport.request(READ) for _ in range(50)))

    await time.run(all_of_them())
    # 50 first tries, 3 tries of one of them, and one more of each other.
    assert len(remote.requests) == 50 + 3 + 49
    assert sum(at > 1000 for at in remote.at) <= 3 + 49


async def test_when_the_token_is_gone_no_waiting_request_is_sent_again(remote: Remote, time: VirtualTime) -> None:
    transport = await worked(remote, time)
    remote.says(bad(401, 10000))

    async def all_of_them() -> list[object]:
        return await asyncio.gather(*(transport.request(READ) for _ in range(50)), return_exceptions=True)

    errors = await time.run(all_of_them())
    assert all(isinstance(error, AuthHalt) for error in errors)
    assert len(remote.requests) == 50 + len(PAUSES_S)


async def test_one_item_that_is_always_refused_ends(remote: Remote, time: VirtualTime) -> None:
    transport = await worked(remote, time)
    remote.says(lambda request: bad(403) if "bad" in str(request.url) else ok())

    async def both() -> object:
        async def others() -> None:
            for _ in range(100):
                await transport.gate.sleep(7)
                await transport.request(READ)

        [error, _] = await asyncio.gather(
            transport.request(Request("GET", "/bad", permission="AI Search:Edit")), others(), return_exceptions=True
        )
        return error

    assert isinstance(await time.run(both()), AuthHalt)
    assert sum("bad" in str(request.url) for request in remote.requests) == 1 + len(PAUSES_S)


# -- other credentials


def takes(token: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: ok() if request.headers["authorization"] == f"Bearer {token}" else bad(401, 10000)


async def test_a_new_token_in_the_file_ends_the_wait(remote: Remote, time: VirtualTime) -> None:
    found = iter([TOKEN, TOKEN, TOKEN, "new-token"])
    remote.says(ok())
    transport = remote.transport(login=lambda: Credentials.bearer(next(found)))
    await time.run(transport.request(READ))
    remote.says(takes("new-token"))
    await time.run(transport.request(READ))
    assert time.slept == list(PAUSES_S[:3])


async def test_a_new_token_that_never_worked_halts_at_once(remote: Remote, time: VirtualTime) -> None:
    remote.says(ok())
    transport = remote.transport(login=lambda: Credentials.bearer("new-token"))
    await time.run(transport.request(READ))
    remote.says(bad(401, 10000))
    with pytest.raises(AuthHalt):
        await time.run(transport.request(READ))
    assert (len(remote.requests), time.slept) == (3, [])


async def test_a_file_without_a_token_is_an_outage_not_a_refusal(remote: Remote, time: VirtualTime) -> None:
    def login() -> Credentials:
        raise ConfigError("the file is empty")

    remote.says(ok())
    transport = remote.transport(login=login)
    await time.run(transport.request(READ))
    remote.says(bad(401, 10000))
    with pytest.raises(Retry, match="cannot be read again now"):
        await time.run(transport.request(READ))


# -- an earlier process


async def test_kinds_that_worked_in_an_earlier_process_are_known(remote: Remote, time: VirtualTime) -> None:
    before = (await worked(remote, time)).refusal_retry.known()
    transport = remote.transport()
    transport.refusal_retry.add_known(before)
    assert transport.refusal_retry.known() == before == ["AI Search:Edit read"]
    remote.says(bad(401, 10000), ok())
    await time.run(transport.request(READ))
    assert time.slept == [PAUSES_S[0]]


async def test_a_refused_token_is_no_longer_known(remote: Remote, time: VirtualTime) -> None:
    transport = await worked(remote, time)
    remote.says(bad(401, 10000))
    with pytest.raises(AuthHalt):
        await time.run(transport.request(READ))
    assert transport.refusal_retry.known() == []


def test_a_fingerprint_tells_credentials_apart_and_nothing_more() -> None:
    one, other, key = Credentials.bearer("one"), Credentials.bearer("other"), Credentials.global_key("a@b.c", "one")
    prints = {each.fingerprint() for each in (one, other, key)}
    assert len(prints) == 3
    assert Credentials.bearer("one").fingerprint() == one.fingerprint()
    assert all(len(text) == 8 for text in prints)
