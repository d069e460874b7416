import threading
import time

import pytest
from watchdog.observers import inotify

from tests.unit.watch.harness import Room


async def test_a_stuck_dispatcher_is_not_alive(room: Room) -> None:
    release = threading.Event()
    blocked = threading.Event()

    def block(_: str) -> bool:
        blocked.set()
        return not release.wait(10)

    await room.watch(ignore=block)
    assert room.watcher.alive()
    try:
        (room.root / "a.md").write_text("x")
        await room.until(blocked.is_set)
        await room.until(lambda: not room.watcher.alive())
    finally:
        release.set()
    await room.until(room.watcher.alive)


async def test_a_stuck_reader_is_not_alive(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def block(*_: object) -> None:
        release.wait(10)

    await room.watch()
    assert room.watcher.alive()
    monkeypatch.setattr(inotify.InotifyWatchGroup, "on_event", block)
    try:
        (room.root / "a.md").write_text("x")
        await room.until(lambda: not room.watcher.alive())
    finally:
        release.set()
    await room.until(room.watcher.alive)


async def test_every_proof_of_life_is_answered_by_reader_and_dispatcher(room: Room) -> None:
    await room.watch()
    pulses: set[int] = set()

    def proven() -> bool:
        assert room.watcher.alive()
        pulse = room.watcher._kernel._pulse
        assert pulse is not None
        pulses.add(int(pulse.sent_at * 1e9))
        return len(pulses) >= 5

    await room.until(proven)


async def test_a_dead_monitor_is_not_alive(room: Room) -> None:
    await room.watch("off")
    assert room.watcher.alive()
    room.watcher._monitors["m"].stop_soon()
    await room.until(lambda: not room.watcher.alive())


async def test_a_stop_is_prompt_and_leaves_no_thread_and_no_descriptor(room: Room) -> None:
    before = threading.active_count()
    room.watcher.add("polled", room.outside, "poll")
    await room.watch()
    await room.settled()
    started = time.monotonic()
    await room.watcher.stop()
    assert time.monotonic() - started < 1.0
    await room.until(lambda: threading.active_count() <= before)
    assert not room.watcher.alive()


async def test_idle_watching_costs_no_processor_time(room: Room) -> None:
    await room.watch()
    await room.settled()
    room.watcher._monitors["m"]._interval_s = 1.0
    await room.quiet(0.1)
    started = time.process_time()
    await room.inbox_silent(0.5)
    assert time.process_time() - started < 0.02


async def test_the_same_mirror_cannot_be_added_twice(room: Room) -> None:
    await room.watch()
    with pytest.raises(ValueError, match="m is watched already"):
        room.watcher.add("m", room.outside)
    room.watcher.add("late", room.outside)
    await room.watcher.ready("late")
    (room.outside / "a.md").write_text("x")
    await room.hinted("a.md", mirror="late")
