"""A pass observes what a merge of three dictionaries gives, whatever the size of a page."""

import asyncio
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.errors import FileChanged
from syncd.core.model import Entry, Excluded, Item, Problem, Record
from syncd.core.names import Forms, Shard
from syncd.core.plan import Policy
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.local.walk import Tree
from syncd.service.build import build_mirror
from syncd.state import pass_tables
from syncd.state.db import open_state
from syncd.state.pass_tables import PassTables
from syncd.state.queue import Dirty
from syncd.sync.mirror import Mirror, Settings
from syncd.sync.observe import ROOT, Observed, Places, ScopeTooLarge, fill_from_journal, observe, places, too_many
from tests.harness import IN_MEMORY, Core, ScriptedTarget, in_step, open_core, planned, sha

KEYS = ["a-b", "a.b", "a/b", "a/c/d", "a0", "b", "b.c", "c/a", "c/b", "\u00fc", "\U0001f600"]
key_sets = st.sets(st.sampled_from(KEYS))


def record(key: str) -> Record:
    return Record(key, f"r-{key}", sha("x"), 1, 1.0)


async def gather(mirror: Mirror, tables: PassTables) -> list[Observed]:
    return [observed async for block in observe(mirror, tables, ROOT, "listing", full=True) for observed in block]


def merged(prefix: str, block: int, local: set[str], records: set[str], entries: set[str]) -> list[Observed]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pass_tables, "PAGE", block)
        patch.setattr(pass_tables, "WINDOW", block)
        root = Path(made, "root")
        root.mkdir()
        for key in local:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_text("x")
        with closing(open_state(Path(made, "state"))) as db:
            settings_ = Settings(Policy("me", prefix=prefix), Rules())
            mirror = build_mirror(db, "docs", root, ScriptedTarget(owner="me", prefix=prefix), settings_)
            for key in records:
                mirror.journal.put(record(prefix + key))
            tables = PassTables(db, 1)
            tables.remote.add([Entry(prefix + key, f"r-{prefix}{key}") for key in entries])
            return asyncio.run(gather(mirror, tables))


@settings(max_examples=60)
@given(st.sampled_from(["", "p/", "p"]), st.integers(1, 5), key_sets, key_sets, key_sets)
def test_the_merge_is_that_of_three_dictionaries(
    prefix: str, block: int, local: set[str], records: set[str], entries: set[str]
) -> None:
    found = merged(prefix, block, local, records, entries)
    every = sorted(prefix + key for key in local | records | entries)
    assert [observed.key for observed in found] == every
    assert {prefix + key for key in local} == {observed.key for observed in found if isinstance(observed.local, Item)}
    assert {prefix + key for key in records} == {observed.key for observed in found if observed.record}
    assert {prefix + key for key in entries} == {observed.key for observed in found if observed.entry}
    assert all(observed.seen == "listing" for observed in found)


@pytest.mark.parametrize("size", [511, 512, 513, 1023, 1024, 1025])
def test_blocks_of_the_real_size_lose_nothing_at_their_edges(size: int) -> None:
    local = {f"{n:05}" for n in range(size)}
    assert [observed.key for observed in merged("", pass_tables.PAGE, local, local, local)] == sorted(local)


async def parts(core: Core, *rows: tuple[str, bool]) -> list[Observed]:
    dirty = [Dirty(key, subtree, 0, 1, 0.0, 0.0) for key, subtree in sorted(rows)]
    tables, where = PassTables(core.mirror.db, 1), places(core.mirror, dirty)
    fill_from_journal(core.mirror, tables, where)
    found = [each async for block in observe(core.mirror, tables, where, "journal", full=True) for each in block]
    tables.drop()
    return found


async def test_a_part_is_a_key_or_all_below_a_directory(core: Core) -> None:
    for path in ("a/x", "a/y/z", "a.md", "b"):
        core.write(path, "1")
    for key in ("a/gone", "a.gone", "c"):
        core.mirror.journal.put(record(key))
    found = await parts(core, ("a", True), ("b", False), ("c", False), ("d", False))
    assert {observed.key for observed in found} == {"a/gone", "a/x", "a/y/z", "b", "c"}
    assert {observed.key for observed in found if observed.record} == {"a/gone", "c"}
    assert {observed.seen for observed in found} == {"journal"}


async def test_the_root_as_a_part_is_the_whole_tree(core: Core) -> None:
    core.write("a/x", "1")
    core.mirror.journal.put(record("gone"))
    assert [observed.key for observed in await parts(core, ("", True))] == ["a/x", "gone"]


async def test_the_root_with_a_prefix_is_the_prefix(core: Core) -> None:
    core.use(prefix="p/")
    core.write("a/x", "1")
    core.mirror.journal.put(record("p/gone"))
    assert [observed.key for observed in await parts(core, ("p/", True))] == ["p/a/x", "p/gone"]
    assert {observed.key for observed in await parts(core, ("p/a", True))} == {"p/a/x"}


@pytest.mark.parametrize(
    "rows",
    [
        [("a", True), ("a/x", False)],
        [("a", True), ("a/b", True), ("a/b/c", False)],
        [("", True), ("a", True), ("a/x", False)],
    ],
)
async def test_a_key_is_seen_once_however_many_rows_cover_it(core: Core, rows: list[tuple[str, bool]]) -> None:
    core.write("a/x", "1")
    core.write("a/b/c", "1")
    found = [observed.key for observed in await parts(core, *rows) if observed.local]
    assert sorted(found) == ["a/b/c", "a/x"]


async def test_a_name_that_cannot_be_a_key_is_seen_wherever_it_stands(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pass_tables, "PAGE", 2)
    monkeypatch.setattr("syncd.sync.observe.WALK_BATCH", 2)
    for path in ("a", "b", "bad\n", "c", "d"):
        core.write(path, "1")
    found = await gather(core.mirror, PassTables(core.mirror.db, 1))
    assert [observed.key for observed in found if isinstance(observed.local, Item)] == ["a", "b", "c", "d"]
    assert [observed.key for observed in found if isinstance(observed.local, Problem)] == ["bad\n"]


def counts_first(known: Record | None, *entries: Entry) -> str:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as made, open_core(Path(made)) as core:
        if known:
            core.mirror.journal.put(known)
        tables = PassTables(core.mirror.db, 1)
        tables.remote.add(entries)
        (observed,) = asyncio.run(gather(core.mirror, tables))
        assert observed.entry is not None
        assert len(observed.others) == len(entries) - 1
        return observed.entry.ref


def test_of_several_entries_under_a_key_the_one_we_wrote_counts() -> None:
    known = Record("k", "2", "c", 1, 1.0)
    entries = [Entry("k", "1", "c", owner="me"), Entry("k", "2"), Entry("k", "3", "c", owner="me")]
    assert counts_first(known, *entries) == "2"


def test_else_one_that_has_our_mark() -> None:
    assert counts_first(None, Entry("k", "1", "c", owner="you"), Entry("k", "2", "d", owner="me")) == "2"


def test_else_one_that_has_the_content() -> None:
    known = Record("k", "9", "c", 1, 1.0)
    assert counts_first(known, Entry("k", "1", "d", owner="me"), Entry("k", "2", "c", owner="me")) == "2"


async def test_files_that_change_during_their_read_are_counted_in_every_page(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    await in_step(core, a="1", b="2")
    core.write("a", "new 1")
    core.write("b", "new 2")

    def changing(_: Tree, path: str, **_how: object) -> NoReturn:
        raise FileChanged(path)

    monkeypatch.setattr(pass_tables, "PAGE", 1)
    monkeypatch.setattr(Tree, "read", changing)
    assert (await core.full()).changed_during_read == 2
    assert core.waiting() == [("a", False), ("b", False)]


async def test_a_file_that_changes_while_its_entry_is_confirmed_is_marked_again(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    core.target.put_by("me", "a", "1")
    core.write("a", "1")

    def changing(_: Tree, path: str, **_how: object) -> NoReturn:
        raise FileChanged(path)

    monkeypatch.setattr(Tree, "read", changing)
    result = await core.hint("a")
    assert (result.changed_during_read, result.unchanged, planned(result)) == (1, 0, {})
    assert core.waiting() == [("a", False)]


# -- keys that are not confirmed one by one


@pytest.mark.parametrize(
    ("page", "records", "shards", "most"),
    [(None, 0, 1, None), (10, 0, 1, 20), (10, 9, 1, 20), (10, 10, 1, 21), (10, 10, 3, 23), (1, 3, 1, 23)],
)
async def test_a_listing_is_made_if_it_costs_less_than_the_questions(
    core: Core, page: int | None, records: int, shards: int, most: int | None
) -> None:
    """most: the number of keys up to which each key is asked for."""
    core.use(shard=Shard(0, shards))
    core.target.limits = Limits(page=page)
    for number in range(records):
        core.mirror.journal.put(record(f"{number}"))
    if most is None:
        assert not too_many(core.mirror, 10_000)
    else:
        assert (too_many(core.mirror, most), too_many(core.mirror, most + 1)) == (False, True)


async def test_a_part_includes_the_files_whose_entries_would_have_the_same_name(core: Core) -> None:
    core.target.limits = Limits(forms=Forms(as_text=("*.ts",)))
    rows = [Dirty(key, subtree, 0, 1, 0.0, 0.0) for key, subtree in (("a.ts", False), ("d", True), ("d/b.ts", False))]
    assert places(core.mirror, rows) == Places(["d/"], ["a.ts", "d", "a.ts.txt"])
    core.use(prefix="p/")
    rows = [Dirty(f"p/{key}", subtree, 0, 1, 0.0, 0.0) for key, subtree in (("", True), ("a", False))]
    assert places(core.mirror, rows) == Places([""], [])
    rows = [Dirty(f"p/{key}", subtree, 0, 1, 0.0, 0.0) for key, subtree in (("", False), ("a", False))]
    assert places(core.mirror, rows) == Places([], ["p/a"])


@pytest.mark.parametrize("changes", [24, 25])
async def test_entries_that_would_be_replaced_are_confirmed_unless_a_listing_costs_less(
    core: Core, changes: int
) -> None:
    await in_step(core, **{f"{number:02}": "old" for number in range(40)})
    core.target.limits = Limits(max_file_size=1000, page=10)
    names = [f"{number:02}" for number in range(changes)]
    for name in names:
        core.write(name, "other")
    if changes == 24:
        assert planned(await core.hint(*names)) == {"put": changes}
        assert sorted(core.target.confirmed) == names
    else:
        with pytest.raises(ScopeTooLarge):
            await core.hint(*names)
        assert core.target.applied == []


async def test_the_problem_of_an_invalid_name_concerns_no_file_whose_key_it_shows(core: Core) -> None:
    await in_step(core, other="1")
    (core.root / os.fsdecode(b"bad\xff")).write_text("2")
    await core.full()
    ((shown, kind),) = core.problems().items()
    assert kind == "invalid_key"
    core.write(shown, "3")
    result = await core.full()
    assert core.target.texts() == {"other": "1", shown: "3"}
    assert result.problems == {"invalid_key": 1}


# -- a second look


@pytest.mark.parametrize(
    ("key", "kind", "complete", "reported"),
    [
        ("gone", "unreadable", True, True),
        ("gone", "unreadable", False, False),
        ("gone", "too_large", False, True),
        ("dir/", "unreadable", True, False),
        ("dir/", "too_large", True, False),
    ],
)
async def test_the_problem_of_a_second_look_is_reported_unless_a_directory_has_it(
    core: Core, monkeypatch: pytest.MonkeyPatch, key: str, kind: Any, *, complete: bool, reported: bool
) -> None:
    await in_step(core, gone="1", other="2")
    core.remove("gone")

    def look(tree: Tree, _key: str) -> Problem:
        tree.complete = complete
        return Problem(key, kind, "why")

    monkeypatch.setattr(Tree, "look", look)
    result = await core.full()
    assert planned(result) == {}
    assert core.problems() == ({"gone": kind} if reported else {})
    assert result.problems == ({kind: 1} if reported else {})


@pytest.mark.parametrize("local", ["item", "excluded"])
@pytest.mark.parametrize("delete_excluded", [False, True])
async def test_a_file_that_comes_before_the_second_look_keeps_its_entry(
    core: Core, monkeypatch: pytest.MonkeyPatch, local: str, *, delete_excluded: bool
) -> None:
    await in_step(core, gone="1", other="2")
    core.remove("gone")
    found = Item("gone", "gone", 1, 1, 1, 1) if local == "item" else Excluded("gone", "exclude: gone")
    monkeypatch.setattr(Tree, "look", lambda *_: found)
    result = await core.full(delete_excluded=delete_excluded)
    assert planned(result) == ({"delete": 1} if local == "excluded" and delete_excluded else {})
    assert core.waiting() == ([("gone", False)] if local == "item" else [])
    assert (result.changed_during_read, result.unchanged) == (int(local == "item"), 1)
