"""The log of a mirror: actions by time, new problems, passes, and their bounds."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.core.model import Delete, Problem, Put
from syncd.state import activity
from syncd.state.activity import DETAIL, History, Passes, PastPass
from syncd.state.db import open_state

LARGE = Problem("big.md", "too_large", "11 MiB is over 10 MiB")
STOPPED = PastPass(1, 10.0, 11.0, None, "stopped", "no answer", {})


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with closing(open_state(tmp_path)) as db:
        yield History(db, "docs")


@pytest.fixture
def passes(tmp_path: Path) -> Iterator[Passes]:
    with closing(open_state(tmp_path)) as db:
        yield Passes(db, "docs")


def put(key: str) -> Put:
    return Put(key, "changed", key, 1)


def keys(history: History, since: float, *kinds: str, most: int = -1) -> list[str]:
    return [action.key for action in history.since(since, kinds, most)]


def test_actions_come_by_time_and_kind(history: History) -> None:
    history.add(put("z"), 10.0, "done", 1)
    history.add(put("a"), 20.0, "failed", 1, "refused: no")
    history.add(Delete("m", "stale", "", "ref", None), 30.0, "done", 2)
    history.found([LARGE], 40.0, 2)
    assert keys(history, 0.0, "put", "delete") == ["m", "a", "z"]
    assert keys(history, 20.0, "put") == ["a"]
    assert keys(history, 20.1, "put") == []
    assert keys(history, 0.0, "problem") == ["big.md", "a"], "a failed action is a problem, too"
    assert keys(history, 0.0, "put", "delete", "problem", most=2) == ["big.md", "m"]
    assert keys(history, 0.0) == []
    assert history.count_since(0.0, ["problem"]) == 2
    assert history.count_since(0.0, []) == 0


def test_a_problem_is_told_once_until_something_else_happens(history: History) -> None:
    for at in (1.0, 2.0):
        history.found([LARGE], at, int(at))
    assert len(history.of("big.md")) == 1
    history.found([replace(LARGE, message="12 MiB is over 10 MiB")], 3.0, 3)
    history.add(put("big.md"), 4.0, "done", 4)
    history.found([LARGE], 5.0, 5)
    assert [action.at for action in history.of("big.md")] == [1.0, 3.0, 4.0, 5.0]


def test_the_problem_of_an_action_that_failed_is_not_told_again(history: History) -> None:
    history.add(put("a"), 1.0, "failed", 1, "refused: no (code 7001)")
    history.found([Problem("a", "refused", "no (code 7001)")], 2.0, 2)
    assert len(history.of("a")) == 1


def test_a_long_message_is_told_once(history: History) -> None:
    for at in (1.0, 2.0):
        history.found([replace(LARGE, message="x" * (DETAIL + 9))], at, 1)
    assert [len(action.detail) for action in history.of("big.md")] == [DETAIL]


def test_harmless_problems_are_not_told(history: History) -> None:
    history.found([Problem("a", "empty", "it is empty"), Problem("b", "unsupported_type", "no")], 1.0, 1)
    assert history.count_since(0.0, ["problem"]) == 0


@pytest.mark.parametrize("number", [2, 3, 4, 9])
def test_the_oldest_actions_beyond_the_limit_go(history: History, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(activity, "ACTIONS", 3)
    for at in range(number):
        history.add(put(f"k{at}"), float(at), "done", 1)
    history.prune(-1.0)
    assert keys(history, 0.0, "put") == [f"k{at}" for at in range(number)][-3:][::-1]


@pytest.mark.parametrize("number", [2, 3, 4, 9])
def test_the_oldest_passes_beyond_the_limit_go(passes: Passes, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(activity, "PASSES", 3)
    for at in range(number):
        passes.add(PastPass(at + 1, float(at), at + 0.5, None, "done", "", {"put": 1}))
    passes.prune(-1.0)
    assert [each.number for each in passes.since(0.0, -1)] == list(range(1, number + 1))[-3:][::-1]
    passes.prune(number - 0.5)
    assert len(passes.since(0.0, -1)) == 1


def test_passes_come_back_as_they_were_stored(passes: Passes) -> None:
    one = PastPass(1, 10.0, 12.5, None, "done", "", {"put": 3, "unchanged": 7})
    two = PastPass(2, 20.0, 20.5, 4, "refused", "too many", {"put": 1})
    passes.add(one)
    passes.add(two)
    assert passes.since(0.0, -1) == [two, one]
    assert passes.since(12.6, -1) == [two]
    assert passes.since(0.0, 1) == [two]
    assert (passes.count_since(12.5), passes.count_since(12.6)) == (2, 1)


def test_passes_that_stop_for_the_same_reason_are_one_row(passes: Passes) -> None:
    for number in (1, 2, 3):
        passes.add(STOPPED._replace(number=number, began=number * 10.0, ended=number * 10.0 + 1))
    assert passes.since(0.0, -1) == [STOPPED._replace(number=3, began=10.0, ended=31.0, times=3)]
    passes.add(STOPPED._replace(number=4, detail="refused"))
    passes.add(STOPPED._replace(number=5, counts={"put": 1}))
    passes.add(STOPPED._replace(number=6, keys=1))
    passes.add(STOPPED._replace(number=7, outcome="done", detail=""))
    passes.add(STOPPED._replace(number=8, outcome="done", detail=""))
    assert [each.times for each in passes.since(0.0, -1)] == [1, 1, 1, 1, 1, 3]


def test_the_mirrors_of_a_state_file_have_logs_of_their_own(history: History, passes: Passes) -> None:
    history.add(put("a"), 1.0, "done", 1)
    passes.add(STOPPED)
    assert History(history._db, "other").since(0.0, ["put"], -1) == []
    assert Passes(passes._db, "other").since(0.0, -1) == []
