import json
from collections.abc import Mapping

import httpx
import pytest

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.error_codes import CODES
from syncd.cloudflare.response import MESSAGE_LIMIT, Answer, Response, one_line, retry_after_s
from syncd.core.errors import (
    AuthHalt,
    Blocked,
    Conflict,
    Halt,
    NotFound,
    Park,
    QuotaHalt,
    Retry,
    SyncdError,
    TargetMissing,
)
from tests.unit.cloudflare.harness import TOKEN, bad, html
from tests.unit.cloudflare.test_error_codes import DOCUMENTED


def read(response: httpx.Response, permission: str = "for this API") -> Answer:
    return Response(response.status_code, response.headers, response.content, permission).answer()


def error_of(response: httpx.Response, permission: str = "for this API") -> SyncdError:
    with pytest.raises(SyncdError) as caught:
        read(response, permission)
    return caught.value


def raw(status: int, body: bytes, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, content=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def test_a_success_gives_result_and_paging() -> None:
    body = {"success": True, "result": [1], "result_info": {"page": 2}, "messages": [{"message": "a\nb"}, "c", 7]}
    assert read(httpx.Response(200, json=body)) == Answer([1], {"page": 2})


def test_a_success_needs_nothing_but_success() -> None:
    assert read(raw(200, b'{"success": true, "surprise": 1}')) == Answer(None)


HALTS = {
    10000: (401, "AI Search: Edit"),
    9106: (400, "API token"),
    9109: (403, "account_id"),
    6003: (400, "API token"),
    7002: (404, "create = true"),
    7063: (404, "create = true"),
    7003: (404, "syncd check"),
    7013: (403, "delete one"),
    7053: (400, "newly created"),
    7069: (429, "quota"),
    10013: (404, "KV namespace"),
    10048: (429, "00:00 UTC"),
    3000: (404, "Vectorize index"),
    3005: (410, "create = true creates a new one"),
    40012: (400, "set a model of its dimensions"),
    3023: (403, "blocked"),
    3036: (429, "00:00 UTC"),
    4006: (429, "00:00 UTC"),
}


@pytest.mark.parametrize("code", HALTS)
def test_an_error_that_stops_the_mirror_halts_and_names_the_remedy(code: int) -> None:
    status, remedy = HALTS[code]
    error = error_of(bad(status, code, headers={"cf-ray": "8f-AMS"}), permission="Account / AI Search: Edit")
    kinds = {
        **dict.fromkeys((7002, 7063, 10013, 3000, 3005), TargetMissing),
        **dict.fromkeys((10000, 9106, 9109, 6003), AuthHalt),
        **dict.fromkeys((10048, 3036, 4006), QuotaHalt),
    }
    assert type(error) is kinds.get(code, Halt)
    for part in (remedy, f"HTTP {status}", f"code {code}", "cf-ray 8f-AMS"):
        assert part in str(error)


PARKS = {
    7054: (413, "too_large"),
    7060: (400, "unsupported_type"),
    7072: (400, "key_too_long"),
    7055: (400, "refused"),
    7056: (400, "refused"),
    7058: (400, "refused"),
    7000: (404, "refused"),
    7059: (400, "refused"),
    3006: (413, "too_large"),
    3030: (400, "too_large"),
    3041: (403, "refused"),
    5016: (403, "refused"),
    5018: (403, "refused"),
    5021: (400, "too_large"),
    5028: (410, "refused"),
    5035: (403, "refused"),
    40006: (400, "refused"),
    40007: (400, "too_large"),
    40008: (400, "refused"),
    40016: (400, "refused"),
    40023: (400, "refused"),
}


@pytest.mark.parametrize("code", PARKS)
def test_content_that_cannot_succeed_is_parked_with_its_kind(code: int) -> None:
    status, kind = PARKS[code]
    error = error_of(bad(status, code))
    assert type(error) is Park
    assert (error.kind, error.code) == (kind, code)


@pytest.mark.parametrize("code", [10048, 3036, 4006])
@pytest.mark.parametrize(
    ("date", "again_s"),
    [
        ("Sat, 28 Nov 2026 23:59:59 GMT", 1.0),
        ("Sun, 29 Nov 2026 00:00:00 GMT", 86_400.0),
        ("Sun, 29 Nov 2026 12:00:00 GMT", 43_200.0),
    ],
)
def test_a_quota_of_the_day_names_the_time_until_the_next_day(code: int, date: str, again_s: float) -> None:
    answer = bad(429, code)
    answer.headers["date"] = date
    error = error_of(answer)
    assert isinstance(error, QuotaHalt)
    assert error.again_s == again_s
    del answer.headers["date"]
    error = error_of(answer)
    assert isinstance(error, QuotaHalt)
    assert 0 < error.again_s <= 86_400


@pytest.mark.parametrize(("code", "status"), [(7041, 404), (10009, 404), (40005, 404), (5007, 400), (3042, 404)])
def test_an_absent_item_is_not_found(code: int, status: int) -> None:
    error = error_of(bad(status, code))
    assert type(error) is NotFound
    assert error.code == code


@pytest.mark.parametrize(("code", "status"), [(7042, 409), (7022, 400), (10014, 400), (3002, 400)])
def test_an_existing_thing_conflicts(code: int, status: int) -> None:
    error = error_of(bad(status, code))
    assert type(error) is Conflict
    assert error.code == code


@pytest.mark.parametrize(
    ("code", "status"), [(7001, 500), (7009, 500), (7114, 500), (7068, 500), (7017, 503), (7044, 503)]
)
def test_a_busy_remote_is_tried_again_and_may_have_done_it(code: int, status: int) -> None:
    error = error_of(bad(status, code))
    assert isinstance(error, Retry)
    assert (error.ambiguous, error.after_s) == (True, None)


@pytest.mark.parametrize("code", [7001, 7009, 7114, 7068, 7017, 7044])
@pytest.mark.parametrize(
    ("status", "kind"), [(400, Park), (422, Park), (401, AuthHalt), (404, Retry), (409, Conflict), (413, Park)]
)
def test_a_busy_code_with_the_status_of_a_refusal_is_a_refusal(code: int, status: int, kind: type) -> None:
    error = error_of(bad(status, code, "Input validation error: key must be a text"))
    assert type(error) is kind
    assert f"code {code}" in str(error)


@pytest.mark.parametrize("status", [408, 429, 500, 502])
def test_a_busy_code_with_a_status_that_passes_is_tried_again(status: int) -> None:
    assert isinstance(error_of(bad(status, 7001)), Retry)


@pytest.mark.parametrize(
    ("code", "after_s"),
    [(971, 300.0), (10100, 300.0), (7020, 30.0), (10429, None), (40041, None), (3040, None), (1, None)],
)
def test_a_429_was_not_carried_out_and_waits_as_long_as_its_code_says(code: int, after_s: float | None) -> None:
    error = error_of(bad(429, code))
    assert isinstance(error, Retry)
    assert (error.ambiguous, error.after_s) == (False, after_s)


def test_retry_after_beats_the_time_of_the_code() -> None:
    error = error_of(bad(429, 971, headers={"retry-after": "12"}))
    assert isinstance(error, Retry)
    assert error.after_s == 12


def test_every_listed_code_has_a_row_in_these_tests() -> None:
    """The documented codes of AI Search have theirs in test_error_codes.py."""
    absent, there = {7041, 10009, 40005, 5007, 3042}, {7042, 7022, 10014, 3002}
    again = {7001, 7009, 7114, 7068, 7017, 7044, 971, 10100, 7020, 10429, 40041, 3040}
    ai_search = {code for code, *_ in DOCUMENTED}
    assert set(CODES) == ai_search & set(CODES) | HALTS.keys() | PARKS.keys() | absent | there | again


def test_vectorize_asks_for_fewer_requests_with_any_status() -> None:
    error = error_of(bad(400, 40041, "Too Many Requests"))
    assert isinstance(error, Retry)
    assert not error.ambiguous


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Park),
        (401, AuthHalt),
        (402, Halt),
        (403, AuthHalt),
        (404, Retry),
        (405, Park),
        (408, Retry),
        (409, Conflict),
        (413, Park),
        (414, Park),
        (422, Park),
        (429, Retry),
        (500, Retry),
        (502, Retry),
        (524, Retry),
        (200, Retry),
        (204, Retry),
    ],
)
@pytest.mark.parametrize("code", [None, 999_999])
def test_an_unlisted_code_is_judged_by_its_status(status: int, kind: type[SyncdError], code: int | None) -> None:
    assert type(error_of(bad(status, code))) is kind


def test_an_unlisted_code_stays_with_the_park() -> None:
    error = error_of(bad(400, 12345, "no such thing"))
    assert isinstance(error, Park)
    assert (error.kind, error.code) == ("refused", 12345)
    assert "no such thing" in str(error)


@pytest.mark.parametrize("code", [7002, 7041, 7042, 7060, 10000])
def test_http_200_with_success_false_is_the_error_it_names(code: int) -> None:
    assert type(error_of(bad(200, code))) is type(error_of(bad(400, code)))


def test_a_listed_code_counts_wherever_it_stands() -> None:
    errors = [{"code": 1, "message": "first"}, "no object", {"code": "7042", "message": "second"}]
    error = error_of(httpx.Response(400, json={"success": False, "errors": errors}))
    assert type(error) is Conflict
    assert "second" in str(error)


def test_the_error_chain_is_in_the_message() -> None:
    chain = {"code": 6003, "message": "Invalid headers", "error_chain": [{"code": 6111, "message": "bad format"}, 1]}
    error = error_of(httpx.Response(400, json={"success": False, "errors": [chain]}))
    assert isinstance(error, Halt)
    assert "bad format (6111)" in str(error)


def test_a_code_that_is_a_text_is_in_the_message() -> None:
    error = error_of(bad(400, "vectorize.unknown_content_type", ""))
    assert isinstance(error, Park)
    assert "vectorize.unknown_content_type" in str(error)
    assert error.code is None


NO_ENVELOPES = [
    b"",
    b"   ",
    b"<html>",
    b'{"success": true, "result": [',
    b"[]",
    b"null",
    b"true",
    b"{}",
    b'{"success": "yes"}',
    b'{"success": null}',
    b"\xff\xfe",
    b"[" * 100_000,
    b"1" * 10_000,
]


@pytest.mark.parametrize("body", NO_ENVELOPES)
@pytest.mark.parametrize("status", [200, 201, 500, 502, 400, 401, 403, 404, 409])
def test_an_answer_without_an_envelope_is_an_ambiguous_retry(status: int, body: bytes) -> None:
    error = error_of(raw(status, body))
    assert isinstance(error, Retry)
    assert error.ambiguous


def test_paging_of_the_wrong_type_is_an_error() -> None:
    assert isinstance(error_of(raw(200, b'{"success": true, "result": [], "result_info": 3}')), Retry)


@pytest.mark.parametrize(("status", "kind"), [(413, Park), (414, Park), (429, Retry), (408, Retry)])
def test_the_edge_may_say_some_things_in_html(status: int, kind: type[SyncdError]) -> None:
    assert type(error_of(html(status))) is kind


def test_an_html_429_was_not_carried_out() -> None:
    error = error_of(html(429, retry_after="7"))
    assert isinstance(error, Retry)
    assert (error.ambiguous, error.after_s) == (False, 7)


@pytest.mark.parametrize("status", [200, 401, 403, 503])
def test_a_bot_challenge_is_no_refusal_of_the_token(status: int) -> None:
    error = error_of(html(status, cf_mitigated="challenge", cf_ray="8f-AMS"))
    assert isinstance(error, Retry)
    assert not error.ambiguous
    assert "firewall" in str(error)
    assert "8f-AMS" in str(error)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 304])
def test_a_redirect_is_an_error(status: int) -> None:
    error = error_of(raw(status, b"", location="https://elsewhere.example/"))
    assert isinstance(error, Retry)
    assert "base_url" in str(error)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "17"}, 17.0),
        ({"retry-after": " 2.5 "}, 2.5),
        ({"retry-after": "300"}, 300.0),
        ({"retry-after": "3601"}, 3600.0),
        ({"retry-after": "9" * 400}, 3600.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:50 GMT"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:10 GMT", "date": "Thu, 01 Jan 1970 00:01:40 GMT"}, 0.0),
        ({"retry-after": "Fri, 01 Jan 2100 00:00:00 GMT", "date": "Thu, 01 Jan 1970 00:01:40 GMT"}, 3600.0),
        (
            {"retry-after": "Sun, 22 Nov 2026 10:00:30 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"},
            30.0,
        ),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_read_in_both_forms(headers: Mapping[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_messages_are_one_bounded_line() -> None:
    reason = "a\r\nb\x1b[31m\u202e" + "😀\x00" * 5000
    message = str(error_of(bad(400, 1, reason, headers={"cf-ray": "r" * 5000})))
    assert message.isprintable()
    assert len(message) <= MESSAGE_LIMIT
    assert "\\r\\nb\\x1b[31m\\u202e" in message
    assert "code 1" in message


def test_a_lone_surrogate_does_not_break_a_message() -> None:
    message = str(error_of(raw(400, json.dumps({"success": False, "errors": [{"message": "\ud800"}]}).encode())))
    assert "\\ud800" in message
    assert message.encode()


@pytest.mark.parametrize("length", [9, 10, 11])
def test_a_line_is_cut_at_its_limit(length: int) -> None:
    assert len(one_line("x" * length, 10)) == min(length, 10)


def test_an_echoed_secret_is_hidden() -> None:
    Credentials.bearer(TOKEN)
    error = error_of(bad(401, 10000, f"Invalid token {TOKEN}"))
    assert TOKEN not in str(error)


@pytest.mark.parametrize("before", range(90, 110))
def test_an_echoed_secret_at_the_end_of_a_line_is_hidden_as_a_whole(before: int) -> None:
    Credentials.bearer(TOKEN)
    assert TOKEN[:4] not in one_line("x" * before + TOKEN, 100)


@pytest.mark.parametrize("status", [301, 302, 400, 403, 404, 405, 406, 409, 410, 415, 422, 431, 451])
@pytest.mark.parametrize("headers", [{}, {"cf_mitigated": "challenge"}])
def test_a_refusal_that_is_not_the_apis_own_is_one_on_the_way(status: int, headers: dict[str, str]) -> None:
    assert type(error_of(html(status, **headers))) is Blocked


@pytest.mark.parametrize("status", [401, 407, 408, 425, 429, 500, 503])
def test_a_status_about_the_sender_or_the_moment_does_not_refuse_the_content(status: int) -> None:
    assert type(error_of(html(status))) is Retry


@pytest.mark.parametrize("message", [[[]], {"a": {"b": 1}}, None, True, 10**400])
def test_an_error_may_say_anything_where_its_message_should_stand(message: object) -> None:
    errors = [{"code": 10**400, "message": message, "error_chain": [{"message": message, "code": message}]}]
    body = json.dumps({"success": False, "errors": errors}).encode()
    assert type(error_of(raw(400, body))) is Park


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (
            200,
            "the answer does not come from the API: check base_url, and the proxies on the way: 12 bytes of text/plain",
        ),
        (404, "refused before it reached the API: check base_url, and the proxies and firewalls on the way"),
        (503, "could not carry out"),
    ],
)
def test_an_answer_of_another_program_names_base_url(status: int, remedy: str) -> None:
    with pytest.raises(Retry) as caught:
        Response(status, {"content-type": "text/plain; charset=utf-8"}, b"Hello World!").answer()
    assert remedy in str(caught.value)
    assert "Hello" not in str(caught.value)
    assert ("base_url" in str(caught.value)) is (status != 503)


def test_an_answer_that_is_cut_short_is_not_taken_for_that_of_another_program() -> None:
    with pytest.raises(Retry, match="unexpected answer: 17 bytes of application/json") as caught:
        Response(200, {"content-type": "application/json"}, b'{"success": true,').answer()
    assert "base_url" not in str(caught.value)
