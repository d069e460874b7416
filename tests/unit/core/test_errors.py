import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from syncd.core.errors import (
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    SEVERITY,
    AuthHalt,
    Conflict,
    FileChanged,
    Halt,
    NotFound,
    Park,
    QuotaHalt,
    Retry,
    SyncdError,
    TooMuch,
    Unreachable,
    file_error,
    most_serious,
    retry_delay_s,
)


@pytest.mark.parametrize(
    ("attempts", "seconds"),
    [(1, 5.0), (2, 10.0), (3, 20.0), (10, 2560.0), (11, LONGEST_RETRY_S), (10_000, LONGEST_RETRY_S)],
)
def test_delays_double_up_to_an_hour(attempts: int, seconds: float) -> None:
    assert retry_delay_s(attempts, 0.5) == seconds


def test_chance_spreads_the_delay_by_a_quarter_either_way() -> None:
    assert retry_delay_s(1, 0.0) == FIRST_RETRY_S * 0.75
    assert retry_delay_s(1, 0.999999) == pytest.approx(FIRST_RETRY_S * 1.25, rel=1e-4)


def test_a_delay_is_at_least_the_delay_that_the_remote_asked_for() -> None:
    assert retry_delay_s(1, 0.5, asked_s=60.0) == 60.0
    assert retry_delay_s(1, 0.5, asked_s=1.0) == 5.0


@given(st.integers(1, 1_000_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_between_its_least_and_75_minutes(attempts: int, chance: float) -> None:
    assert FIRST_RETRY_S * 0.75 <= retry_delay_s(attempts, chance) <= LONGEST_RETRY_S * 1.25


def test_the_exit_code_of_each_error_has_a_place_in_the_order_of_severity() -> None:
    def below(kind: type[SyncdError]) -> set[int]:
        return {kind.exit_code}.union(*map(below, kind.__subclasses__()))

    assert below(SyncdError) <= {*SEVERITY}
    assert [most_serious(codes) for codes in ({0}, {0, 1}, {5, 1}, {4, 5}, {3, 4}, {2, 3})] == [0, 1, 5, 4, 3, 2]


@pytest.mark.parametrize(("error", "kind"), [(NotFound, "failed"), (Conflict, "failed"), (TooMuch, "too_large")])
def test_a_refusal_with_a_name_keeps_the_code_and_the_status(
    error: type[NotFound | Conflict | TooMuch], kind: str
) -> None:
    refusal = error("no", code=7042, status=409)
    assert (refusal.kind, str(refusal), refusal.code, refusal.status) == (kind, "no", 7042, 409)


def test_an_error_keeps_its_message_and_its_values() -> None:
    retry = Retry("m", after_s=1.0, ambiguous=True, status=503, scope="request")
    assert (str(retry), vars(retry)) == (
        "m",
        {"after_s": 1.0, "ambiguous": True, "status": 503, "scope": "request"},
    )
    assert vars(Retry("m")) == {"after_s": None, "ambiguous": False, "status": None, "scope": "account"}
    park = Park("refused", "m", code=7001, status=400)
    assert (str(park), park.lines, vars(park)) == ("m", ["m"], {"kind": "refused", "code": 7001, "status": 400})
    assert (str(AuthHalt("m", status=401)), AuthHalt("m", status=401).status) == ("m", 401)
    assert (str(QuotaHalt("m", again_s=5.0)), QuotaHalt("m", again_s=5.0).again_s) == ("m", 5.0)


@pytest.mark.parametrize(
    "error", [Halt("m"), Unreachable("m"), sqlite3.OperationalError("m"), sqlite3.DatabaseError("m")]
)
def test_an_error_that_concerns_more_than_one_file_is_raised_again(error: Exception) -> None:
    with capture_logs() as logs, pytest.raises(type(error)) as caught:
        file_error(error, "a.md")
    assert caught.value is error
    assert logs == []


def test_an_unexpected_error_of_a_file_is_logged_and_shown_in_one_short_line() -> None:
    changed, unexpected = FileChanged("a.md"), sqlite3.IntegrityError("a \n b " + "x" * 300)
    with capture_logs() as logs:
        assert file_error(changed, "a.md") is changed
        error = file_error(unexpected, "a\udcff.md")
    assert type(error) is SyncdError
    shown = "a b " + "x" * 196
    assert str(error) == f"unexpected IntegrityError: {shown}; syncd tries it again, and the log has the traceback"
    assert logs == [{"event": "file.failed", "log_level": "error", "key": r"a\xff.md", "exc_info": unexpected}]
