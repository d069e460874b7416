"""Extreme numbers of one file, or an exception about it, stop no other file."""

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from syncd.core.model import Item, int64
from syncd.local.read import Disk
from syncd.local.walk import Tree
from syncd.state.caches import StatCache
from syncd.state.deletions import Tombstones
from syncd.state.journal import Journal
from tests.harness import Core, ScriptedTarget, in_step, is_clean, outcomes, planned
from tests.memory_target import MemoryTarget

FAR = (10_413_792_000, -10_000_000_000, 2**33, 0, -1)
NOW_NS = 2**62
NUMBERS = (2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0, -1)


@pytest.mark.parametrize("seconds", FAR)
async def test_a_file_of_any_time_is_recorded_and_found_unchanged(core: Core, seconds: int) -> None:
    os.utime(core.write("a", "1"), (seconds, seconds))
    core.write("b", "2")
    assert outcomes(await core.full()) == {"a": "done", "b": "done"}
    result = await core.full()
    assert planned(result) == {}
    assert result.problems == {}
    core.mirror.files.invalidate()
    assert planned(await core.full()) == {}
    assert (await core.full()).files_read == 1, "only that of b, which is too young to be believed"


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_of_the_kernel_are_kept(core: Core, number: int) -> None:
    seen: Any = SimpleNamespace(st_size=3, st_mtime_ns=number, st_ctime_ns=number, st_ino=number)
    item = Item("a", "a", 3, int64(number), int64(number), int64(number))
    core.mirror.files.store([("a", seen, "c" * 64)], NOW_NS)
    assert core.mirror.files.fill([item])["a"].checksum == "c" * 64
    assert core.mirror.files.fill([item._replace(inode=int64(number + 1))]) == {}


def _about_b(real: Callable[..., Any], place: int) -> Callable[..., Any]:
    """Return a function that raises an unexpected exception if an argument names the file "b"."""

    def odd(*arguments: Any, **named: Any) -> Any:
        told = arguments[place]
        if "b" in (told, getattr(told, "key", None), getattr(told, "path", None)):
            raise OverflowError("nobody thought of this")
        return real(*arguments, **named)

    return odd


@pytest.mark.parametrize(
    ("owner", "name", "place"),
    [(Tree, "_judge", 1), (Disk, "read", 1), (Journal, "put", 1), (MemoryTarget, "_apply_one", 1)],
)
async def test_an_exception_about_a_put_is_that_files_problem(
    core: Core, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, place: int
) -> None:
    if owner is MemoryTarget:
        real = ScriptedTarget.apply

        async def apply(self: ScriptedTarget, batch: Any, read: Any, report: Any) -> None:
            if any(action.key == "b" for action in batch):
                raise OverflowError("nobody thought of this")
            await real(self, batch, read, report)

        monkeypatch.setattr(ScriptedTarget, "apply", apply)
    else:
        monkeypatch.setattr(owner, name, _about_b(getattr(owner, name), place))
    for key in "abcde":
        core.write(key, key)
    result = await core.full()
    assert core.problems() == {"b": "failed"}
    assert "OverflowError" in core.problem("b").message
    assert not is_clean(result)
    monkeypatch.undo()
    core.mirror.queue.make_due(None, core.clock.now)
    await core.full()
    assert core.problems() == {}
    assert core.target.texts() == {key: key for key in "abcde"}


async def test_an_exception_about_a_changed_file_is_that_files_problem(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="a", b="b", c="c")
    for key in "abc":
        core.write(key, f"new {key}")
    monkeypatch.setattr(Disk, "read", _about_b(Disk.read, 1))
    await core.full()
    assert core.problems() == {"b": "failed"}
    assert "OverflowError" in core.problem("b").message
    assert core.target.texts() == {"a": "new a", "b": "b", "c": "new c"}


async def test_a_look_that_raises_deletes_nothing(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="a", b="b", c="c")
    core.remove("a", "b")
    monkeypatch.setattr(Tree, "_look_at", _about_b(Tree._look_at, 1))
    core.use(max_delete="100%")
    await core.full()
    assert core.target.texts() == {"b": "b", "c": "c"}
    assert core.problems() == {"b": "failed"}


async def test_an_exception_about_an_adopted_entry_stops_no_other(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="a", b="b", c="c")
    core.mirror.journal.clear()
    monkeypatch.setattr(Journal, "put", _about_b(Journal.put, 1))
    result = await core.full()
    assert outcomes(result) == {"a": "done", "b": "failed", "c": "done"}
    assert core.problems() == {"b": "failed"}


async def test_an_exception_about_a_delete_stops_no_other(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="a", b="b", c="c")
    core.remove("a", "b")
    core.use(max_delete="100%")
    monkeypatch.setattr(Tombstones, "record_delete", _about_b(Tombstones.record_delete, 1))
    result = await core.full()
    assert outcomes(result) == {"a": "done", "b": "failed"}
    monkeypatch.undo()
    core.mirror.queue.make_due(None, core.clock.now)
    await core.full()
    assert core.mirror.journal.get("b") is None


async def test_a_question_that_raises_is_that_files_problem(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="a", b="b", c="c")
    core.target.unlisted = {"b", "c"}
    monkeypatch.setattr(ScriptedTarget, "confirm", _about_b(ScriptedTarget.confirm, 1))
    await core.full()
    assert core.problems() == {"b": "failed"}
    assert core.row("b").attempts == 1


async def test_an_error_of_the_state_file_is_no_problem_of_a_file(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    def broken(*_: Any) -> None:
        raise sqlite3.OperationalError("database is locked")

    core.write("a", "a")
    monkeypatch.setattr(StatCache, "store", broken)
    with pytest.raises(sqlite3.OperationalError):
        await core.full()
