"""The daemon follows what editors, people and git do to a folder."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, Room, files_of, open_room, until


@dataclass(frozen=True, slots=True)
class Followed:
    room: Room
    daemon: Daemon

    def settled(self) -> None:
        """The stand-in equals the folder, and a full pass over it changes nothing."""
        self.room.in_step(very_bytes=False)
        self.full_pass()
        self.room.remote.forget_requests()
        self.full_pass()
        assert self.room.remote.counted()["changing"] == 0
        assert self.room.remote.files() == files_of(self.room.docs)

    def full_pass(self) -> None:
        before = len(self.daemon.events("pass.done"))
        self.daemon.send(signal.SIGHUP)
        until(
            lambda: any(event["scope"] == "all" for event in self.daemon.events("pass.done")[before:]),
            self.daemon.text,
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    with open_room(tmp_path_factory.mktemp("followed")) as room:
        for name in ("a.md", "guide/start.md", "guide/deep/er/end.md", "other/notes.txt"):
            room.write(name, f"text of {name}")
        with room.daemon() as daemon:
            room.in_step()
            yield Followed(room, daemon)


@pytest.fixture
def followed(running: Followed) -> Followed:
    """One daemon for all tests of this file: what a test does must leave it in step."""
    return running


def test_an_edited_file_goes_up(followed: Followed) -> None:
    followed.room.write("a.md", "edited")
    followed.settled()
    assert followed.room.remote.files()["a.md"] == b"edited"


def test_an_atomic_save_goes_up_and_its_temporary_file_stays_home(followed: Followed) -> None:
    temporary = followed.room.write(".a.md.k3j2.tmp", "saved atomically")
    temporary.replace(followed.room.docs / "a.md")
    followed.settled()
    assert followed.room.remote.files()["a.md"] == b"saved atomically"


def test_a_save_the_way_vim_does_it_goes_up_alone(followed: Followed) -> None:
    docs = followed.room.docs
    swap = followed.room.write("guide/.start.md.swp", b"b0VIM 9.1\0\0")
    followed.room.write("guide/4913", "").unlink()
    (docs / "guide/start.md").rename(docs / "guide/start.md~")
    with (docs / "guide/start.md").open("w") as file:
        file.write("written ")
        file.flush()
        os.fsync(file.fileno())
        file.write("by vim")
    until(lambda: followed.room.remote.files()["guide/start.md"] == b"written by vim")
    assert set(followed.room.remote.marks()) <= set(files_of(docs)) - {"guide/.start.md.swp", "guide/start.md~"}
    (docs / "guide/start.md~").unlink()
    swap.unlink()
    followed.settled()


def test_a_renamed_directory_moves_with_all_that_is_in_it(followed: Followed) -> None:
    (followed.room.docs / "guide").rename(followed.room.docs / "manual")
    followed.settled()
    followed.room.write("manual/deep/er/end.md", "still followed below its new name")
    followed.settled()


def test_a_directory_moved_in_and_out_again_comes_and_goes(followed: Followed) -> None:
    outside = followed.room.path / "outside"
    (outside / "in").mkdir(parents=True)
    (outside / "in/side.md").write_text("from elsewhere")
    (outside / "in").rename(followed.room.docs / "in")
    followed.settled()
    (followed.room.docs / "in").rename(outside / "in")
    followed.settled()


def test_deleted_files_and_directories_go(followed: Followed) -> None:
    followed.room.write("gone/one.md")
    followed.room.write("gone/two.md", "two")
    followed.room.write("gone.md")
    followed.settled()
    shutil.rmtree(followed.room.docs / "gone")
    (followed.room.docs / "gone.md").unlink()
    followed.settled()


def test_a_file_may_become_a_directory_and_a_directory_a_file(followed: Followed) -> None:
    followed.room.write("shape.md", "a file")
    followed.settled()
    (followed.room.docs / "shape.md").unlink()
    followed.room.write("shape.md/inside.md", "a directory")
    followed.settled()
    shutil.rmtree(followed.room.docs / "shape.md")
    followed.room.write("shape.md", "a file again")
    followed.settled()


def test_a_file_written_to_all_the_time_never_stops_the_others(followed: Followed) -> None:
    with (followed.room.docs / "log.txt").open("w") as log:
        for number in range(200):
            log.write(f"line {number}\n")
            log.flush()
            followed.room.write(f"busy/{number % 5}.md", f"round {number}")
    followed.settled()


def test_an_edited_ignore_file_is_followed_and_leaves_remote_entries_alone(followed: Followed) -> None:
    room = followed.room
    room.write("kept.md", "stays remote")
    followed.settled()
    room.write(".syncdignore", "kept.md\nnever.md\n")
    room.write("kept.md", "not sent any more")
    room.write("never.md", "never sent")
    room.write("after.md", "sent after the ignore file")
    until(lambda: "after.md" in room.remote.marks())
    followed.full_pass()
    assert "never.md" not in room.remote.marks()
    assert room.remote.files()["kept.md"] == b"stays remote"
    (room.docs / ".syncdignore").write_text("# nothing is left out any more\n")
    until(lambda: room.remote.files().get("kept.md") == b"not sent any more")
    until(lambda: "never.md" in room.remote.marks())
    (room.docs / ".syncdignore").unlink()
    followed.settled()


def test_a_file_too_large_is_named_until_it_shrinks_and_keeps_its_remote_entry(followed: Followed) -> None:
    room = followed.room
    room.write("grows.md", "small")
    followed.settled()
    room.write("grows.md", "x" * (4 * 1024 * 1024 + 1))
    until(lambda: [problem["kind"] for problem in room.status()["problems"]] == ["too_large"])
    assert room.remote.files()["grows.md"] == b"small"
    room.write("grows.md", "small again")
    followed.settled()
    assert room.status()["problems"] == []


def test_git_checkouts_of_other_branches_are_followed(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.configure(mirror="max_delete = 1000")

        def git(*arguments: str) -> None:
            identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "gc.auto=0")
            subprocess.run(
                ["git", *identity, *arguments],
                cwd=room.docs,
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"},
                check=True,
                capture_output=True,
            )

        git("init", "--initial-branch=main")
        for number in range(200):
            room.write(f"part{number % 10}/chapter{number}.md", f"chapter {number} of main")
        git("add", ".")
        git("commit", "--message=main")
        git("checkout", "-b", "other")
        for number in range(0, 200, 2):
            (room.docs / f"part{number % 10}/chapter{number}.md").unlink()
        for number in range(1, 200, 5):
            room.write(f"part{number % 10}/chapter{number}.md", f"chapter {number} of the other branch")
        git("mv", "part1", "renamed")
        git("add", ".")
        git("commit", "--message=other")
        git("checkout", "main")
        with room.daemon() as daemon:
            room.in_step(very_bytes=False)
            for branch in ("other", "main"):
                git("checkout", branch)
                room.in_step(very_bytes=False)
            git("checkout", "other")
            git("checkout", "main")
            Followed(room, daemon).settled()
