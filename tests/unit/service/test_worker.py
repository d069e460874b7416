"""When a mirror looks, and what it asks for, in simulated time; what of that outlives the process."""

import asyncio
import selectors
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest

from syncd.cloudflare.gate import Gate
from syncd.core.errors import Halt
from syncd.core.index_errors import TRIES_S
from syncd.core.limits import Limits
from syncd.core.model import Entry
from syncd.service.worker import REFUSED_REST_S, Keeper
from syncd.state.db import Meta
from syncd.watch.hints import EVERYTHING, Hint
from tests.harness import Core, in_step, open_core
from tests.memory_target import Indexed


class Hurried(selectors.DefaultSelector):
    """Waits for threads that have work under way and for nothing else: time that would be waited passes at once."""

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0.0
        self.under_way = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0 or self.under_way:
            return super().select(timeout if timeout is None or timeout <= 0 else 0.01)
        self.passed += timeout
        return super().select(0)


class Loop(asyncio.SelectorEventLoop):
    """A loop whose clock is the time that it would have waited."""

    def __init__(self) -> None:
        self.hurried = Hurried()
        super().__init__(self.hurried)

    def time(self) -> float:
        return 1000.0 + self.hurried.passed

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> "asyncio.Future[Any]":  # type: ignore[override]
        self.hurried.under_way += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._come_back)
        return future

    def _come_back(self, _: object) -> None:
        self.hurried.under_way -= 1


def simulated(work: Coroutine[Any, Any, None]) -> None:
    loop = Loop()
    try:
        loop.run_until_complete(work)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class Refusing:
    """Counts the listings that are asked for, and refuses each."""

    def __init__(self, core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0

        async def entries(_: object) -> AsyncIterator[Entry]:
            self.asked += 1
            for entry in list[Entry]():
                yield entry
            raise Halt("authentication refused")

        monkeypatch.setattr(type(core.target), "entries", entries)


async def kept(keeper: Keeper, core: Core, seconds: float, hints: Sequence[Hint] = (), every_s: float = 1.0) -> None:
    """Let a keeper run; now and then the folder moves, or the keeper is woken at least, to look at the other clock."""
    running = asyncio.ensure_future(keeper.run())
    for _ in range(int(seconds / every_s)):
        await asyncio.sleep(every_s)
        core.clock.forward(every_s)
        keeper.hint(hints)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def lived(core: Core, seconds: float, interval: float, hints: list[Hint], every_s: float = 0.5) -> None:
    keeper = Keeper(core.mirror, interval, Gate(0, 1))
    keeper.request_full()
    await kept(keeper, core, seconds, hints, every_s)


@pytest.mark.parametrize("interval", [1.0, 3600.0])
@pytest.mark.parametrize("hints", [[], [Hint("a.md", subtree=False)], [EVERYTHING]])
def test_a_refused_token_is_not_tried_over_and_over_however_the_folder_moves(
    core: Core, monkeypatch: pytest.MonkeyPatch, interval: float, hints: list[Hint]
) -> None:
    remote = Refusing(core, monkeypatch)
    simulated(lived(core, REFUSED_REST_S - 1, interval, hints))
    assert remote.asked == 1, "in the first minute"
    simulated(lived(core, 10 * REFUSED_REST_S, interval, hints, every_s=10))
    assert remote.asked <= 1 + 10


def removed(core: Core, first: int, last: int) -> None:
    core.remove(*(f"{number:03}" for number in range(first, last)))
    core.mark(*(f"{number:03}" for number in range(first, last)))


async def filled(core: Core) -> None:
    await in_step(core, **{f"{number:03}": "x" for number in range(100)})
    core.use(max_delete="25%")


def test_a_plan_that_was_refused_is_not_let_through_in_parts_by_the_next_process(core: Core) -> None:
    asyncio.run(filled(core))
    removed(core, 0, 40)
    simulated(lived(core, 3, 3600.0, []))
    assert len(core.target.store) == 100
    assert state(core)["state"] == "halted"
    # Few enough to pass by themselves, and due sooner than the forty, which were put off.
    removed(core, 40, 60)
    core.restart()
    core.clock.forward(1)

    async def without_a_look() -> None:
        keeper = Keeper(core.mirror, 3600.0, Gate(0, 1))
        running = asyncio.ensure_future(keeper.run())
        await asyncio.sleep(2)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    simulated(without_a_look())
    assert len(core.target.store) == 100
    assert state(core)["state"] == "halted"
    simulated(lived(core, 3, 3600.0, []))
    assert len(core.target.store) == 100
    assert "60 of 100" in str(state(core)["detail"])


def test_a_halted_mirror_is_shown_as_halted_while_it_looks_again(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(filled(core))
    removed(core, 0, 40)
    simulated(lived(core, 3, 3600.0, []))
    said: list[object] = []
    monkeypatch.setattr("syncd.service.worker.set_state", lambda _meta, state, *_, **__: said.append(state))
    core.restart()
    simulated(lived(core, 3, 3600.0, []))
    assert set(said) == {"halted"}


def test_a_change_that_a_hint_told_of_is_sent_once(core: Core) -> None:
    asyncio.run(filled(core))
    simulated(lived(core, 3, 3600.0, []))
    core.target.applied.clear()
    core.remove("000", "001")
    for name in ("new", "newer", "newest"):
        core.write(name, "1")
    core.mark("000", "001", "new", "newer", "newest")

    async def served() -> None:
        keeper = Keeper(core.mirror, 3600.0, Gate(0, 1))
        keeper._looked = True
        running = asyncio.ensure_future(keeper.run())
        core.clock.forward(1)
        await asyncio.sleep(5)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    simulated(served())
    assert sorted(key for _, key, _ in core.target.said()) == ["000", "001", "new", "newer", "newest"]


def state(core: Core) -> dict[str, Any]:
    said = Meta(core.mirror.db, "docs").get("state")
    assert isinstance(said, dict)
    return said


@pytest.mark.parametrize(("known", "unknown", "asked"), [(0, 20, 20), (0, 21, 0), (100, 22, 22), (100, 23, 0)])
def test_many_unknown_keys_are_listed_and_not_asked_for_one_by_one(
    tmp_path: Path, known: int, unknown: int, asked: int
) -> None:
    with open_core(tmp_path, Limits(page=50)) as core:
        asyncio.run(in_step(core, **{f"old{number}": "x" for number in range(known)}))
        core.target.confirmed.clear()
        for number in range(unknown):
            core.write(f"new{number}", "y")
        core.mark(*(f"new{number}" for number in range(unknown)))

        async def served() -> None:
            keeper = Keeper(core.mirror, 3600.0, Gate(0, 1))
            keeper._looked = True
            await kept(keeper, core, 10)

        simulated(served())
        assert len(core.target.confirmed) == asked
        assert len(core.target.store) == known + unknown
        assert core.waiting() == []


def test_orphans_that_were_held_back_go_when_the_folder_is_quiet(core: Core) -> None:
    asyncio.run(in_step(core, **{f"{number:03}": "x" for number in range(30)}))
    core.forget_listing()
    for number in range(15):
        core.target.put_by("me", f"orphan{number}", "left by a process that was killed")

    async def served() -> None:
        keeper = Keeper(core.mirror, 3600.0, Gate(0, 1))
        keeper.hint([Hint("000", subtree=False)])
        keeper.request_full()
        await kept(keeper, core, int(core.mirror.settings.settle_max) + 10)

    simulated(served())
    assert len(core.target.store) == 30


def test_what_may_pass_is_indexed_again_between_full_passes_and_within_its_budget(core: Core) -> None:
    core.target.index["a.md"] = Indexed("error", "timeout_error", again="error")
    core.write("a.md", "x")
    simulated(lived(core, 3600, 3600.0, [], every_s=10))
    assert core.target.reindexed == ["a.md"] * len(TRIES_S)


def test_looks_at_the_index_take_a_tenth_of_the_time_however_long_each_takes(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    async def slow(*_: object) -> dict[str, Entry | None]:
        looks.append(asyncio.get_running_loop().time())
        await asyncio.sleep(10)
        return {}

    monkeypatch.setattr(type(core.target), "statuses", slow)
    core.target.index["a.md"] = Indexed("queued")
    core.write("a.md", "x")
    # Hints make a pass each time, after which the pauses begin with a second again.
    simulated(lived(core, 1000, 3600.0, [Hint("b.md", subtree=False)], every_s=5))
    assert 5 <= len(looks) <= 11


def test_what_is_up_is_followed_while_a_long_pass_is_under_way(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
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
    simulated(lived(core, 600, 3600.0, [], every_s=10))
    assert seen["9.md"] >= 5, "those before it are known to be searchable"
