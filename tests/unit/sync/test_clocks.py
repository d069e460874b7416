"""A wrong wall clock, or one that is set, loses nothing and delays nothing."""

import pytest

from syncd.core.errors import Brake
from syncd.core.problems import Limits
from tests.harness import START, Core, in_step, planned

DAY_S = 86_400.0


async def test_an_edit_goes_up_although_its_record_is_from_a_clock_that_was_ahead(core: Core) -> None:
    core.clock.forward(DAY_S)
    await in_step(core, **{"a.md": "one", "b.md": "other"})
    core.clock.now = START
    core.write("a.md", "two")
    await core.full()
    assert core.target.texts() == {"a.md": "two", "b.md": "other"}


async def test_a_delete_of_a_clock_that_was_ahead_does_not_hide_the_entry_that_came_after(core: Core) -> None:
    core.target.limits = Limits(max_file_size=1000, lag_s=60.0)
    await in_step(core, **{"a.md": "one", "b.md": "other"})
    ref = core.target.store["a.md"].ref
    core.clock.forward(DAY_S)
    core.remove("a.md")
    await core.full()
    core.clock.now = START + 10
    # A store whose ref is the key, as KV's is, shows the same ref again.
    core.mirror.claims.add_puts(["a.md"], core.clock.age)
    core.target.put_by("me", "a.md", "left by a pass that died")
    core.target.store["a.md"].ref = ref
    assert planned(await core.full()) == {"delete": 1}
    assert core.target.texts() == {"b.md": "other"}


@pytest.mark.parametrize("set_by_s", [-DAY_S, 0.0, DAY_S])
async def test_a_delete_with_a_wrong_clock_counts_for_an_hour(core: Core, set_by_s: float) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.clock.now += set_by_s
    core.remove("a.md")
    await core.full()
    deleted = core.mirror.journal.tombstones
    assert deleted.recent_deletes(core.clock.age) == 1
    assert deleted.recent_deletes(core.clock.age + 3599) == 1
    assert deleted.recent_deletes(core.clock.age + 3601) == 0


@pytest.mark.parametrize("set_by_s", [-DAY_S, -7200.0, 7200.0, DAY_S])
async def test_a_clock_that_is_set_does_not_open_the_brake(core: Core, set_by_s: float) -> None:
    await in_step(core, **{f"{number:02}.md": str(number) for number in range(40)})
    core.use(max_delete="25%")
    core.remove(*(f"{number:02}.md" for number in range(10)))
    await core.full()
    core.clock.now += set_by_s
    await core.full()
    core.restart()
    core.remove("10.md")
    with pytest.raises(Brake, match="after 10 in the last hour"):
        await core.full()
    core.clock.forward(3600)
    await core.full()
    assert len(core.target.store) == 29


async def test_where_reads_lag_a_write_of_a_clock_that_was_ahead_outranks_nothing(core: Core) -> None:
    core.target.limits = Limits(max_file_size=1000, lag_s=60.0, reads_lag=True)
    core.clock.forward(DAY_S)
    await in_step(core, **{"a.md": "one", "b.md": "other"})
    core.clock.now = START
    del core.target.store["a.md"]
    await core.full()
    assert core.target.texts() == {"a.md": "one", "b.md": "other"}


async def test_a_fresh_change_is_due_although_the_clock_was_set_back_an_hour(core: Core) -> None:
    core.mark("a.md")
    core.clock.forward(-3600.0)
    assert [row.key for row in core.mirror.queue.settled(core.clock.now)] == ["a.md"]
    assert core.mirror.queue.next_due(core.clock.now) == 0.0
    assert core.mirror.queue.next_due(core.clock.now, fresh=True) == 0.0


async def test_a_later_try_waits_although_another_change_is_from_a_clock_that_was_ahead(core: Core) -> None:
    core.mirror.queue.retry("later.md", core.clock.now + 1800.0, 3)
    core.mark("fresh.md")
    core.clock.forward(-600.0)
    assert [row.key for row in core.mirror.queue.settled(core.clock.now)] == ["fresh.md"]
