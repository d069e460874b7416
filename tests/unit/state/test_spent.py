import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.state.spent import FILE_NAME, RETRY_S, SpentRequests


class Clocks:
    def __init__(self) -> None:
        self.up, self.wall, self.boot = 1000.0, 1.7e9, "boot-1"
        self.opened: list[SpentRequests] = []

    def open(self, directory: Path | None, window_s: float = 300.0) -> SpentRequests:
        spent = SpentRequests(
            directory, window_s, clock=lambda: self.up, wall=lambda: self.wall, boot=lambda: self.boot
        )
        self.opened.append(spent)
        return spent

    def pass_time(self, seconds: float) -> None:
        self.up += seconds
        self.wall += seconds


@pytest.fixture
def clocks() -> Iterator[Clocks]:
    clocks = Clocks()
    yield clocks
    for spent in clocks.opened:
        spent.close()


def test_requests_leave_the_window_with_their_age(clocks: Clocks, tmp_path: Path) -> None:
    spent = clocks.open(tmp_path)
    spent.add()
    clocks.pass_time(200)
    spent.add()
    assert list(spent.sent()) == [1000.0, 1200.0]
    clocks.pass_time(99.9)
    assert len(spent.sent()) == 2
    clocks.pass_time(0.1)
    assert list(spent.sent()) == [1200.0]


def test_a_restart_does_not_spend_twice(clocks: Clocks, tmp_path: Path) -> None:
    first = clocks.open(tmp_path)
    for _ in range(150):
        first.add()
    clocks.pass_time(60)
    assert len(clocks.open(tmp_path).sent()) == 150  # the first one was not closed: it was killed
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def test_two_processes_see_the_requests_of_each_other(clocks: Clocks, tmp_path: Path) -> None:
    daemon, search = clocks.open(tmp_path), clocks.open(tmp_path)
    daemon.add()
    assert len(search.sent()) == 1
    search.add()
    search.add()
    daemon.add()
    assert len(daemon.sent()) == len(search.sent()) == 4


@pytest.mark.parametrize(("jump", "age"), [(20.0, 20.0), (-500.0, 0.0), (0.0, 0.0)])
def test_after_a_reboot_the_wall_clock_tells_the_age(clocks: Clocks, tmp_path: Path, jump: float, age: float) -> None:
    clocks.open(tmp_path).add()
    clocks.boot, clocks.up, clocks.wall = "boot-2", 5.0, clocks.wall + jump
    assert list(clocks.open(tmp_path).sent()) == [pytest.approx(5.0 - age)]


def test_after_a_long_reboot_nothing_is_left(clocks: Clocks, tmp_path: Path) -> None:
    clocks.open(tmp_path).add()
    clocks.boot, clocks.up, clocks.wall = "boot-2", 5.0, clocks.wall + 301.0
    assert not clocks.open(tmp_path).sent()


def test_a_jump_of_the_wall_clock_frees_nothing(clocks: Clocks, tmp_path: Path) -> None:
    spent = clocks.open(tmp_path)
    spent.add()
    clocks.wall += 1e6
    assert len(spent.sent()) == len(clocks.open(tmp_path).sent()) == 1


def test_old_rows_are_removed_with_every_hundredth_request_of_a_process(clocks: Clocks, tmp_path: Path) -> None:
    rows = []
    spent = clocks.open(tmp_path)
    for _ in range(201):
        spent.add()
        clocks.pass_time(10)
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
            rows += db.execute("SELECT count(*) FROM spent").fetchone()
    assert rows == [*range(1, 101), *range(30, 130), 30]
    clocks.open(tmp_path).add()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        assert db.execute("SELECT count(*) FROM spent").fetchone() == (30,)


@pytest.mark.parametrize("content", [b"no database at all, and longer than a header" * 9, b""])
def test_a_damaged_file_is_made_anew(clocks: Clocks, tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    clocks.open(tmp_path).add()
    assert len(clocks.open(tmp_path).sent()) == 1


def test_without_a_directory_the_process_counts_for_itself(clocks: Clocks) -> None:
    spent = clocks.open(None)
    spent.add()
    assert list(spent.sent()) == [1000.0]


def test_root_leaves_the_file_to_the_owner_of_the_directory(clocks: Clocks, tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make files for another user")
    os.chown(tmp_path, 12345, 12345)
    clocks.open(tmp_path).add()
    assert {file.stat().st_uid for file in tmp_path.iterdir()} == {12345}


def test_a_locked_file_is_used_again_later_and_no_request_is_lost(clocks: Clocks, tmp_path: Path) -> None:
    spent, other = clocks.open(tmp_path), clocks.open(tmp_path)
    spent.add()
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        spent.add()
        spent.add()
        blocker.execute("ROLLBACK")
    other.add()
    assert len(spent.sent()) == 3
    assert len(other.sent()) == 2
    clocks.pass_time(RETRY_S)
    assert len(spent.sent()) == 4
    spent.add()
    assert len(spent.sent()) == len(other.sent()) == len(clocks.open(tmp_path).sent()) == 5


@pytest.mark.parametrize("keeps_log", [False, True])
def test_a_file_with_a_damaged_page_is_made_anew(clocks: Clocks, tmp_path: Path, *, keeps_log: bool) -> None:
    spent = clocks.open(tmp_path)
    for _ in range(300):
        spent.add()
    log = (tmp_path / f"{FILE_NAME}-wal").read_bytes()
    spent.close()
    file = tmp_path / FILE_NAME
    data = file.read_bytes()
    file.write_bytes(b"no database" * 500 if keeps_log else data[:4096] + b"\xff" * (len(data) - 4096))
    if keeps_log:
        file.with_name(f"{FILE_NAME}-wal").write_bytes(log[: len(log) // 2] + b"\xff" * 500)
    clocks.open(tmp_path).add()
    reopened = clocks.open(tmp_path)
    before = len(reopened.sent())
    assert before >= 1
    reopened.add()
    assert len(clocks.open(tmp_path).sent()) == before + 1


def test_damage_while_the_file_is_in_use_ends_the_sharing_but_not_the_counting(
    clocks: Clocks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = clocks.open(tmp_path)
    spent.add()

    def malformed(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(spent, "_save", malformed)
    for _ in range(3):
        spent.add()
        clocks.pass_time(RETRY_S)
    assert len(spent.sent()) == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_is_left_alone(clocks: Clocks, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    spent = clocks.open(tmp_path)
    spent.add()
    assert len(spent.sent()) == 1
    assert not list(tmp_path.iterdir())
