"""Checksums of files, and the rows of the state file for the Vectorize target."""

import hashlib
import math
import os
import sqlite3
from array import array
from pathlib import Path

import pytest

from syncd.core.model import Item
from syncd.core.probe_answers import NO_ANSWERS, VALID_S, ProbeAnswers
from syncd.state.caches import (
    YOUNG_NS,
    Embeddings,
    IndexChange,
    StatCache,
    StoredAnswers,
    keep_kinds_that_worked,
    kinds_that_worked,
)
from syncd.state.db import Meta


@pytest.fixture
def cache(db: sqlite3.Connection) -> StatCache:
    return StatCache(db, "docs")


@pytest.fixture
def seen(tmp_path: Path) -> os.stat_result:
    (tmp_path / "a").write_text("abc")
    return (tmp_path / "a").stat()


def item_of(seen: os.stat_result, key: str = "a") -> Item:
    return Item(key, key, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns, seen.st_ino)


def test_a_file_that_is_the_same_need_not_be_read(cache: StatCache, seen: os.stat_result) -> None:
    cache.store([("a", seen, "sum")], seen.st_mtime_ns + YOUNG_NS)
    item = item_of(seen)
    assert cache.fill([item]) == {"a": item._replace(checksum="sum")}


@pytest.mark.parametrize("field", ["size", "mtime_ns", "ctime_ns", "inode"])
def test_a_file_that_differs_in_anything_is_read(cache: StatCache, seen: os.stat_result, field: str) -> None:
    cache.store([("a", seen, "sum")], seen.st_mtime_ns + YOUNG_NS)
    item = item_of(seen)
    changed = item._replace(**{field: getattr(item, field) + 1})
    assert cache.fill([changed]) == {}


@pytest.mark.parametrize(
    ("age_ns", "kept"),
    [(0, False), (YOUNG_NS - 1, False), (YOUNG_NS, True), (-YOUNG_NS + 1, False), (-YOUNG_NS, True)],
)
def test_a_young_file_is_not_trusted(cache: StatCache, seen: os.stat_result, age_ns: int, kept: bool) -> None:
    cache.store([("a", seen, "sum")], seen.st_mtime_ns + age_ns)
    assert bool(cache.fill([item_of(seen)])) is kept


@pytest.mark.parametrize(
    ("ctime_ns", "age_ns", "kept"),
    [
        (5 * 10**18, 0, False),
        (5 * 10**18, YOUNG_NS - 1, False),
        (5 * 10**18, YOUNG_NS, True),
        (5 * 10**18 + 1, 0, True),
    ],
)
def test_where_times_are_whole_seconds_a_young_copy_with_an_old_modification_time_is_not_trusted(
    cache: StatCache, seen: os.stat_result, ctime_ns: int, age_ns: int, kept: bool
) -> None:
    copy = os.stat_result(list(seen), {"st_mtime_ns": 10**18, "st_ctime_ns": ctime_ns})
    cache.store([("a", copy, "sum")], ctime_ns + age_ns)
    assert bool(cache.fill([item_of(copy)])) is kept


def test_a_newer_reading_replaces_the_older(cache: StatCache, seen: os.stat_result) -> None:
    now = seen.st_mtime_ns + YOUNG_NS
    cache.store([("a", seen, "old")], now)
    cache.store([("a", seen, "new")], now)
    assert cache.fill([item_of(seen)])["a"].checksum == "new"


def test_only_the_requested_files_are_returned(cache: StatCache, seen: os.stat_result) -> None:
    now = seen.st_mtime_ns + YOUNG_NS
    cache.store([(key, seen, key) for key in "abcd"], now)
    assert set(cache.fill([item_of(seen, "a"), item_of(seen, "c")])) == {"a", "c"}
    assert cache.fill([]) == {}


def test_invalidate_forgets_the_files_of_one_mirror(
    db: sqlite3.Connection, cache: StatCache, seen: os.stat_result
) -> None:
    other = StatCache(db, "other")
    for each in (cache, other):
        each.store([("a", seen, "sum")], seen.st_mtime_ns + YOUNG_NS)
    cache.invalidate()
    assert cache.fill([item_of(seen)]) == {}
    assert set(other.fill([item_of(seen)])) == {"a"}


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def vector(number: float) -> "array[float]":
    return array("f", [number, number + 0.5])


@pytest.fixture
def memory(db: sqlite3.Connection) -> Embeddings:
    return Embeddings(db, "docs", most=5)


def known(memory: Embeddings, *numbers: int, model: str = "m") -> set[int]:
    found = memory.vectors(model, [digest(number) for number in numbers])
    return {number for number in numbers if digest(number) in found}


def test_a_vector_comes_back_as_it_was(memory: Embeddings) -> None:
    memory.keep("m", {digest(1): vector(0.1)})
    assert memory.vectors("m", [digest(1), digest(2)]) == {digest(1): vector(0.1)}


def test_models_do_not_mix(memory: Embeddings) -> None:
    memory.keep("m mean", {digest(1): vector(1)})
    memory.keep("m cls", {digest(1): vector(2)})
    assert memory.vectors("m mean", [digest(1)]) == {digest(1): vector(1)}
    assert known(memory, 1, model="n") == set()


@pytest.mark.parametrize(("count", "left"), [(4, {0, 1, 2, 3}), (5, {0, 1, 2, 3, 4}), (6, {1, 2, 3, 4, 5})])
def test_at_the_limit_the_oldest_goes(memory: Embeddings, count: int, left: set[int]) -> None:
    for number in range(count):
        memory.keep("m", {digest(number): vector(number)})
    assert known(memory, *range(count)) == left


def test_vectors_in_use_stay(memory: Embeddings) -> None:
    for number in range(5):
        memory.keep("m", {digest(number): vector(number)})
    assert known(memory, 0) == {0}
    memory.keep("m", {digest(5): vector(5)})
    assert known(memory, *range(6)) == {0, 2, 3, 4, 5}


def test_many_vectors_are_fetched_at_once(memory: Embeddings) -> None:
    memory.keep("m", {digest(number): vector(number) for number in range(5)})
    assert len(memory.vectors("m", [digest(number) for number in range(40_000)])) == 5
    assert memory.vectors("m", []) == {}


@pytest.mark.parametrize(
    "kept",
    [b"", b"abc", bytes(8), array("f", [1.0, math.inf]).tobytes(), array("f", [math.nan, 1.0]).tobytes(), "text", 1.5],
)
def test_a_damaged_vector_is_not_used(db: sqlite3.Connection, memory: Embeddings, kept: object) -> None:
    memory.keep("m", {digest(1): vector(1)})
    db.execute("INSERT INTO embedding VALUES ('m', ?, 1, ?)", (digest(2), kept))
    assert memory.vectors("m", [digest(1), digest(2)]) == {digest(1): vector(1)}


def test_the_last_change_is_remembered_for_each_mirror(db: sqlite3.Connection) -> None:
    docs, notes = Embeddings(db, "docs"), Embeddings(db, "notes")
    assert docs.last_change() is None
    change = IndexChange("id", "probe", at=2.0, since=1.0)
    docs.changed(change)
    assert (docs.last_change(), notes.last_change()) == (change, None)
    docs.changed(None)
    assert docs.last_change() is None


@pytest.mark.parametrize("damage", [{"mutation": 1}, {"probe": []}, {"at": "now"}, {"since": None}, {"more": 1}])
def test_a_damaged_change_counts_as_none(db: sqlite3.Connection, damage: dict[str, object]) -> None:
    Meta(db, "docs").set("vector_change", {"mutation": None, "probe": None, "at": 2.0, "since": 1} | damage)
    assert Embeddings(db, "docs").last_change() is None


# -- answers of `syncd check --probe`


@pytest.fixture
def answers(db: sqlite3.Connection) -> StoredAnswers:
    return StoredAnswers(db, "account/docs", lambda: 1000.0)


def test_answers_are_stored_with_their_time(db: sqlite3.Connection, answers: StoredAnswers) -> None:
    assert (answers.get(), answers.at()) == (NO_ANSWERS, None)
    learned = ProbeAnswers(existing="overwrite", list_lag_s=2.0)
    answers.set(learned)
    assert (answers.get(), answers.at()) == (learned, 1000.0)
    assert StoredAnswers(db, "account/other").at() is None


@pytest.mark.parametrize(("later_s", "counts"), [(-1.0, False), (VALID_S - 1, True), (VALID_S, False)])
def test_answers_count_for_a_time(
    db: sqlite3.Connection, answers: StoredAnswers, later_s: float, *, counts: bool
) -> None:
    answers.set(ProbeAnswers(id_kept=True))
    later = StoredAnswers(db, "account/docs", lambda: 1000.0 + later_s)
    assert (later.get() != NO_ANSWERS) == counts
    assert later.at() == 1000.0


def test_a_wrong_answer_is_dropped_and_the_others_stay(answers: StoredAnswers) -> None:
    answers.set(ProbeAnswers(id_kept=True, checksum="md5"))
    answers.drop("checksum", "an upload got another checksum")
    answers.drop("names", "it was unknown before")
    assert (answers.get(), answers.at()) == (ProbeAnswers(id_kept=True), 1000.0)


def test_names_with_the_inodes_of_read_files_are_twins(cache: StatCache, seen: os.stat_result) -> None:
    now = seen.st_mtime_ns + YOUNG_NS
    cache.store([("a", seen, "sum"), ("b", seen, "sum")], now)
    assert sorted(cache.twins([seen.st_ino, -1])) == [("a", seen.st_ino), ("b", seen.st_ino)]
    assert cache.twins([-1]) == []


@pytest.mark.parametrize(("links", "twins"), [(1, 0), (2, 1), (3, 1)])
def test_of_young_files_only_those_with_several_names_are_stored(
    cache: StatCache, seen: os.stat_result, links: int, twins: int
) -> None:
    fields = list(seen)
    fields[3] = links
    extra = {"st_mtime_ns": seen.st_mtime_ns, "st_ctime_ns": seen.st_ctime_ns}
    cache.store([("a", os.stat_result(fields, extra), "sum")], seen.st_mtime_ns)
    assert len(cache.twins([seen.st_ino])) == twins
    assert cache.fill([item_of(seen)]) == {}, "it is read again in any case"


def test_the_kinds_of_request_that_worked_belong_to_their_credentials(db: sqlite3.Connection) -> None:
    assert kinds_that_worked(db, "one") == []
    keep_kinds_that_worked(db, "one", ["read", "write"])
    assert (kinds_that_worked(db, "one"), kinds_that_worked(db, "two")) == (["read", "write"], [])
    keep_kinds_that_worked(db, "two", ["read"])
    assert (kinds_that_worked(db, "one"), kinds_that_worked(db, "two")) == ([], ["read"])
