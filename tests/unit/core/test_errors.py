import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.errors import (
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    SEVERITY,
    Conflict,
    NotFound,
    SyncdError,
    TooMuch,
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
