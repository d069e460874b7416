"""Files that cannot be read, keep changing or are excluded."""

from typing import Any

import pytest

from syncd.core.errors import FileChanged, Park
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from syncd.sync.mirror import Hooks, Scope
from syncd.sync.reconcile import reconcile
from tests.harness import Core, ScriptedTarget, in_step, is_clean, outcomes, plan, planned

# -- what may not be read, what will not hold still


def unreadable(monkeypatch: pytest.MonkeyPatch, *paths: str) -> None:
    real = Tree.read

    def read(self: Tree, path: str, *, allow_changing: bool = False) -> object:
        if path in paths:
            raise Park("unreadable", "let syncd read it")
        return real(self, path, allow_changing=allow_changing)

    monkeypatch.setattr(Tree, "read", read)


async def test_an_unreadable_file_keeps_its_entry_and_stops_no_other(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="1", b="2", c="3")
    core.write("a", "changed")
    core.write("new", "four")
    core.remove("c")
    with monkeypatch.context() as patch:
        unreadable(patch, "a", "new")
        await core.full()
        assert core.target.texts() == {"a": "1", "b": "2"}
        assert core.problems() == {"a": "unreadable", "new": "unreadable"}
        assert core.problem("a").message == core.problem("new").message == "let syncd read it"
        await core.hint("a")
        assert core.target.texts() == {"a": "1", "b": "2"}
    await core.full()
    assert core.target.texts() == {"a": "changed", "b": "2", "new": "four"}
    assert core.problems() == {}


async def test_a_file_that_becomes_unreadable_before_it_is_verified_is_called_so(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.target.put_by(None, "a", "1")
    core.write("a", "1", age_s=10)
    await core.full()
    core.mirror.journal.clear()
    unreadable(monkeypatch, "a")
    await core.full()
    assert core.problems() == {"a": "unreadable"}


def locked(monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """A folder that can be neither listed nor entered."""
    collect, twins = Tree._collect, Tree._twins

    def no_listing(self: Tree, path: str, ignores: Any, groups: Any) -> None:
        if path == folder:
            raise PermissionError(13, "Permission denied")
        collect(self, path, ignores, groups)

    def no_entering(self: Tree, folders: list[str], name: str, **how: bool) -> Any:
        if folder in folders:
            raise PermissionError(13, "Permission denied")
        return twins(self, folders, name, **how)

    monkeypatch.setattr(Tree, "_collect", no_listing)
    monkeypatch.setattr(Tree, "_twins", no_entering)


async def test_nothing_is_deleted_while_a_part_of_the_tree_cannot_be_read(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, **{"a": "1", "d/b": "2", "z": "3"})
    core.remove("z")
    core.write("new", "4")
    with monkeypatch.context() as patch:
        locked(patch, "d/")
        result = await core.full()
        assert not result.complete
        assert planned(result) == {"put": 1}
        assert core.problems() == {"d/": "unreadable"}, "one problem says it for all below"
        assert set(core.target.store) == {"a", "d/b", "new", "z"}
    assert planned(await core.full()) == {"delete": 1}
    assert core.problems() == {}


async def test_hints_wait_until_their_part_of_the_tree_can_be_read(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, **{"d/a": "1", "d/b": "2", "keep": "3"})
    core.remove("d/a")
    core.mark("d/a")
    with monkeypatch.context() as patch:
        locked(patch, "d/")
        await core.hint("d", subtree=True)
        assert core.waiting() == [("d", True), ("d/a", False)]
        assert core.mirror.queue.settled(core.clock.now) == [], "not at once, but after a while"
    core.clock.forward(core.mirror.settings.settle_max)
    await reconcile(core.mirror, Scope(core.mirror.queue.settled(core.clock.now)))
    assert core.target.texts() == {"d/b": "2", "keep": "3"}
    assert core.waiting() == []


async def test_the_root_as_a_hint_waits_too(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="1", b="2")
    core.remove("a")
    with monkeypatch.context() as patch:
        locked(patch, "")
        await core.hint("", subtree=True)
        assert core.waiting() == [("", True)]
    core.clock.forward(core.mirror.settings.settle_max)
    await reconcile(core.mirror, Scope(core.mirror.queue.settled(core.clock.now)))
    assert core.target.texts() == {"b": "2"}


def restless(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """A file that changes whenever it is read."""
    real = Tree.read

    def read(self: Tree, wanted: str, *, allow_changing: bool = False) -> object:
        if wanted == path and not allow_changing:
            raise FileChanged("changed while it was read")
        return real(self, wanted, allow_changing=allow_changing)

    monkeypatch.setattr(Tree, "read", read)


@pytest.mark.parametrize("known", [False, True])
async def test_a_file_that_keeps_changing_is_read_after_settle_max(
    core: Core, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    if known:
        await in_step(core, a="0", b="1")
    core.write("a", "torn")
    restless(monkeypatch, "a")
    result = await core.full()
    assert "torn" not in core.target.texts().values()
    assert is_clean(result), "a file that changes while it is read is no error"
    assert core.waiting() == [("a", False)]
    began = core.clock.now
    while "torn" not in core.target.texts().values():
        core.clock.forward(core.mirror.settings.settle)
        assert core.clock.now <= began + core.mirror.settings.settle_max
        await reconcile(core.mirror, Scope(core.mirror.queue.settled(core.clock.now)))
    assert core.clock.now == began + core.mirror.settings.settle_max


async def test_a_file_that_vanishes_between_plan_and_read_is_looked_at_again(core: Core) -> None:
    core.write("a", "1")
    core.write("b", "2")
    read = core.mirror.tree.read

    def vanish(path: str, *, allow_changing: bool = False) -> object:
        if path == "a":
            (core.root / "a").unlink(missing_ok=True)
        return read(path, allow_changing=allow_changing)

    core.mirror.tree.read = vanish  # type: ignore[method-assign, assignment]
    result = await core.full()
    assert outcomes(result) == {"a": "again", "b": "done"}
    assert is_clean(result)
    assert core.waiting() == [("a", False)]


async def test_a_file_that_reappears_before_its_delete_is_not_deleted(core: Core) -> None:
    await in_step(core, a="1", b="2", c="3")
    core.remove("a", "b")
    core.write("new", "4")

    async def reappear() -> None:
        core.write("a", "back")

    result = await core.full(Hooks(reappear))
    assert outcomes(result) == {"a": "again", "b": "done", "new": "done"}
    assert core.waiting() == [("a", False)]
    await core.hint("a")
    assert core.target.texts() == {"a": "back", "c": "3", "new": "4"}


async def test_a_file_that_the_walk_missed_is_not_deleted(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="1", b="2")
    monkeypatch.setattr(Tree, "walk", lambda *_: iter(()))
    result = await core.full()
    assert planned(result) == {}
    assert result.changed_during_read == 2
    assert core.target.texts() == {"a": "1", "b": "2"}


# -- excluded


async def test_entries_that_new_rules_exclude_stay_unless_requested(core: Core) -> None:
    await in_step(core, **{"a.md": "1", "drafts/b.md": "2"})
    core.use(rules=Rules(exclude=("drafts/",)))
    assert planned(await core.full()) == {}
    assert planned(await core.hint("drafts/b.md")) == {}
    assert set(core.target.store) == {"a.md", "drafts/b.md"}
    assert plan(await core.full(delete_excluded=True)) == [("delete", "drafts/b.md", "stale")]
    assert set(core.target.store) == {"a.md"}


async def test_an_excluded_file_that_was_never_sent_is_nothing(core: Core) -> None:
    core.use(rules=Rules(exclude=("*.tmp",)))
    core.write("a.tmp", "1")
    core.write("b", "2")
    await core.full()
    await core.hint("a.tmp")
    assert core.target.texts() == {"b": "2"}
    assert core.problems() == {}


async def test_a_file_excluded_after_the_plan_is_not_uploaded(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    core.mirror.tree.ignores.settle = core.mirror.tree.ignores.empty_settle = 0.0
    core.write("a/private.md", "secret")
    core.write("open.md", "1")
    apply = ScriptedTarget.apply

    async def late(self: ScriptedTarget, *args: Any) -> None:
        core.write("a/.syncdignore", "private.md\n")
        await apply(self, *args)

    monkeypatch.setattr(ScriptedTarget, "apply", late)
    result = await core.full()
    assert outcomes(result) == {"a/private.md": "again", "open.md": "done"}
    core.clock.forward(1.0)
    await reconcile(core.mirror, Scope(core.mirror.queue.settled(core.clock.now)))
    assert core.target.texts() == {"open.md": "1"}
    assert core.waiting() == []
