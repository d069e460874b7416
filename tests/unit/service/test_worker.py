"""The times of the passes and requests of a mirror, in simulated time, and the values that outlive the process."""

import asyncio
import selectors
from collections.abc import AsyncIterator, Coroutine, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from syncd.cloudflare.gate import Gate
from syncd.core.errors import Halt, PausedHalt
from syncd.core.model import EVERYTHING, Entry, Hint
from syncd.core.problems import TRIES_S, Limits
from syncd.service.error_policy import PAUSED_PAUSE_S, REFUSED_PAUSE_S
from syncd.service.worker import MirrorWorker
from syncd.state.db import Meta
from syncd.state.queue import retry_problems
from syncd.sync.once import serve_due
from tests.harness import Core, in_step, open_core
from tests.memory_target import Indexed


class SkippingSelector(selectors.DefaultSelector):
    """Waits for threads with work under way only. Any other wait passes at once, and is added to `passed`."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.under_way = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.under_way:
            return super().select(timeout if timeout is None or timeout <= 0 else 0.01)
        self.passed += timeout
        return super().select(0)


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock shows the time that it would have waited."""

    def __init__(self) -> None:
        self.skipping = SkippingSelector()
        super().__init__(self.skipping)

    def time(self) -> float:
        return 1000.0 + self.skipping.passed

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        self.skipping.under_way += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._on_thread_done)
        return future

    def _on_thread_done(self, _: object) -> None:
        self.skipping.under_way -= 1


def simulate(work: Coroutine[Any, Any, None]) -> None:
    loop = SimulatedLoop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class RefusingTarget:
    """Counts the listings that are requested, and refuses each."""

    def __init__(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests = 0

        async def entries(_: object) -> AsyncIterator[Entry]:
            self.requests += 1
            for entry in list[Entry]():
                yield entry
            raise Halt("authentication refused")

        monkeypatch.setattr(type(core.target), "entries", entries)


async def run_worker(
    worker: MirrorWorker, core: Core, seconds: float, hints: Sequence[Hint] = (), every_s: float = 1.0
) -> None:
    """Run a worker. Every every_s seconds the clock of the mirror moves on, and the worker gets the hints."""
    running = asyncio.ensure_future(worker.run())
    for _ in range(int(seconds / every_s)):
        await asyncio.sleep(every_s)
        core.clock.forward(every_s)
        worker.hint(hints)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def run_mirror(core: Core, seconds: float, interval: float, hints: list[Hint], every_s: float = 0.5) -> None:
    worker = MirrorWorker(core.mirror, interval, Gate(0, 1))
    worker.request_full()
    await run_worker(worker, core, seconds, hints, every_s)


def shown(worker: MirrorWorker) -> str:
    return worker.status.shown.state


@pytest.mark.parametrize("interval", [1.0, 3600.0])
@pytest.mark.parametrize("hints", [[], [Hint("a.md", subtree=False)], [EVERYTHING]])
def test_a_refused_token_is_tried_once_a_minute_at_most(
    core: Core, monkeypatch: pytest.MonkeyPatch, interval: float, hints: list[Hint]
) -> None:
    remote = RefusingTarget(core, monkeypatch)
    simulate(run_mirror(core, REFUSED_PAUSE_S - 1, interval, hints))
    assert remote.requests == 1, "in the first minute"
    simulate(run_mirror(core, 10 * REFUSED_PAUSE_S, interval, hints, every_s=10))
    assert remote.requests <= 1 + 10


class PausedTarget:
    """Finds the instance paused at each look until it is resumed, and counts the looks."""

    def __init__(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        self.looks: list[float] = []
        self.paused = True
        target = type(core.target)
        apply = target.apply

        async def check(_: object) -> str:
            self.looks.append(asyncio.get_running_loop().time())
            self._halt()
            return "memory"

        async def refuses(target: Any, *batch: Any) -> None:
            self._halt()
            await apply(target, *batch)

        monkeypatch.setattr(target, "check", check)
        monkeypatch.setattr(target, "apply", refuses)

    def _halt(self) -> None:
        if self.paused:
            raise PausedHalt("the AI Search instance is paused")


def test_a_paused_instance_is_tried_every_few_minutes_until_it_is_resumed(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = PausedTarget(core, monkeypatch)
    core.write("a.md", "x")

    async def serve() -> None:
        worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
        worker.request_full()
        await run_worker(worker, core, 3000, [Hint("a.md", subtree=False)], 10)
        assert shown(worker) == "halted"
        assert "paused" in (worker.status.shown.detail or "")
        remote.paused = False
        await run_worker(worker, core, PAUSED_PAUSE_S + 20, every_s=10)
        assert shown(worker) == "idle"

    simulate(serve())
    assert list(core.target.store) == ["a.md"]
    assert len(remote.looks) == pytest.approx(3000 / PAUSED_PAUSE_S, abs=2)
    assert all(later - earlier >= PAUSED_PAUSE_S for earlier, later in pairwise(remote.looks[:-1]))


def test_a_retry_by_a_person_ends_the_halt_of_a_full_instance_at_once(core: Core) -> None:
    core.target.index["a.md"] = Indexed("error", "ai_search_is_full")
    core.write("a.md", "x")

    async def serve() -> None:
        worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
        worker.request_full()
        await run_worker(worker, core, 100, every_s=10)
        assert shown(worker) == "halted"
        core.write("b.md", "y")
        core.target.index["a.md"] = Indexed("queued")
        retry_problems(core.mirror.journal, core.mirror.queue, None, core.clock.now)
        worker.state_changed()
        await run_worker(worker, core, 30, every_s=10)
        core.target.index["a.md"] = Indexed()
        await run_worker(worker, core, 100, every_s=10)
        assert shown(worker) == "idle"

    simulate(serve())
    assert core.target.reindexed == ["a.md"]
    assert sorted(core.target.store) == ["a.md", "b.md"]
    assert core.problems() == {}


def test_a_retry_of_a_halted_loop_is_followed_by_a_full_pass(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = PausedTarget(core, monkeypatch)
    core.write("a.md", "x")

    async def serve() -> None:
        worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
        worker.request_full()
        await run_worker(worker, core, 20, every_s=10)
        assert shown(worker) == "halted"
        remote.paused = False
        retried = asyncio.ensure_future(worker.run_requested(lambda: serve_due(core.mirror), everything=False))
        await run_worker(worker, core, 20, every_s=10)
        assert (await retried).error is None
        assert shown(worker) == "idle"

    simulate(serve())
    assert list(core.target.store) == ["a.md"]


def remove(core: Core, first: int, last: int) -> None:
    core.remove(*(f"{number:03}" for number in range(first, last)))
    core.mark(*(f"{number:03}" for number in range(first, last)))


async def fill(core: Core) -> None:
    await in_step(core, **{f"{number:03}": "x" for number in range(100)})
    core.use(max_delete="25%")


def test_the_next_process_does_not_apply_refused_deletes_in_parts(core: Core) -> None:
    asyncio.run(fill(core))
    remove(core, 0, 40)
    simulate(run_mirror(core, 3, 3600.0, []))
    assert len(core.target.store) == 100
    assert state(core)["state"] == "halted"
    # These few alone would be allowed, and they are due sooner than the forty.
    remove(core, 40, 60)
    core.restart()
    core.clock.forward(1)

    async def run_without_full_pass() -> None:
        worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
        running = asyncio.ensure_future(worker.run())
        await asyncio.sleep(2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    simulate(run_without_full_pass())
    assert len(core.target.store) == 100
    assert state(core)["state"] == "halted"
    simulate(run_mirror(core, 3, 3600.0, []))
    assert len(core.target.store) == 100
    assert "60 of 100" in str(state(core)["detail"])


def test_a_halt_of_the_last_process_is_shown_during_the_next_pass(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(fill(core))
    remove(core, 0, 40)
    simulate(run_mirror(core, 3, 3600.0, []))
    states: list[object] = []
    monkeypatch.setattr("syncd.sync.mirror_status.keep_state", lambda _meta, shown: states.append(shown.state))
    core.restart()
    simulate(run_mirror(core, 3, 3600.0, []))
    assert set(states) == {"halted"}


def test_a_hinted_change_is_sent_once(core: Core) -> None:
    asyncio.run(fill(core))
    simulate(run_mirror(core, 3, 3600.0, []))
    core.target.applied.clear()
    core.remove("000", "001")
    for name in ("new", "newer", "newest"):
        core.write(name, "1")
    core.mark("000", "001", "new", "newer", "newest")

    async def serve() -> None:
        worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
        worker.policy.compared_all = True
        running = asyncio.ensure_future(worker.run())
        core.clock.forward(1)
        await asyncio.sleep(5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    simulate(serve())
    assert sorted(key for _, key, _ in core.target.said()) == ["000", "001", "new", "newer", "newest"]


def state(core: Core) -> dict[str, Any]:
    stored = Meta(core.mirror.db, "docs").get("state")
    assert isinstance(stored, dict)
    return stored


@pytest.mark.parametrize(("known", "unknown", "confirmed"), [(0, 20, 20), (0, 21, 0), (100, 22, 22), (100, 23, 0)])
def test_many_unknown_keys_are_listed_and_not_confirmed_one_by_one(
    tmp_path: Path, known: int, unknown: int, confirmed: int
) -> None:
    with open_core(tmp_path, Limits(page=50)) as core:
        asyncio.run(in_step(core, **{f"old{number}": "x" for number in range(known)}))
        core.target.confirmed.clear()
        for number in range(unknown):
            core.write(f"new{number}", "y")
        core.mark(*(f"new{number}" for number in range(unknown)))

        async def serve() -> None:
            worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
            worker.policy.compared_all = True
            await run_worker(worker, core, 10)

        simulate(serve())
        assert len(core.target.confirmed) == confirmed
        assert len(core.target.store) == known + unknown
        assert core.waiting() == []


def test_held_back_orphans_are_deleted_when_the_folder_is_quiet(core: Core) -> None:
    asyncio.run(in_step(core, **{f"{number:03}": "x" for number in range(30)}))
    core.forget_listing()
    for number in range(15):
        core.target.put_by("me", f"orphan{number}", "left by a process that was killed")

    async def serve() -> None:
        worker = MirrorWorker(core.mirror, 3600.0, Gate(0, 1))
        worker.hint([Hint("000", subtree=False)])
        worker.request_full()
        await run_worker(worker, core, int(core.mirror.settings.settle_max) + 10)

    simulate(serve())
    assert len(core.target.store) == 30


def test_a_temporary_index_error_is_retried_between_full_passes_within_its_budget(core: Core) -> None:
    core.target.index["a.md"] = Indexed("error", "timeout_error", again="error")
    core.write("a.md", "x")
    simulate(run_mirror(core, 3600, 3600.0, [], every_s=10))
    assert core.target.reindexed == ["a.md"] * len(TRIES_S)


def test_polls_of_the_index_take_a_tenth_of_the_time(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    async def slow(*_: object) -> dict[str, Entry | None]:
        looks.append(asyncio.get_running_loop().time())
        await asyncio.sleep(10)
        return {}

    monkeypatch.setattr(type(core.target), "statuses", slow)
    core.target.index["a.md"] = Indexed("queued")
    core.write("a.md", "x")
    # Each hint makes a pass, and after a pass the pauses begin with one second.
    simulate(run_mirror(core, 1000, 3600.0, [Hint("b.md", subtree=False)], every_s=5))
    assert 5 <= len(looks) <= 11


def test_uploaded_entries_are_followed_during_a_long_pass(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    put = type(core.target).put
    seen: dict[str, int] = {}

    async def slowly(target: Any, key: str, content: Any) -> Any:
        await asyncio.sleep(50)
        core.clock.forward(50)
        core.target.index[key] = Indexed("queued")
        stored = await put(target, key, content)
        core.target.index[key] = Indexed()
        seen[key] = core.mirror.journal.index.index_counts().get("completed", 0)
        return stored

    monkeypatch.setattr(type(core.target), "put", slowly)
    core.target.limits = Limits(turn=1)
    for number in range(10):
        core.write(f"{number}.md", "x")
    simulate(run_mirror(core, 600, 3600.0, [], every_s=10))
    assert seen["9.md"] >= 5, "earlier entries are known to be searchable"
