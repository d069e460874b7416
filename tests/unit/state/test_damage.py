"""State files that are damaged, locked or not permitted: the error, the remedy and the new file."""

import asyncio
import errno
import os
import pwd
import resource
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from syncd.core.errors import StateBusy, StateDamaged, StateFull, StateHalt
from syncd.state import db as state_db
from syncd.state import directory
from syncd.state.db import (
    Meta,
    detect_damage,
    open_copy,
    open_state,
    open_state_to_read,
    open_to_write,
    transaction,
)
from syncd.state.directory import (
    BUSY_AGAIN_S,
    FILE_NAME,
    check,
    companions,
    data_version,
    find_damage,
    holder,
    lock,
    make_private,
    refusal,
    set_aside,
    size_of,
    user_name,
    when_free,
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


@pytest.mark.parametrize("opener", [open_state, open_state_to_read])
def test_a_directory_in_the_place_of_the_file_is_damage(tmp_path: Path, opener: object) -> None:
    (tmp_path / FILE_NAME).mkdir()
    assert callable(opener)
    with pytest.raises(StateDamaged) as caught:
        opener(tmp_path)
    why = f"the state file {tmp_path / FILE_NAME} is damaged (it is no regular file)"
    assert str(caught.value) == f"{why}; it is only a cache: stop syncd and delete it"


# -- the kinds of errors


def sqlite_error(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("why")
    error.sqlite_errorcode = code
    return error


LOCKED = "the state file /s is locked by another process (why); find it with fuser, and end it"
NO_ROOM = "the state file /s cannot be written ({}); make room on the disk of state_dir"
NO_FILES = "the state file /s cannot be opened ({}); raise the limit of open files, or give more memory"
BROKEN = "the state file /s is damaged (why); it is only a cache: stop syncd and delete it"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (sqlite_error(sqlite3.SQLITE_BUSY), StateBusy, LOCKED),
        (sqlite_error(sqlite3.SQLITE_BUSY_SNAPSHOT), StateBusy, LOCKED),
        (sqlite_error(sqlite3.SQLITE_LOCKED), StateBusy, LOCKED),
        (sqlite_error(sqlite3.SQLITE_PROTOCOL), StateBusy, LOCKED),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), StateDamaged, BROKEN),
        (sqlite_error(sqlite3.SQLITE_NOTADB), StateDamaged, BROKEN),
        (sqlite_error(sqlite3.SQLITE_FULL), StateFull, NO_ROOM.format("why")),
        (sqlite_error(sqlite3.SQLITE_IOERR_WRITE), StateFull, NO_ROOM.format("why")),
        (OSError(errno.ENOSPC, "why"), StateFull, NO_ROOM.format(f"[Errno {errno.ENOSPC}] why")),
        (OSError(errno.EIO, "why"), StateFull, NO_ROOM.format(f"[Errno {errno.EIO}] why")),
        (OSError(errno.EMFILE, "why"), StateFull, NO_FILES.format(f"[Errno {errno.EMFILE}] why")),
        (OSError(errno.ENOMEM, "why"), StateFull, NO_FILES.format(f"[Errno {errno.ENOMEM}] why")),
        (sqlite_error(sqlite3.SQLITE_ERROR), None, ""),
        (OSError(errno.ENOENT, "why"), None, ""),
        (ValueError("why"), None, ""),
    ],
)
def test_an_error_of_the_file_has_a_remedy(error: Exception, kind: type[StateHalt] | None, message: str) -> None:
    if kind is None:
        check(error, Path("/s"))
        return
    with pytest.raises(kind) as caught:
        check(error, Path("/s"))
    assert (type(caught.value), str(caught.value), caught.value.__cause__) == (kind, message, error)


def test_a_file_that_this_user_may_use_cannot_be_opened_for_lack_of_descriptors(tmp_path: Path) -> None:
    open_state(tmp_path).close()
    with pytest.raises(StateFull, match="raise the limit of open files"):
        check(sqlite_error(sqlite3.SQLITE_CANTOPEN), tmp_path / FILE_NAME)


@pytest.mark.parametrize("step", ["make_private", "make_installation", "prepare_file"])
def test_an_error_while_the_state_file_is_made_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(_: Path) -> NoReturn:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(state_db, step, fail)
    with pytest.raises(StateHalt) as caught:
        open_state(tmp_path)
    assert str(caught.value) == (
        f"the state file {tmp_path / FILE_NAME} cannot be written ([Errno {errno.ENOSPC}] full);"
        " make room on the disk of state_dir"
    )


@pytest.mark.parametrize("step", ["open", "ftruncate", "pwrite"])
def test_an_error_while_the_lock_is_taken_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def fail(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "full")

    make_private(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(StateHalt) as caught, lock(tmp_path):
            pass
    assert str(caught.value) == (
        f"the state file {tmp_path / directory.LOCK_NAME} cannot be written ([Errno {errno.ENOSPC}] full);"
        " make room on the disk of state_dir"
    )
    with lock(tmp_path):
        pass


@pytest.mark.parametrize(("opener", "need"), [(open_state, os.R_OK | os.W_OK), (open_state_to_read, os.R_OK)])
def test_a_file_that_sqlite_cannot_open_is_named_by_the_right_that_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opener: object, need: int
) -> None:
    open_state(tmp_path).close()
    path, me, asked = tmp_path / FILE_NAME, user_name(os.geteuid()), set[int]()

    def refuse(*_: object, **__: object) -> NoReturn:
        raise sqlite_error(sqlite3.SQLITE_CANTOPEN)

    def access(file: Path, mode: int) -> bool:
        if file == path:
            asked.add(mode)
        return file != path

    monkeypatch.setattr(sqlite3, "connect", refuse)
    monkeypatch.setattr(os, "access", access)
    assert callable(opener)
    with pytest.raises(StateHalt) as caught:
        opener(tmp_path)
    assert type(caught.value) is StateHalt
    assert str(caught.value) == (f"{path} does not let its owner {me} use it (why); run chmod u+rwX {path}")
    assert asked == {need}


@pytest.mark.parametrize("free_at", [0.0, 0.5, 1.0, None])
async def test_a_locked_file_is_tried_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_at: float | None
) -> None:
    now, tried = 0.0, list[float]()

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def work() -> str:
        tried.append(now)
        if free_at is None or now < free_at:
            raise sqlite_error(sqlite3.SQLITE_BUSY)
        return "done"

    monkeypatch.setattr(directory, "BUSY_PATIENCE_S", 2 * BUSY_AGAIN_S)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    if free_at is not None:
        assert await when_free(work, tmp_path) == "done"
    else:
        with pytest.raises(StateBusy, match=f"the state file {tmp_path} is locked"):
            await when_free(work, tmp_path)
    assert tried == [0.0, 0.5, 1.0][: 3 if free_at is None else 1 + int(free_at / BUSY_AGAIN_S)]


# -- permissions


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / FILE_NAME
    path.touch()

    def refuse(*_: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "access", lambda file, _mode: file != path)
    with pytest.raises(StateHalt) as caught:
        open_state_to_read(tmp_path)
    me = user_name(os.geteuid())
    assert str(caught.value) == (
        f"{path} does not let its owner {me} use it (Permission denied); run chmod u+rwX {path}"
    )


def test_a_refused_file_is_named_with_its_owner_and_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / FILE_NAME
    path.touch()
    me = user_name(os.geteuid())
    error = PermissionError(13, "Permission denied")
    need: list[int] = []

    def access(path: Path, mode: int) -> bool:
        need.append(mode)
        return path.name != FILE_NAME

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(StateHalt) as caught:
        check(error, path)
    assert str(caught.value) == (
        f"{path} does not let its owner {me} use it (Permission denied); run chmod u+rwX {path}"
    )
    assert need[-1] == os.R_OK | os.W_OK
    refusal(path, error, reading=True)
    assert need[-1] == os.R_OK


def test_a_directory_that_may_not_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda _path, mode: not mode & os.W_OK)
    error = PermissionError(13, "Permission denied")
    assert refusal(tmp_path / FILE_NAME, error).startswith(f"{tmp_path} does not let its owner ")
    assert refusal(tmp_path / FILE_NAME, error, reading=True).startswith(
        f"the state file {tmp_path / FILE_NAME} cannot"
    )


def test_a_directory_that_may_not_be_entered_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path)
    error = PermissionError(13, "Permission denied")
    assert refusal(tmp_path / "sub" / FILE_NAME, error).startswith(f"{tmp_path} does not let its owner ")
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path / "missing")
    assert "cannot be used" in refusal(tmp_path / "missing" / FILE_NAME, error)


@pytest.mark.parametrize("place", [FILE_NAME, ".", "..", "../.."])
def test_only_the_owner_of_the_state_directory_is_to_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    path = tmp_path / "my state" / "syncd" / FILE_NAME
    path.parent.mkdir(parents=True)
    path.touch()
    refused = Path(os.path.normpath(path.parent / place))
    me, other = user_name(os.geteuid()), user_name(os.geteuid() + 1)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    monkeypatch.setattr(os, "access", lambda file, _mode: file != refused)
    fault = f"{refused} belongs to {me}, and syncd runs as {other} (Permission denied); run it as {me}, or"
    remedy = " choose another state_dir" if ".." in place else f", if no service uses it: chown {other} '{refused}'"
    assert refusal(path, PermissionError(13, "Permission denied")) == fault + remedy


def test_the_directory_of_a_missing_state_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda file, mode: file != tmp_path or not mode & os.W_OK)
    found = refusal(tmp_path / "home" / "state" / FILE_NAME, PermissionError(13, "Permission denied"))
    assert found.startswith(f"{tmp_path} does not let its owner ")


def test_without_a_path_the_error_names_this_user() -> None:
    found = refusal(None, sqlite3.OperationalError("unable to open database file"))
    assert found.startswith("the state file cannot be used (unable to open database file); let ")
    assert f"let {user_name(os.geteuid())} use it" in found


def test_a_user_is_shown_by_name_or_by_number() -> None:
    assert user_name(0) == pwd.getpwuid(0).pw_name
    assert user_name(2**31 - 5) == f"uid {2**31 - 5}"


# -- the lock


def test_a_lock_file_with_other_content_names_nobody(tmp_path: Path) -> None:
    with lock(tmp_path):
        for content in (b"", b"\xff\xfe", b"pid 12"):
            (tmp_path / directory.LOCK_NAME).write_bytes(content)
            assert holder(tmp_path) is None
        for content, daemon in ((b"12", False), (b"12 command\n", False), (b"12 run\n", True), (b"12 run more", False)):
            (tmp_path / directory.LOCK_NAME).write_bytes(content)
            assert holder(tmp_path) == (12, daemon)


def test_a_lock_is_gone_if_its_file_is_removed_or_replaced(tmp_path: Path) -> None:
    with lock(tmp_path / "state") as held:
        assert not held.gone()
        (tmp_path / "state" / directory.LOCK_NAME).unlink()
        assert held.gone()
        (tmp_path / "state" / directory.LOCK_NAME).touch()
        assert held.gone()
    with lock(tmp_path / "other") as held:
        (tmp_path / "other").rename(tmp_path / "moved")
        assert held.gone()
        (tmp_path / "other").touch()
        assert held.gone()


def test_a_mount_that_does_not_answer_has_not_lost_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_answer(_path: Path) -> os.stat_result:
        raise OSError(5, "Input/output error")

    with lock(tmp_path) as held, monkeypatch.context() as patched:
        patched.setattr(Path, "stat", no_answer)
        assert not held.gone()
