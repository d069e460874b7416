import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.model import Item
from syncd.state.caches import YOUNG_NS, StatCache
from syncd.state.db import open_state


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_state(tmp_path / "state")) as opened:
        yield opened


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
