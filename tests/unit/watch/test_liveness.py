import threading
import time

import pytest
from watchdog.observers import inotify

from syncd.watch.observer import Root
from tests.unit.watch.harness import WatchHarness


async def test_a_stuck_dispatcher_is_not_alive(harness: WatchHarness) -> None:
    release = threading.Event()
    blocked = threading.Event()

    def block(_: str) -> bool:
        blocked.set()
        return not release.wait(10)

    await harness.watch(ignore=block)
    assert harness.watcher.alive()
    try:
        (harness.root / "a.md").write_text("x")
        await harness.until(blocked.is_set)
        await harness.until(lambda: not harness.watcher.alive())
    finally:
        release.set()
    await harness.until(harness.watcher.alive)


async def test_a_stuck_reader_is_not_alive(harness: WatchHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def block(*_: object) -> None:
        release.wait(10)

    await harness.watch()
    assert harness.watcher.alive()
    monkeypatch.setattr(inotify.InotifyWatchGroup, "on_event", block)
    try:
        (harness.root / "a.md").write_text("x")
        await harness.until(lambda: not harness.watcher.alive())
    finally:
        release.set()
    await harness.until(harness.watcher.alive)


async def test_reader_and_dispatcher_answer_every_probe(harness: WatchHarness) -> None:
    await harness.watch()
    probes: set[int] = set()

    def answered() -> bool:
        assert harness.watcher.alive()
        probe = harness.watcher._kernel._probe
        assert probe is not None
        probes.add(int(probe.sent_at * 1e9))
        return len(probes) >= 5

    await harness.until(answered)


async def test_a_dead_monitor_is_not_alive(harness: WatchHarness) -> None:
    await harness.watch("off")
    assert harness.watcher.alive()
    harness.watcher._monitors["m"].stop_soon()
    await harness.until(lambda: not harness.watcher.alive())


async def test_a_stop_is_prompt_and_leaves_no_thread_and_no_descriptor(harness: WatchHarness) -> None:
    before = threading.active_count()
    harness.watcher.add(Root("polled", harness.outside, "poll"))
    await harness.watch()
    await harness.settled()
    started = time.monotonic()
    await harness.watcher.stop()
    assert time.monotonic() - started < 1.0
    await harness.until(lambda: threading.active_count() <= before)
    assert not harness.watcher.alive()


async def test_idle_watching_costs_no_processor_time(harness: WatchHarness) -> None:
    await harness.watch()
    await harness.settled()
    harness.watcher._monitors["m"]._interval_s = 1.0
    await harness.quiet(0.1)
    started = time.process_time()
    await harness.inbox_silent(0.5)
    assert time.process_time() - started < 0.02


async def test_a_watcher_that_cannot_start_a_thread_stops_what_it_has_started(
    harness: WatchHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    harness.watcher.add(Root("polled", harness.outside, "poll"))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            harness.watcher.start()
        await harness.watcher.stop()
    assert not harness.watcher.alive()
