"""The shards of a folder together do exactly what one mirror does."""

import asyncio
import tempfile
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syncd.core.errors import Brake, RootHalt
from syncd.core.model import Record
from syncd.core.names import WHOLE, Shard, shard_index
from syncd.core.plan import Policy, Prune
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.queries.pull import Folder, Pulled, pull
from syncd.service.build import build_mirror
from syncd.state import pass_tables
from syncd.state.db import Meta, open_state
from syncd.state.ownership import reshard
from syncd.sync import observe
from syncd.sync.mirror import PassOptions, Scope, Settings
from syncd.sync.reconcile import reconcile
from tests.harness import IN_MEMORY, START, Core, ScriptedTarget, in_step, plan, planned, sha
from tests.memory_target import Held

KEYS = [f"{folder}{name}" for folder in ("", "a/", "a/b/", "\u00fc/") for name in ("1", "2", "3")]
HALF = [Shard(0, 2), Shard(1, 2)]
contents = st.sampled_from(["x", "y", "too long for the target"])
owners = st.sampled_from(["me", "you", None])
worlds = st.tuples(
    st.dictionaries(st.sampled_from(KEYS), contents),
    st.dictionaries(st.sampled_from(KEYS), st.tuples(st.sampled_from(["x", "y"]), owners)),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["x", "y"])),
)
World = tuple[dict[str, str], dict[str, tuple[str, str | None]], dict[str, str]]


def of(index: int, count: int, number: int = 1) -> list[str]:
    """Return the first keys of a shard."""
    found = (f"f{each}" for each in range(10_000))
    return [key for key in found if shard_index(key, count) == index][:number]


def ref(key: str) -> str:
    """Return the id of an earlier entry, which the target does not assign again."""
    return f"r{1000 + KEYS.index(key)}"


def filled(world: World) -> ScriptedTarget:
    target = ScriptedTarget(owner="me", limits=Limits(max_file_size=10))
    for key, (text, owner) in world[1].items():
        target.store[key] = Held(ref(key), text.encode(), sha(text), owner, f"v-{text}")
    return target


def one_pass(base: Path, target: ScriptedTarget, shard: Shard, prune: Prune, records: dict[str, str]) -> list[str]:
    """Make a full pass of one shard over a journal from the time before sharding. Return its plan and its problems."""
    with closing(open_state(base / str(shard).replace("/", "-"))) as db:
        policy = Policy("me", prune=prune, shard=shard)
        mirror = build_mirror(db, "docs", base / "root", target, Settings(policy, Rules(), max_delete="100%"))
        mirror.now = lambda: START
        for key, text in records.items():
            mirror.journal.put(Record(key, ref(key), sha(text), 1, START - 1000))
        reshard(db, "docs", shard)
        result = asyncio.run(reconcile(mirror, Scope()))
        said = [f"{each.key}: {each.kind}" for each in mirror.journal.problems.all()]
        records.clear()
        records.update({record.key: record.checksum for record in mirror.journal.after("", "z\U0010ffff", 1000)})
        return [" ".join(action) for action in plan(result)] + said


@pytest.mark.slow
@settings(max_examples=60)
@given(worlds, st.sampled_from(["owned", "all", "never"]), st.integers(2, 5), st.integers(1, 4))
def test_shards_together_plan_what_one_does_and_no_key_twice(
    world: World, prune: Prune, count: int, block: int
) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as made, pytest.MonkeyPatch.context() as patch:
        patch.setattr(pass_tables, "PAGE", block)
        patch.setattr(pass_tables, "WINDOW", block)
        base = Path(made)
        for key, text in {"keep": "x", **world[0]}.items():
            (base / "root" / key).parent.mkdir(parents=True, exist_ok=True)
            (base / "root" / key).write_text(text)
        alone, shared = filled(world), filled(world)
        records = deepcopy(world[2])
        whole = one_pass(base, alone, WHOLE, prune, records)
        parts: list[str] = []
        known: dict[str, str] = {}
        for index in range(count):
            mine = deepcopy(world[2])
            parts += one_pass(base, shared, Shard(index, count), prune, mine)
            assert known.keys().isdisjoint(mine)
            known |= mine
        assert sorted(parts) == sorted(whole)
        assert known == records
        assert shared.texts() == alone.texts()
        assert shared.changes == alone.changes


async def test_keys_of_other_shards_are_ignored(core: Core) -> None:
    (mine,), (other,) = of(0, 2), of(1, 2)
    core.use(shard=HALF[0], prune="all")
    core.target.put_by("me", "gone-" + other, "1")
    for name in (mine, other):
        core.write(name, "1")
    await core.full()
    assert mine in core.target.texts()
    assert other not in core.target.texts()
    core.remove(other)
    assert planned(await core.hint(other)) == {}


async def test_the_shard_of_a_key_serves_its_hints(core: Core) -> None:
    (mine,), (other,) = of(0, 2), of(1, 2)
    core.use(shard=HALF[0])
    await in_step(core, keep="1")
    core.write("d/" + mine, "1")
    core.write(mine, "1")
    core.write(other, "1")
    assert plan(await core.hint(mine, other)) == [("put", mine, "new")]
    assert core.waiting() == []
    below = await core.hint("d", subtree=True)
    assert bool(planned(below)) == HALF[0].holds("d/" + mine)
    assert core.target.confirmed == [mine]


async def test_a_directory_that_cannot_be_read_holds_the_deletes_of_every_shard_back(core: Core) -> None:
    for shard in HALF:
        core.use(shard=shard)
        keys = of(shard.index, 2, 3)
        for key in keys:
            core.write(key, "1")
        await core.full()
        core.remove(keys[0])
        # An ignore file that cannot be read might have left out anything below.
        (core.root / "locked" / ".syncdignore").mkdir(parents=True, exist_ok=True)
        result = await core.full()
        assert (planned(result), result.complete) == ({}, False)
        assert core.problems() == {"locked/": "unreadable"}
        (core.root / "locked" / ".syncdignore").rmdir()
        assert planned(await core.full()) == {"delete": 1}


async def test_one_shard_reports_a_name_without_a_key(core: Core) -> None:
    core.write("bad\nname", "1")
    told = []
    for shard in HALF:
        core.use(shard=shard)
        told.append((await core.full()).problems["invalid_key"])
    assert sorted(told) == [0, 1]


async def test_the_brake_counts_the_keys_of_the_shard(core: Core) -> None:
    core.use(shard=HALF[0], max_delete="25%")
    mine = of(0, 2, 40)
    for key in [*mine, *of(1, 2, 40)]:
        core.write(key, "1")
    await core.full()
    assert core.mirror.journal.count() == 40
    core.remove(*mine[:11])
    with pytest.raises(Brake, match="11 of 40 entries"):
        await core.full()


async def test_an_emptied_root_halts_every_shard(core: Core) -> None:
    for shard in HALF:
        core.use(shard=shard)
        (key,) = of(shard.index, 2)
        core.write(key, "1")
        await core.full()
        core.remove(key)
        with pytest.raises(RootHalt, match="empty"):
            await core.full()


async def test_another_number_of_shards_moves_no_entry(core: Core) -> None:
    for number in range(60):
        core.write(f"f{number}", "1", age_s=10)
    await core.full()
    before, changes = core.target.texts(), core.target.changes
    seen: list[str] = []
    for count in (4, 3):
        for index in range(count):
            core.use(shard=Shard(index, count))
            assert "put" not in planned(await core.full())
            assert planned(await core.full()) == {}
            seen += core.mirror.journal.keys()
    assert sorted(seen) == sorted([*before] * 2)
    assert (core.target.texts(), core.target.changes) == (before, changes)


async def test_keys_of_other_shards_are_forgotten_and_not_deleted(core: Core) -> None:
    await in_step(core, **dict.fromkeys(of(0, 2, 3) + of(1, 2, 3), "1"))
    core.use(shard=HALF[1])
    assert sorted(core.mirror.journal.keys()) == sorted(of(1, 2, 3))
    assert Meta(core.mirror.db, "docs").get("shard") == "1/2"
    core.remove(*of(0, 2, 3))
    assert planned(await core.full()) == {}
    core.use(shard=WHOLE)
    assert planned(await core.full()) == {"delete": 3}


@pytest.mark.parametrize("fresh", [30, 31])
async def test_the_cost_of_a_listing_includes_the_entries_of_all_shards(core: Core, fresh: int) -> None:
    core.target.limits = Limits(max_file_size=1000, page=10)
    core.use(shard=HALF[0])
    keys = of(0, 2, 50 + fresh)
    await in_step(core, **dict.fromkeys(keys[:50], "1"))
    for key in keys[50:]:
        core.write(key, "1")
    assert observe.FEW_KEYS + 50 * 2 // 10 == 30
    if fresh == 30:
        assert planned(await core.hint(*keys[50:])) == {"put": fresh}
    else:
        with pytest.raises(observe.ScopeTooLarge):
            await core.hint(*keys[50:])


async def test_pull_brings_the_part(core: Core, tmp_path: Path) -> None:
    await in_step(core, **dict.fromkeys(of(0, 2, 3) + of(1, 2, 2), "1"))
    core.use(shard=HALF[0])
    with Folder(tmp_path / "into") as into:
        pulled = Pulled()
        await pull(core.mirror, into, pulled)
    assert sorted(path.name for path in (tmp_path / "into").iterdir()) == sorted(of(0, 2, 3))
    assert pulled.done == {"written": 3}


async def test_a_dry_run_of_a_shard_plans_its_part(core: Core) -> None:
    for key in of(0, 2, 2) + of(1, 2, 3):
        core.write(key, "1")
    core.use(shard=HALF[1])
    result = await reconcile(core.mirror, Scope(), PassOptions(dry_run=True))
    assert planned(result) == {"put": 3}
