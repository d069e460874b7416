"""Why no state can be written is seen without writing."""

import os
from pathlib import Path

import pytest

from syncd.state.directory import Obstacle, obstacle, user_name


def test_a_directory_that_can_be_made_is_no_obstacle(tmp_path: Path) -> None:
    assert obstacle(tmp_path) is None
    assert obstacle(tmp_path / "not" / "yet") is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "state"):
        found = obstacle(path)
        assert found == Obstacle(
            f"state_dir {path}: {tmp_path / 'file'} is no directory", "choose another state_dir", for_all=True
        )


@pytest.mark.parametrize(
    ("flag", "free", "expected"),
    [
        (
            os.ST_RDONLY,
            1 << 30,
            Obstacle(
                "{folder} is on a read-only file system",
                "mount it read-write, or choose another state_dir",
                for_all=False,
            ),
        ),
        (0, 64, None),
        (0, 63, Obstacle("the disk of state_dir {folder}/state is full", "make room on it", for_all=True)),
        (0, 0, Obstacle("the disk of state_dir {folder}/state is full", "make room on it", for_all=True)),
    ],
)
def test_the_file_system_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: int, free: int, expected: Obstacle | None
) -> None:
    seen = list(os.statvfs(tmp_path))
    seen[1], seen[2], seen[4], seen[8] = 4096, 1000, free, flag
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(seen))
    found = obstacle(tmp_path / "state")
    assert found == (expected and expected._replace(message=expected.message.format(folder=tmp_path)))


def test_a_directory_that_its_owner_may_not_write_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    me = user_name(os.geteuid())
    assert obstacle(tmp_path) == Obstacle(
        f"{tmp_path} does not let its owner {me} write",
        f"chmod u+rwx {tmp_path}, or choose another state_dir",
        for_all=False,
    )


def test_a_directory_of_another_user_is_named_with_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    me, other = user_name(os.geteuid()), user_name(os.geteuid() + 1)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert obstacle(tmp_path) == Obstacle(
        f"{tmp_path} belongs to {me}, and syncd runs as {other}",
        f"run it as {me}, or choose another state_dir",
        for_all=False,
    )
