"""Whose a KV entry is, which namespace a mirror means, and how several mirrors share one."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import Halt, TargetMissing
from syncd.sync.observe import ScopeTooLarge
from syncd.targets.kv.target import NamespaceChoice
from tests.unit.targets.harness_ai_search import shows
from tests.unit.targets.harness_kv import World, world


async def test_keys_of_nobody_are_left_alone_and_reported_where_they_are_in_the_way(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.put("a", "theirs")
        await w.put("same", "equal")
        await w.put("other", "theirs")
        side = w.side()
        side.write("a", "mine")
        side.write("same", "equal")
        side.write("b", "mine")
        result = await side.full()
        assert side.problems() == {"a": "foreign"}
        assert not result.clean
        assert (result.done["put"], result.done["adopt"]) == (1, 1)
        assert await w.contents() == {"a": b"theirs", "same": b"equal", "other": b"theirs", "b": b"mine"}
        assert (await side.later()).tables.plan.counts.total() == 0


async def test_takeover_writes_over_them_and_is_not_undone_by_a_listing_that_lags(tmp_path: Path) -> None:
    async with world(tmp_path, list_lag=60) as w:
        you, me = w.side("you"), w.side("me", takeover=True)
        you.write("a", "yours")
        await you.full()
        await w.put("b", "nobody's")
        w.clock.now += 61
        me.write("a", "mine")
        me.write("b", "mine")
        assert (await me.full()).done["put"] == 2
        object.__setattr__(me.settings.policy, "takeover", False)
        for _ in range(3):
            assert (await me.full()).tables.plan.counts.total() == 0
            assert me.problems() == {}
            assert me.mirror.journal.get("a") is not None
        assert (await me.later()).tables.plan.counts.total() == 0
        assert await w.contents() == {"a": b"mine", "b": b"mine"}


async def test_prune_all_and_never(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        everything, nothing = w.side("all", prefix="all/", prune="all"), w.side("never", prefix="never/", prune="never")
        for side in (everything, nothing):
            side.write("a", "x")
            side.write("gone", "x")
            await side.full()
            await w.put(f"{side.name}/theirs", "x")
            side.remove("gone")
            await side.later()
        assert list(await w.rows()) == ["all/a", "never/a", "never/gone", "never/theirs"]


async def test_two_mirrors_with_prefixes_share_a_namespace(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        one, two = w.side("one", prefix="1/"), w.side("two", prefix="2/", prune="all")
        for side in (one, two):
            side.write("a", side.name)
            side.write("b", side.name)
            await side.full()
        two.remove("a")
        for side in (one, two, one, two):
            await side.later()
        assert await w.contents() == {"1/a": b"one", "1/b": b"one", "2/b": b"two"}


async def test_two_owners_share_a_namespace_without_touching_each_others_keys(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        one, two = w.side("one"), w.side("two", stale_ttl=600)
        one.write("a", "one's")
        one.write("both", "one's")
        await one.full()
        two.write("b", "two's")
        two.write("gone", "two's")
        two.write("both", "two's")
        await two.full()
        assert two.problems() == {"both": "foreign"}
        two.remove("gone")
        for side in (two, one, two, one):
            await side.later()
            assert side.problems() == ({"both": "foreign"} if side is two else {})
        assert await w.contents() == {"a": b"one's", "b": b"two's", "both": b"one's", "gone": b"two's"}
        for side in (one, two):
            side.lose_journal()
            assert (await side.later()).done["delete"] == 0


async def test_metadata_of_any_shape_by_others_stops_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a", "x")
        for number, metadata in enumerate((b"3", b'"text"', b"[1]", b'{"owner": 7, "sha256": [], "size": "x"}', b"{}")):
            files = {"value": b"x", "metadata": metadata}
            (await w.stranger.put(w.url(f"k{number}"), files=files)).raise_for_status()
        assert (await side.full()).done["put"] == 1
        assert len(await w.rows()) == 6


# -- which namespace


async def test_a_namespace_is_found_by_its_id_or_its_title(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("docs, too")
        for name, place in (
            ("by-id", NamespaceChoice(namespace_id=w.namespace)),
            ("by-title", NamespaceChoice(title="docs")),
        ):
            side = w.side(name, place=place)
            assert "is there" in await side.mirror.target.check()
            side.write(name, "x")
            await side.full()
        assert list(await w.rows()) == ["by-id", "by-title"]


async def test_a_namespace_that_is_missing_is_said_with_those_there_are(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("docs-old")
        for name, place in (("a", NamespaceChoice(namespace_id="0" * 32)), ("b", NamespaceChoice(title="dosc"))):
            side = w.side(name, place=place)
            side.write("a", "x")
            for ask in (side.mirror.target.check, side.full):
                with pytest.raises(TargetMissing, match="'docs', 'docs-old'"):
                    await ask()


async def test_a_title_that_is_missing_is_looked_for_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(place=NamespaceChoice(title="new"), create=True)
        side.write("a", "x")
        assert (await side.full()).done["put"] == 1
        assert [line.partition(" ")[0] for line in w.wire.diary] == ["GET", "POST", "GET", "PUT"]


async def test_a_title_that_stands_twice_halts_and_names_the_ids(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        other = "f" * 32

        def twice(_: object, body: dict[str, list[dict[str, str]]]) -> None:
            body["result"].append({**body["result"][0], "id": other})

        w.wire.plays("GET", "/namespaces", shows(twice), None)
        side = w.side(place=NamespaceChoice(title="docs"))
        side.write("a", "x")
        with pytest.raises(Halt) as caught:
            await side.full()
        assert not isinstance(caught.value, TargetMissing)
        assert w.namespace in str(caught.value)
        assert other in str(caught.value)
        assert w.changes() == []


async def test_a_namespace_is_made_by_its_title_if_that_is_wanted(tmp_path: Path) -> None:
    async with world(tmp_path, title=None) as w:
        side = w.side(place=NamespaceChoice(title="docs"), create=True)
        side.write("a", "x")
        assert (await side.full(dry_run=True)).tables.plan.counts["put"] == 1
        assert w.wire.count("POST") == 0
        await side.full()
        w.namespace = (await side.mirror.target._namespace.find()).namespace_id  # type: ignore[attr-defined]
        assert await w.contents() == {"a": b"x"}
        assert w.wire.count("POST") == 1


async def test_a_namespace_of_an_id_is_not_made(tmp_path: Path) -> None:
    async with world(tmp_path, title=None) as w:
        side = w.side(place=NamespaceChoice(namespace_id="0" * 32), create=True)
        side.write("a", "x")
        with pytest.raises(TargetMissing, match="namespace_title"):
            await side.full()
        assert w.wire.count("POST") == 0


async def test_a_namespace_that_was_deleted_and_made_anew_is_found_without_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(place=NamespaceChoice(title="docs"))
        side.write("a", "x")
        await side.full()
        (await w.stranger.delete(w.url("").partition("/values")[0])).raise_for_status()
        w.clock.now += 61
        with pytest.raises(TargetMissing):
            await side.full()
        w.namespace = await w.make("docs")
        assert (await side.full()).reasons["missing"] == 1
        assert await w.contents() == {"a": b"x"}


async def test_a_namespace_made_by_somebody_else_in_this_moment_is_used(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side(place=NamespaceChoice(title="docs"), create=True)
        side.write("a", "x")
        await side.full()
        (await w.stranger.delete(w.url("").partition("/values")[0])).raise_for_status()
        w.namespace = await w.make("docs")
        w.clock.now += 61
        await side.full()
        assert await w.contents() == {"a": b"x"}


# -- a name is no identity


async def by_hand(w: World, key: str) -> None:
    """As `wrangler kv key put` does."""
    await w.put(key, "by hand")


async def by_another_owner(w: World, key: str) -> None:
    await marked(w, key, {"sha256": "0" * 64, "owner": "you", "size": 7})


async def by_another_tool(w: World, key: str) -> None:
    await marked(w, key, {"etag": "x"})


async def with_half_of_our_marks(w: World, key: str) -> None:
    await marked(w, key, {"owner": "me"})


async def by_another_writer_of_our_name(w: World, key: str) -> None:
    await marked(w, key, {"sha256": "0" * 64, "owner": "me", "size": 7})


async def marked(w: World, key: str, metadata: dict[str, Any]) -> None:
    files = {"value": b"by hand", "metadata": json.dumps(metadata).encode()}
    (await w.stranger.put(w.url(key), files=files)).raise_for_status()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("stay", ["same", "edited", "gone"])
@pytest.mark.parametrize(
    "writes", [by_hand, by_another_owner, by_another_tool, with_half_of_our_marks, by_another_writer_of_our_name]
)
async def test_a_value_that_others_wrote_over_ours_is_theirs(
    tmp_path: Path, writes: Callable[[World, str], Awaitable[None]], stay: str, full: bool, late: bool
) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        side.write("a", "mine")
        side.write("b", "mine, too")
        await side.full()
        if late:
            w.clock.now += 3600
        await writes(w, "a")
        if stay == "gone":
            side.remove("a")
        elif stay == "edited":
            side.write("a", "mine, edited")
        for _ in range(2):
            await (side.full() if full else side.hint("a"))
        await side.later()
        ours_by_name = writes in (with_half_of_our_marks, by_another_writer_of_our_name)
        assert side.problems() == ({} if stay == "gone" and not ours_by_name else {"a": "foreign"})
        assert await w.contents() == {"a": b"by hand", "b": b"mine, too"}


async def test_more_hints_than_a_listing_costs_are_a_matter_for_a_full_pass(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        side = w.side()
        names = [f"{number:02}" for number in range(30)]
        for name in ("kept", *names):
            side.write(name, name)
        await side.full()
        side.remove(*names)
        with pytest.raises(ScopeTooLarge):
            await side.hint(*names)
        assert len(await w.rows()) == 31
        await side.full()
        assert list(await w.rows()) == ["kept"]
