"""One commit for the outcomes of a moment."""

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.state import together
from syncd.state.db import transaction
from syncd.state.together import Together


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


@pytest.fixture
def db(place: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(place, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    yield connection
    connection.close()


def committed(place: Path) -> int:
    """What another process would see."""
    other = sqlite3.connect(place)
    try:
        return int(other.execute("SELECT count(*) FROM t").fetchone()[0])
    finally:
        other.close()


def add(db: sqlite3.Connection, number: int) -> None:
    db.execute("INSERT INTO t VALUES (?)", (number,))


async def test_outcomes_are_committed_at_the_end(db: sqlite3.Connection, place: Path) -> None:
    group = Together(db)
    for number in range(3):
        with group.block():
            add(db, number)
    assert committed(place) == 0
    group.end()
    assert committed(place) == 3


async def test_outcomes_are_committed_after_a_moment(
    db: sqlite3.Connection, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "MOMENT_S", 0.0)
    group = Together(db)
    with group.block():
        add(db, 1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert committed(place) == 1
    assert not db.in_transaction


async def test_what_others_write_meanwhile_joins(db: sqlite3.Connection, place: Path) -> None:
    group, other = Together(db), Together(db)
    with group.block():
        add(db, 1)
    with transaction(db):
        add(db, 2)
    with other.block():
        add(db, 3)
    group.end()
    other.end()
    assert committed(place) == 3


async def test_a_block_that_fails_undoes_what_is_open_and_says_so(db: sqlite3.Connection, place: Path) -> None:
    group = Together(db)
    with group.block():
        add(db, 1)
    with pytest.raises(sqlite3.IntegrityError), group.block():
        add(db, 1)
    group.end()
    assert committed(place) == 0
    with group.block():
        add(db, 2)
    group.end()
    assert committed(place) == 1


async def test_a_commit_that_fails_on_time_is_told_to_who_comes_next(
    db: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "MOMENT_S", 0.0)
    db.execute("PRAGMA foreign_keys = ON")
    db.execute("CREATE TABLE child (n INTEGER REFERENCES t (n) DEFERRABLE INITIALLY DEFERRED)")
    group = Together(db)
    with group.block():
        db.execute("INSERT INTO child VALUES (99)")  # no such row: only the commit finds out
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not db.in_transaction
    with pytest.raises(sqlite3.IntegrityError), group.block():
        pass
    group.end()
