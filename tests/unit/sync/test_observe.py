"""The merge of three sorted streams gives what a merge of three dictionaries gives, whatever the size of a block."""

import asyncio
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.model import Entry, Item, Problem, Record
from syncd.core.plan import Policy
from syncd.core.rules import Rules
from syncd.service.build import build_mirror
from syncd.state.db import open_state
from syncd.state.pass_tables import PassTables
from syncd.state.queue import Dirty
from syncd.sync import observe
from syncd.sync.mirror import Mirror, Settings
from syncd.sync.observe import Triple
from tests.harness import Core, ScriptedTarget, open_core, sha

KEYS = ["a-b", "a.b", "a/b", "a/c/d", "a0", "b", "b.c", "c/a", "c/b", "\u00fc", "\U0001f600"]
key_sets = st.sets(st.sampled_from(KEYS))


def record(key: str) -> Record:
    return Record(key, f"r-{key}", sha("x"), 1, 1.0)


async def gather(mirror: Mirror, tables: PassTables) -> list[Triple]:
    return [triple async for block in observe.whole(mirror, tables) for triple in block]


def merged(prefix: str, block: int, local: set[str], records: set[str], entries: set[str]) -> list[Triple]:
    with tempfile.TemporaryDirectory() as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(observe, "BLOCK", block)
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
            tables.listing.add(Entry(prefix + key, f"r-{prefix}{key}") for key in entries)
            return asyncio.run(gather(mirror, tables))


@settings(max_examples=60)
@given(st.sampled_from(["", "p/", "p"]), st.integers(1, 5), key_sets, key_sets, key_sets)
def test_the_merge_is_that_of_three_dictionaries(
    prefix: str, block: int, local: set[str], records: set[str], entries: set[str]
) -> None:
    found = merged(prefix, block, local, records, entries)
    every = sorted(prefix + key for key in local | records | entries)
    assert [triple.key for triple in found] == every
    assert {prefix + key for key in local} == {triple.key for triple in found if isinstance(triple.local, Item)}
    assert {prefix + key for key in records} == {triple.key for triple in found if triple.record}
    assert {prefix + key for key in entries} == {triple.key for triple in found if triple.entry}
    assert all(triple.seen == "listing" for triple in found)


@pytest.mark.parametrize("size", [511, 512, 513, 1024, 1025])
def test_blocks_of_the_real_size_lose_nothing_at_their_edges(size: int) -> None:
    local = {f"{n:05}" for n in range(size)}
    assert [triple.key for triple in merged("", observe.BLOCK, local, local, local)] == sorted(local)


async def parts(core: Core, *rows: tuple[str, bool]) -> list[Triple]:
    dirty = [Dirty(key, subtree, 0, 1) for key, subtree in sorted(rows)]
    return [triple async for block in observe.dirty(core.mirror, dirty) for triple in block]


async def test_a_part_is_a_key_or_all_below_a_directory(core: Core) -> None:
    for path in ("a/x", "a/y/z", "a.md", "b"):
        core.write(path, "1")
    for key in ("a/gone", "a.gone", "c"):
        core.mirror.journal.put(record(key))
    found = await parts(core, ("a", True), ("b", False), ("c", False), ("d", False))
    assert {triple.key for triple in found} == {"a", "a/gone", "a/x", "a/y/z", "b", "c", "d"}
    assert {triple.key for triple in found if triple.record} == {"a/gone", "c"}
    assert {triple.seen for triple in found} == {"journal"}


async def test_the_root_as_a_part_is_the_whole_tree(core: Core) -> None:
    core.write("a/x", "1")
    core.mirror.journal.put(record("gone"))
    assert [triple.key for triple in await parts(core, ("", True))] == ["a/x", "gone"]


async def test_the_root_with_a_prefix_is_the_prefix(core: Core) -> None:
    core.use(prefix="p/")
    core.write("a/x", "1")
    core.mirror.journal.put(record("p/gone"))
    assert [triple.key for triple in await parts(core, ("p/", True))] == ["p/a/x", "p/gone"]
    assert {triple.key for triple in await parts(core, ("p/a", True))} == {"p/a", "p/a/x"}


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
    found = [triple.key for triple in await parts(core, *rows) if triple.local]
    assert sorted(found) == ["a/b/c", "a/x"]


async def test_a_name_that_cannot_be_a_key_is_seen_wherever_it_stands(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observe, "BLOCK", 2)
    for path in ("a", "b", "bad\n", "c", "d"):
        core.write(path, "1")
    found = await gather(core.mirror, PassTables(core.mirror.db, 1))
    assert [triple.key for triple in found if isinstance(triple.local, Item)] == ["a", "b", "c", "d"]
    assert [triple.key for triple in found if isinstance(triple.local, Problem)] == ["bad\n"]


def counts_first(known: Record | None, *entries: Entry) -> str:
    with tempfile.TemporaryDirectory() as made, open_core(Path(made)) as core:
        if known:
            core.mirror.journal.put(known)
        tables = PassTables(core.mirror.db, 1)
        tables.listing.add(entries)
        (triple,) = asyncio.run(gather(core.mirror, tables))
        assert triple.entry is not None
        assert len(triple.others) == len(entries) - 1
        return triple.entry.ref


def test_of_several_entries_under_a_key_the_one_we_wrote_counts() -> None:
    known = Record("k", "2", "c", 1, 1.0)
    entries = [Entry("k", "1", "c", owner="me"), Entry("k", "2"), Entry("k", "3", "c", owner="me")]
    assert counts_first(known, *entries) == "2"


def test_else_one_that_has_our_mark() -> None:
    assert counts_first(None, Entry("k", "1", "c", owner="you"), Entry("k", "2", "d", owner="me")) == "2"


def test_else_one_that_has_the_content() -> None:
    known = Record("k", "9", "c", 1, 1.0)
    assert counts_first(known, Entry("k", "1", "d", owner="me"), Entry("k", "2", "c", owner="me")) == "2"
