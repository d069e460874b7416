"""The history of a key, and the state of a mirror."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.core.errors import Park, Retry
from syncd.core.model import Action, Adopt, Delete, Problem, Put
from syncd.state import history as history_module
from syncd.state.db import Meta, open_state
from syncd.state.history import (
    ACTIONS_PER_KEY,
    DETAIL,
    KEEP_S,
    History,
    MirrorState,
    Passes,
    PastAction,
    PastPass,
    Presence,
    keep_contact,
    keep_presence,
    keep_state,
    last_contact,
    last_presence,
    stored_state,
)
from tests.harness import START, Core, in_step

PUT = Put("a.md", "changed", "a.md", 1)


def told(core: Core, key: str) -> list[tuple[str, str, str]]:
    return [(each.action, each.reason, each.outcome) for each in core.mirror.history.of(key)]


async def test_first_uploads_are_kept(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    await core.full()
    assert told(core, "a.md") == told(core, "b.md") == [("put", "new", "done")]


async def test_adoptions_after_a_lost_state_are_kept(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.mirror.journal.clear()
    await core.full()
    assert told(core, "a.md") == [("adopt", "found", "done")]


async def test_a_pass_keeps_a_bounded_number_of_first_uploads_and_adopts(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "LISTED_PER_PASS", 2)
    await in_step(core, **{"a.md": "a", "b.md": "b", "c.md": "c"})
    assert [len(told(core, key)) for key in ("a.md", "b.md", "c.md")] == [1, 1, 0]
    core.write("d.md", "d")
    core.write("c.md", "changed")
    await core.full()
    assert told(core, "d.md") == [("put", "new", "done")]
    assert told(core, "c.md") == [("put", "changed", "done")]
    core.mirror.journal.clear()
    await core.full()
    assert [len(told(core, key)) for key in ("a.md", "b.md", "c.md", "d.md")] == [1, 1, 0, 0]


def test_only_first_uploads_and_adopts_without_a_failure_are_left_out(
    history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_module, "LISTED_PER_PASS", 0)
    adopt, unverified = (Adopt("a", reason, "r", "c", 1) for reason in ("found", "unverified"))
    new = Put("a", "new", "a", 1)
    ended: list[tuple[Action, str]] = [
        (new, "done"),
        (new, "failed"),
        (put("a"), "done"),
        (put("a"), "failed"),
        (adopt, "done"),
        (unverified, "done"),
    ]
    for place, (action, outcome) in enumerate(ended):
        history.add(action, float(place), outcome, 1)
    assert [int(action.at) for action in history.of("a")] == [1, 2, 3, 5]


async def test_changes_failures_and_deletes_are_kept_in_order(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.write("a.md", "changed")
    core.target.failures["a.md"] = [Retry("no answer")]
    await core.full()
    core.clock.forward(60)
    await core.full()
    core.remove("a.md")
    await core.full()
    assert told(core, "a.md") == [
        ("put", "new", "done"),
        ("put", "changed", "failed"),
        ("put", "changed", "done"),
        ("delete", "stale", "done"),
    ]
    _, failed, _, deleted = core.mirror.history.of("a.md")
    assert failed.detail == "failed: no answer"
    assert "there is no such file" in deleted.detail


async def test_drift_and_a_later_adoption_are_kept(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    core.forget_listing()
    core.target.put_by("me", "a.md", "drifted")
    await core.full()
    assert told(core, "a.md")[1:] == [("put", "drift", "done")]
    core.write("a.md", "new")
    core.target.put_by("me", "a.md", "new")
    await core.full()
    assert told(core, "a.md")[2:] == [("adopt", "found", "done")]


async def test_a_record_that_is_forgotten_is_kept(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.remove("a.md")
    del core.target.store["a.md"]
    await core.full()
    assert told(core, "a.md")[1:] == [("forget", "gone", "done")]


async def test_a_refusal_is_kept(core: Core) -> None:
    core.write("a.md", "a")
    core.target.failures["a.md"] = [Park("refused", "no")]
    await core.full()
    assert told(core, "a.md") == [("put", "new", "failed")]


@pytest.mark.parametrize(
    ("number", "kept"),
    [
        (ACTIONS_PER_KEY - 1, ACTIONS_PER_KEY - 1),
        (ACTIONS_PER_KEY, ACTIONS_PER_KEY),
        (ACTIONS_PER_KEY + 1, ACTIONS_PER_KEY),
        (3 * ACTIONS_PER_KEY, ACTIONS_PER_KEY),
    ],
)
def test_the_last_actions_of_a_key_are_kept(tmp_path: Path, number: int, kept: int) -> None:
    with closing(open_state(tmp_path)) as db:
        history = History(db, "docs")
        for at in range(number):
            history.add(PUT, at, "done", 1)
        history.add(Put("b.md", "changed", "b.md", 1), 0.0, "done", 1)
        assert [each.at for each in history.of("a.md")] == list(range(number))[-kept:]


def test_a_long_error_is_cut(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        history = History(db, "docs")
        history.add(PUT, 0.0, "failed", 1, "x" * (DETAIL + 1))
        assert len(history.of("a.md")[0].detail) == DETAIL


async def test_a_full_pass_drops_what_is_older_than_a_month(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    core.mirror.history.add(PUT, START - KEEP_S, "done", 1)
    core.mirror.history.add(PUT, START - KEEP_S + 3600, "done", 1)
    await core.hint("a.md")
    assert len(core.mirror.history.of("a.md")) == 3
    await core.full()
    assert len(core.mirror.history.of("a.md")) == 2


def test_another_target_has_another_history(core: Core) -> None:
    core.mirror.history.add(PUT, 0.0, "done", 1)
    core.mirror.journal.clear()
    assert core.mirror.history.of("a.md") == []


def test_the_state_of_a_mirror_comes_back_as_it_was_stored(core: Core) -> None:
    meta = core.mirror.meta
    assert stored_state(meta) == {}
    keep_state(meta, MirrorState("syncing", remaining=3, stored=7, until=9.5, under_way=True))
    stored: dict[str, object] = {"state": "syncing", "detail": None, "remaining": 3, "stored": 7, "until": 9.5}
    assert stored_state(meta) == {**stored, "since": None, "next_try": None, "under_way": True, "pid": os.getpid()}
    keep_state(meta, MirrorState("degraded", "no answer", since=1.0, next_try=2.0))
    assert [stored_state(meta)[name] for name in ("detail", "since", "next_try")] == ["no answer", 1.0, 2.0]
    keep_state(meta, MirrorState("halted", "no token"))
    assert [stored_state(meta)[name] for name in ("state", "detail")] == ["halted", "no token"]


LARGE = Problem("big.md", "too_large", "11 MiB is over 10 MiB")
NEW = Problem("new.md", "failed", "busy")
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
    history.add_problems([LARGE], 40.0, 2)
    assert keys(history, 0.0, "put", "delete") == ["m", "a", "z"]
    assert keys(history, 20.0, "put") == ["a"]
    assert keys(history, 20.1, "put") == []
    assert keys(history, 0.0, "problem") == ["big.md", "a"], "a failed action is a problem, too"
    assert keys(history, 0.0, "put", "delete", "problem", most=2) == ["big.md", "m"]
    assert keys(history, 0.0) == []
    assert history.count_since(0.0, ["problem"]) == 2
    assert history.count_since(0.0, []) == 0


def test_actions_come_back_as_they_were_stored(history: History) -> None:
    history.add(put("a"), 1.5, "done", 1)
    history.add(put("a"), 2.5, "failed", 2, "refused: no")
    history.add(Delete("a", "stale", "", "ref", None), 3.5, "done", 3, "there is no such file")
    assert history.of("a") == [
        PastAction(1.5, "a", "put", "changed", "done", "", 1),
        PastAction(2.5, "a", "put", "changed", "failed", "refused: no", 2),
        PastAction(3.5, "a", "delete", "stale", "done", "there is no such file", 3),
    ]
    assert history.since(0.0, ["put", "delete"], -1) == history.of("a")[::-1]


def test_a_failed_action_counts_as_its_kind_and_as_a_problem(history: History) -> None:
    history.add(put("a"), 10.0, "failed", 1, "refused: no")
    for kind, number in (("put", 1), ("delete", 0), ("problem", 1)):
        assert history.count_since(0.0, [kind]) == len(history.since(0.0, [kind], -1)) == number


def test_a_problem_is_told_once_until_something_else_happens(history: History) -> None:
    for at in (1.0, 2.0):
        history.add_problems([LARGE], at, int(at))
    assert len(history.of("big.md")) == 1
    history.add_problems([replace(LARGE, message="12 MiB is over 10 MiB")], 3.0, 3)
    history.add(put("big.md"), 4.0, "done", 4)
    history.add_problems([LARGE], 5.0, 5)
    assert [action.at for action in history.of("big.md")] == [1.0, 3.0, 4.0, 5.0]


def test_the_problem_of_an_action_that_failed_is_not_told_again(history: History) -> None:
    history.add(put("a"), 1.0, "failed", 1, "refused: no (code 7001)")
    history.add_problems([Problem("a", "refused", "no (code 7001)")], 2.0, 2)
    assert len(history.of("a")) == 1


def test_the_oldest_problems_of_a_key_go(history: History) -> None:
    for number in range(ACTIONS_PER_KEY + 2):
        history.add_problems([replace(LARGE, message=str(number))], float(number), number)
    assert [action.at for action in history.of("big.md", 99)] == [float(at + 2) for at in range(ACTIONS_PER_KEY)]


def test_a_long_message_is_told_once(history: History) -> None:
    for at in (1.0, 2.0):
        history.add_problems([replace(LARGE, message="x" * (DETAIL + 9))], at, 1)
    assert [len(action.detail) for action in history.of("big.md")] == [DETAIL]


def test_harmless_and_known_problems_are_not_told(history: History) -> None:
    history.add_problems([LARGE], 1.0, 1)
    history.add_problems([Problem("a", "empty", "no"), Problem("b", "unsupported_type", "no"), LARGE, NEW], 2.0, 2)
    assert history.since(0.0, ["problem"], -1) == [
        PastAction(2.0, "new.md", "problem", "failed", "found", "busy", 2),
        PastAction(1.0, "big.md", "problem", "too_large", "found", "11 MiB is over 10 MiB", 1),
    ]


@pytest.mark.parametrize("number", [2, 3, 4, 9])
def test_the_oldest_actions_beyond_the_limit_go(history: History, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(history_module, "ACTIONS", 3)
    for at in range(number):
        history.add(put(f"k{at}"), float(at), "done", 1)
    history.prune(-1.0)
    assert keys(history, 0.0, "put") == [f"k{at}" for at in range(number)][-3:][::-1]


@pytest.mark.parametrize("number", [2, 3, 4, 9])
def test_the_oldest_passes_beyond_the_limit_go(passes: Passes, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(history_module, "PASSES", 3)
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


@pytest.mark.parametrize(("kind", "rows"), [("unchanged", 1), *((kind, 2) for kind in ("put", "delete", "adopt"))])
def test_a_pass_that_changed_something_before_it_stopped_has_a_row_of_its_own(
    passes: Passes, kind: str, rows: int
) -> None:
    passes.add(STOPPED)
    passes.add(STOPPED._replace(number=STOPPED.number + 1, counts={kind: 1}))
    assert len(passes.since(0.0, -1)) == rows


def test_the_mirrors_of_a_state_file_have_logs_of_their_own(history: History, passes: Passes) -> None:
    history.add(put("a"), 1.0, "done", 1)
    passes.add(STOPPED)
    assert History(history._db, "other").since(0.0, ["put"], -1) == []
    assert Passes(passes._db, "other").since(0.0, -1) == []


# -- the last sign of life of a daemon


def test_the_last_sign_of_life_is_stored(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        assert last_presence(db) is None
        keep_presence(db, 1000.06)
        assert last_presence(db) == Presence(1000.1, ended=False)
        keep_presence(db, 1001.0, ended=True)
        assert last_presence(db) == Presence(1001.0, ended=True)


def test_the_last_answer_is_stored_in_whole_seconds_once(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    meta, found = core.mirror.meta, list[float | None]()
    for at in (None, 1000.4, None, 1001.6):
        keep_contact(meta, at)
        found.append(last_contact(meta))
    assert found == [None, 1000, 1000, 1002]
    monkeypatch.setattr(Meta, "set", lambda *_: pytest.fail("the same second is stored again"))
    keep_contact(meta, 1001.7)
