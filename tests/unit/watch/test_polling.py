import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from syncd.core.model import Hint
from syncd.watch.polling import Poller
from tests.unit.watch.harness import WatchHarness, inotify_watches


def look(poller: Poller) -> set[Hint]:
    found: set[Hint] = set()
    poller.scan(found.add)
    return found


def file(path: str) -> Hint:
    return Hint(path, subtree=False)


def tree(path: str) -> Hint:
    return Hint(path, subtree=True)


@pytest.fixture
def poller(tmp_path: Path) -> Poller:
    for name in ("a.md", "sub/b.md", "sub/deep/c.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    made = Poller(tmp_path, None, lambda: False)
    look(made)
    return made


def add(root: Path) -> None:
    (root / "sub/new.md").write_text("x")


def change(root: Path) -> None:
    (root / "sub/b.md").write_text("longer")


def change_unseen_by_size_and_mtime(root: Path) -> None:
    before = (root / "a.md").stat()
    (root / "a.md").write_text("y")
    os.utime(root / "a.md", ns=(before.st_atime_ns, before.st_mtime_ns))


def delete(root: Path) -> None:
    (root / "a.md").unlink()


def rename_directory(root: Path) -> None:
    (root / "sub/deep").rename(root / "deep")


def file_becomes_directory(root: Path) -> None:
    (root / "a.md").unlink()
    (root / "a.md").mkdir()


def link_to_directory(root: Path) -> None:
    (root / "link").symlink_to(root / "sub", target_is_directory=True)


def nothing(root: Path) -> None:
    (root / "a.md").read_bytes()


@pytest.mark.parametrize(
    ("act", "hints"),
    [
        (nothing, set()),
        (add, {file("sub/new.md")}),
        (change, {file("sub/b.md")}),
        (change_unseen_by_size_and_mtime, {file("a.md")}),
        (delete, {file("a.md")}),
        (rename_directory, {tree("sub/deep"), tree("deep"), file("deep/c.md")}),
        (file_becomes_directory, {file("a.md"), tree("a.md")}),
        (link_to_directory, {file("link")}),
    ],
)
def test_a_scan_reports_each_difference_once(
    poller: Poller, tmp_path: Path, act: Callable[[Path], None], hints: set[Hint]
) -> None:
    act(tmp_path)
    assert look(poller) == hints
    assert look(poller) == set()


def test_a_directory_that_cannot_be_listed_is_reported_once_and_again_when_it_can(
    poller: Poller, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(path: bytes) -> object:
        if path.endswith(b"sub"):
            raise PermissionError(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert look(poller) == {tree("sub")}
    assert look(poller) == set()
    monkeypatch.setattr(os, "scandir", real)
    assert file("sub/b.md") in look(poller)


def test_a_root_that_vanished_is_not_taken_for_an_empty_one(poller: Poller, tmp_path: Path) -> None:
    tmp_path.rename(tmp_path.with_name("away"))
    assert look(poller) == set()
    tmp_path.with_name("away").rename(tmp_path)
    assert look(poller) == set()


def test_ignored_directories_are_not_scanned(tmp_path: Path) -> None:
    asked: list[str] = []

    def ignore(path: str) -> bool:
        asked.append(path)
        return path == ".git/"

    (tmp_path / ".git/objects").mkdir(parents=True)
    (tmp_path / "a.md").touch()
    poller = Poller(tmp_path, ignore, lambda: False)
    assert look(poller) == {file("a.md")}
    assert sorted(asked) == [".git/", "a.md"]
    assert poller.directories == 1


def test_a_stopped_scan_ends_at_once_and_is_discarded(poller: Poller, tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.md").touch()
    asked = 0

    def stopped() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    poller._stopped = stopped
    assert look(poller) == set()
    assert asked < 20
    poller._stopped = lambda: False
    assert len(look(poller)) == 200


async def test_polled_adds_changes_and_deletes_are_hinted_without_inotify(harness: WatchHarness) -> None:
    await harness.watch("poll")
    assert harness.watcher.status("m").mode == "poll"
    assert inotify_watches() == []
    path = harness.root / "a.md"
    for act in (path.touch, lambda: path.write_text("xyz"), path.unlink):
        harness.seen.clear()
        act()
        await harness.hinted("a.md")
    assert harness.watcher.alive()


async def test_a_long_scan_does_not_delay_the_stop(harness: WatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    looking, real = threading.Event(), Poller._read

    def slow(entry: os.DirEntry[bytes]) -> tuple[str, int]:
        looking.set()
        time.sleep(0.005)
        return real(entry)

    for number in range(2_000):
        (harness.root / f"{number}.md").touch()
    await harness.watch("poll")
    monkeypatch.setattr(Poller, "_read", staticmethod(slow))
    await harness.until(looking.is_set)
    started = time.monotonic()
    await harness.watcher.stop()
    assert time.monotonic() - started < 0.5
    assert not harness.watcher._monitors["m"].is_alive()
