import sqlite3
from dataclasses import replace
from typing import Any

import pytest

from syncd.core.keys import LAST, keys_below
from syncd.core.model import Entry, Problem, Record
from syncd.state.deletions import HOUR_S
from syncd.state.journal import Journal
from syncd.state.queue import Queue

NOW = 1_000_000.0
RECORD = Record("a", "r1", "c1", 3, NOW, "v1", 3, marked=True, status="queued", error=None)


@pytest.fixture
def journal(db: sqlite3.Connection) -> Journal:
    return Journal(db, "docs")


@pytest.mark.parametrize("marked", [True, False, None])
def test_a_record_comes_back_as_it_went_in(journal: Journal, marked: bool | None) -> None:
    record = replace(RECORD, marked=marked, error="why")
    journal.put(record)
    assert journal.get("a") == record
    assert journal.get("b") is None
    assert journal.count() == 1


def test_records_are_read_in_key_order_in_blocks(journal: Journal) -> None:
    names = sorted(["a-b", "a.b", "a/b", "a/\u00fc", "b", "\U0001f600"])
    for name in names:
        journal.put(replace(RECORD, key=name))
    assert [record.key for record in journal.after("", LAST, 3)] == names[:3]
    assert [record.key for record in journal.after(names[2], LAST, 99)] == names[3:]
    assert [record.key for record in journal.after(*keys_below("a/"), 99)] == ["a/b", "a/\u00fc"]


def test_checksums_of_files_that_are_neither_mirrored_nor_in_the_way_are_forgotten(
    db: sqlite3.Connection, journal: Journal
) -> None:
    journal.put(replace(RECORD, key="b"))
    journal.problems.add([Problem("c", "refused", "m")], 1)
    files = [(mirror, key, 1, 2, 3, 4, "sum") for mirror in ("docs", "other") for key in "abcd"]
    db.executemany("INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?)", files)
    journal.problems.drop_leftovers()
    left = db.execute("SELECT mirror, key FROM file ORDER BY mirror, key").fetchall()
    assert left == [("docs", "b"), ("docs", "c"), *(("other", key) for key in "abcd")]


@pytest.mark.parametrize("number", [0, 1, 499, 500, 501, 1001])
def test_written_returns_the_keys_written_between_two_times(
    db: sqlite3.Connection, journal: Journal, number: int
) -> None:
    keys = [f"{each:04}" for each in range(number)]
    for each, key in enumerate((*keys, "not asked for")):
        journal.put(replace(RECORD, key=key, written_at=NOW + each % 3))
    Journal(db, "another").put(replace(RECORD, key="absent", written_at=NOW + 1))
    assert journal.written([*keys, "absent"], NOW, NOW + 1) == set(keys[1::3])


def test_the_key_range_of_a_directory_has_only_its_children() -> None:
    first, upto = keys_below("a/")
    assert first < "a/b" < upto
    assert first < f"a/{LAST}" < upto
    assert not first < "a.b" < upto
    assert not first < "a0" < upto


def test_forget_drops_one_record(journal: Journal) -> None:
    journal.put(RECORD)
    journal.forget("a")
    assert journal.get("a") is None


def test_new_values_are_learned_and_missing_values_are_not(journal: Journal) -> None:
    journal.put(RECORD)
    journal.index.store_reported(RECORD, Entry("a", "r1", version="v2", status="completed"), NOW + 12.34)
    assert journal.get("a") == replace(RECORD, version="v2", status="completed", searchable_s=12.3)


@pytest.mark.parametrize(
    ("known", "shown", "learned"),
    [
        ({}, {}, {}),
        ({}, {"version": "v2"}, {"version": "v2"}),
        ({}, {"size": 4}, {"remote_size": 4}),
        ({"marked": None}, {"marked": False}, {"marked": False}),
        ({"marked": False}, {"marked": False, "version": "v2"}, {"version": "v2"}),
        ({}, {"marked": False, "version": "v2"}, {}),
        ({}, {"marked": None, "version": "v2"}, {"version": "v2"}),
        ({}, {"checksum": "c2", "version": "v2"}, {}),
        ({}, {"checksum": "c1", "version": "v2"}, {"version": "v2"}),
        ({}, {"status": "queued"}, {}),
        ({}, {"status": None, "error": "e"}, {}),
        ({"status": "error", "error": "e"}, {"status": None, "error": "f"}, {}),
        ({}, {"status": "running"}, {"status": "running"}),
        ({}, {"status": "completed"}, {"status": "completed", "searchable_s": 12.3}),
        ({"requeued_at": NOW + 2}, {"status": "completed"}, {"status": "completed", "searchable_s": 10.3}),
        ({"written_at": NOW + 99}, {"status": "completed"}, {"status": "completed", "searchable_s": 0.0}),
        ({"status": "error"}, {"status": "completed"}, {"status": "completed"}),
        ({"status": None}, {"status": "completed"}, {"status": "completed"}),
        ({"status": "completed"}, {"status": "outdated"}, {"status": "outdated", "requeued_at": NOW + 12.34}),
        ({"status": None}, {"status": "queued"}, {"status": "queued", "requeued_at": NOW + 12.34}),
        ({"requeued_at": NOW}, {"status": "error", "error": "e"}, {"status": "error", "error": "e"}),
        ({"status": "error", "error": "e", "why": "w"}, {"status": "error", "error": "e"}, {}),
        (
            {"status": "error", "error": "e", "why": "w"},
            {"status": "error", "error": "e", "size": 4},
            {"remote_size": 4},
        ),
        ({"status": "error", "error": "e", "why": "w"}, {"status": "error", "error": "f"}, {"error": "f", "why": None}),
        (
            {"status": "error", "error": "e", "why": "w"},
            {"status": "skipped"},
            {"status": "skipped", "error": None, "why": None},
        ),
    ],
)
def test_the_reported_values_of_an_entry_are_learned_unless_another_writer_replaced_it(
    journal: Journal, known: dict[str, Any], shown: dict[str, Any], learned: dict[str, Any]
) -> None:
    record = replace(RECORD, **known)
    journal.put(record)
    journal.put(replace(record, key="b"))
    journal.index.store_reported(record, Entry("a", "r1")._replace(**shown), NOW + 12.34)
    assert journal.get("a") == replace(record, **learned)
    assert journal.get("b") == replace(record, key="b")


def test_entries_on_their_way_are_ordered_by_key_after_a_key(db: sqlite3.Connection, journal: Journal) -> None:
    for place, name in enumerate("dcba"):
        journal.put(replace(RECORD, key=name, written_at=NOW + place))
    journal.put(replace(RECORD, key="e", status="completed"))
    Journal(db, "other").put(replace(RECORD, key="e"))
    assert [record.key for record in journal.index.on_the_way(9, after="a")] == ["b", "c", "d"]
    assert [record.key for record in journal.index.on_the_way(2, after="")] == ["a", "b"]


def test_stuck_entries_are_named_once_the_oldest_first(journal: Journal) -> None:
    for name, since in (("a", 3), ("b", 1), ("c", 2)):
        journal.put(replace(RECORD, key=name, written_at=NOW - 100, requeued_at=NOW + since))
    journal.put(replace(RECORD, key="d", written_at=NOW, status="error"))
    journal.put(replace(RECORD, key="e", written_at=NOW))

    def stuck(before: float, *limit: int, unreported: bool = False) -> str:
        return "".join(record.key for record in journal.index.stuck(before, *limit, unreported=unreported))

    assert [stuck(NOW - 1), stuck(NOW), stuck(NOW + 2), stuck(NOW + 9), stuck(NOW + 9, 2)] == [
        "",
        "e",
        "ebc",
        "ebca",
        "eb",
    ]
    assert [journal.index.stuck_count(NOW + each) for each in (-1, 0, 2, 9)] == [0, 1, 3, 4]
    journal.index.mark_reported(["b", "e"])
    assert (stuck(NOW + 9, unreported=True), stuck(NOW + 9)) == ("ca", "ebca")
    journal.put(replace(RECORD, key="e", written_at=NOW))
    journal.reindexing.finish("b", "queued", NOW + 4)
    assert stuck(NOW + 9, unreported=True) == "ecab"


def test_the_reason_of_a_failure_is_stored_for_the_entry_that_failed(journal: Journal) -> None:
    failed = replace(RECORD, status="error", error="e")
    for record in (failed, replace(failed, key="b", status="skipped"), replace(failed, key="c", status="completed")):
        journal.put(record)
    assert [record.key for record in journal.index.unexplained(9)] == ["a", "b"]
    assert len(journal.index.unexplained(1)) == 1
    journal.index.explain(replace(failed, ref="r0"), "of an earlier entry")
    journal.index.explain(replace(failed, key="c"), "of a searchable entry")
    journal.index.explain(failed, "why")
    journal.index.explain(replace(failed, key="b"), "")
    assert [getattr(journal.get(key), "why", "-") for key in "abc"] == ["why", "", None]
    assert journal.index.unexplained(9) == []


def test_entries_are_marked_as_searchable_except_for_recent_writes(journal: Journal) -> None:
    for key, written_at in (("a", NOW - 11), ("b", NOW - 10), ("c", NOW + 10), ("d", NOW + 11)):
        journal.put(replace(RECORD, key=key, written_at=written_at, status="error", error="e", why="w"))
    journal.put(replace(RECORD, key="e", written_at=NOW - 11, status=None))
    journal.index.mark_all_completed(NOW, 10)
    statuses = {record.key: (record.status, record.error, record.why) for record in journal.after("", LAST, 9)}
    done, failed = ("completed", None, None), ("error", "e", "w")
    assert statuses == {"a": done, "b": failed, "c": failed, "d": done, "e": (None, None, None)}


def test_records_are_counted_by_folder_and_by_time(journal: Journal) -> None:
    for place, key in enumerate(("a", "a/b", "a/c/d", "a0", "b")):
        journal.put(replace(RECORD, key=key, written_at=NOW + place, status="error" if key == "a/b" else "queued"))
    assert journal.count_below("a/") == {"error": 1, "queued": 1}
    assert journal.count_below("") == {"error": 1, "queued": 4}
    assert journal.count_written(NOW + 1, NOW + 3) == 3
    assert sorted(journal.keys()) == ["a", "a/b", "a/c/d", "a0", "b"]


def test_a_forgotten_record_leaves_no_request_to_index_it_again(db: sqlite3.Connection, journal: Journal) -> None:
    journal.put(replace(RECORD, status="error", error="e"))
    journal.put(replace(RECORD, key="b", status="error", error="e"))
    journal.reindexing.plan_tries(NOW, 1.0)
    journal.reindexing.request("a".__eq__)
    journal.forget("a")
    assert db.execute("SELECT key FROM reindex UNION ALL SELECT key FROM index_try").fetchall() == [("b",)]


def test_an_indexing_that_fails_at_once_keeps_its_error(journal: Journal) -> None:
    failed = replace(RECORD, status="error", error="e", why="w")
    journal.put(failed)
    journal.reindexing.finish("a", "error", NOW + 5)
    assert journal.get("a") == replace(failed, why=None, requeued_at=NOW + 5)


def test_refused_contents_count_while_their_key_has_a_problem(db: sqlite3.Connection, journal: Journal) -> None:
    for key in "abc":
        journal.problems.park(Problem(key, "refused", ""), f"sum {key}")
    journal.problems.add([Problem("a", "refused", ""), Problem("c", "failed", "")], 1)
    Journal(db, "other").problems.add([Problem("b", "refused", "")], 1)
    assert journal.problems.refused(["sum a", "sum b", "sum d"]) == {"sum a"}
    assert journal.problems.refused([]) == set()
    journal.problems.drop_leftovers()
    assert list(journal.problems.parked("", LAST)) == ["a", "c"]
    assert list(journal.problems.parked("b", "c")) == ["c"]


def test_records_on_their_way_into_the_index_are_counted_and_the_latest_come_first(journal: Journal) -> None:
    for place, (name, status) in enumerate([("a", "queued"), ("b", "running"), ("c", "outdated"), ("d", "completed")]):
        journal.put(replace(RECORD, key=name, written_at=NOW + place, status=status))  # type: ignore[arg-type]
    journal.put(replace(RECORD, key="e", status=None))
    assert journal.index.index_counts() == {"queued": 1, "running": 1, "outdated": 1, "completed": 1}
    assert journal.index.unfinished() == 3
    assert [record.key for record in journal.index.on_the_way(2)] == ["c", "b"]


def test_only_failed_indexing_is_asked_for_again_and_once(journal: Journal) -> None:
    failed = replace(RECORD, status="error", error="too long")
    for record in (failed, replace(failed, key="b"), replace(RECORD, key="c", status="completed")):
        journal.put(record)
    journal.problems.add([Problem("a", "index_error", "too long")], 1)
    assert journal.reindexing.request(["a", "c", "z"].__contains__) == 1
    assert journal.reindexing.requested() == [failed]
    journal.reindexing.finish("a", "queued", NOW + 5)
    assert journal.reindexing.requested() == []
    assert list(journal.problems.all()) == []
    again = journal.get("a")
    assert again is not None
    assert (again.status, again.error, again.since) == ("queued", None, NOW + 5)
    assert journal.reindexing.request(None) == 1


def test_in_step_counts_stored_and_searchable_entries(db: sqlite3.Connection, journal: Journal) -> None:
    for key in "abde":
        journal.put(replace(RECORD, key=key))
    journal.put(replace(RECORD, key="c", status="error"))
    Queue(db, "docs", 0, 0).mark([("a", False)], NOW)
    journal.problems.add([Problem("b", "unreadable", ""), Problem("c", "index_error", "")], 1)
    assert journal.stored() == 3
    assert journal.in_step() == 2, "what the index refused cannot be found"


def test_a_mirror_that_points_elsewhere_forgets_all_but_its_files(db: sqlite3.Connection, journal: Journal) -> None:
    other = Journal(db, "other")
    for each in (journal, other):
        each.put(replace(RECORD, status="error"))
        each.reindexing.request(None)
        each.tombstones.record_delete("z", "rz", NOW, consented=False)
        each.problems.park(Problem("p", "refused", ""), "c")
        each.problems.add([Problem("p", "refused", "")], 1)
    journal.clear()
    assert (journal.count(), journal.tombstones.recent_deletes(NOW), journal.problems.parked("", LAST)) == (0, 0, {})
    assert (list(journal.problems.all()), journal.reindexing.requested()) == ([], [])
    assert (other.count(), other.tombstones.recent_deletes(NOW), len(other.reindexing.requested())) == (1, 1, 1)


def test_a_delete_leaves_a_tombstone_in_the_place_of_the_record(journal: Journal) -> None:
    journal.put(RECORD)
    journal.tombstones.record_delete("a", "r1", NOW, consented=False)
    assert journal.get("a") is None
    assert journal.tombstones.deleted_at("r1") == NOW
    assert journal.tombstones.deleted_at("r2") is None


def test_deleted_between_returns_the_recently_deleted_refs(journal: Journal) -> None:
    journal.tombstones.record_delete("a", "r1", NOW - 1, consented=False)
    journal.tombstones.record_delete("b", "r2", NOW, consented=False)
    journal.tombstones.record_delete("c", "r3", NOW, consented=False)
    journal.tombstones.record_delete("d", "r5", NOW + 11, consented=False)
    assert journal.tombstones.deleted_between(["r1", "r2", "r4", "r5"], NOW, NOW + 10) == {"r2"}
    assert journal.tombstones.deleted_between([], NOW - 5, NOW + 5) == set()


def test_deleting_a_duplicate_keeps_the_record_of_the_other_entry(journal: Journal) -> None:
    journal.put(RECORD)
    journal.tombstones.record_delete("a", "r2", NOW, consented=False)
    assert journal.get("a") == RECORD


def test_deletes_of_the_last_hour_count_unless_somebody_consented(journal: Journal) -> None:
    journal.tombstones.record_delete("a", "r1", NOW - HOUR_S - 1, consented=False)
    journal.tombstones.record_delete("b", "r2", NOW - HOUR_S, consented=False)
    journal.tombstones.record_delete("c", "r3", NOW, consented=False)
    journal.tombstones.record_delete("d", "r4", NOW, consented=True)
    assert journal.tombstones.recent_deletes(NOW) == 2


def test_the_last_hour_is_one_of_the_age_and_not_of_the_clock(journal: Journal) -> None:
    journal.tombstones.record_delete("a", "r1", NOW, consented=False, age=5.0)
    journal.tombstones.record_delete("b", "r2", NOW, consented=False, age=6.0)
    assert journal.tombstones.recent_deletes(HOUR_S + 6.0) == 1
    assert journal.tombstones.recent_deletes(HOUR_S + 7.0) == 0


def test_old_tombstones_are_dropped(journal: Journal) -> None:
    journal.tombstones.record_delete("a", "r1", NOW - 10, consented=False)
    journal.tombstones.record_delete("b", "r2", NOW - 9, consented=False)
    journal.tombstones.record_delete("c", "r3", NOW + 10, consented=False)
    journal.tombstones.drop_old(NOW, 9, NOW + 2 * HOUR_S)
    assert journal.tombstones.deleted_at("r1") is None
    assert journal.tombstones.deleted_at("r2") == NOW - 9
    assert journal.tombstones.deleted_at("r3") is None, "of a clock that was ahead"


def test_refused_content_is_remembered_until_something_is_stored_or_deleted(journal: Journal) -> None:
    problem = Problem("a", "refused", "no (code 7001)")
    journal.problems.park(problem, "c1")
    assert journal.problems.parked("", LAST) == {"a": ("c1", problem)}
    assert journal.problems.parked("b", LAST) == {}
    journal.put(RECORD)
    assert journal.problems.parked("", LAST) == {}
    journal.problems.park(problem, "c1")
    journal.tombstones.record_delete("a", "r1", NOW, consented=False)
    assert journal.problems.parked("", LAST) == {}


def test_refused_content_can_be_tried_again_one_by_one(journal: Journal) -> None:
    for key in "abc":
        journal.problems.park(Problem(key, "refused", "no"), "c")
    journal.problems.unpark("a")
    assert set(journal.problems.parked("", LAST)) == {"b", "c"}


def test_problems_are_kept_by_key_and_by_pass(journal: Journal) -> None:
    journal.problems.add([Problem("b", "failed", "one"), Problem("a", "empty", "two")], 1)
    journal.problems.add([Problem("b", "refused", "three")], 2)
    assert list(journal.problems.all()) == [Problem("a", "empty", "two"), Problem("b", "refused", "three")]
    assert list(journal.problems.all(2)) == [Problem("b", "refused", "three")]
    assert list(journal.problems.all(limit=1)) == [Problem("a", "empty", "two")]
    assert journal.problems.counts() == {"empty": 1, "refused": 1}
    journal.problems.clear_before(2)
    assert journal.problems.counts() == {"refused": 1}


@pytest.mark.parametrize(
    ("text", "limit", "offset", "found"),
    [
        ("", 9, 0, ("abc", 3)),
        ("", 2, 0, ("ab", 3)),
        ("", 2, 2, ("c", 3)),
        ("", 2, 3, ("", 3)),
        ("TWO", 9, 0, ("bc", 2)),
        ("B", 9, 0, ("b", 1)),
        ("b two", 9, 0, ("", 0)),
    ],
)
def test_problems_of_a_kind_are_found_by_key_or_message(
    db: sqlite3.Connection, journal: Journal, text: str, limit: int, offset: int, found: tuple[str, int]
) -> None:
    problems = [Problem("c", "failed", "Two"), Problem("a", "failed", "one"), Problem("b", "failed", "two")]
    journal.problems.add([*problems, Problem("d", "refused", "two")], 1)
    Journal(db, "other").problems.add([Problem("e", "failed", "two")], 1)
    named = {problem.key: problem for problem in problems}
    assert journal.problems.find("failed", text, limit, offset) == ([named[key] for key in found[0]], found[1])


@pytest.mark.parametrize(
    ("key", "subtree", "left"),
    [
        ("a", False, ["a.md", "a/", "a/b", "b"]),
        ("a", True, ["a.md", "b"]),
        ("a/b", False, ["a", "a.md", "a/", "b"]),
        ("", True, []),
    ],
)
def test_looking_anew_clears_the_problems_of_a_key_or_a_directory(
    journal: Journal, key: str, subtree: bool, left: list[str]
) -> None:
    journal.problems.add([Problem(name, "failed", "") for name in ("a", "a/", "a/b", "a.md", "b")], 1)
    journal.problems.clear(key, subtree=subtree)
    assert [problem.key for problem in journal.problems.all()] == left


def test_mirrors_do_not_see_each_others_rows(db: sqlite3.Connection, journal: Journal) -> None:
    other = Journal(db, "other")
    journal.put(RECORD)
    journal.problems.park(Problem("a", "refused", ""), "c")
    journal.problems.add([Problem("a", "refused", "")], 1)
    journal.tombstones.record_delete("z", "r9", NOW, consented=False)
    assert other.count() == 0
    assert other.problems.parked("", LAST) == {}
    assert list(other.problems.all()) == []
    assert other.tombstones.recent_deletes(NOW) == 0
    assert other.in_step() == 0
    assert journal.get("a") == RECORD


def test_entries_that_have_lived_long_enough_are_counted_whichever_way_the_clock_went(journal: Journal) -> None:
    for key, age in [("a", 99.0), ("b", 100.0), ("c", 101.0), ("d", -100.0)]:
        journal.put(replace(RECORD, key=key, written_at=NOW - age))
    assert journal.expired(NOW, 100.0) == 3


def test_keys_whose_entry_the_remote_removed_after_an_error_are_counted(
    db: sqlite3.Connection, journal: Journal
) -> None:
    journal.put(replace(RECORD, key="stored"))
    journal.problems.add([Problem("stored", "index_error", ""), Problem("removed", "index_error", "")], 1)
    journal.problems.add([Problem("skipped and removed", "skipped", "")], 1)
    journal.problems.add([Problem("failed", "failed", "")], 1)
    Journal(db, "other").problems.add([Problem("removed too", "index_error", "")], 1)
    assert journal.problems.count_dropped() == 2
