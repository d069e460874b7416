"""The state that a mirror shows while its worker makes passes and after errors."""

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from syncd.cloudflare.gate import Gate
from syncd.core.errors import Brake, RootHalt, Unreachable
from syncd.core.requests import current_priority
from syncd.service.worker import LONGEST_WAIT_S, PENDING_PAUSE_S, STALL_S, MirrorWorker
from syncd.sync.mirror import Scope
from tests.harness import Core

IDLE = ("idle", None)
SYNCING = ("syncing", None)


@pytest.fixture
async def make_worker(core: Core) -> Callable[[], MirrorWorker]:
    return lambda: MirrorWorker(core.mirror, 3600.0, Gate(0, 1))


@pytest.fixture
async def worker(make_worker: Callable[[], MirrorWorker]) -> MirrorWorker:
    return make_worker()


def shown(worker: MirrorWorker) -> tuple[str, str | None]:
    return worker.status.shown.state, worker.status.shown.detail


async def make_pass(core: Core, worker: MirrorWorker) -> list[tuple[str, str | None]]:
    """Make a full pass. Return the state shown at the end of each action, and at the end of the pass."""
    states: list[tuple[str, str | None]] = []
    core.mirror.on_action = lambda _: states.append(shown(worker))
    core.clock.forward(1)
    await worker._pass(Scope())
    return [*states, shown(worker)]


async def test_a_pass_shows_syncing(core: Core, worker: MirrorWorker) -> None:
    core.write("a.md", "one")
    assert await make_pass(core, worker) == [SYNCING, IDLE]


async def test_the_last_error_is_shown_until_an_action_ends(core: Core, worker: MirrorWorker) -> None:
    core.write("a.md", "one")
    core.write("b.md", "two")
    worker._on_error(Unreachable("no answer"))
    states = await make_pass(core, worker)
    assert (states[0], states[-1]) == (("degraded", "no answer"), IDLE)
    core.write("a.md", "edited")
    assert await make_pass(core, worker) == [SYNCING, IDLE]


@pytest.mark.parametrize("error", [Brake("deletes too much"), RootHalt("the folder is gone")])
async def test_a_halted_mirror_is_shown_as_halted_during_the_next_pass(
    core: Core, worker: MirrorWorker, error: Brake | RootHalt
) -> None:
    core.write("a.md", "one")
    worker._on_error(error)
    states = await make_pass(core, worker)
    assert (states[0], states[-1]) == (("halted", str(error)), IDLE)


@pytest.mark.parametrize("everything", [True, False])
async def test_no_request_of_a_pass_of_the_daemon_waits_long(
    core: Core, worker: MirrorWorker, monkeypatch: pytest.MonkeyPatch, *, everything: bool
) -> None:
    waits = []
    apply = type(core.target).apply

    async def noted(*batch: Any) -> None:
        waits.append(current_priority().longest_wait_s)
        await apply(*batch)

    monkeypatch.setattr(type(core.target), "apply", noted)
    core.write("a.md", "one")
    core.mirror.queue.mark([("a.md", False)], core.mirror.now())
    core.clock.forward(1)
    await worker._pass(Scope(None if everything else core.mirror.queue.settled(core.mirror.now())))
    core.write("a.md", "edited")
    core.mirror.queue.mark([("a.md", False)], core.mirror.now())
    core.clock.forward(1)
    await worker._serve_pending()
    assert waits == [LONGEST_WAIT_S] * 2


async def test_a_pass_without_actions_ends_an_error(core: Core, worker: MirrorWorker) -> None:
    worker._on_error(Unreachable("no answer"))
    assert await make_pass(core, worker) == [IDLE]


async def test_the_next_process_shows_the_halt_of_the_last_one(
    core: Core, make_worker: Callable[[], MirrorWorker]
) -> None:
    make_worker()._on_error(RootHalt("the folder is gone"))
    core.restart()
    assert shown(make_worker()) == ("halted", "the folder is gone")


async def test_a_long_pass_goes_on_for_a_while_after_it_has_served_changes(
    core: Core, worker: MirrorWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(worker, "_clock", lambda: now)
    assert not worker._has_pending()
    core.mirror.queue.mark([("a.md", False)], core.clock.now - 60)
    assert worker._has_pending()
    await worker._serve_pending()
    assert not worker._has_pending()
    core.mirror.queue.mark([("b.md", False)], core.clock.now - 60)
    assert not worker._has_pending()
    now += PENDING_PAUSE_S
    assert worker._has_pending()


async def test_a_cancellation_that_was_not_requested_does_not_end_the_loop(
    worker: MirrorWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = asyncio.Event()

    async def serve() -> None:
        served.set()
        raise asyncio.CancelledError

    monkeypatch.setattr(worker, "_serve", serve)
    worker.request_full()
    task = asyncio.create_task(worker.run())
    await served.wait()
    await asyncio.sleep(0)
    assert (task.done(), worker.status.shown.state) == (False, "degraded")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_worker_that_waits_for_the_budget_for_long_is_alive(worker: MirrorWorker) -> None:
    """The watchdog of systemd must not end a daemon whose quota has a window of an hour."""
    worker._moved_at -= STALL_S + 1
    assert not worker.is_alive()
    worker._gate._waits_until[True] = worker._gate.clock() + 3000.0
    assert worker.is_alive()


async def test_a_lack_of_descriptors_is_no_bug(worker: MirrorWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(worker, "_sleep", lambda: asyncio.sleep(0))
    monkeypatch.setattr(worker, "_serve", fail)
    with capture_logs() as logs:
        running = asyncio.create_task(worker.run())
        while shown(worker)[0] != "degraded":  # noqa: ASYNC110 - the worker knows nothing of this test
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert "raise the limits of open files" in (shown(worker)[1] or "")
    assert "mirror.failed" not in {line["event"] for line in logs}
