import sqlite3
from collections.abc import Callable

import pytest

from syncd.core.keys import LAST
from syncd.core.model import Problem, ProblemKind, Record
from syncd.state.journal import Journal
from syncd.state.queue import FAR_S, LATER_S, Dirty, Queue, retry_problems

SETTLE, SETTLE_MAX, NOW = 0.5, 30.0, 1_000_000.0


@pytest.fixture
def queue(db: sqlite3.Connection) -> Queue:
    return Queue(db, "docs", SETTLE, SETTLE_MAX)


def keys(queue: Queue, now: float) -> list[str]:
    return [row.key for row in queue.settled(now)]


def test_a_mark_is_due_after_settle(queue: Queue) -> None:
    queue.mark([("a", False)], NOW)
    assert keys(queue, NOW + SETTLE - 0.001) == []
    assert not queue.has_due(NOW + SETTLE - 0.001)
    assert keys(queue, NOW + SETTLE) == ["a"]
    assert queue.has_due(NOW + SETTLE)


def test_each_further_mark_restarts_the_settling(queue: Queue) -> None:
    queue.mark([("a", False)], NOW)
    queue.mark([("a", False)], NOW + 0.4)
    assert keys(queue, NOW + 0.8) == []
    assert keys(queue, NOW + 0.9) == ["a"]
    assert len(queue.every()) == 1, "a set, not a list"


def test_a_key_that_keeps_changing_is_due_after_settle_max(queue: Queue) -> None:
    moment = NOW
    while moment < NOW + SETTLE_MAX:
        queue.mark([("a", False)], moment)
        assert keys(queue, moment) == []
        moment += 0.4
    assert keys(queue, NOW + SETTLE_MAX) == ["a"]


def test_rows_come_sorted_by_key_as_python_sorts_them(queue: Queue) -> None:
    names = ["b", "a/b", "a.b", "a-b", "\u00fc", "\U0001f600", "\uffff", "Z"]
    queue.mark([(name, False) for name in names], NOW)
    assert keys(queue, NOW + 1) == sorted(names)


def test_done_removes_the_processed_rows(queue: Queue) -> None:
    queue.mark([("a", False), ("b", False)], NOW)
    rows = queue.settled(NOW + 1)
    queue.done(rows[:1])
    assert keys(queue, NOW + 1) == ["b"]


def test_a_mark_during_the_processing_of_its_key_survives_done(queue: Queue) -> None:
    queue.mark([("a", False)], NOW)
    rows = queue.settled(NOW + 1)
    queue.mark([("a", False)], NOW + 1)
    queue.done(rows)
    assert keys(queue, NOW + 2) == ["a"]


def test_a_retry_during_the_processing_of_its_key_survives_done(queue: Queue) -> None:
    queue.mark([("a", False)], NOW)
    rows = queue.settled(NOW + 1)
    queue.retry("a", NOW + 60, attempts=1)
    queue.done(rows)
    assert keys(queue, NOW + 59) == []
    assert [(row.key, row.attempts) for row in queue.settled(NOW + 60)] == [("a", 1)]


def test_a_mark_replaces_a_waiting_retry(queue: Queue) -> None:
    queue.retry("a", NOW + 3600, attempts=7)
    queue.mark([("a", False)], NOW)
    assert keys(queue, NOW + SETTLE) == ["a"]
    assert queue.get("a") == Dirty("a", subtree=False, attempts=0, seq=2, due=NOW + SETTLE, first_seen=NOW)


def test_a_directory_stays_a_directory_when_its_name_is_marked_as_a_file(queue: Queue) -> None:
    queue.mark([("a", True)], NOW)
    queue.mark([("a", False)], NOW)
    assert [row.subtree for row in queue.settled(NOW + 1)] == [True]


def test_a_retry_of_a_directory_stays_one(queue: Queue) -> None:
    queue.mark([("a", True)], NOW)
    queue.retry("a", NOW + 10, 0)
    assert [row.subtree for row in queue.settled(NOW + 10)] == [True]


def test_a_clock_that_was_ahead_does_not_hold_marks_back(queue: Queue) -> None:
    queue.mark([("a", False)], NOW + 10 * FAR_S)
    assert keys(queue, NOW) == ["a"], "due so far off that another clock must have written it"
    assert queue.next_due(NOW) == 0.0
    assert queue.has_due(NOW)
    queue.mark([("a", False)], NOW)
    assert keys(queue, NOW) == []
    assert keys(queue, NOW + SETTLE) == ["a"]
    assert [row.first_seen for row in queue.every()] == [NOW]


def test_a_clock_that_was_a_little_ahead_gives_way_to_the_next_mark(queue: Queue) -> None:
    queue.mark([("a", False)], NOW + 600)
    queue.mark([("a", False)], NOW)
    assert keys(queue, NOW + SETTLE) == ["a"]


def test_a_clock_that_was_behind_makes_marks_due_at_once(queue: Queue) -> None:
    queue.mark([("a", False)], NOW - 86400)
    queue.mark([("a", False)], NOW)
    assert keys(queue, NOW) == ["a"]


@pytest.mark.parametrize("delay", [0.001, 60.0, FAR_S])
def test_a_retry_within_two_hours_waits(queue: Queue, delay: float) -> None:
    queue.retry("a", NOW + delay, 1)
    assert keys(queue, NOW) == []
    assert not queue.has_due(NOW)
    assert keys(queue, NOW + delay) == ["a"]
    assert queue.has_due(NOW + delay)


def test_rescheduled_rows_keep_their_values_unless_marked(queue: Queue) -> None:
    queue.mark([("a", True), ("b", False)], NOW)
    rows = queue.settled(NOW + 1)
    queue.mark([("b", False)], NOW + 1)
    queue.reschedule(rows, NOW + SETTLE_MAX)
    assert keys(queue, NOW + 2) == ["b"]
    assert [(row.key, row.subtree) for row in queue.settled(NOW + SETTLE_MAX)] == [("a", True), ("b", False)]


def test_fresh_rows_have_not_failed(queue: Queue) -> None:
    assert queue.next_due(NOW, fresh=True) is None
    queue.retry("a", NOW, 1)
    assert queue.next_due(NOW, fresh=True) is None
    queue.mark([("b", False)], NOW)
    assert queue.next_due(NOW, fresh=True) == SETTLE
    assert queue.next_due(NOW + 9, fresh=True) == 0.0


def test_next_due_returns_the_time_to_sleep(queue: Queue) -> None:
    assert queue.next_due(NOW) is None
    queue.retry("b", NOW + 60, 1)
    assert queue.next_due(NOW) == 60.0
    queue.mark([("a", False)], NOW)
    assert queue.next_due(NOW) == SETTLE
    assert queue.next_due(NOW + 5) == 0.0


def test_clear_ends_a_retry_but_not_a_mark(queue: Queue) -> None:
    queue.retry("failed", NOW, 1)
    queue.mark([("news", False)], NOW)
    queue.clear("failed")
    queue.clear("news")
    assert [row.key for row in queue.every()] == ["news"]


def test_counts_separate_new_and_failed_rows(queue: Queue) -> None:
    queue.mark([("a", False), ("b", False)], NOW)
    queue.retry("c", NOW + 5, 3)
    assert queue.counts() == (2, 1)
    assert queue.oldest() == NOW
    assert [row.due for row in queue.every() if row.key == "c"] == [NOW + 5]
    assert queue.get("z") is None


def test_oldest_of_nothing_is_nothing(queue: Queue) -> None:
    assert queue.oldest() is None
    assert queue.get("a") is None


def test_make_due_without_keys_makes_all_rows_due(queue: Queue) -> None:
    queue.retry("a", NOW + 60, 1)
    queue.retry("b", NOW + 60, 1)
    queue.make_due(None, NOW)
    assert keys(queue, NOW) == ["a", "b"]


def test_make_due_adds_keys_that_are_not_in_the_queue(queue: Queue) -> None:
    queue.retry("a", NOW + 60, 1)
    queue.retry("b", NOW + 60, 1)
    queue.make_due(["a", "c"], NOW)
    assert keys(queue, NOW) == ["a", "c"]


def test_mirrors_do_not_see_each_others_rows(db: sqlite3.Connection, queue: Queue) -> None:
    other = Queue(db, "other", SETTLE, SETTLE_MAX)
    queue.mark([("a", False)], NOW)
    assert other.every() == []
    other.make_due(None, NOW - 100)
    assert keys(queue, NOW) == []


def test_a_mark_during_an_upload_settles_anew_after_it(queue: Queue) -> None:
    queue.mark([("log", False)], NOW)
    for second in range(1, 31):
        queue.mark([("log", False)], NOW + second)
    (row,) = queue.settled(NOW + 30)
    queue.mark([("log", False)], NOW + 30.1)
    queue.restart_settling("log", NOW + 30.3)
    queue.done([row])
    assert [row.first_seen for row in queue.every()] == [NOW + 30.3]
    for tenth in range(304, 603):
        queue.mark([("log", False)], NOW + tenth / 10)
        assert queue.settled(NOW + tenth / 10) == []
    assert queue.settled(NOW + 60.3) != []


MARKED = Dirty("a", subtree=False, attempts=0, seq=2, due=NOW + SETTLE, first_seen=NOW)
FAILED = Dirty("b", subtree=True, attempts=3, seq=1, due=NOW + 60, first_seen=NOW + 60)


@pytest.mark.parametrize(
    ("change", "rows"),
    [
        (lambda _: None, [MARKED, FAILED]),
        (
            lambda queue: queue.mark([("a", True)], NOW + 0.25),
            [Dirty("a", subtree=True, attempts=0, seq=3, due=NOW + 0.75, first_seen=NOW), FAILED],
        ),
        (
            lambda queue: queue.mark([("b", False)], NOW + 1),
            [MARKED, Dirty("b", subtree=True, attempts=0, seq=2, due=NOW + 1.5, first_seen=NOW + 1)],
        ),
        (
            lambda queue: queue.retry("a", NOW + 5, 1, subtree=True),
            [Dirty("a", subtree=True, attempts=1, seq=3, due=NOW + 5, first_seen=NOW), FAILED],
        ),
        (
            lambda queue: queue.reschedule(queue.every(), NOW + 9),
            [
                Dirty("a", subtree=False, attempts=0, seq=3, due=NOW + 9, first_seen=NOW),
                Dirty("b", subtree=True, attempts=3, seq=2, due=NOW + 9, first_seen=NOW + 60),
            ],
        ),
        (
            lambda queue: queue.later(["b", "c"], NOW + 20),
            [
                MARKED,
                Dirty("b", subtree=True, attempts=0, seq=2, due=NOW + 20, first_seen=NOW + 20),
                Dirty("c", subtree=False, attempts=0, seq=1, due=NOW + 20, first_seen=NOW + 20),
            ],
        ),
        (
            lambda queue: queue.restart_settling("a", NOW + 2),
            [Dirty("a", subtree=False, attempts=0, seq=2, due=NOW + 2.5, first_seen=NOW + 2), FAILED],
        ),
        (lambda queue: queue.restart_settling("b", NOW + 2), [MARKED, FAILED]),
        (
            lambda queue: queue.make_due(["b", "c"], NOW),
            [
                MARKED,
                Dirty("b", subtree=True, attempts=3, seq=2, due=NOW, first_seen=NOW + 60),
                Dirty("c", subtree=False, attempts=0, seq=1, due=NOW, first_seen=NOW),
            ],
        ),
        (
            lambda queue: queue.make_due(None, NOW),
            [
                Dirty("a", subtree=False, attempts=0, seq=3, due=NOW, first_seen=NOW),
                Dirty("b", subtree=True, attempts=3, seq=2, due=NOW, first_seen=NOW + 60),
            ],
        ),
    ],
)
def test_a_change_sets_these_values_of_a_row(queue: Queue, change: Callable[[Queue], None], rows: list[Dirty]) -> None:
    queue.mark([("a", False), ("a", False)], NOW)
    queue.retry("b", NOW + 60, 3, subtree=True)
    change(queue)
    assert queue.every() == rows


def test_keys_that_failed_are_named_in_the_order_of_their_tries(queue: Queue) -> None:
    for key, due, attempts in [("c", 3, 1), ("b", 1, 2), ("a", 2, 1), ("later", 0, 0)]:
        queue.retry(key, NOW + due, attempts)
    queue.retry("folder", NOW, 1, subtree=True)
    assert (queue.failed(9), queue.failed(2)) == (["b", "a", "c"], ["b", "a"])


@pytest.mark.parametrize(("after_s", "marked"), [(-0.1, []), (0.0, ["a"]), (9.0, ["a"])])
def test_marked_rows_have_not_failed_and_are_not_of_a_clock_ahead(
    queue: Queue, after_s: float, marked: list[str]
) -> None:
    queue.mark([("a", False)], NOW)
    queue.retry("b", NOW - 9, 1)
    assert [row.key for row in queue.marked(NOW + after_s)] == marked


@pytest.mark.parametrize(("after_s", "recent"), [(-0.1, False), (0.0, True), (0.4, True), (SETTLE, False)])
def test_a_mark_is_recent_for_settle_seconds(queue: Queue, after_s: float, *, recent: bool) -> None:
    queue.retry("b", NOW + SETTLE / 2, 1)
    queue.mark([("a", False)], NOW)
    assert queue.recently_marked(NOW + after_s) is recent


@pytest.mark.parametrize(
    ("settle_max", "attempts", "longest_s"),
    [(10.0, 0, LATER_S), (40.0, 0, 40.0), (10.0, 1, FAR_S + 10.0), (40.0, 1, FAR_S + 40.0)],
)
def test_a_row_that_is_due_later_than_any_row_can_be_is_due_now(
    db: sqlite3.Connection, settle_max: float, attempts: int, longest_s: float
) -> None:
    queue = Queue(db, "docs", SETTLE, settle_max)
    queue.retry("a", NOW + longest_s, attempts)
    assert (keys(queue, NOW), queue.next_due(NOW)) == ([], longest_s)
    queue.retry("a", NOW + longest_s + 0.1, attempts)
    assert (keys(queue, NOW), queue.next_due(NOW)) == (["a"], 0.0)


def test_rows_that_are_due_are_found_by_the_time_of_a_retry(queue: Queue) -> None:
    queue.retry("a", NOW + FAR_S + SETTLE_MAX, 1)
    assert not queue.has_due(NOW)
    assert queue.has_due(NOW - 0.1)


@pytest.mark.parametrize(
    ("chosen", "due", "requested"),
    [
        (None, ["dropped", "failed", "refused"], ["stored"]),
        (["failed", "stored", "bad name", "in step"], ["failed"], ["stored"]),
        (["dropped"], ["dropped"], []),
        ([], [], []),
    ],
)
def test_a_retry_uploads_failed_files_and_indexes_stored_entries_again(
    db: sqlite3.Connection, queue: Queue, chosen: list[str] | None, due: list[str], requested: list[str]
) -> None:
    journal = Journal(db, "docs")
    kinds: dict[str, ProblemKind] = {"failed": "failed", "refused": "refused", "bad name": "invalid_key"}
    kinds |= {"stored": "index_error", "dropped": "index_error"}
    journal.put(Record("stored", "r", "c", 1, NOW, status="error", error="timeout_error"))
    journal.put(Record("in step", "s", "c", 1, NOW, status="completed"))
    for key, kind in kinds.items():
        journal.problems.park(Problem(key, kind, "why"), "c")
    journal.problems.add([Problem(key, kind, "why") for key, kind in kinds.items()], 1)
    assert retry_problems(journal, queue, chosen, NOW) == len(due) + len(requested)
    assert sorted((row.key, row.due) for row in queue.every()) == [(key, NOW) for key in due]
    assert [record.key for record in journal.reindexing.requested()] == requested
    still_parked = [key for key in sorted(kinds) if chosen is not None and key not in chosen]
    assert sorted(journal.problems.parked("", LAST)) == still_parked
