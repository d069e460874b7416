"""The history of the last day, and its bounds."""

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from syncd.core.model import ActionEvent
from syncd.service.runtime import Runtime
from syncd.state.db import open_to_write
from syncd.web.history import MINUTES, RATE_S, SAVE_EVERY_S, LastError, RecentHistory
from syncd.web.metrics import BUCKETS_S
from tests.unit.web.harness import NOW, Clock


@dataclass
class Wire:
    requests: int = 0
    retries: int = 0
    by: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass
class Gate:
    waits: int = 0
    wait_s: float = 0.0


@dataclass(eq=False)
class Watched:
    overflows: int = 0


def at_work(wire: Wire, gate: Gate, watcher: Watched) -> Runtime:
    """The objects of one configuration that are counted."""
    session = SimpleNamespace(transport=SimpleNamespace(counters=wire, gate=gate))
    return cast("Runtime", SimpleNamespace(session=session, watcher=watcher))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(clock: Clock) -> RecentHistory:
    return RecentHistory(clock)


def value(history: RecentHistory, name: str, **labels: str) -> float | None:
    return history.metrics.registry.get_sample_value(name, labels)


def put(key: str, size: int = 3) -> ActionEvent:
    return ActionEvent("put", key, "new", "done", size)


def minutes(history: RecentHistory, number: int = 0) -> list[tuple[int, int, int, int]]:
    return [(each.number, each.changes, each.failed, each.requests) for each in history.minutes_from(number)]


def test_changes_and_failures_are_counted_per_minute(history: RecentHistory, clock: Clock) -> None:
    on_action = history.listener("docs")
    on_action(put("a"))
    on_action(ActionEvent("delete", "b", "stale", "failed"))
    clock.now += 120
    on_action(ActionEvent("delete", "b", "stale", "done"))
    first = int(NOW // 60)
    assert minutes(history) == [(first, 1, 1, 0), (first + 2, 1, 0, 0)]
    assert minutes(history, first + 1) == [(first + 2, 1, 0, 0)]


def test_an_adopt_is_no_change(history: RecentHistory) -> None:
    history.listener("docs")(ActionEvent("adopt", "a", "found", "done"))
    assert minutes(history) == []


def test_one_day_of_minutes_is_kept(history: RecentHistory, clock: Clock) -> None:
    on_action = history.listener("docs")
    for _ in range(MINUTES + 1):
        on_action(put("a"))
        clock.now += 60
    clock.now -= 60
    assert len(minutes(history)) == MINUTES
    clock.now += 60
    assert len(minutes(history)) == MINUTES - 1
    clock.now += 60 * MINUTES
    assert minutes(history) == []


def test_a_clock_that_is_set_back_loses_no_change(history: RecentHistory, clock: Clock) -> None:
    on_action = history.listener("docs")
    on_action(put("a"))
    clock.now -= 600
    on_action(put("b"))
    assert minutes(history)[-1][1] == 2


def test_an_indexed_entry_is_timed_but_is_no_change(history: RecentHistory) -> None:
    on_action = history.listener("docs")
    on_action(ActionEvent("index", "a", "searchable", "done", waited_s=1.5))
    on_action(ActionEvent("index", "b", "error", "failed"))
    assert value(history, "syncd_searchable_seconds_sum", mirror="docs") == 1.5


@pytest.mark.parametrize(("seconds", "place"), [(0.0, 0), (1.0, 0), (1.1, 1), (3600.0, 10), (3600.1, 11)])
def test_a_wait_counts_in_the_bucket_that_ends_at_or_after_it(
    history: RecentHistory, seconds: float, place: int
) -> None:
    history.listener("docs")(ActionEvent("index", "a", "searchable", "done", waited_s=seconds))
    ends = [*(f"{end}.0" for end in BUCKETS_S), "+Inf"]
    counts = [value(history, "syncd_searchable_seconds_bucket", mirror="docs", le=end) for end in ends]
    assert counts == [int(each >= place) for each in range(len(ends))]


def test_totals_go_on_when_a_reload_resets_the_counters(history: RecentHistory) -> None:
    wire, gate, watcher = Wire(retries=1, by=Counter({("GET", "200"): 5})), Gate(2, 1.5), Watched(3)
    history.sample(at_work(wire, gate, watcher))
    history.sample(at_work(wire, gate, watcher))
    wire.by["GET", "200"] += 1
    watcher.overflows = 4
    history.sample(at_work(wire, gate, watcher))
    history.sample(at_work(Wire(by=Counter({("GET", "200"): 1, ("PUT", "429"): 1})), Gate(1, 0.5), Watched(1)))
    assert value(history, "syncd_requests_total", method="GET", code="200") == 7
    assert value(history, "syncd_requests_total", method="PUT", code="429") == 1
    names = ("retries", "gate_waits", "gate_wait_seconds", "watch_overflows")
    assert [value(history, f"syncd_{name}_total") for name in names] == [1, 3, 2.0, 5]
    assert minutes(history)[0][3] == 8


def test_the_rate_is_the_mean_of_ten_seconds(history: RecentHistory, clock: Clock) -> None:
    wire = Wire()
    runtime = at_work(wire, Gate(), Watched())
    for _ in range(30):
        wire.by["GET", "200"] += 4
        clock.now += 1
        history.sample(runtime)
    assert history.rate() == 4.0
    clock.now += RATE_S
    assert history.rate() == 0.0


async def test_the_counts_survive_a_restart_and_the_time_between_is_unknown(clock: Clock, tmp_path: Path) -> None:
    first, second = RecentHistory(clock), RecentHistory(clock)
    with closing(await open_to_write(tmp_path, "refuse")) as db:
        runtime = at_work(Wire(), Gate(), Watched())
        first.load(db)
        first.sample(runtime)
        first.listener("docs")(put("a"))
        first.errors["docs"] = LastError(clock.now, "the folder is gone")
        clock.now += 120
        first.sample(runtime)
        first.save(db)
        clock.now += 600
        second.load(db)
        second.listener("docs")(put("b"))
        second.sample(runtime)
    began = int(NOW // 60)
    assert minutes(second) == [(began, 1, 0, 0), (began + 12, 1, 0, 0)]
    assert second.spans() == [[began, began], [began + 2, began + 2], [began + 12, began + 12]]
    assert second.errors == {"docs": LastError(NOW, "the folder is gone")}


def test_a_daemon_that_samples_every_second_has_one_span(history: RecentHistory, clock: Clock) -> None:
    for _ in range(300):
        history.sample(at_work(Wire(), Gate(), Watched()))
        clock.now += 1
    assert history.spans() == [[int(NOW // 60), int((clock.now - 1) // 60)]]


async def test_the_counts_are_stored_once_a_minute_and_at_the_end(
    history: RecentHistory, clock: Clock, tmp_path: Path
) -> None:
    with closing(await open_to_write(tmp_path, "refuse")) as db:
        history.save(db)
        before = db.total_changes
        clock.now += SAVE_EVERY_S - 1
        history.save(db)
        assert db.total_changes == before
        history.save(db, now=True)
        assert db.total_changes == before + 1
        clock.now += SAVE_EVERY_S
        history.save(db)
        assert db.total_changes == before + 2
