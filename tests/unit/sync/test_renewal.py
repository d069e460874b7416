"""Entries that expire are put again in time."""

import pytest

from syncd.core.errors import FileChanged
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from tests.harness import Core, in_step, plan, planned

RENEW_S = 30.0


@pytest.mark.parametrize(("aged_s", "renewed"), [(28, False), (29, True), (-3600, True)])
@pytest.mark.parametrize("full", [False, True])
async def test_an_entry_in_step_is_put_again_at_half_its_life(
    core: Core, aged_s: float, renewed: bool, full: bool
) -> None:
    core.target.limits = Limits(max_file_size=1000, renew_s=RENEW_S)
    await in_step(core, a="1", b="2")
    core.clock.forward(aged_s)
    result = await core.full(full=full)
    assert plan(result) == ([("put", "a", "missing"), ("put", "b", "missing")] if renewed else [])
    assert planned(await core.full()) == ({} if renewed else {"put": 2})


async def test_a_hint_renews_too(core: Core) -> None:
    core.target.limits = Limits(max_file_size=1000, renew_s=RENEW_S)
    await in_step(core, a="1")
    core.clock.forward(RENEW_S)
    assert planned(await core.hint("a")) == {"put": 1}


async def test_an_entry_that_was_found_may_be_old(core: Core) -> None:
    core.target.limits = Limits(max_file_size=1000, renew_s=RENEW_S)
    core.write("a", "1")
    core.target.put_by("me", "a", "1")
    assert planned(await core.full()) == {"adopt": 1}
    assert planned(await core.full()) == {"put": 1}
    assert planned(await core.full()) == {}


async def test_a_changed_file_is_not_renewed_but_changed(core: Core) -> None:
    core.target.limits = Limits(max_file_size=1000, renew_s=RENEW_S)
    await in_step(core, a="1", b="2")
    core.clock.forward(RENEW_S)
    core.write("a", "other")
    assert plan(await core.full()) == [("put", "a", "changed"), ("put", "b", "missing")]


async def test_an_unreadable_file_is_a_problem_and_nothing_is_deleted(core: Core) -> None:
    core.target.limits = Limits(max_file_size=1000, renew_s=RENEW_S)
    await in_step(core, a="1", b="2")
    core.clock.forward(RENEW_S)
    core.remove("a")
    (core.root / "a").symlink_to("b")
    await core.full()
    assert core.problems() == {"a": "unsupported_type"}
    assert core.target.texts() == {"a": "1", "b": "2"}


@pytest.mark.parametrize("state", ["excluded", "gone", "changing"])
async def test_no_entry_is_renewed_whose_file_is_not_there(
    core: Core, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    core.target.limits = Limits(max_file_size=1000, renew_s=RENEW_S)
    await in_step(core, a="1", b="2")
    core.clock.forward(RENEW_S)
    if state == "excluded":
        core.use(rules=Rules(exclude=("a",)))
    elif state == "gone":
        core.remove("a")
        core.use(prune="never")
    else:
        core.write("a", "new")
        core.mark("a")
        read = Tree.read

        def changing(tree: Tree, path: str, *, allow_changing: bool = False) -> object:
            if path == "a":
                raise FileChanged(path)
            return read(tree, path, allow_changing=allow_changing)

        monkeypatch.setattr(Tree, "read", changing)
    core.target.limits = Limits(max_file_size=1000, renew_s=RENEW_S)
    assert plan(await core.full()) == [("put", "b", "missing")]
    assert core.target.texts()["a"] == "1"
    assert core.problems() == {}


async def test_none_is_renewed_where_none_expires(core: Core) -> None:
    await in_step(core, a="1")
    core.clock.forward(1e9)
    assert planned(await core.full()) == {}
