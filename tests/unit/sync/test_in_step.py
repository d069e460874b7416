"""The query for changed keys drops only keys that are in step: a pass that judges every key ends the same."""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.model import Content, Entry, Item, Local, Problem, Record
from syncd.core.plan import Decision, Policy, Source, decide
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.service.build import build_mirror
from syncd.state import pass_tables
from syncd.state.db import open_state
from syncd.state.pass_tables import PassTables, next_pass_id
from syncd.sync import resolve
from syncd.sync.audit import fill_remote
from syncd.sync.mirror import NO_HOOKS, Mirror, Pass, PassOptions, Result, Scope, Settings
from syncd.sync.observe import ROOT, Observed, fill_from_journal, observe
from syncd.sync.reconcile import reconcile
from tests.harness import IN_MEMORY, START, Core, content, in_step, sha
from tests.memory_target import Held, MemoryTarget

DRY_RUN = PassOptions(dry_run=True)
KEYS = ("a", "b/c", "b/d", "e", "\u00fc", "\U0001f600")
TABLES = ("record", "tombstone", "parked", "dirty", "problem", "reindex", "file")
LAG_S = 60.0


class Key(NamedTuple):
    """All of one key. cached: the checksum that the stat cache has for the file as it is, None for none."""

    file: str | None
    cached: str | None
    record: Record | None
    entries: tuple[Entry, ...]
    parked: str | None = None
    touched: bool = False


@dataclass(slots=True)
class Shown(MemoryTarget):
    """A target that lists what the test gave it."""

    shown: list[Entry] = field(default_factory=list)

    async def entries(self) -> AsyncIterator[Entry]:
        for entry in self.shown:
            yield entry

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        del ref
        return next((entry for entry in self.shown if entry.key == key), None)

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        del content
        return sha("x") if entry.version == "vx" else sha("z")


def plain(key: str) -> Key:
    """A key that is in step in every way there is."""
    known = Record(key, f"r-{key}", sha("x"), 1, START - 1000, "v", 1, marked=True, status="completed")
    shown = Entry(key, known.ref, sha("x"), "v", 1, "me", marked=True, status="completed")
    return Key("x", sha("x"), known, (shown,))


contents = st.sampled_from(["x", "y"])
sums = st.sampled_from([None, sha("x"), sha("y")])
records: dict[str, st.SearchStrategy[Any]] = {
    "ref": st.sampled_from(["r-a", "other"]),
    "checksum": sums.filter(bool),
    "written_at": st.sampled_from([START - LAG_S - 1, START - LAG_S, START - LAG_S + 1, START, START + 5]),
    "version": st.sampled_from([None, "v", "vx", sha("x")]),
    "remote_size": st.sampled_from([None, 1, 2]),
    "marked": st.sampled_from([None, True, False]),
    "status": st.sampled_from([None, "queued", "completed", "error"]),
    "error": st.sampled_from([None, "why"]),
}
entries: dict[str, st.SearchStrategy[Any]] = {
    "ref": st.sampled_from(["r-a", "other"]),
    "checksum": st.one_of(sums, st.just("\ud800")),
    "version": st.sampled_from([None, "v", "vx", sha("x"), sha("y")]),
    "size": st.sampled_from([None, 1, 2]),
    "owner": st.sampled_from([None, "me", "you"]),
    "marked": st.sampled_from([None, True, False]),
    "status": st.sampled_from([None, "queued", "completed", "error"]),
    "error": st.sampled_from([None, "why"]),
}


@cache
def others(name: str) -> st.SearchStrategy[list[Entry]]:
    """Up to two entries of a key with any values. Hypothesis takes long to find a strategy for each type."""
    return st.lists(st.builds(Entry, st.just(name), st.sampled_from(["1", "2"]), sums), max_size=2)


@st.composite
def changed(draw: st.DrawFn, name: str) -> Key:
    """A plain key with up to three things that are not plain about it."""
    key = plain(name)
    assert key.record is not None
    for what in draw(st.lists(st.sampled_from(["file", "record", "entry", "entries", "parked"]), max_size=3)):
        if what == "file":
            key = key._replace(
                file=draw(st.one_of(contents, st.none())), cached=draw(sums), touched=draw(st.booleans())
            )
        elif what == "record" and key.record:
            which = draw(st.sampled_from(sorted(records)))
            values = {name: getattr(key.record, name) for name in Record.__slots__} | {which: draw(records[which])}
            key = key._replace(record=draw(st.sampled_from([Record(**values), Record(**values), None])))
        elif what == "entry" and key.entries:
            which = draw(st.sampled_from(sorted(entries)))
            key = key._replace(entries=(key.entries[0]._replace(**{which: draw(entries[which])}), *key.entries[1:]))
        elif what == "entries":
            more = draw(others(name))
            key = key._replace(entries=(*(key.entries if draw(st.booleans()) else ()), *more))
        elif what == "parked":
            key = key._replace(parked=draw(sums))
    return key


worlds = st.fixed_dictionaries({}, optional={name: changed(name) for name in KEYS})


def run(mirror: Mirror, options: PassOptions) -> list[Any]:
    """All that a pass leaves behind."""
    result: Result = asyncio.run(reconcile(mirror, Scope(), options))
    db, target = mirror.db, mirror.target
    assert isinstance(target, MemoryTarget)
    return [
        list(result.tables.plan.actions()),
        (
            result.unchanged,
            result.changed_during_read,
            result.unrecorded,
            result.files_read,
            result.complete,
            result.refusal,
        ),
        (result.done, result.problems),
        [db.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES],
        {key: (held.ref, held.data, held.owner) for key, held in target.store.items()},
    ]


def opened(base: Path, name: str, world: dict[str, Key], limits: Limits, policy: Policy) -> Mirror:
    """A mirror of its own state over the shared root `base`, with the journal and the remote of this world."""
    target = Shown(owner="me", limits=limits, shown=[entry for key in world.values() for entry in key.entries])
    db = open_state(base / name)
    mirror = build_mirror(db, "docs", base / "root", target, Settings(policy, Rules(), max_delete="100%"))
    mirror.now = lambda: START
    mirror.age = lambda: START
    mirror.chance = lambda: 0.5
    for key, known in world.items():
        if known.record:
            mirror.journal.put(known.record)
        for entry in known.entries[:1]:
            target.store[key] = Held(entry.ref, b"x", sha("x"), entry.owner, "vx")
        if known.parked:
            mirror.journal.problems.park(Problem(key, "refused", "no"), known.parked)
        if known.file and known.cached:
            seen = os.lstat(base / "root" / key)
            mirror.files.store([(key, seen, known.cached)], seen.st_mtime_ns + 10**10)
    return mirror


def judge_all(patch: pytest.MonkeyPatch) -> None:
    """Make the query return every key."""
    patch.setattr(pass_tables, "_OBSERVED", pass_tables._OBSERVED.replace(pass_tables._IN_STEP, "false"))


@contextmanager
def mirrors(count: int, world: dict[str, Key], reads_lag: bool, renew_s: float | None = None) -> Iterator[list[Mirror]]:
    """Yield mirrors of the same folder, with states and targets of their own that hold the same."""
    limits = Limits(max_file_size=1000, lag_s=LAG_S, reads_lag=reads_lag, renew_s=renew_s)
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        base = Path(folder)
        (base / "root").mkdir()
        (base / "root" / "keep").write_text("x")
        for key, known in world.items():
            if known.file:
                (base / "root" / key).parent.mkdir(exist_ok=True)
                (base / "root" / key).write_text(known.file)
        for path in (base / "root").rglob("*"):
            # A busy machine may take so long that a file is young for one mirror and old for the next.
            os.utime(path, ns=(0, 0))
        with ExitStack() as stack:
            made = [opened(base, str(number), world, limits, Policy("me")) for number in range(count)]
            for mirror in made:
                stack.enter_context(closing(mirror.db))
            for key, known in world.items():
                if known.file and known.touched:
                    os.utime(base / "root" / key, ns=(1, 1))
            yield made


@pytest.mark.slow
@settings(max_examples=120)
@given(worlds, st.booleans(), st.integers(1, 4), st.sampled_from([PassOptions(), PassOptions(full=True)]))
def test_a_pass_over_changed_keys_ends_like_one_over_all_keys(
    world: dict[str, Key], reads_lag: bool, page: int, options: PassOptions
) -> None:
    with mirrors(2, world, reads_lag) as (left, right), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pass_tables, "PAGE", page)
        patch.setattr(pass_tables, "WINDOW", page)
        changed_keys = run(left, options)
        judge_all(patch)
        assert changed_keys == run(right, options)


async def query(mirror: Mirror, seen: Source) -> dict[str, Observed]:
    """Return what the query yields of a mirror."""
    tables = PassTables(mirror.db, next_pass_id(mirror.db))
    if seen == "listing":
        result = Result(tables, tables.pass_id, dry_run=True)
        await fill_remote(Pass(mirror, Scope(), DRY_RUN, NO_HOOKS, result, (), mirror.now(), None), listing=True)
    else:
        fill_from_journal(mirror, tables, ROOT)
    found = {each.key: each async for block in observe(mirror, tables, ROOT, seen) for each in block}
    tables.drop()
    return found


def dropped(mirror: Mirror, seen: Source = "listing") -> dict[str, Observed]:
    """Return the keys that the query drops, each with what is known of it."""
    kept = asyncio.run(query(mirror, seen))
    with pytest.MonkeyPatch.context() as patch:
        judge_all(patch)
        every = asyncio.run(query(mirror, seen))
    return {key: found for key, found in every.items() if key not in kept}


@pytest.mark.slow
@settings(max_examples=200)
@given(worlds, st.booleans(), st.sampled_from([None, 500.0]), st.sampled_from(["listing", "journal"]))
def test_decide_calls_every_dropped_key_in_step(
    world: dict[str, Key], reads_lag: bool, renew_s: float | None, seen: Source
) -> None:
    with mirrors(1, world, reads_lag, renew_s) as (mirror,):
        before = mirror.db.execute("SELECT * FROM record").fetchall()
        for key, found in dropped(mirror, seen).items():
            assert isinstance(found.local, Item)
            assert found.local.checksum is not None
            assert decide(found.local, found.record, found.entry, mirror.policy, seen) is None, key
            assert found.record is not None
            assert found.entry is not None
            assert not found.others
            assert not reads_lag or abs(START - found.record.written_at) > LAG_S
            assert renew_s is None or abs(START - found.record.written_at) < renew_s
            mirror.journal.index.store_reported(found.record, found.entry, START)
        assert mirror.db.execute("SELECT * FROM record").fetchall() == before


def taken(change: Callable[[Key], Key], *, reads_lag: bool = False) -> bool:
    """Return whether the query drops a key that is in step but for this change."""
    with mirrors(1, {"a": change(plain("a"))}, reads_lag) as (mirror,):
        return "a" in dropped(mirror)


def entry(**values: Any) -> Callable[[Key], Key]:
    return lambda key: key._replace(entries=(key.entries[0]._replace(**values),))


def record(**values: Any) -> Callable[[Key], Key]:
    known = {name: getattr(plain("a").record, name) for name in Record.__slots__}
    return lambda key: key._replace(record=Record(**(known | values)))


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key,
        lambda key: key._replace(parked=sha("x")),
        entry(checksum=None, owner=None),  # a remote that shows no marks: nothing speaks against it
        entry(version=None, size=None, marked=None, status=None),
    ],
)
def test_the_query_drops_a_key_that_is_in_step(change: Callable[[Key], Key]) -> None:
    assert taken(change)


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key._replace(cached=None),
        lambda key: key._replace(touched=True),
        lambda key: key._replace(file="y", cached=sha("y")),
        lambda key: key._replace(record=None),
        lambda key: key._replace(entries=()),
        lambda key: key._replace(entries=(*key.entries, key.entries[0]._replace(ref="2"))),
        entry(ref="2"),
        entry(checksum=sha("y")),
        entry(checksum="\ud800"),
        entry(owner="you"),
        entry(version="v2"),
        entry(size=2),
        entry(marked=False),
        entry(status="queued"),
        entry(error="why"),
        record(checksum=sha("y")),
        record(version=None),
        record(remote_size=None),
        record(marked=None),
        record(status=None),
        record(error="why"),
    ],
)
def test_the_query_returns_a_key_of_which_anything_differs(change: Callable[[Key], Key]) -> None:
    assert not taken(change)


def test_the_query_returns_an_entry_in_error() -> None:
    def failed(key: Key) -> Key:
        return record(status="error", error="why")(entry(status="error", error="why")(key))

    assert not taken(failed)


@pytest.mark.parametrize(("age_s", "plainly"), [(LAG_S - 1, False), (LAG_S, False), (LAG_S + 1, True)])
def test_the_query_returns_a_record_younger_than_the_lag_where_reads_lag(age_s: float, plainly: bool) -> None:
    assert taken(record(written_at=START - age_s), reads_lag=True) is plainly
    assert taken(record(written_at=START - age_s))


async def test_nothing_is_decided_of_a_folder_in_step(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b/c", "d"):
        core.write(name, name, age_s=3600)
    await in_step(core)
    await core.full()  # learns what the listing says
    monkeypatch.setattr(resolve, "decide", None)
    assert (await core.full()).unchanged == 3
    core.write("e", "new")
    assert (await core.full()).problems == {"failed": 1}


async def test_a_key_is_decided_once_and_once_more_after_an_answer(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, a="1", b="1", c="1")
    core.write("a", "2")
    core.target.store["b"] = Held("r9", b"1", "", None, "v9")
    core.write("d", "new")
    decided: Counter[str] = Counter()

    def count(local: Local, record: Record | None, entry: Entry | None, policy: Policy, seen: Source) -> Decision:
        known = local or record or entry
        assert known is not None
        decided[known.key] += 1
        return decide(local, record, entry, policy, seen)

    monkeypatch.setattr(resolve, "decide", count)
    await core.full()
    assert decided == {"a": 1, "b": 2, "c": 1, "d": 1}


async def test_one_change_among_many_is_all_that_is_decided(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pass_tables, "WINDOW", 2)
    for name in "abcdefg":
        core.write(name, name, age_s=3600)
    await in_step(core)
    await core.full()
    core.write("d", "other")
    core.remove("f")
    decided: list[str] = []

    class Watched(resolve.Resolver):
        async def block(self, block: Sequence[Observed]) -> list[resolve.Resolved]:
            decided.extend(observed.key for observed in block)
            return await resolve.Resolver.block(self, block)

    monkeypatch.setattr("syncd.sync.reconcile.Resolver", Watched)
    result = await core.full()
    assert decided == ["d", "f"]
    assert (result.unchanged, dict(result.done)) == (5, {"put": 1, "delete": 1})
    assert core.target.texts() == {name: content(name).data.decode() for name in "abceg"} | {"d": "other"}
