"""Actions that give way to pending changes: each happens once, in the same pass."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from syncd.core.errors import Deferred
from syncd.core.model import Delete, Entry, Put
from syncd.core.requests import Priority, current_priority
from syncd.sync.mirror import Hooks, Scope
from syncd.sync.reconcile import reconcile
from syncd.targets.base import ReadContents, ReportOutcomes
from tests.harness import Core, in_step, is_clean, planned


def logged(core: Core) -> list[str]:
    """Return the keys of the log of deletes."""
    lines = (core.state / "deletes.jsonl").read_text().splitlines()
    return [json.loads(line)["key"] for line in lines]


def gives_way(core: Core, monkeypatch: pytest.MonkeyPatch, *ways: str) -> None:
    """Let the next batches give way: all actions as outcomes, or by an exception of a request before them."""
    apply, left = type(core.target).apply, [*ways]

    async def deferring(target: Any, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        match left.pop(0) if left else "":
            case "reported":
                report({action: Deferred("changes first") for action in batch})
            case "raised":
                raise Deferred("changes first")
            case _:
                await apply(target, batch, read, report)

    monkeypatch.setattr(type(core.target), "apply", deferring)


def serving(core: Core) -> Hooks:
    """Return hooks that serve the settled keys as the daemon does."""

    async def serve() -> None:
        if rows := core.mirror.queue.settled(core.clock.now):
            await reconcile(core.mirror, Scope(rows))

    return Hooks(serve, bulk=True)


async def test_a_delete_that_a_pending_change_makes_meanwhile_is_logged_once(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="1", b="2", c="3", d="4")
    core.remove("a", "b", "c")
    core.mark("a", "b")
    core.clock.forward(1)
    gives_way(core, monkeypatch, "reported")
    result = await core.full(serving(core))
    assert sorted(core.target.store) == ["d"]
    assert sorted(logged(core)) == ["a", "b", "c"]
    assert planned(result) == {"delete": 1}
    assert is_clean(result)


async def test_the_brake_counts_a_delete_once_that_a_pending_change_makes_before_it(core: Core) -> None:
    await in_step(core, **{f"{number:02}": f"text {number}" for number in range(40)})
    core.use(max_delete="25%")
    core.remove(*(f"{number:02}" for number in range(8)))
    core.mark(*(f"{number:02}" for number in range(8)))
    core.write("new", "1")
    core.clock.forward(1)
    result = await core.full(serving(core))
    assert (len(core.target.store), len(logged(core))) == (33, 8)
    assert result.refusal is None


@pytest.mark.parametrize("way", ["reported", "raised"])
async def test_a_batch_that_gives_way_again_and_again_is_done_in_the_same_pass(
    core: Core, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    await in_step(core, a="1", b="2", c="3", d="4")
    core.remove("a", "b")
    core.write("new", "5")
    gives_way(core, monkeypatch, *[way] * 20)
    result = await core.full(Hooks(bulk=True))
    assert sorted(core.target.store) == ["c", "d", "new"]
    assert sorted(logged(core)) == ["a", "b"]
    assert result.done == {"put": 1, "delete": 2}
    assert is_clean(result)


@pytest.mark.parametrize("bulk", [True, False])
async def test_only_a_pass_in_bulk_leaves_room_for_edits(
    core: Core, monkeypatch: pytest.MonkeyPatch, *, bulk: bool
) -> None:
    apply, seen, left = type(core.target).apply, list[Priority](), list[int | None]()

    async def noting(target: Any, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        priority = current_priority()
        seen.append(priority)
        left.append(priority.left() if priority.left else None)
        await apply(target, batch, read, report)

    listing, listed = type(core.target).listing, list[Priority]()

    def noting_listing(target: Any) -> list[Entry]:
        listed.append(current_priority())
        return listing(target)

    monkeypatch.setattr(type(core.target), "apply", noting)
    monkeypatch.setattr(type(core.target), "listing", noting_listing)
    core.write("a", "1")
    core.write("b", "2")
    hooks = Hooks(bulk=bulk, longest_wait_s=7.0)
    await core.full(hooks)
    assert listed == [Priority(bulk=bulk, longest_wait_s=7.0)]
    (priority,) = seen
    assert (priority.bulk, priority.longest_wait_s) == (bulk, 7.0)
    assert priority.gives_way is (hooks.has_pending if bulk else None)
    assert left == [2 if bulk else None]
