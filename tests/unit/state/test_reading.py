"""Reading a state file without a change to it, also where nobody can write, and a copy of it."""

import errno
import os
import resource
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest

from syncd.core.errors import StateDamaged, StateHalt
from syncd.state import db as state_db
from syncd.state.db import (
    Meta,
    open_copy,
    open_state,
    open_state_to_read,
)
from syncd.state.directory import (
    FILE_NAME,
    companions,
    data_version,
    size_of,
)


def test_the_data_version_tells_of_a_write_of_another_connection(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db, closing(open_state(tmp_path)) as other:
        before = data_version(db)
        Meta(db, "docs").set("x", 1)
        assert data_version(db) == before
        Meta(other, "docs").set("x", 2)
        assert data_version(db) > before


def test_a_copy_has_the_values_and_does_not_change_the_file(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        Meta(db, "docs").set("x", 1)
        with closing(open_copy(tmp_path)) as copy:
            assert Meta(copy, "docs").get("x") == 1
            copy.execute("SELECT * FROM temp.plan")
            Meta(copy, "docs").set("x", 2)
        assert Meta(db, "docs").get("x") == 1


def test_a_file_that_another_process_is_making_is_no_file_yet(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as making:
        making.execute("PRAGMA journal_mode = WAL")
        assert open_state_to_read(tmp_path) is None
        making.executescript("BEGIN; CREATE TABLE other (a); COMMIT;")
        with pytest.raises(StateDamaged, match="no such table: meta"):
            open_state_to_read(tmp_path)


@pytest.mark.parametrize("temporary", [True, False])
def test_a_copy_of_no_file_is_an_empty_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, temporary: bool
) -> None:
    monkeypatch.setattr(state_db, "temporary_files", lambda: temporary)
    with closing(open_copy(tmp_path)) as copy:
        assert Meta(copy, "docs").get("x") is None
        copy.execute("SELECT * FROM temp.plan")
        assert copy.execute("PRAGMA temp_store").fetchone() == (0 if temporary else 2,)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def _read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may write below tmp_path, even if the tests run as root."""
    access = os.access

    def refuse(path: Path | str, mode: int) -> bool:
        return access(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(tmp_path))

    monkeypatch.setattr(os, "access", refuse)


@pytest.mark.usefixtures("_read_only")
@pytest.mark.parametrize("left", ["", "-wal", "-shm"])
def test_a_file_without_a_log_is_read_where_nobody_can_write(tmp_path: Path, left: str) -> None:
    """left: an empty file that a process left beside it."""
    with closing(open_state(tmp_path)) as db:
        Meta(db, "docs").set("x", 1)
    (tmp_path / f"{FILE_NAME}{left}").touch()
    before = set(tmp_path.iterdir())
    reader = open_state_to_read(tmp_path)
    assert reader is not None
    with closing(reader):
        assert Meta(reader, "docs").get("x") == 1
        assert set(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("_read_only")
def test_a_file_with_a_log_is_read_through_a_copy_where_nobody_can_write(tmp_path: Path) -> None:
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    with closing(open_state(tmp_path)) as db:
        Meta(db, "docs").set("x", 1)
        for each in companions(tmp_path / FILE_NAME)[:2]:
            (crashed / each.name).write_bytes(each.read_bytes())
    reader = open_state_to_read(crashed)
    assert reader is not None
    with closing(reader):
        assert Meta(reader, "docs").get("x") == 1
    assert {each.name for each in crashed.iterdir()} == {FILE_NAME, f"{FILE_NAME}-wal"}


@pytest.mark.parametrize("log", [False, True])
def test_a_file_is_read_where_the_index_of_its_log_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: bool
) -> None:
    """The limit of a file's size refuses the index as a full disk does. The copy of a log goes to another disk."""
    full = tmp_path / "full"
    full.mkdir()
    with closing(open_state(tmp_path)) as db:
        Meta(db, "docs").set("x", 1)
        if not log:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for each in companions(tmp_path / FILE_NAME)[:2]:
            (full / each.name).write_bytes(each.read_bytes())
    assert (size_of(companions(full / FILE_NAME)[1]) > 0) is log
    _, hard = limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def elsewhere(*, prefix: str) -> "tempfile.TemporaryDirectory[str]":
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        return tempfile.TemporaryDirectory(prefix=prefix)

    monkeypatch.setattr(state_db, "TemporaryDirectory", elsewhere)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        reader = open_state_to_read(full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert reader is not None
    with closing(reader):
        assert Meta(reader, "docs").get("x") == 1


@pytest.mark.usefixtures("_read_only")
def test_without_a_place_for_the_copy_the_error_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / FILE_NAME).touch()
    (tmp_path / f"{FILE_NAME}-wal").write_bytes(b"log")

    def refuse(**_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(state_db, "TemporaryDirectory", refuse)
    with pytest.raises(StateHalt) as caught:
        open_state_to_read(tmp_path)
    place = tmp_path / FILE_NAME
    assert str(caught.value) == f"no place for a copy of {place} (No space left on device); name one in TMPDIR"
