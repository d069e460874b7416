"""Ownership of KV entries, the choice of a namespace, and several mirrors in one namespace."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import Halt, TargetMissing
from syncd.sync.observe import ScopeTooLarge
from syncd.targets.kv.target import NamespaceChoice
from tests.harness import is_clean, reasons
from tests.unit.targets.harness_ai_search import shows
from tests.unit.targets.harness_kv import Harness, open_harness


async def test_unmarked_keys_stay_and_are_reported_if_a_file_has_the_key(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        await h.put("a", "theirs")
        await h.put("same", "equal")
        await h.put("other", "theirs")
        fixture = h.add_mirror()
        fixture.write("a", "mine")
        fixture.write("same", "equal")
        fixture.write("b", "mine")
        result = await fixture.full()
        assert fixture.problems() == {"a": "foreign"}
        assert not is_clean(result)
        assert (result.done["put"], result.done["adopt"]) == (1, 1)
        assert await h.contents() == {"a": b"theirs", "same": b"equal", "other": b"theirs", "b": b"mine"}
        assert (await fixture.later()).tables.plan.counts.total() == 0


async def test_a_takeover_overwrites_them_and_a_late_listing_does_not_undo_it(tmp_path: Path) -> None:
    async with open_harness(tmp_path, list_lag=60) as h:
        you, me = h.add_mirror("you"), h.add_mirror("me", takeover=True)
        you.write("a", "yours")
        await you.full()
        await h.put("b", "nobody's")
        h.clock.now += 61
        me.write("a", "mine")
        me.write("b", "mine")
        assert (await me.full()).done["put"] == 2
        object.__setattr__(me.settings.policy, "takeover", False)
        for _ in range(3):
            assert (await me.full()).tables.plan.counts.total() == 0
            assert me.problems() == {}
            assert me.mirror.journal.get("a") is not None
        assert (await me.later()).tables.plan.counts.total() == 0
        assert await h.contents() == {"a": b"mine", "b": b"mine"}


async def test_prune_all_and_never(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        everything, nothing = (
            h.add_mirror("all", prefix="all/", prune="all"),
            h.add_mirror("never", prefix="never/", prune="never"),
        )
        for fixture in (everything, nothing):
            fixture.write("a", "x")
            fixture.write("gone", "x")
            await fixture.full()
            await h.put(f"{fixture.name}/theirs", "x")
            fixture.remove("gone")
            await fixture.later()
        assert list(await h.rows()) == ["all/a", "never/a", "never/gone", "never/theirs"]


async def test_two_mirrors_with_prefixes_share_a_namespace(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        one, two = h.add_mirror("one", prefix="1/"), h.add_mirror("two", prefix="2/", prune="all")
        for fixture in (one, two):
            fixture.write("a", fixture.name)
            fixture.write("b", fixture.name)
            await fixture.full()
        two.remove("a")
        for fixture in (one, two, one, two):
            await fixture.later()
        assert await h.contents() == {"1/a": b"one", "1/b": b"one", "2/b": b"two"}


async def test_two_owners_share_a_namespace_without_touching_each_others_keys(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        one, two = h.add_mirror("one"), h.add_mirror("two", stale_ttl=600)
        one.write("a", "one's")
        one.write("both", "one's")
        await one.full()
        two.write("b", "two's")
        two.write("gone", "two's")
        two.write("both", "two's")
        await two.full()
        assert two.problems() == {"both": "foreign"}
        two.remove("gone")
        for fixture in (two, one, two, one):
            await fixture.later()
            assert fixture.problems() == ({"both": "foreign"} if fixture is two else {})
        assert await h.contents() == {"a": b"one's", "b": b"two's", "both": b"one's", "gone": b"two's"}
        for fixture in (one, two):
            fixture.lose_journal()
            assert (await fixture.later()).done["delete"] == 0


async def test_metadata_of_any_shape_by_others_stops_nothing(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a", "x")
        for number, metadata in enumerate((b"3", b'"text"', b"[1]", b'{"owner": 7, "sha256": [], "size": "x"}', b"{}")):
            files = {"value": b"x", "metadata": metadata}
            (await h.stranger.put(h.url(f"k{number}"), files=files)).raise_for_status()
        assert (await fixture.full()).done["put"] == 1
        assert len(await h.rows()) == 6


# -- which namespace


async def test_a_namespace_is_found_by_its_id_or_its_title(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        await h.make("docs, too")
        for name, place in (
            ("by-id", NamespaceChoice(namespace_id=h.namespace)),
            ("by-title", NamespaceChoice(title="docs")),
        ):
            fixture = h.add_mirror(name, place=place)
            assert "is there" in await fixture.mirror.target.check()
            fixture.write(name, "x")
            await fixture.full()
        assert list(await h.rows()) == ["by-id", "by-title"]


async def test_a_missing_namespace_is_reported_with_the_existing_ones(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        await h.make("docs-old")
        for name, place in (("a", NamespaceChoice(namespace_id="0" * 32)), ("b", NamespaceChoice(title="dosc"))):
            fixture = h.add_mirror(name, place=place)
            fixture.write("a", "x")
            for ask in (fixture.mirror.target.check, fixture.full):
                with pytest.raises(TargetMissing, match="'docs', 'docs-old'"):
                    await ask()


async def test_a_title_that_is_missing_is_looked_for_once(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(place=NamespaceChoice(title="new"), create=True)
        fixture.write("a", "x")
        assert (await fixture.full()).done["put"] == 1
        assert [line.partition(" ")[0] for line in h.wire.diary] == ["GET", "POST", "GET", "PUT"]


async def test_a_title_of_two_namespaces_halts_and_names_the_ids(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        other = "f" * 32

        def twice(_: object, body: dict[str, list[dict[str, str]]]) -> None:
            body["result"].append({**body["result"][0], "id": other})

        h.wire.plays("GET", "/namespaces", shows(twice), None)
        fixture = h.add_mirror(place=NamespaceChoice(title="docs"))
        fixture.write("a", "x")
        with pytest.raises(Halt) as caught:
            await fixture.full()
        assert not isinstance(caught.value, TargetMissing)
        assert h.namespace in str(caught.value)
        assert other in str(caught.value)
        assert h.changes() == []


async def test_a_namespace_is_made_by_its_title_if_that_is_wanted(tmp_path: Path) -> None:
    async with open_harness(tmp_path, title=None) as h:
        fixture = h.add_mirror(place=NamespaceChoice(title="docs"), create=True)
        fixture.write("a", "x")
        assert (await fixture.full(dry_run=True)).tables.plan.counts["put"] == 1
        assert h.wire.count("POST") == 0
        await fixture.full()
        h.namespace = (await fixture.mirror.target._namespace.find()).namespace_id  # type: ignore[attr-defined]
        assert await h.contents() == {"a": b"x"}
        assert h.wire.count("POST") == 1


async def test_a_namespace_of_an_id_is_not_made(tmp_path: Path) -> None:
    async with open_harness(tmp_path, title=None) as h:
        fixture = h.add_mirror(place=NamespaceChoice(namespace_id="0" * 32), create=True)
        fixture.write("a", "x")
        with pytest.raises(TargetMissing, match="namespace_title"):
            await fixture.full()
        assert h.wire.count("POST") == 0


async def test_a_namespace_that_was_deleted_and_made_anew_is_found_without_a_restart(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(place=NamespaceChoice(title="docs"))
        fixture.write("a", "x")
        await fixture.full()
        (await h.stranger.delete(h.url("").partition("/values")[0])).raise_for_status()
        h.clock.now += 61
        with pytest.raises(TargetMissing):
            await fixture.full()
        h.namespace = await h.make("docs")
        assert reasons(await fixture.full())["missing"] == 1
        assert await h.contents() == {"a": b"x"}


async def test_a_namespace_made_by_somebody_else_in_this_moment_is_used(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(place=NamespaceChoice(title="docs"), create=True)
        fixture.write("a", "x")
        await fixture.full()
        (await h.stranger.delete(h.url("").partition("/values")[0])).raise_for_status()
        h.namespace = await h.make("docs")
        h.clock.now += 61
        await fixture.full()
        assert await h.contents() == {"a": b"x"}


# -- a name is no identity


async def by_hand(h: Harness, key: str) -> None:
    """Write a value like `wrangler kv key put`."""
    await h.put(key, "by hand")


async def by_another_owner(h: Harness, key: str) -> None:
    await marked(h, key, {"sha256": "0" * 64, "owner": "you", "size": 7})


async def by_another_tool(h: Harness, key: str) -> None:
    await marked(h, key, {"etag": "x"})


async def with_half_of_our_marks(h: Harness, key: str) -> None:
    await marked(h, key, {"owner": "me"})


async def by_another_writer_of_our_name(h: Harness, key: str) -> None:
    await marked(h, key, {"sha256": "0" * 64, "owner": "me", "size": 7})


async def marked(h: Harness, key: str, metadata: dict[str, Any]) -> None:
    files = {"value": b"by hand", "metadata": json.dumps(metadata).encode()}
    (await h.stranger.put(h.url(key), files=files)).raise_for_status()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("stay", ["same", "edited", "gone"])
@pytest.mark.parametrize(
    "writes", [by_hand, by_another_owner, by_another_tool, with_half_of_our_marks, by_another_writer_of_our_name]
)
async def test_a_value_that_somebody_wrote_over_ours_is_foreign(
    tmp_path: Path, writes: Callable[[Harness, str], Awaitable[None]], stay: str, full: bool, late: bool
) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a", "mine")
        fixture.write("b", "mine, too")
        await fixture.full()
        if late:
            h.clock.now += 3600
        await writes(h, "a")
        if stay == "gone":
            fixture.remove("a")
        elif stay == "edited":
            fixture.write("a", "mine, edited")
        for _ in range(2):
            await (fixture.full() if full else fixture.hint("a"))
        await fixture.later()
        ours_by_name = writes in (with_half_of_our_marks, by_another_writer_of_our_name)
        assert fixture.problems() == ({} if stay == "gone" and not ours_by_name else {"a": "foreign"})
        assert await h.contents() == {"a": b"by hand", "b": b"mine, too"}


async def test_more_hints_than_a_listing_costs_are_a_matter_for_a_full_pass(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        names = [f"{number:02}" for number in range(30)]
        for name in ("kept", *names):
            fixture.write(name, name)
        await fixture.full()
        fixture.remove(*names)
        with pytest.raises(ScopeTooLarge):
            await fixture.hint(*names)
        assert len(await h.rows()) == 31
        await fixture.full()
        assert list(await h.rows()) == ["kept"]


@pytest.mark.parametrize("other", [None, "us"])
async def test_a_namespace_is_made_in_its_jurisdiction_which_never_changes(tmp_path: Path, other: str | None) -> None:
    async with open_harness(tmp_path, title=None) as h:
        fixture = h.add_mirror(place=NamespaceChoice(title="docs", jurisdiction=other), create=True)
        fixture.write("a", "x")
        await fixture.full()
        assert [advice.remedy for advice in await fixture.mirror.target.advice()] == ([None] if other else [])
        moved = h.add_mirror("moved", place=NamespaceChoice(title="docs", jurisdiction="eu"), create=True)
        await moved.full()
        [advice] = await moved.mirror.target.advice()
        shown = f'"{other}"' if other else "none"
        assert advice.message == f'{shown} in the namespace and "eu" in the config; it can never be changed'
        assert advice.remedy
        assert advice.remedy.startswith(f"set it to {shown}" if other else "remove it from the config")
        assert "namespace_title" in advice.remedy
