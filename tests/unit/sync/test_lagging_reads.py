"""A target whose answers may be older than our own last write, such as Workers KV."""

from dataclasses import replace

import pytest

from syncd.core.problems import Limits
from tests.harness import Core, in_step, plan
from tests.memory_target import Held

LAG_S = 60.0


@pytest.fixture
async def lagging(core: Core) -> tuple[Core, Held]:
    """Return a mirror that has just replaced a.md, and the former entry."""
    core.target.limits = Limits(max_file_size=1000, lag_s=LAG_S, reads_lag=True, page=10)
    await in_step(core, **{"a.md": "one", "b.md": "other"})
    await core.full()
    former = replace(core.target.store["a.md"])
    core.clock.forward(100)
    core.write("a.md", "two")
    await core.full()
    core.target.applied.clear()
    return core, former


async def test_an_entry_from_before_our_write_is_no_drift_within_the_lag(lagging: tuple[Core, Held]) -> None:
    core, former = lagging
    core.target.store["a.md"] = former
    core.clock.forward(LAG_S - 1)
    assert plan(await core.full()) == []
    assert plan(await core.full()) == [("put", "a.md", "drift")]


async def test_an_entry_that_is_not_shown_yet_is_not_missing_within_the_lag(lagging: tuple[Core, Held]) -> None:
    core, _ = lagging
    del core.target.store["a.md"]
    core.clock.forward(LAG_S - 1)
    assert plan(await core.full()) == []
    assert plan(await core.full()) == [("put", "a.md", "missing")]


async def test_the_entry_of_another_writer_is_foreign_at_once(lagging: tuple[Core, Held]) -> None:
    core, _ = lagging
    core.target.put_by("you", "a.md", "theirs")
    assert plan(await core.full()) == []
    assert core.problems() == {"a.md": "foreign"}


async def test_an_answer_from_before_our_write_does_not_stop_the_next_one(lagging: tuple[Core, Held]) -> None:
    core, former = lagging
    core.target.store["a.md"] = former
    core.write("a.md", "three")
    assert plan(await core.hint("a.md")) == [("put", "a.md", "changed")]
    assert core.target.confirmed == ["a.md"]
    assert core.target.texts()["a.md"] == "three"


async def test_an_answer_of_another_writer_stops_the_next_write(lagging: tuple[Core, Held]) -> None:
    core, _ = lagging
    core.target.put_by("you", "a.md", "theirs")
    core.write("a.md", "three")
    assert plan(await core.hint("a.md")) == []
    assert (core.target.texts()["a.md"], core.problems()) == ("theirs", {"a.md": "foreign"})


async def test_a_deleted_entry_that_is_still_shown_is_not_deleted_again_within_the_lag(
    lagging: tuple[Core, Held],
) -> None:
    core, _ = lagging
    deleted = replace(core.target.store["b.md"])
    core.remove("b.md")
    await core.full()
    core.target.store["b.md"] = deleted
    assert plan(await core.full()) == []
    assert plan(await core.hint("b.md")) == []
    assert core.problems() == {}
