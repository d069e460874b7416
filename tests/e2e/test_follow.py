"""The daemon follows what editors, people and git do to a folder."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.harness import Daemon, Workspace, files_of, open_workspace, until


@dataclass(frozen=True, slots=True)
class Followed:
    workspace: Workspace
    daemon: Daemon

    def settled(self) -> None:
        """Check that the stand-in equals the folder, and that a full pass changes nothing."""
        self.workspace.in_step(very_bytes=False)
        self.full_pass()
        self.workspace.remote.forget_requests()
        self.full_pass()
        assert self.workspace.remote.counted()["changing"] == 0
        assert self.workspace.remote.files() == files_of(self.workspace.docs)

    def full_pass(self) -> None:
        before = len(self.daemon.events("pass.done"))
        self.daemon.send(signal.SIGHUP)
        until(
            lambda: any(event["scope"] == "all" for event in self.daemon.events("pass.done")[before:]),
            self.daemon.text,
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Followed]:
    with open_workspace(tmp_path_factory.mktemp("followed")) as workspace:
        for name in ("a.md", "guide/start.md", "guide/deep/er/end.md", "other/notes.txt"):
            workspace.write(name, f"text of {name}")
        with workspace.daemon() as daemon:
            workspace.in_step()
            yield Followed(workspace, daemon)


@pytest.fixture
def followed(running: Followed) -> Followed:
    """Yield one daemon for all tests of this file. Each test must leave it in step."""
    return running


def test_an_edited_file_is_uploaded(followed: Followed) -> None:
    followed.workspace.write("a.md", "edited")
    followed.settled()
    assert followed.workspace.remote.files()["a.md"] == b"edited"


def test_an_atomic_save_is_uploaded_without_its_temporary_file(followed: Followed) -> None:
    temporary = followed.workspace.write(".a.md.k3j2.tmp", "saved atomically")
    temporary.replace(followed.workspace.docs / "a.md")
    followed.settled()
    assert followed.workspace.remote.files()["a.md"] == b"saved atomically"


def test_a_save_by_vim_uploads_only_the_file(followed: Followed) -> None:
    docs = followed.workspace.docs
    swap = followed.workspace.write("guide/.start.md.swp", b"b0VIM 9.1\0\0")
    followed.workspace.write("guide/4913", "").unlink()
    (docs / "guide/start.md").rename(docs / "guide/start.md~")
    with (docs / "guide/start.md").open("w") as file:
        file.write("written ")
        file.flush()
        os.fsync(file.fileno())
        file.write("by vim")
    until(lambda: followed.workspace.remote.files()["guide/start.md"] == b"written by vim")
    assert set(followed.workspace.remote.marks()) <= set(files_of(docs)) - {"guide/.start.md.swp", "guide/start.md~"}
    (docs / "guide/start.md~").unlink()
    swap.unlink()
    followed.settled()


def test_a_renamed_directory_moves_with_its_files(followed: Followed) -> None:
    (followed.workspace.docs / "guide").rename(followed.workspace.docs / "manual")
    followed.settled()
    followed.workspace.write("manual/deep/er/end.md", "still followed below its new name")
    followed.settled()


def test_a_directory_moved_in_and_out_is_uploaded_and_deleted(followed: Followed) -> None:
    outside = followed.workspace.path / "outside"
    (outside / "in").mkdir(parents=True)
    (outside / "in/side.md").write_text("from elsewhere")
    (outside / "in").rename(followed.workspace.docs / "in")
    followed.settled()
    (followed.workspace.docs / "in").rename(outside / "in")
    followed.settled()


def test_entries_of_deleted_files_and_directories_are_deleted(followed: Followed) -> None:
    followed.workspace.write("gone/one.md")
    followed.workspace.write("gone/two.md", "two")
    followed.workspace.write("gone.md")
    followed.settled()
    shutil.rmtree(followed.workspace.docs / "gone")
    (followed.workspace.docs / "gone.md").unlink()
    followed.settled()


def test_a_file_may_become_a_directory_and_a_directory_a_file(followed: Followed) -> None:
    followed.workspace.write("shape.md", "a file")
    followed.settled()
    (followed.workspace.docs / "shape.md").unlink()
    followed.workspace.write("shape.md/inside.md", "a directory")
    followed.settled()
    shutil.rmtree(followed.workspace.docs / "shape.md")
    followed.workspace.write("shape.md", "a file again")
    followed.settled()


def test_a_file_written_to_all_the_time_never_stops_the_others(followed: Followed) -> None:
    with (followed.workspace.docs / "log.txt").open("w") as log:
        for number in range(200):
            log.write(f"line {number}\n")
            log.flush()
            followed.workspace.write(f"busy/{number % 5}.md", f"round {number}")
    followed.settled()


def test_an_edited_ignore_file_is_followed_and_leaves_remote_entries_alone(followed: Followed) -> None:
    workspace = followed.workspace
    workspace.write("kept.md", "stays remote")
    followed.settled()
    workspace.write(".syncdignore", "kept.md\nnever.md\n")
    workspace.write("kept.md", "not sent any more")
    workspace.write("never.md", "never sent")
    workspace.write("after.md", "sent after the ignore file")
    until(lambda: "after.md" in workspace.remote.marks())
    followed.full_pass()
    assert "never.md" not in workspace.remote.marks()
    assert workspace.remote.files()["kept.md"] == b"stays remote"
    (workspace.docs / ".syncdignore").write_text("# nothing is left out any more\n")
    until(lambda: workspace.remote.files().get("kept.md") == b"not sent any more")
    until(lambda: "never.md" in workspace.remote.marks())
    (workspace.docs / ".syncdignore").unlink()
    followed.settled()


def test_a_file_too_large_is_named_until_it_shrinks_and_keeps_its_remote_entry(followed: Followed) -> None:
    workspace = followed.workspace
    workspace.write("grows.md", "small")
    followed.settled()
    workspace.write("grows.md", "x" * (10 * 1024 * 1024 + 1))
    until(lambda: [problem["kind"] for problem in workspace.status()["problems"]] == ["too_large"])
    assert workspace.remote.files()["grows.md"] == b"small"
    workspace.write("grows.md", "small again")
    followed.settled()
    assert workspace.status()["problems"] == []


@pytest.mark.slow
def test_git_checkouts_of_other_branches_are_followed(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(mirror="max_delete = 1000")

        def git(*arguments: str) -> None:
            identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "gc.auto=0")
            subprocess.run(
                ["git", *identity, *arguments],
                cwd=workspace.docs,
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"},
                check=True,
                capture_output=True,
            )

        git("init", "--initial-branch=main")
        for number in range(200):
            workspace.write(f"part{number % 10}/chapter{number}.md", f"chapter {number} of main")
        git("add", ".")
        git("commit", "--message=main")
        git("checkout", "-b", "other")
        for number in range(0, 200, 2):
            (workspace.docs / f"part{number % 10}/chapter{number}.md").unlink()
        for number in range(1, 200, 5):
            workspace.write(f"part{number % 10}/chapter{number}.md", f"chapter {number} of the other branch")
        git("mv", "part1", "renamed")
        git("add", ".")
        git("commit", "--message=other")
        git("checkout", "main")
        with workspace.daemon() as daemon:
            workspace.in_step(very_bytes=False)
            for branch in ("other", "main"):
                git("checkout", branch)
                workspace.in_step(very_bytes=False)
            git("checkout", "other")
            git("checkout", "main")
            Followed(workspace, daemon).settled()
