"""Damaged state files: the error, and the new file in place of the old one."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from syncd.core.errors import StateDamaged
from syncd.state import db as state_db
from syncd.state import directory
from syncd.state.db import (
    Meta,
    detect_damage,
    open_state,
    open_state_to_read,
    open_to_write,
    transaction,
)
from syncd.state.directory import (
    FILE_NAME,
    companions,
    find_damage,
    set_aside,
)

DAMAGED = FILE_NAME + directory.SET_ASIDE
NO_DATABASE = b"this is no database, but long enough to be taken for one" * 100


async def test_a_damaged_file_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(NO_DATABASE)
    with pytest.raises(StateDamaged):
        await open_to_write(tmp_path, "refuse")
    assert (tmp_path / FILE_NAME).read_bytes() == NO_DATABASE


async def test_a_damaged_file_is_kept_beside_a_new_one(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(NO_DATABASE)
    with capture_logs() as lines, closing(await open_to_write(tmp_path, "rebuild")) as db:
        assert Meta(db, "docs").get("x") is None
    assert (tmp_path / DAMAGED).read_bytes() == NO_DATABASE
    why = f"the state file {tmp_path / FILE_NAME} is damaged (file is not a database)"
    assert lines == [
        {
            "event": "state.damaged",
            "log_level": "error",
            "why": f"{why}; it is only a cache: stop syncd and delete it",
            "kept": str(tmp_path / DAMAGED),
            "consequence": "a new state file is built",
        }
    ]


@pytest.mark.parametrize(("on_damage", "kept"), [("refuse", 1), ("rebuild", 1), ("discard", None)])
async def test_a_sound_file_is_replaced_only_if_it_is_known_to_be_damaged(
    tmp_path: Path, on_damage: state_db.OnDamage, kept: int | None
) -> None:
    with closing(open_state(tmp_path)) as db:
        Meta(db, "docs").set("x", 1)
    with closing(await open_to_write(tmp_path, on_damage)) as db:
        assert Meta(db, "docs").get("x") == kept
        assert not db.in_transaction
    assert (tmp_path / DAMAGED).exists() == (kept is None)


def test_a_file_is_set_aside_with_its_companions_in_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path, aside = tmp_path / FILE_NAME, tmp_path / DAMAGED
    for number, each in enumerate(companions(path)):
        each.write_text(str(number))
    companions(aside)[0].write_text("earlier")
    companions(aside)[1].mkdir()
    assert set_aside(tmp_path) == aside
    assert [each.read_text() for each in companions(aside)] == ["0", "1", "2"]
    assert not any(each.exists() for each in companions(path))
    (kept,) = tmp_path.glob(f"{DAMAGED}-wal.*")
    assert kept.is_dir(), "a directory is not deleted"


def test_what_is_missing_leaves_no_earlier_companion(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("now")
    for each in companions(tmp_path / DAMAGED):
        each.write_text("earlier")
    set_aside(tmp_path)
    assert [each.exists() for each in companions(tmp_path / DAMAGED)] == [True, False, False]


def test_an_unexpected_error_is_one_of_the_file_only_if_the_file_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE_NAME
    with closing(open_state(tmp_path)) as db:
        assert find_damage(db, path) is None
        with pytest.raises(KeyError), detect_damage(db, path):
            raise KeyError
        monkeypatch.setattr(state_db, "find_damage", lambda *_: directory.damaged(path, "page 3"))
        with pytest.raises(StateDamaged, match=rf"{path} is damaged \(page 3\)"), detect_damage(db, path):
            raise KeyError


def test_a_file_that_is_replaced_by_other_bytes_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(NO_DATABASE)
    with closing(sqlite3.connect(path)) as db:
        found = find_damage(db, path)
    remedy = "it is only a cache: stop syncd and delete it"
    assert str(found) == f"the state file {path} is damaged (file is not a database); {remedy}"


def test_a_row_that_contradicts_the_schema_is_damage_and_named(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with closing(open_state(tmp_path)) as db:
        db.execute("CREATE TABLE numbers (number INTEGER)")
        db.execute("INSERT INTO numbers VALUES (NULL)")
        db.execute("PRAGMA writable_schema = ON")
        db.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE numbers (number INTEGER NOT NULL)' WHERE name = 'numbers'"
        )
    with closing(sqlite3.connect(path)) as db:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        found = find_damage(db, path)
    remedy = "it is only a cache: stop syncd and delete it"
    assert "numbers.number" in verdict
    assert str(found) == f"the state file {path} is damaged ({verdict}); {remedy}"


def test_a_damaged_page_is_found(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with closing(open_state(tmp_path)) as db:
        with transaction(db):
            for number in range(2000):
                Meta(db, "docs").set(f"name {number}", "x" * 100)
        assert find_damage(db, path) is None
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size - 8 * 4096)
        file.write(os.urandom(8 * 4096))
    with closing(sqlite3.connect(path)) as db:
        found = find_damage(db, path)
    assert str(found).startswith(f"the state file {path} is damaged (")


@pytest.mark.parametrize("opener", [open_state, open_state_to_read])
def test_a_directory_in_the_place_of_the_file_is_damage(tmp_path: Path, opener: object) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert callable(opener)
    with pytest.raises(StateDamaged) as caught:
        opener(tmp_path)
    why = f"the state file {tmp_path / FILE_NAME} is damaged (it is no regular file)"
    assert str(caught.value) == f"{why}; it is only a cache: stop syncd and delete it"
