"""The errors of a state file: its disk, its lock, and the permissions, each with the remedy."""

import asyncio
import errno
import os
import pwd
import sqlite3
from pathlib import Path
from typing import NoReturn

import pytest

from syncd.core.errors import StateBusy, StateDamaged, StateFull, StateHalt
from syncd.state import db as state_db
from syncd.state import directory
from syncd.state.db import (
    open_state,
    open_state_to_read,
)
from syncd.state.directory import (
    BUSY_AGAIN_S,
    FILE_NAME,
    check,
    holder,
    lock,
    make_private,
    refusal,
    user_name,
    when_free,
)

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
