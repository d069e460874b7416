"""The state directory and its files are private, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from unittest.mock import Mock

import pytest

from syncd.core.errors import ConfigError
from syncd.state import directory
from syncd.state.db import open_state
from syncd.state.directory import lock, no_follow


@pytest.fixture(params=[0, 0o022, 0o077])
def _umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {each.name: stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()}


@pytest.mark.usefixtures("_umask")
def test_files_are_0600_and_directories_0700_whatever_the_umask(tmp_path: Path) -> None:
    state = tmp_path / "share/state/syncd"
    with lock(state):
        db = open_state(state)
        db.execute("INSERT INTO meta VALUES ('m', 'a', '1')")
        assert modes(state) == dict.fromkeys(
            ("lock", "installation-id", "state.db", "state.db-wal", "state.db-shm"), 0o600
        )
        db.close()
    for folder in (state, state.parent, state.parent.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


def test_a_state_file_that_others_could_read_is_closed(tmp_path: Path) -> None:
    open_state(tmp_path).close()
    (tmp_path / "state.db").chmod(0o666)
    db = open_state(tmp_path)
    db.execute("INSERT INTO meta VALUES ('m', 'a', '1')")
    assert set(modes(tmp_path).values()) == {0o600}
    db.close()


def test_a_directory_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    open_state(tmp_path).close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="state_dir"):
        open_state(tmp_path / "file")


@pytest.mark.parametrize(
    ("user", "owner", "flag"), [(0, 0, 0), (0, 1000, os.O_NOFOLLOW), (1000, 1000, 0), (1000, 0, 0)]
)
def test_only_root_follows_no_link_in_the_directory_of_another_user(
    monkeypatch: pytest.MonkeyPatch, user: int, owner: int, flag: int
) -> None:
    folder = Mock(spec=Path)
    folder.stat.return_value.st_uid = owner
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert no_follow(folder) == flag


@pytest.mark.parametrize("follows", [False, True])
def test_the_id_of_an_installation_is_written_through_a_link_only_if_links_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, follows: bool
) -> None:
    monkeypatch.setattr(directory, "no_follow", lambda _: 0 if follows else os.O_NOFOLLOW)
    (tmp_path / "installation-id").symlink_to(tmp_path / "elsewhere")
    with nullcontext() if follows else pytest.raises(OSError, match="symbolic links"):
        directory.make_installation(tmp_path)
    assert (tmp_path / "elsewhere").exists() is follows


def test_no_child_inherits_a_file_of_the_state_and_root_follows_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "share/state"
    opened: dict[str, int] = {}
    really_open = os.open

    def note(path: Path, flags: int, *mode: int) -> int:
        opened[str(path.relative_to(tmp_path))] = flags
        return really_open(path, flags, *mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", note)
        patch.setattr(directory, "no_follow", lambda _: os.O_NOFOLLOW)
        with lock(state):
            open_state(state).close()
    names = ["share", "share/state", *(f"share/state/{name}" for name in ("installation-id", "lock", "state.db"))]
    assert sorted(opened) == names
    wanted = os.O_CLOEXEC | os.O_NOFOLLOW
    assert {name: flags & wanted for name, flags in opened.items()} == dict.fromkeys(names, wanted)
