"""Passes over a real folder and a target in memory."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from syncd.core.errors import FileChanged, Halt
from syncd.core.model import Content, Put
from syncd.core.names import Forms
from syncd.core.problems import Limits
from syncd.local import walk
from syncd.local.walk import Tree
from syncd.state.db import Meta
from syncd.sync.mirror import CONVERSIONS, Hooks, Result
from syncd.targets.base import Done, ReadContents, ReportOutcomes, read_one
from tests.harness import START, Core, content, in_step, is_clean, outcomes, plan, planned, sha

# -- in step


async def test_a_folder_is_mirrored_and_then_there_is_nothing_to_do(core: Core) -> None:
    core.write("a.md", "1")
    core.write("d/b.md", "2")
    first = await core.full()
    assert core.target.texts() == {"a.md": "1", "d/b.md": "2"}
    assert plan(first) == [("put", "a.md", "new"), ("put", "d/b.md", "new")]
    assert outcomes(first) == {"a.md": "done", "d/b.md": "done"}
    assert is_clean(first)
    second = await core.full()
    assert planned(second) == {}
    assert second.unchanged == 2


async def test_keys_carry_the_prefix_and_entries_outside_it_are_not_ours(core: Core) -> None:
    core.use(prefix="p/")
    core.target.put_by("me", "q/x", "other")
    core.write("a/b", "1")
    core.write("c", "2")
    await core.full()
    assert core.target.texts() == {"p/a/b": "1", "p/c": "2", "q/x": "other"}
    core.remove("a/b")
    await core.hint("a/b")
    assert core.target.texts() == {"p/c": "2", "q/x": "other"}


async def test_a_changed_file_is_put_and_a_removed_one_is_deleted(core: Core) -> None:
    await in_step(core, a="1", b="2", c="3")
    core.write("a", "new")
    core.remove("b")
    await core.full()
    assert core.target.said() == [("put", "a", "changed"), ("delete", "b", "stale")]
    assert core.target.texts() == {"a": "new", "c": "3"}


async def test_a_hint_looks_at_its_key_only_and_needs_no_listing(core: Core) -> None:
    await in_step(core, a="1", b="2", c="3")
    core.write("a", "new")
    core.write("b", "new")
    core.remove("c")
    await core.hint("a", "c")
    assert core.target.said() == [("put", "a", "changed"), ("delete", "c", "stale")]
    assert core.waiting() == []


async def test_a_hint_of_a_directory_looks_at_all_below_it(core: Core) -> None:
    await in_step(core, **{"d/a": "1", "d/e/b": "2", "x": "3"})
    (core.root / "d").rename(core.root / "moved")
    core.write("d-", "not below d")
    result = await core.hint("d", "moved", subtree=True)
    assert core.target.texts() == {"moved/a": "1", "moved/e/b": "2", "x": "3"}
    assert planned(result) == {"put": 2, "delete": 2}


async def test_a_file_that_becomes_a_directory_and_back(core: Core) -> None:
    await in_step(core, a="1", keep="2")
    core.remove("a")
    core.write("a/b", "below")
    await core.hint("a", subtree=True)
    assert core.target.texts() == {"a/b": "below", "keep": "2"}
    core.remove("a/b")
    (core.root / "a").rmdir()
    core.write("a", "again")
    await core.hint("a", subtree=True)
    assert core.target.texts() == {"a": "again", "keep": "2"}


async def test_the_same_bytes_are_not_sent_again_for_a_touch_or_a_copy(core: Core) -> None:
    await in_step(core, a="1")
    os.utime(core.root / "a")
    core.write("tmp~", "1").rename(core.root / "a")
    assert planned(await core.full()) == {}
    assert planned(await core.hint("a")) == {}
    assert core.target.changes == 0


async def test_unchanged_files_are_read_only_by_a_full_option(core: Core) -> None:
    core.write("a", "1", age_s=10)
    core.write("b", "2", age_s=10)
    await core.full()
    assert (await core.full()).files_read == 0
    assert (await core.full(full=True)).files_read == 2


async def test_puts_precede_deletes(core: Core) -> None:
    await in_step(core, a="1", m="2", z="3")
    core.remove("a", "m")
    core.write("n", "2")
    core.write("z", "4")
    await core.full()
    assert [action.kind for action in core.target.applied] == ["put", "put", "delete", "delete"]


async def test_the_end_of_a_full_pass_is_remembered(core: Core) -> None:
    assert core.mirror.meta.get("last_reconcile") is None
    core.write("a", "1")
    await core.hint("a")
    assert core.mirror.meta.get("last_reconcile") is None
    await core.full()
    assert core.mirror.meta.get("last_reconcile") == core.clock.now
    assert core.mirror.meta.get("files") == 1, "the status shows it"
    before = core.clock.now
    await core.full(dry_run=True)
    assert core.mirror.meta.get("last_reconcile") == before


async def test_passes_are_numbered_across_mirrors_and_restarts(core: Core) -> None:
    first = (await core.full()).pass_id
    core.restart()
    assert (await core.full()).pass_id == first + 1
    assert Meta(core.mirror.db, "").get("pass") == first + 1


async def test_a_full_pass_empties_the_queue(core: Core) -> None:
    core.write("a", "1")
    core.mark("a", "gone")
    core.mark("d", subtree=True)
    await core.full()
    assert core.waiting() == []


# -- a dry run


async def test_a_dry_run_changes_nothing_remotely_and_keeps_the_queue(core: Core) -> None:
    await in_step(core, a="1", b="2", c="3")
    core.mirror.journal.forget("c")
    core.write("new", "1")
    core.remove("b")
    core.mark("new")
    result = await core.full(dry_run=True)
    assert plan(result) == [("adopt", "c", "found"), ("put", "new", "new"), ("delete", "b", "stale")]
    assert set(outcomes(result).values()) == {None}
    assert core.target.changes == 0
    assert core.target.applied == []
    assert core.mirror.journal.get("c") is None
    assert core.waiting() == [("new", False)]


# -- between turns


async def test_settled_hints_are_served_between_the_batches_of_a_long_pass(core: Core) -> None:
    for number in range(600):
        core.write(f"{number:03}", "x")
    turns = []

    async def serve() -> None:
        turns.append(len(core.target.store))
        if len(turns) == 1:
            core.write("599", "edited")
            await core.hint("599")
            assert core.target.texts()["599"] == "edited"

    result = await core.full(Hooks(serve))
    assert turns == [256, 513, 600]
    assert core.target.texts()["599"] == "edited"
    assert sum(action.key == "599" for action in core.target.applied) == 1, "the older plan does not send it again"
    assert set(outcomes(result).values()) == {"done"}
    assert result.done["put"] == 600


async def test_pending_hints_are_served_before_the_rest_of_a_batch(core: Core) -> None:
    for number in range(5):
        core.write(f"{number}", "x")
    served = []

    async def serve() -> None:
        served.append(len(core.target.store))

    result = await core.full(Hooks(serve, has_pending=lambda: True))
    assert served == [1, 2, 3, 4, 5]
    assert set(outcomes(result).values()) == {"done"}
    assert is_clean(result)


async def test_the_growing_result_is_shown_while_the_pass_is_under_way(core: Core) -> None:
    for number in range(3):
        core.write(f"{number}", "x")
    seen: list[tuple[int, int]] = []

    def watch(result: Result) -> None:
        seen.append((result.tables.plan.counts["put"], result.done["put"]))

    await core.full(Hooks(on_progress=watch))
    assert seen[0] == (0, 0)
    assert (3, 0) in seen
    assert seen[-1] == (3, 3)


async def test_outcomes_that_come_together_are_shown_once(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(40):
        core.write(f"{number}", "x")

    async def in_two_halves(_: object, batch: Sequence[Put], read: ReadContents, report: ReportOutcomes) -> None:
        stored = [Done(await core.target.put(put.key, await read_one(read, put))) for put in batch]
        for half in (slice(0, 20), slice(20, 40)):
            report(dict(zip(batch[half], stored[half], strict=True)))
            await asyncio.sleep(0.001)

    seen: list[int] = []
    monkeypatch.setattr(type(core.target), "apply", in_two_halves)
    await core.full(Hooks(on_progress=lambda result: seen.append(result.done["put"])))
    assert [done for done in seen if done] == [20, 40]


async def test_a_failed_pass_drops_its_plan_unless_it_is_watched(core: Core) -> None:
    core.write("a", "1")
    rows: Callable[[], int] = lambda: int(core.mirror.db.execute("SELECT count(*) FROM temp.plan").fetchone()[0])  # noqa: E731
    core.target.raises = [Halt("no"), Halt("no")]
    with pytest.raises(Halt):
        await core.full()
    assert rows() == 0
    with pytest.raises(Halt):
        await core.full(Hooks(on_progress=lambda _: None))
    assert rows() == 1


async def test_a_put_hashes_the_bytes_that_it_sends(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    core.write("a", "planned")
    real = walk.Tree.read

    def edit(self: Tree, path: str, *, allow_changing: bool = False) -> object:
        core.write("a", "edited since")
        return real(self, path, allow_changing=allow_changing)

    monkeypatch.setattr(Tree, "read", edit)
    await core.full()
    known = core.mirror.journal.get("a")
    assert known is not None
    assert (known.checksum, known.size, known.written_at) == (sha("edited since"), 12, START + 1)
    assert core.target.store["a"].data == content("edited since").data
    assert [action.size for action in core.target.applied if isinstance(action, Put)] == [7]


@pytest.mark.parametrize(("name", "at_once"), [("{}.pdf", CONVERSIONS), ("{}.md", CONVERSIONS + 2)])
async def test_few_files_are_converted_at_a_time(
    core: Core, monkeypatch: pytest.MonkeyPatch, name: str, at_once: int
) -> None:
    core.target.limits = replace(core.target.limits, forms=Forms(convert=("*.pdf",), converter="kreuzberg-1"))
    names = [name.format(number) for number in range(CONVERSIONS + 2)]
    for each in names:
        core.write(each, "x")
    begun: list[str] = []
    most = 0
    one_more, go = threading.Semaphore(0), threading.Event()

    def convert(key: str, content: Content, _: Limits) -> Content:
        begun.append(key)
        one_more.release()
        go.wait(10)
        return content

    async def apply(_: object, batch: Sequence[Put], read: ReadContents, report: ReportOutcomes) -> None:
        nonlocal most
        reads = [asyncio.ensure_future(read([put])) for put in batch]
        for _ in range(at_once):
            await asyncio.to_thread(one_more.acquire, timeout=10)
        await asyncio.sleep(0.05)
        most = len(begun)
        go.set()
        for put, reading in zip(batch, reads, strict=True):
            await reading
            report({put: FileChanged("not stored")})

    core.mirror.convert = convert
    monkeypatch.setattr(type(core.target), "apply", apply)
    await core.full()
    assert (most, sorted(begun)) == (at_once, names)
