import errno
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.errors import EXIT_LOCKED, ConfigError, Locked, StateDamaged, StateHalt
from syncd.state import db as state_db
from syncd.state.db import SCHEMA_VERSION, Meta, open_copy, open_state, open_state_to_read, transaction
from syncd.state.directory import FILE_NAME, LOCK_NAME, holder, lock


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_all_files_are_private(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        state = tmp_path / "new" / "state"
        with lock(state), closing(open_state(state)) as db:
            Meta(db, "docs").set("x", 1)
            modes = {path.name: mode(path) for path in state.iterdir()}
            assert mode(state) == 0o700
    finally:
        os.umask(old)
    assert {FILE_NAME, f"{FILE_NAME}-wal", f"{FILE_NAME}-shm", "lock", "installation-id"} == set(modes)
    assert set(modes.values()) == {0o600}


def test_opening_again_keeps_the_rows(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        Meta(db, "docs").set("x", {"a": [1, None]})
    with closing(open_state(tmp_path)) as db:
        assert Meta(db, "docs").get("x") == {"a": [1, None]}
        assert Meta(db, "other").get("x") is None
        assert db.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION


def test_a_named_value_is_removed_by_none(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        meta = Meta(db, "docs")
        meta.set("x", 1)
        meta.set("x", None)
        assert meta.get("x") is None


OLDER = "was made by an older syncd; it is only a cache: stop syncd and delete it"
NEWER = "was made by a newer syncd; upgrade syncd, or stop it and delete the file"


@pytest.mark.parametrize("opener", [open_state, open_state_to_read, open_copy])
@pytest.mark.parametrize(("version", "fault"), [(1, OLDER), (SCHEMA_VERSION - 1, OLDER), (SCHEMA_VERSION + 1, NEWER)])
def test_a_file_of_another_syncd_is_refused_with_the_remedy_and_left_alone(
    tmp_path: Path, version: int, fault: str, opener: Callable[[Path], object]
) -> None:
    with closing(open_state(tmp_path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(ConfigError) as caught:
        opener(tmp_path)
    assert str(caught.value) == f"{tmp_path / FILE_NAME} {fault}"
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == version


def test_a_refused_file_is_not_held_open(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(ConfigError) as caught:
        open_state(tmp_path)
    # The traceback still holds the frame, so only an explicit close can have let the file go.
    left = set(Path("/proc/self/fd").iterdir()) - before
    assert (str(caught.value) != "", left) == (True, set())


@pytest.mark.parametrize("opener", [open_state, open_state_to_read])
def test_a_file_that_is_no_database_is_refused_with_the_cure(tmp_path: Path, opener: object) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"this is no database, but long enough to be taken for one" * 100)
    assert callable(opener)
    with pytest.raises(StateDamaged, match="only a cache: stop syncd and delete it"):
        opener(tmp_path)


def test_a_directory_that_cannot_be_used_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="choose a writable directory"):
        open_state(tmp_path / "file")
    with pytest.raises(ConfigError, match="choose a writable directory"), lock(tmp_path / "file"):
        pass


def test_reading_needs_a_file_and_makes_none(tmp_path: Path) -> None:
    assert open_state_to_read(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_reading_sees_what_is_written_and_cannot_write(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        reader = open_state_to_read(tmp_path)
        assert reader is not None
        with closing(reader):
            Meta(db, "docs").set("x", 1)
            assert Meta(reader, "docs").get("x") == 1
            with pytest.raises(sqlite3.OperationalError):
                Meta(reader, "docs").set("x", 2)


def test_a_block_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    with closing(open_state(tmp_path)) as db:
        meta = Meta(db, "docs")

        def both() -> None:
            with transaction(db):
                meta.set("a", 1)
                with transaction(db):
                    meta.set("b", 1)
                raise KeyError

        with pytest.raises(KeyError):
            both()
        assert not db.in_transaction
        assert meta.get("a") is None
        assert meta.get("b") is None
        with transaction(db):
            meta.set("a", 1)
        assert meta.get("a") == 1


def test_the_error_of_a_second_process_names_the_first(tmp_path: Path) -> None:
    with lock(tmp_path):
        assert holder(tmp_path) == (os.getpid(), False)
        with pytest.raises(Locked, match=f"pid {os.getpid()}") as caught, lock(tmp_path):
            pass
        assert caught.value.exit_code == EXIT_LOCKED == 11
    assert holder(tmp_path) is None
    with lock(tmp_path):
        pass


def test_a_directory_in_the_place_of_the_state_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StateDamaged, match=rf"^the state file {tmp_path / FILE_NAME} is damaged \(it is no regular"):
        open_state(tmp_path)


def test_a_directory_that_was_never_locked_has_no_holder(tmp_path: Path) -> None:
    assert holder(tmp_path) is None


def test_a_lock_that_this_user_may_not_read_is_an_error_that_names_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    with lock(tmp_path):
        monkeypatch.setattr(os, "open", refuse)
        monkeypatch.setattr(os, "access", lambda _, wanted: wanted in (0, os.X_OK))
        with pytest.raises(StateHalt, match=f"^{tmp_path / LOCK_NAME} does not let its owner .* use it "):
            holder(tmp_path)
        monkeypatch.undo()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from syncd.state.directory import lock\n"
        "with lock(pathlib.Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert holder(tmp_path) == (child.pid, False)
        with pytest.raises(Locked, match=str(child.pid)), lock(tmp_path):
            pass
        child.kill()
        child.wait()
    assert holder(tmp_path) is None
    with lock(tmp_path, daemon=True):
        assert holder(tmp_path) == (os.getpid(), True)


def test_a_start_of_the_machine_has_an_id_if_the_kernel_gives_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_db, "_BOOT_ID", tmp_path / "boot_id")
    assert state_db.boot_id() == ""
    (tmp_path / "boot_id").write_text("0f1e2d3c\n")
    assert state_db.boot_id() == "0f1e2d3c"
