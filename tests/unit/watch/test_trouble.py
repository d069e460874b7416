import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import watchdog.version
from watchdog.observers import inotify, inotify_c

from syncd.core.model import EVERYTHING
from syncd.watch.observer import Root
from tests.unit.watch.harness import WatchHarness

CHILD = Path(__file__).with_name("watching_child.py")
OVERFLOW = inotify_c.InotifyEvent(inotify_c.WatchDescriptor(-1), inotify_c.InotifyConstants.IN_Q_OVERFLOW, 0, b"")


class Child:
    """watching_child.py, and the lines that it has printed."""

    def __init__(self, root: Path, watches: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(CHILD), str(root), str(watches)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=CHILD.parents[2],
            env={**os.environ, "PYTHONPATH": str(CHILD.parents[2])},
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def until(self, condition: Callable[[], bool], within_s: float = 10.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            if self.process.poll() is not None:
                assert self.process.stderr is not None
                errors = self.process.stderr.read()
                if errors.startswith("cannot limit watches"):
                    pytest.skip(errors)
                raise AssertionError(errors)
            assert time.monotonic() < deadline, self.lines[-20:]
            time.sleep(0.005)

    def says(self, start: str, within_s: float = 10.0) -> str:
        self.until(lambda: any(line.startswith(start) for line in self.lines), within_s)
        return next(line for line in self.lines if line.startswith(start))

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()


@pytest.fixture
def children() -> Iterator[list[Child]]:
    made: list[Child] = []
    yield made
    for child in made:
        child.close()


@pytest.mark.parametrize("directories", [0, 17_000])
def test_after_lost_events_everything_is_hinted_and_later_edits_are_seen(
    tmp_path: Path, children: list[Child], directories: int
) -> None:
    # With more directories than the queue has places watchdog by itself would overflow again for ever, and with its
    # default events from the start. One overflow in the end means that neither happened.
    for number in range(directories):
        (tmp_path / str(number)).mkdir()
    touched = [tmp_path / "sub/1.md", tmp_path / "sub/2.md"]
    (tmp_path / "sub").mkdir()
    for path in touched:
        path.touch()
    children.append(child := Child(tmp_path, 0))
    # A busy machine may need more than ten seconds to watch so many directories.
    assert child.says("ready", 60).startswith("ready inotify")
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    child.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.process.pid, os.WSTOPPED)
    # By turns, because the kernel merges an event with an equal one before it.
    for number in range(limit + 1_000):
        os.utime(touched[number % 2])
    (tmp_path / "made_unseen").mkdir()
    child.process.send_signal(signal.SIGCONT)
    child.says("hint *")
    child.says("overflows 1")
    (tmp_path / "made_unseen/a.md").write_text("x")
    (tmp_path / "sub/b.md").write_text("x")
    child.says("hint made_unseen/a.md")
    child.says("hint sub/b.md")
    child.until(lambda: child.lines[-1] == "overflows 1 alive True")


def test_a_root_that_does_not_fit_the_watch_limit_is_polled_with_the_advice(
    tmp_path: Path, children: list[Child]
) -> None:
    for number in range(60):
        (tmp_path / str(number)).mkdir()
    children.append(child := Child(tmp_path, 40))
    ready = child.says("ready")
    assert ready.startswith("ready poll the inotify watch limit (")
    assert "for 61 directories: sysctl fs.inotify.max_user_watches=" in ready
    (tmp_path / "59/a.md").write_text("x")
    child.says("hint 59/a.md")


def test_a_root_that_outgrows_the_watch_limit_is_polled_from_then_on(tmp_path: Path, children: list[Child]) -> None:
    children.append(child := Child(tmp_path, 40))
    assert child.says("ready").startswith("ready inotify")
    for number in range(60):
        (tmp_path / str(number)).mkdir()
    child.says("hint * poll the inotify watch limit (")
    (tmp_path / "59/a.md").write_text("x")
    child.says("hint 59/a.md")


@pytest.fixture
def refuse(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    def set_up(name: str, code: int) -> None:
        real = inotify_c.inotify_add_watch

        def add_watch(descriptor: int, path: bytes, mask: int) -> int:
            if path.endswith(name.encode()):
                ctypes.set_errno(code)
                return -1
            return real(descriptor, path, mask)

        monkeypatch.setattr(inotify_c, "inotify_add_watch", add_watch)

    return set_up


@pytest.mark.parametrize("name", ["root", "sub"])
async def test_no_watch_left_at_or_below_the_root_means_polling(
    harness: WatchHarness, refuse: Callable[[str, int], None], name: str
) -> None:
    (harness.root / "sub").mkdir()
    refuse(name, errno.ENOSPC)
    harness.watcher.add(Root("other", harness.outside))
    await harness.watch()
    assert harness.watcher.status("m").mode == "poll"
    assert "max_user_watches" in harness.watcher.status("m").detail
    assert harness.watcher.status("other").mode == "inotify"
    (harness.root / "sub/a.md").write_text("x")
    await harness.hinted("sub/a.md")


async def test_an_unreadable_directory_is_left_out_and_the_rest_is_watched(
    harness: WatchHarness, refuse: Callable[[str, int], None]
) -> None:
    (harness.root / "sub").mkdir()
    refuse("sub", errno.EACCES)
    await harness.watch()
    assert harness.watcher.status("m").mode == "inotify"
    (harness.root / "a.md").write_text("x")
    await harness.hinted("a.md")


async def test_no_inotify_instance_left_means_polling(harness: WatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> int:
        ctypes.set_errno(errno.EMFILE)
        return -1

    monkeypatch.setattr(inotify_c, "inotify_init", init)
    await harness.watch()
    assert harness.watcher.status("m").mode == "poll"
    assert "max_user_instances" in harness.watcher.status("m").detail
    assert harness.watcher.alive()
    (harness.root / "a.md").write_text("x")
    await harness.hinted("a.md")


async def test_repeated_overflows_rebuild_only_so_often_and_events_flow_meanwhile(harness: WatchHarness) -> None:
    for number in range(50):
        (harness.root / str(number)).mkdir()
    await harness.watch()
    observers: set[int] = set()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        observer = harness.watcher._kernel._observer
        if observer is not None:
            observers.add(id(observer))
            observer.descriptor.handle_event(OVERFLOW)  # type: ignore[attr-defined]
        assert harness.watcher.alive()
        await harness.quiet(0.01)
    # At most one at once and one per 0.2 s of rest.
    assert 2 <= harness.watcher.overflows <= 7
    await harness.until(lambda: not harness.watcher._kernel._overflowed)
    await harness.quiet(0.3)
    assert EVERYTHING in harness.seen["m"]
    harness.seen.clear()
    (harness.root / "7/a.md").write_text("x")
    await harness.hinted("7/a.md")


async def test_a_stopped_watcher_is_not_rebuilt(harness: WatchHarness) -> None:
    await harness.watch()
    kernel = harness.watcher._kernel
    await harness.watcher.stop()
    kernel._on_overflow()
    assert harness.watcher.overflows == 1
    kernel.rebuild_after_loss()
    assert kernel._observer is None


async def test_a_reader_with_an_inconsistency_is_replaced(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("wd")

    await harness.watch()
    with monkeypatch.context() as broken:
        broken.setattr(inotify.InotifyWatchGroup, "on_event", fail)
        (harness.root / "a.md").write_text("x")
        await harness.until(lambda: harness.watcher.overflows == 1)
    await harness.everything()
    await harness.quiet()
    (harness.root / "b.md").write_text("x")
    await harness.hinted("b.md")


def test_the_hooks_fit_the_pinned_watchdog() -> None:
    assert (watchdog.version.VERSION_MAJOR, watchdog.version.VERSION_MINOR) == (7, 1)
    for owner, name in [
        (inotify_c.InotifyFD, "handle_event"),
        (inotify_c.InotifyFD, "add_callback"),
        (inotify_c.InotifyFD, "_get_or_create_watch"),
        (inotify_c.InotifyEvent, "is_queue_overflow"),
        (inotify.InotifyEmitter, "queue_event"),
        (inotify.InotifyWatchGroup, "_add_all_callbacks"),
        (inotify.InotifyWatchGroup, "_remove_callbacks"),
        (inotify.InotifyWatchGroup, "_active_callbacks_by_path"),
        (inotify.InotifyWatchGroup, "_active_callbacks_by_watch"),
    ]:
        assert hasattr(owner, name) or name in inotify.InotifyWatchGroup.__annotations__, name
