"""The budget of requests, and when failing or unanswered requests are shown as trouble."""

import pytest

from syncd.core.requests import (
    GRACE_S,
    SILENT_S,
    UPLOAD_BYTES_PER_S,
    Contact,
    Quota,
    Trouble,
    check_base_url,
    current_contact,
    edit_rate,
    edit_reserve,
    is_watched,
    next_free_s,
    parse_quota,
    per_second,
    reporting_to,
    seconds_for,
)

TEN = Quota(10, 100.0)


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("https://hush:port", "base_url is no URL"),
        ("https://me@api.example", "base_url must hold no user, password, query or fragment"),
        ("https://:hush@api.example", "base_url must hold no user, password, query or fragment"),
        ("https://api.example/?a", "base_url must hold no user, password, query or fragment"),
        ("https://api.example/#a", "base_url must hold no user, password, query or fragment"),
        ("ftp://localhost", "base_url must begin with https://"),
        ("https://", "base_url must begin with https://"),
        ("http://api.example", "base_url must be https; plain http is allowed for loopback only"),
    ],
)
def test_a_base_url_that_is_refused_has_its_fault_named(url: str, fault: str) -> None:
    with pytest.raises(ValueError, match=f"^{fault}$"):
        check_base_url(url)


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        ("1050/300s", Quota(1050, 300.0)),
        ("1050/300", Quota(1050, 300.0)),
        (" 5 / 1.5m".strip(), Quota(5, 90.0)),
        ("1/1s", Quota(1, 1.0)),
        ("100000/24h", Quota(100_000, 86400.0)),
        ("", None),
    ],
)
def test_a_quota_is_requests_in_a_window(text: str, quota: Quota | None) -> None:
    assert parse_quota(text) == quota


@pytest.mark.parametrize(
    "text", ["1050", "0/300s", "-1/300s", "1050/0s", "1050/0.5s", "1050/25h", "x/300s", "5/3d", "5/"]
)
def test_other_texts_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="1050/300s"):
        parse_quota(text)


def test_a_full_window_is_free_again_when_its_oldest_request_leaves() -> None:
    assert next_free_s(TEN, [], 0.0) == 0.0
    assert next_free_s(TEN, [float(at) for at in range(9)], 9.0) == 0.0
    assert next_free_s(TEN, [float(at) for at in range(10)], 9.0) == 91.0
    assert next_free_s(TEN, [float(at) for at in range(10)], 99.5) == 0.5
    assert next_free_s(TEN, [float(at) for at in range(10)], 9.0, keep=2.0) == 93.0
    assert next_free_s(TEN, [float(at) for at in range(12)], 12.0) == 90.0


def test_the_reserve_lasts_until_the_next_requests_leave_the_window() -> None:
    burst = [0.0] * 8
    assert edit_reserve(TEN, [], 0.0, 0.05) == pytest.approx(0.1)
    assert edit_reserve(TEN, burst, 0.0, 0.05) == pytest.approx(0.1 + 0.05 * 100)
    assert edit_reserve(TEN, burst, 80.0, 0.05) == pytest.approx(0.1 + 0.05 * 20)
    assert edit_reserve(TEN, [0.0, 50.0, 50.0], 50.0, 0.05) == pytest.approx(0.1 + max(0.05 * 50, 0.05 * 100 - 1))


def test_the_rate_of_edits_is_learned_within_limits() -> None:
    assert edit_rate(TEN, 0, 60.0) == pytest.approx(0.01)
    assert edit_rate(TEN, 1, 60.0) == pytest.approx(1.25 / 60)
    assert edit_rate(TEN, 100, 60.0) == pytest.approx(0.03)


def one_by_one(requests: int, quota: Quota, sent: list[float], now: float, rate: float) -> float:
    """The same, request by request."""
    times, at = list(sent), now
    for _ in range(requests):
        at += 1 / rate
        if len(times) >= quota.requests:
            at = max(at, times[-quota.requests] + quota.window_s)
        times.append(at)
    return at - now


@pytest.mark.parametrize("rate", [0.05, 1.0, 80.0])
@pytest.mark.parametrize("requests", [0, 1, 9, 10, 11, 20, 21, 25, 30, 99, 100, 101])
@pytest.mark.parametrize("sent", [[], [-99.0], [-50.0, -40.0, -1.0], [-99.0] * 5 + [-1.0] * 5])
def test_the_forecast_is_the_time_of_the_last_request(sent: list[float], requests: int, rate: float) -> None:
    expected = one_by_one(requests, TEN, sent, 0.0, rate)
    assert seconds_for(requests, TEN, sent, 0.0, rate) == pytest.approx(expected)
    assert seconds_for(requests, TEN, [at + 500.0 for at in sent], 500.0, rate) == pytest.approx(expected)


def test_a_first_pass_of_5000_files_takes_four_windows_and_a_burst() -> None:
    assert seconds_for(5000, Quota(1050, 300.0), [], 0.0, 80.0) == pytest.approx(1200 + 800 / 80)


@pytest.mark.parametrize(
    ("tpslimit", "transfers", "rate"), [(3.5, 8, 3.5), (100.0, 3, 10.0), (0.0, 3, 10.0), (10.0, 3, 10.0)]
)
def test_the_rate_is_the_limit_or_what_the_slots_manage(tpslimit: float, transfers: int, rate: float) -> None:
    assert per_second(tpslimit, transfers) == pytest.approx(rate)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def make() -> tuple[Contact, Clock]:
    clock = Clock()
    return Contact(clock, lambda: clock.now + 1e9), clock


def reason(contact: Contact) -> str | None:
    trouble = contact.trouble()
    return trouble.reason if trouble else None


def test_a_failure_is_trouble_after_a_while_and_until_an_answer() -> None:
    contact, clock = make()
    contact.failed("refused", 0.3)
    assert reason(contact) is None, "most requests succeed at the next try"
    clock.now += GRACE_S - 0.01
    contact.failed("refused again", 0.3)
    assert reason(contact) is None
    clock.now += 0.01
    assert reason(contact) == "refused again"
    contact.answered()
    assert (reason(contact), contact.answered_at) == (None, clock.now + 1e9)


def test_an_attempt_to_connect_that_fails_is_trouble_until_one_succeeds() -> None:
    contact, clock = make()
    contact.looked("no route", 30.0)
    assert contact.trouble() == Trouble("no route", clock.now + 30)
    contact.looked(None, 30.0)
    assert contact.trouble() is None
    contact.looked("no route", 30.0)
    contact.answered()
    assert contact.trouble() is None


def test_a_long_pause_is_trouble_at_once_and_names_the_next_try() -> None:
    contact, clock = make()
    contact.failed("429", GRACE_S)
    trouble = contact.trouble()
    assert trouble
    assert (trouble.reason, trouble.next_at) == ("429", clock.now + GRACE_S)


def test_a_remote_that_answers_nothing_is_silent_and_a_large_body_has_more_time() -> None:
    contact, clock = make()
    with contact.under_way(UPLOAD_BYTES_PER_S, 2.0):
        clock.now += SILENT_S + 3.0 - 0.01
        assert reason(contact) is None
        clock.now += 0.01
        assert "does not answer" in str(reason(contact))
    assert reason(contact) is None, "nothing is under way"


def test_an_answer_to_another_request_gives_those_under_way_more_time() -> None:
    contact, clock = make()
    with contact.under_way(0, 0.0):
        clock.now += SILENT_S
        contact.answered()
        assert reason(contact) is None
        clock.now += SILENT_S
        assert reason(contact) is not None


def test_the_requests_of_a_block_report_to_its_object_which_forgets_failures_at_the_end() -> None:
    contact, _ = make()
    assert not is_watched()
    with reporting_to(contact):
        assert (is_watched(), current_contact()) == (True, contact)
        current_contact().failed("refused", 60.0)
        assert reason(contact) == "refused"
    assert (is_watched(), reason(contact)) == (False, None)


def test_an_idle_remote_is_in_trouble_while_it_cannot_be_reached() -> None:
    contact, clock = make()
    contact.looked(None, 60.0)
    assert contact.trouble() is None
    contact.looked("no route", 60.0)
    assert contact.trouble() == Trouble("no route", clock.now + 60.0)
    contact.looked(None, 60.0)
    assert contact.trouble() is None
