"""Deletes that arrive in bursts are judged as one plan after `settle`."""

import pytest
from structlog.testing import capture_logs

from syncd.core.errors import Brake
from syncd.sync.mirror import Hooks, PassOptions, Result, Scope
from syncd.sync.reconcile import reconcile
from tests.harness import Core, in_step, planned

SETTLE_S = 0.5


async def filled(core: Core, files: int, max_delete: str | int = "25%") -> None:
    await in_step(core, **{f"{number:03}": "x" for number in range(files)})
    core.use(max_delete=max_delete, settle=SETTLE_S, settle_max=30.0)


async def due(core: Core) -> Result | None:
    """Make the pass that the daemon makes when rows are due."""
    rows = core.mirror.queue.settled(core.clock.now)
    return await reconcile(core.mirror, Scope(rows)) if rows else None


async def removed_one_by_one(core: Core, first: int, last: int, every_s: float = 0.1) -> None:
    for number in range(first, last):
        core.remove(f"{number:03}")
        core.mark(f"{number:03}")
        core.clock.forward(every_s)
        await due(core)


async def test_a_removal_that_trickles_in_is_refused_as_a_whole(core: Core) -> None:
    await filled(core, 100)
    with pytest.raises(Brake, match=r"the plan deletes 16 of 90 entries .* after 10 in the last hour"):
        await removed_one_by_one(core, 0, 60)
    assert len(core.target.store) == 90, "no more than the ten that always pass"
    with pytest.raises(Brake, match="the plan deletes"):
        await removed_one_by_one(core, 60, 61)
    assert len(core.target.store) == 90
    core.restart()
    with pytest.raises(Brake):
        await core.full()


async def test_a_removal_that_is_allowed_goes_once_it_is_quiet(core: Core) -> None:
    await filled(core, 100)
    await removed_one_by_one(core, 0, 20)
    held = len(core.target.store)
    assert held >= 90
    core.clock.forward(SETTLE_S)
    assert planned(await due(core) or await core.full()) == {"delete": held - 80}
    assert (len(core.target.store), core.waiting()) == (80, [])


async def test_constant_changes_hold_deletes_back_for_settle_max_at_most(core: Core) -> None:
    await filled(core, 100)
    core.remove(*(f"{number:03}" for number in range(20)))
    core.mark(*(f"{number:03}" for number in range(20)))
    for _ in range(70):
        core.clock.forward(SETTLE_S)
        core.mark("busy.log")
        await due(core)
        if len(core.target.store) < 100:
            break
    assert len(core.target.store) == 80
    assert core.clock.now - core.row("busy.log").first_seen <= 31


async def test_a_few_deletes_wait_for_nothing(core: Core) -> None:
    await filled(core, 100)
    core.remove("000", "001")
    core.mark("000", "001")
    core.clock.forward(SETTLE_S)
    core.mark("busy.log")
    assert planned(await due(core) or await core.full()) == {"delete": 2}


async def test_puts_go_up_while_deletes_are_held_back(core: Core) -> None:
    await filled(core, 100)
    core.remove(*(f"{number:03}" for number in range(20)))
    core.write("new", "1")
    core.mark(*(f"{number:03}" for number in range(20)), "new")
    core.clock.forward(SETTLE_S)
    core.mark("busy.log")
    assert planned(await due(core) or await core.full()) == {"put": 1}
    assert "new" in core.target.store


async def test_a_full_pass_in_the_middle_of_a_removal_waits_too(core: Core) -> None:
    await filled(core, 100)
    core.remove(*(f"{number:03}" for number in range(20)))
    core.mark("019")
    result = await reconcile(core.mirror, Scope(), PassOptions(), Hooks())
    assert planned(result) == {}
    assert len(core.waiting()) == 20
    core.remove(*(f"{number:03}" for number in range(20, 40)))
    core.mark(*(f"{number:03}" for number in range(20, 40)))
    core.clock.forward(SETTLE_S)
    with pytest.raises(Brake, match="40 of 100"):
        await due(core)
    assert len(core.target.store) == 100


async def test_force_holds_nothing_back(core: Core) -> None:
    await filled(core, 100)
    core.remove(*(f"{number:03}" for number in range(60)))
    core.mark("000")
    await reconcile(core.mirror, Scope(), PassOptions(force=True))
    assert len(core.target.store) == 40


@pytest.mark.parametrize(
    ("deletes", "recent", "busy", "held"),
    [(10, 0, True, False), (11, 0, True, True), (11, 0, False, False), (4, 6, True, False), (4, 7, True, True)],
)
async def test_deletes_are_held_back_if_more_than_ten_of_an_hour_may_be_followed_by_others(
    core: Core, deletes: int, recent: int, *, busy: bool, held: bool
) -> None:
    await filled(core, 40, "100%")
    for number in range(recent):
        core.mirror.journal.tombstones.record_delete(
            f"gone {number}", f"ref {number}", core.clock.now, consented=False, age=core.clock.age
        )
    names = [f"{number:03}" for number in range(deletes)]
    core.remove(*names)
    if busy:
        core.mark("busy.log")
    with capture_logs() as lines:
        result = await reconcile(core.mirror, Scope())
    assert result.held_back is held
    assert planned(result) == ({} if held else {"delete": deletes})
    assert core.waiting() == ([(name, False) for name in names] if held else [])
    line = {"event": "delete.held_back", "log_level": "info", "mirror": "docs", "deletes": deletes}
    assert [line for line in lines if line["event"] == "delete.held_back"] == ([line] if held else [])


@pytest.mark.parametrize(("waited_s", "held"), [(29.5, True), (30.0, False)])
async def test_deletes_are_held_back_for_settle_max_after_the_first_mark(
    core: Core, waited_s: float, *, held: bool
) -> None:
    await filled(core, 40, "100%")
    names = [f"{number:03}" for number in range(20)]
    core.remove(*names)
    core.mark(names[-1])
    core.clock.forward(waited_s)
    core.mark("busy.log")
    assert (await reconcile(core.mirror, Scope())).held_back is held
