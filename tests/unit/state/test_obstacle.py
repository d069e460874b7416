"""Why no state can be written is seen without writing."""

import os
from pathlib import Path

import pytest

from syncd.state.directory import Obstacle, obstacle


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
    ("flag", "free", "said"),
    [(os.ST_RDONLY, 1 << 30, "is on a read-only file system"), (0, 64, None), (0, 63, "is full"), (0, 0, "is full")],
)
def test_the_file_system_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: int, free: int, said: str | None
) -> None:
    seen = list(os.statvfs(tmp_path))
    seen[1], seen[2], seen[4], seen[8] = 4096, 1000, free, flag
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(seen))
    found = obstacle(tmp_path / "state")
    assert (found and said and said in found.message) if said else found is None


def test_a_directory_of_another_user_is_named_with_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    found = obstacle(tmp_path)
    assert found is not None
    assert found.message.startswith(f"{tmp_path} belongs to ")
    assert not found.for_all
