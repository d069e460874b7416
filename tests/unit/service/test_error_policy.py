"""What a mirror does after an error, as a function of values."""

import pytest

from syncd.core.errors import Brake, Halt, PausedHalt, QuotaHalt, Retry, RootHalt, StateHalt, SyncdError
from syncd.service.error_policy import (
    PAUSED_PAUSE_S,
    QUOTA_PAUSE_S,
    REFUSED_PAUSE_S,
    RETRY_LONGEST_S,
    ErrorPolicy,
    Response,
)


def test_pauses_double_up_to_a_limit_unless_the_remote_asks_for_more() -> None:
    policy = ErrorPolicy(3600.0, refused=False)
    pauses = [policy.on_error(Retry("busy"), 0.0, 0.5).full_at for _ in range(7)]
    assert pauses == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, RETRY_LONGEST_S]
    assert policy.on_error(Retry("busy", after_s=400.0), 0.0, 0.5).full_at == 400.0


@pytest.mark.parametrize("error", [Retry("busy"), StateHalt("the disk is full"), SyncdError("other")])
def test_a_failure_degrades_until_the_pause_is_over(error: SyncdError) -> None:
    policy = ErrorPolicy(3600.0, refused=False)
    assert policy.on_error(error, 100.0, 0.5) == Response("degraded", 105.0)
    assert policy.on_error(error, 200.0, 0.5) == Response("degraded", 210.0)
    assert policy.retry_at == 210.0
    assert policy.state_fault == ("the disk is full" if isinstance(error, StateHalt) else None)
    policy.on_success(everything=False)
    assert policy.state_fault is None
    assert policy.on_error(error, 300.0, 0.5).full_at == 305.0


@pytest.mark.parametrize(
    ("error", "interval", "pause"),
    [
        (Halt("refused"), 1.0, REFUSED_PAUSE_S),
        (Halt("refused"), 3600.0, 3600.0),
        (RootHalt("gone"), 1.0, 1.0),
        (Brake("too many"), 1.0, 1.0),
        (PausedHalt("paused"), 1.0, REFUSED_PAUSE_S),
        (PausedHalt("paused"), 200.0, 200.0),
        (PausedHalt("paused"), 3600.0, PAUSED_PAUSE_S),
        (QuotaHalt("used up", again_s=7200.0), 86_400.0, 7200.0 + 1.5 * QUOTA_PAUSE_S),
        (QuotaHalt("used up", again_s=0.5), 86_400.0, 0.5 + 1.5 * QUOTA_PAUSE_S),
        (QuotaHalt("used up", again_s=7200.0), 3600.0, 3600.0),
    ],
)
def test_a_halted_mirror_tries_again_after_its_interval(error: Halt | Brake, interval: float, pause: float) -> None:
    policy = ErrorPolicy(interval, refused=False)
    assert policy.on_error(error, 100.0, 0.5) == Response("halted", 100.0 + pause)
    assert policy.hints_at == 100.0 + (0.0 if isinstance(error, (RootHalt, Brake)) else REFUSED_PAUSE_S)
    assert policy.halted_by_folder == isinstance(error, (RootHalt, Brake))
    assert policy.halted_by_target is not policy.halted_by_folder


@pytest.mark.parametrize("error", [Brake("too many"), PausedHalt("paused")])
def test_a_repeated_refusal_of_deletes_or_pause_is_logged_once(error: SyncdError) -> None:
    policy = ErrorPolicy(1.0, refused=False)
    assert [policy.on_error(error, 0.0, 0.5).log for _ in range(3)] == [True, False, False]


def test_single_keys_are_served_once_everything_was_compared() -> None:
    policy = ErrorPolicy(1.0, refused=True)
    serves = [policy.serves_keys]
    policy.on_error(Brake("too many"), 0.0, 0.5)
    serves.append(policy.serves_keys)  # A full pass has compared everything before it refused the deletes.
    assert policy.on_success(everything=False) == "too many"
    policy.on_error(Halt("refused"), 0.0, 0.5)
    serves.append(policy.serves_keys)
    assert policy.on_success(everything=True) is None
    serves.append(policy.serves_keys)
    assert serves == [False, True, False, True]


@pytest.mark.parametrize(("refused", "hidden"), [(True, True), (False, False)])
def test_an_action_ends_the_display_of_an_earlier_halt_unless_it_refused_deletes(refused: bool, hidden: bool) -> None:
    policy = ErrorPolicy(1.0, refused=refused)
    assert policy.hides_progress(halted=True, acted=False)
    assert policy.hides_progress(halted=True, acted=True) is hidden
    assert not policy.hides_progress(halted=False, acted=False)


def test_an_action_ends_the_display_of_an_earlier_failure() -> None:
    policy = ErrorPolicy(1.0, refused=False)
    policy.on_error(Retry("busy"), 0.0, 0.5)
    assert policy.hides_progress(halted=False, acted=False)
    assert not policy.hides_progress(halted=False, acted=True)
    policy.on_success(everything=True)
    assert not policy.hides_progress(halted=False, acted=False)
