import asyncio
import gzip
from typing import Any

import httpx
import pytest
import structlog

from syncd import __version__
from syncd.cloudflare import transport as transport_module
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.response import Answer
from syncd.cloudflare.transport import Transport
from syncd.core.errors import Halt, Later, Park, Retry, Unreachable
from syncd.core.requests import Priority, requests_at
from tests.unit.cloudflare.harness import ACCOUNT, BASE, TOKEN, Remote, VirtualTime, bad, html, ok, sent_json

GET = Request("GET", "/thing")
POST = Request("POST", "/thing", json={"a": 1})


async def test_a_request_goes_out_whole_and_its_answer_comes_back(remote: Remote) -> None:
    remote.says(ok({"x": 1}, page=1))
    transport = remote.transport()
    request = Request("PUT", path("a/b", "c d"), params={"q": "ü&/"}, json={"k": "v"}, headers={"X-More": "1"})
    assert await transport.request(request) == Answer({"x": 1}, {"page": 1})
    sent = remote.requests[0]
    assert str(sent.url) == f"{BASE}/a%2Fb/c%20d?q=%C3%BC%26%2F"
    assert sent.headers["authorization"] == f"Bearer {TOKEN}"
    assert sent.headers["user-agent"] == f"syncd/{__version__}"
    assert sent.headers["x-more"] == "1"
    assert sent_json(sent) == {"k": "v"}


async def test_raw_content_goes_out_as_it_is(remote: Remote) -> None:
    remote.says(ok())
    await remote.transport().request(
        Request("POST", "/x", content=b"{}\n{}", headers={"content-type": "application/x-ndjson"})
    )
    assert remote.requests[0].content == b"{}\n{}"
    assert remote.requests[0].headers["content-type"] == "application/x-ndjson"


async def test_requests_and_answers_are_counted(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(503), httpx.ConnectError("no"), ok())
    transport = remote.transport()
    await time.run(transport.request(GET))
    await time.run(transport.request(Request("POST", "/search", json={}, reads=True)))
    await time.run(transport.request(POST))
    counters = transport.counters
    assert (counters.requests, counters.retries, counters.changing) == (5, 2, 1)
    assert dict(counters.by) == {("GET", "503"): 1, ("GET", "failed"): 1, ("GET", "200"): 1, ("POST", "200"): 2}


async def test_pauses_grow_between_their_bounds(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(500))
    with pytest.raises(Unreachable):
        await time.run(remote.transport(chance=1.0).request(GET))
    assert time.slept == pytest.approx([0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 20, 20, 20, 20, 14.8])


async def test_pauses_are_never_shorter_than_the_least(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(500), bad(500), bad(500), bad(500), ok())
    await time.run(remote.transport(chance=0.0).request(GET))
    assert time.slept == [0.2] * 4


@pytest.mark.parametrize("retry_for", [120.0, 5.0, 0.5])
@pytest.mark.parametrize("chance", [0.0, 0.7, 1.0])
async def test_after_retry_for_without_any_answer_the_remote_is_unreachable(
    remote: Remote, time: VirtualTime, retry_for: float, chance: float
) -> None:
    remote.says(httpx.ConnectError("refused"))
    began = time.now
    with pytest.raises(Unreachable, match=f"{retry_for:g} s") as caught:
        await time.run(remote.transport(retry_for=retry_for, chance=chance).request(GET))
    assert retry_for <= time.now - began < retry_for + 0.3
    assert not caught.value.ambiguous
    assert "refused" in str(caught.value)


async def test_while_others_are_answered_only_this_request_is_given_up(remote: Remote, time: VirtualTime) -> None:
    remote.says(lambda request: ok() if request.url.path.endswith("/fine") else bad(500, 7001))
    transport = remote.transport()

    async def both() -> None:
        async def now_and_then() -> None:
            while True:
                await transport.once(Request("GET", "/fine"))
                await time.sleep(50)

        other = asyncio.ensure_future(now_and_then())
        try:
            await transport.request(GET)
        finally:
            other.cancel()

    with pytest.raises(Retry) as caught:
        await time.run(both())
    assert type(caught.value) is Retry
    assert caught.value.ambiguous


async def test_an_answer_long_ago_does_not_make_the_remote_reachable(remote: Remote, time: VirtualTime) -> None:
    remote.says(ok(), bad(500))
    transport = remote.transport()
    await time.run(transport.request(GET))
    time.now += 1
    with pytest.raises(Unreachable):
        await time.run(transport.request(GET))


async def test_a_request_without_retries_names_its_error_and_no_time(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(500))
    with pytest.raises(Unreachable, match=r"^Cloudflare could not carry out the request now"):
        await time.run(remote.transport(retry_for=0).request(GET))


async def test_a_refusal_counts_as_an_answer(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(400, 7060), bad(500))
    transport = remote.transport(retry_for=0)
    with pytest.raises(Park):
        await transport.request(GET)
    time.now -= 1e-9
    with pytest.raises(Retry) as caught:
        await time.run(transport.request(GET))
    assert type(caught.value) is Retry


@pytest.mark.parametrize("answer", [bad(401, 10000), bad(404, 7002), bad(400, 7060), bad(404, 7041), bad(409, 7042)])
async def test_an_error_that_waiting_cannot_cure_is_raised_at_once(remote: Remote, answer: httpx.Response) -> None:
    remote.says(answer)
    with pytest.raises((Halt, Park)):
        await remote.transport().request(GET)
    assert len(remote.requests) == 1


async def test_refused_access_names_the_permission(remote: Remote) -> None:
    remote.says(bad(403))
    with pytest.raises(Halt, match="Account / AI Search: Edit"):
        await remote.transport().request(Request("GET", "/x", permission="Account / AI Search: Edit"))


async def test_a_retry_after_is_waited_out_even_over_retry_for(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(429, headers={"retry-after": "290"}), ok("done"))
    assert (await time.run(remote.transport(retry_for=5).request(GET))).result == "done"
    assert remote.at == [1000.0, 1290.0]


async def test_a_retry_after_is_waited_out_at_the_end_of_retry_for(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(503), bad(503), bad(429, headers={"retry-after": "290"}), ok("done"))
    assert (await time.run(remote.transport(retry_for=2, chance=1.0).request(GET))).result == "done"
    assert remote.at == pytest.approx([1000.0, 1000.4, 1001.2, 1291.2])


async def test_seconds_the_remote_asked_for_do_not_use_up_patience(remote: Remote, time: VirtualTime) -> None:
    remote.says(*[bad(429, headers={"retry-after": "100"})] * 8, ok("done"))
    assert (await time.run(remote.transport(retry_for=5).request(GET))).result == "done"


async def test_a_remote_that_asks_for_ever_is_given_up_after_an_hour(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(429, headers={"retry-after": "300"}))
    with pytest.raises(Retry):
        await time.run(remote.transport().request(GET))
    assert time.now - 1000 == 3600


async def test_a_429_holds_every_request_for_its_retry_after(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(429, headers={"retry-after": "30"}), ok())
    gate = remote.gate()
    one, other = remote.transport(gate), remote.transport(gate)

    async def both() -> None:
        first = asyncio.ensure_future(one.request(GET))
        await time.rest()
        await asyncio.gather(first, other.request(GET), other.request(GET))

    await time.run(both())
    assert remote.at == [1000.0, 1030.0, 1030.0, 1030.0]


@pytest.mark.parametrize("code", [971, 10100])
async def test_the_five_minute_block_holds_five_minutes(remote: Remote, time: VirtualTime, code: int) -> None:
    remote.says(bad(429, code), ok())
    await time.run(remote.transport(retry_for=5).request(GET))
    assert remote.at == [1000.0, 1300.0]


@pytest.mark.parametrize("code", [7095, 7114])
async def test_a_429_of_one_item_or_instance_holds_this_request_alone(
    remote: Remote, time: VirtualTime, code: int
) -> None:
    refusal = bad(429, code, headers={"retry-after": "300"})
    remote.says(lambda request: refusal if request.method == "POST" and time.now < 1300 else ok())
    transport = remote.transport()

    async def both() -> None:
        await asyncio.gather(transport.request(POST), others())

    async def others() -> None:
        for _ in range(10):
            await transport.request(GET)
        assert time.now == 1000

    await time.run(both())
    assert time.now == 1300
    assert [at for at, sent in zip(remote.at, remote.requests, strict=True) if sent.method == "POST"] == [1000, 1300]


async def test_an_overload_that_lasts_ends_the_pass_and_one_items_limit_does_not(
    remote: Remote, time: VirtualTime
) -> None:
    for code, kind in ((7114, Unreachable), (7095, Retry)):
        remote.says(bad(429, code, headers={"retry-after": "300"}))
        began, sent = time.now, len(remote.requests)
        with pytest.raises(Retry) as caught:
            await time.run(remote.transport().request(GET))
        assert type(caught.value) is kind
        assert caught.value.after_s == 300
        # The waits that the remote asked for do not use up retry_for, but end after an hour.
        assert (time.now - began, len(remote.requests) - sent) == (3600, 13)


async def test_an_exceeded_allocation_is_left_to_the_queue(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(402, 7094))
    transport = remote.transport()
    with pytest.raises(Later):
        await time.run(transport.request(GET))
    assert (len(remote.requests), time.slept) == (1, [])
    assert transport.gate.held_s() <= 0


@pytest.mark.parametrize(
    ("code", "asked", "tries"), [(7095, "5", 2), (7095, "6", 1), (7104, "6", 1), (7114, "6", 2), (10000, "6", 2)]
)
async def test_a_long_wait_of_one_request_is_left_to_the_queue(
    remote: Remote, time: VirtualTime, code: int, asked: str, tries: int
) -> None:
    """A wait of the whole account or instance concerns the other requests, too, so nothing is won by giving it up."""
    remote.says(bad(409 if code == 7104 else 429, code, headers={"retry-after": asked}), ok())
    transport = remote.transport()
    with requests_at(Priority(longest_wait_s=5.0)):
        if tries > 1:
            await time.run(transport.request(GET))
        else:
            with pytest.raises(Retry) as caught:
                await time.run(transport.request(GET))
            assert (type(caught.value), caught.value.after_s) == (Retry, float(asked))
    assert len(remote.requests) == tries


@pytest.mark.parametrize("headers", [{}, {"retry-after": "0"}, {"retry-after": "soon"}])
async def test_a_429_without_a_time_holds_longer_each_time(
    remote: Remote, time: VirtualTime, headers: dict[str, str]
) -> None:
    remote.says(*[bad(429, headers=headers)] * 3, ok())
    await time.run(remote.transport().request(GET))
    assert remote.at == [1000.0, 1005.0, 1015.0, 1035.0]


async def test_a_spent_ratelimit_holds_before_the_429_comes(remote: Remote, time: VirtualTime) -> None:
    spent = ok()
    spent.headers["Ratelimit"] = '"default";r=0;t=9'
    remote.says(spent, ok())
    transport = remote.transport()
    await time.run(transport.request(GET))
    await time.run(transport.request(GET))
    assert remote.at == [1000.0, 1009.0]


@pytest.mark.parametrize("at", [1000.1, 1100.0])
async def test_cancellation_ends_any_wait_at_once(remote: Remote, time: VirtualTime, at: float) -> None:
    remote.says(bad(503) if at < 1001 else bad(429, headers={"retry-after": "300"}))
    gate = remote.gate(transfers=1)
    with pytest.raises(asyncio.CancelledError):
        await time.run(remote.transport(gate).request(GET), until=at)
    assert time.now == at
    assert gate.in_flight == 0


async def test_cancellation_in_flight_gives_the_place_back(remote: Remote, time: VirtualTime) -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    remote.says(never, ok())
    gate = remote.gate(transfers=1)
    transport = remote.transport(gate)
    hanging = asyncio.ensure_future(transport.request(GET))
    await time.rest()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert (await transport.request(GET)).result is None


async def test_a_remote_that_never_answers_times_out_ambiguously(remote: Remote) -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    remote.says(never)
    with pytest.raises(Retry, match="no whole answer") as caught:
        await remote.transport(timeout=0).once(GET)
    assert caught.value.ambiguous


@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ConnectTimeout("x"), httpx.ProxyError("x")])
async def test_a_failure_before_sending_is_not_ambiguous(remote: Remote, error: Exception) -> None:
    remote.says(error)
    with pytest.raises(Retry) as caught:
        await remote.transport().once(POST)
    assert not caught.value.ambiguous


@pytest.mark.parametrize(
    "error",
    [httpx.ReadTimeout("x"), httpx.ReadError("x"), httpx.WriteError("x"), httpx.RemoteProtocolError("x")],
)
async def test_a_failure_after_sending_is_ambiguous(remote: Remote, error: Exception) -> None:
    remote.says(error)
    with pytest.raises(Retry) as caught:
        await remote.transport().once(POST)
    assert caught.value.ambiguous


async def test_a_broken_compression_is_an_ambiguous_failure(remote: Remote) -> None:
    def broken(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-encoding": "gzip"}, stream=httpx.ByteStream(b"no gzip"))

    remote.says(broken)
    with pytest.raises(Retry) as caught:
        await remote.transport().once(GET)
    assert caught.value.ambiguous


@pytest.mark.parametrize("answer", [httpx.ReadTimeout("x"), bad(500), html(200), html(502)])
async def test_a_write_that_may_have_been_done_is_not_sent_again_blindly(remote: Remote, answer: Any) -> None:
    remote.says(answer)
    with pytest.raises(Retry) as caught:
        await remote.transport().request(POST)
    assert caught.value.ambiguous
    assert len(remote.requests) == 1


@pytest.mark.parametrize("answer", [httpx.ConnectError("x"), bad(429)])
async def test_a_write_that_was_not_done_is_sent_again(remote: Remote, time: VirtualTime, answer: Any) -> None:
    remote.says(answer, ok())
    await time.run(remote.transport().request(POST))
    assert len(remote.requests) == 2


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_a_request_that_may_be_done_twice_is_sent_again(remote: Remote, time: VirtualTime, method: Any) -> None:
    remote.says(httpx.ReadTimeout("x"), ok())
    await time.run(remote.transport().request(Request(method, "/x")))
    assert len(remote.requests) == 2


async def test_a_caller_can_look_between_two_tries(remote: Remote, time: VirtualTime) -> None:
    remote.says(httpx.ReadTimeout("x"), ok("looked"), ok("sent"))
    transport = remote.transport()

    async def careful() -> list[Any]:
        done: list[Any] = []
        unsure = False
        async for attempt in transport.attempts(key="a"):
            with attempt:
                if unsure:
                    done.append((await transport.once(GET)).result)
                try:
                    done.append((await transport.once(POST)).result)
                except Retry as error:
                    unsure = error.ambiguous
                    raise
        return done

    assert await time.run(careful()) == ["looked", "sent"]


async def test_raw_bytes_are_given_back_untouched(remote: Remote) -> None:
    content = b"<html>\x00 no envelope"
    packed = httpx.Response(200, content=gzip.compress(content), headers={"content-encoding": "gzip"})
    remote.says(lambda _: packed)
    assert await remote.transport().fetch(GET, 100) == content


@pytest.mark.parametrize(("size", "fits"), [(9, True), (10, True), (11, False)])
async def test_a_download_is_bounded(remote: Remote, size: int, fits: bool) -> None:
    remote.says(httpx.Response(200, content=b"x" * size))
    transport = remote.transport()
    if fits:
        assert len(await transport.fetch(GET, 10)) == size
    else:
        with pytest.raises(Park, match="over 10 B") as caught:
            await transport.fetch(GET, 10)
        assert caught.value.kind == "too_large"


async def test_a_download_that_fails_is_an_error_like_any_other(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(404, 7041))
    with pytest.raises(Park):
        await remote.transport().fetch(GET, 100)
    remote.says(html(200, cf_mitigated="challenge"), bad(500), httpx.Response(200, content=b"ok"))
    assert await time.run(remote.transport().fetch(GET, 100)) == b"ok"


async def test_an_answer_without_end_is_not_read_to_its_end(remote: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_module, "ANSWER_LIMIT", 50)
    remote.says(ok("x" * 100))
    with pytest.raises(Park, match="over 50 B"):
        await remote.transport().once(GET)
    remote.says(html(502))
    with pytest.raises(Retry, match="HTTP 502"):
        await remote.transport().once(GET)


async def test_redirects_are_not_followed(remote: Remote) -> None:
    remote.says(httpx.Response(302, headers={"location": "https://elsewhere.example/"}))
    with pytest.raises(Retry, match="redirected"):
        await remote.transport().once(GET)
    assert len(remote.requests) == 1


async def test_no_secret_shows_in_errors_logs_or_reprs(remote: Remote, time: VirtualTime) -> None:
    remote.says(httpx.ConnectError(f"bad {TOKEN}"), bad(500, 7001, f"you sent {TOKEN}"), bad(401, 10000, TOKEN))
    transport = remote.transport()
    with structlog.testing.capture_logs() as logs, pytest.raises(Halt) as caught:
        await time.run(transport.request(GET))
    for shown in (repr(caught.value), str(caught.value), repr(transport), str(logs), repr(transport.counters)):
        assert TOKEN not in shown
    events = [log["event"] for log in logs]
    assert events == ["http.failed", "http.retry", "http.request", "http.retry", "http.request"]


async def test_each_retry_is_logged_with_its_fields(remote: Remote, time: VirtualTime) -> None:
    remote.says(bad(503, 7017), ok())
    with structlog.testing.capture_logs() as logs:
        await time.run(remote.transport().request(GET))
    retry = next(log for log in logs if log["event"] == "http.retry")
    assert {"method": "GET", "path": "/thing", "wait_s": 0.2, "log_level": "info"}.items() <= retry.items()
    assert "7017" in retry["why"]
    requests = [log for log in logs if log["event"] == "http.request"]
    assert [log["status"] for log in requests] == [503, 200]
    assert {log["log_level"] for log in requests} == {"debug"}


def test_a_request_hides_its_content() -> None:
    shown = repr(
        Request("POST", "/x", json={"a": "hush"}, content=b"hush", file=("f", b"hush", "t"), form={"m": "hush"})
    )
    assert "hush" not in shown


class Way(httpx.AsyncBaseTransport):
    closed = False

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("account_id", [ACCOUNT, "local"])
async def test_a_transport_closes_with_its_block(remote: Remote, account_id: str) -> None:
    way = Way()
    bearer = Credentials.bearer(TOKEN)
    async with Transport(BASE, account_id, bearer, remote.gate(), http=way) as transport:
        assert transport.account_id == account_id
    assert way.closed
