"""What a mirror says of itself while its keeper tries."""

import asyncio

import pytest

from syncd.cloudflare.gate import Gate
from syncd.core.errors import Brake, RootHalt, Unreachable
from syncd.service.worker import Keeper
from syncd.sync.passes import Scope
from tests.harness import Core


async def one_pass(core: Core, keeper: Keeper) -> list[tuple[str, str | None]]:
    """Make a full pass; return what the keeper said at each ending, and at the end."""
    said: list[tuple[str, str | None]] = []
    core.mirror.on_action = lambda _: said.append(keeper.said)
    core.clock.forward(1)
    await keeper._pass(Scope())
    return [*said, keeper.said]


async def test_a_pass_is_said_while_it_goes_on(core: Core) -> None:
    core.write("a.md", "one")
    assert await one_pass(core, Keeper(core.mirror, 3600.0, Gate(0, 1))) == [("syncing", None), ("idle", None)]


async def test_a_new_try_keeps_the_reason_of_the_last_one_until_it_gets_somewhere(core: Core) -> None:
    core.write("a.md", "one")
    core.write("b.md", "two")
    keeper = Keeper(core.mirror, 3600.0, Gate(0, 1))
    keeper._degraded(Unreachable("no answer"))
    seen = await one_pass(core, keeper)
    assert (seen[0], seen[-1]) == (("degraded", "no answer"), ("idle", None))
    core.write("a.md", "edited")
    assert await one_pass(core, keeper) == [("syncing", None), ("idle", None)]


@pytest.mark.parametrize("error", [Brake("deletes too much"), RootHalt("the folder is gone")])
async def test_a_halted_mirror_stays_halted_while_it_looks_again(core: Core, error: Brake | RootHalt) -> None:
    core.write("a.md", "one")
    keeper = Keeper(core.mirror, 3600.0, Gate(0, 1))
    keeper._halted(error)
    seen = await one_pass(core, keeper)
    assert (seen[0], seen[-1]) == (("halted", str(error)), ("idle", None))


async def test_without_anything_to_do_trouble_ends_all_the_same(core: Core) -> None:
    keeper = Keeper(core.mirror, 3600.0, Gate(0, 1))
    keeper._degraded(Unreachable("no answer"))
    assert await one_pass(core, keeper) == [("idle", None)]


async def test_the_next_process_begins_with_what_the_last_one_halted_for(core: Core) -> None:
    Keeper(core.mirror, 3600.0, Gate(0, 1))._halted(RootHalt("the folder is gone"))
    core.restart()
    assert Keeper(core.mirror, 3600.0, Gate(0, 1)).said == ("halted", "the folder is gone")


async def test_a_long_pass_asks_seldom_whether_a_hint_is_due(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(core.mirror, 3600.0, Gate(0, 1))
    asked: list[float] = []

    def due(now: float) -> float:
        asked.append(now)
        return 0.0

    monkeypatch.setattr(core.mirror.queue, "next_due", due)
    assert [keeper._has_pending() for _ in range(1000)] == [True] * 1000
    assert len(asked) < 100, "one look for each of many thousand files would take longer than the files"
    await keeper._serve_pending()
    assert not keeper._has_pending(), "what was due has been served"


async def test_a_cancellation_that_nobody_asked_for_ends_no_mirror(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(core.mirror, 3600.0, Gate(0, 1))
    served = asyncio.Event()

    async def serve() -> None:
        served.set()
        raise asyncio.CancelledError

    monkeypatch.setattr(keeper, "_serve", serve)
    keeper.request_full()
    task = asyncio.create_task(keeper.run())
    await served.wait()
    await asyncio.sleep(0)
    assert (task.done(), keeper.said[0]) == (False, "degraded")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
