"""Ownership in AI Search: several mirrors, foreign items and other sources in one instance."""

from pathlib import Path
from typing import Any

import pytest

from tests.harness import is_clean, reasons
from tests.unit.targets.harness_ai_search import INSTANCES, ITEMS, Harness, open_harness

both_manners = pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])


async def crawled(h: Harness, key: str) -> None:
    """Add an item of another source, such as a bucket."""
    await h.stranger.put(f"{INSTANCES}/docs", json={"source": "bucket"})
    (await h.stranger.put(ITEMS, json={"key": key, "next_action": "INDEX"})).raise_for_status()


@both_manners
async def test_items_of_other_sources_are_ignored(tmp_path: Path, on_existing: str) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        await crawled(h, "a.md")
        await crawled(h, "b.md")
        fixture = h.add_mirror(prune="all")
        fixture.write("a.md", "mine")
        await fixture.full()
        assert fixture.problems() == {}
        assert await h.contents() == {"a.md": "mine"}
        assert sorted(row["key"] for row in await h.items(source="r2:bucket")) == ["a.md", "b.md"]
        fixture.remove("a.md")
        fixture.write("c.md", "mine")
        await fixture.full()
        assert sorted(row["key"] for row in await h.items(source="r2:bucket")) == ["a.md", "b.md"]


STRANGERS: dict[str, dict[str, str]] = {
    "another owner's": {"owner": "you", "sha256": "0" * 64},
    "nobody's": {},
    "marked in another way": {"author": "somebody"},
}


@both_manners
@pytest.mark.parametrize("marks", STRANGERS.values(), ids=STRANGERS)
async def test_foreign_items_stay_and_are_reported_if_a_file_has_their_key(
    tmp_path: Path, on_existing: str, marks: dict[str, str]
) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        await h.upload("taken.md", "theirs", **marks)
        await h.upload("without a file.md", "theirs", **marks)
        before = await h.items()
        fixture = h.add_mirror()
        fixture.write("taken.md", "mine")
        fixture.write("free.md", "mine")
        result = await fixture.full()
        assert fixture.problems() == {"taken.md": "foreign"}
        assert not is_clean(result)
        fixture.write("taken.md", "mine, edited")
        await fixture.hint("taken.md")
        assert fixture.problems() == {"taken.md": "foreign"}
        fixture.remove("taken.md")
        await fixture.hint("taken.md")
        await fixture.full()
        assert fixture.problems() == {}
        assert [row for row in await h.items() if row["key"] != "free.md"] == before


@both_manners
async def test_a_new_file_found_by_a_hint_does_not_take_a_strangers_key(tmp_path: Path, on_existing: str) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        fixture = h.add_mirror()
        fixture.write("first.md", "mine")
        await fixture.full()
        await h.upload("a.md", "theirs", owner="you")
        await h.upload("b.md", "theirs, unmarked")
        before = [row for row in await h.items() if row["key"] != "first.md"]
        fixture.write("a.md", "mine")
        fixture.write("b.md", "mine")
        await fixture.hint("a.md", "b.md")
        assert fixture.problems() == {"a.md": "foreign", "b.md": "foreign"}
        assert [row for row in await h.items() if row["key"] != "first.md"] == before


@both_manners
async def test_an_entry_that_another_owner_took_from_us_is_theirs_for_hints_too(
    tmp_path: Path, on_existing: str
) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "mine")
        fixture.write("b.md", "mine")
        await fixture.full()
        await h.delete("a.md")
        await h.upload("a.md", "theirs", owner="you", sha256="0" * 64)
        await fixture.full()
        assert fixture.problems() == {"a.md": "foreign"}
        fixture.write("a.md", "mine, edited")
        await fixture.hint("a.md")
        assert fixture.problems() == {"a.md": "foreign"}
        fixture.remove("a.md")
        await fixture.hint("a.md")
        await fixture.full()
        assert await h.contents() == {"a.md": "theirs", "b.md": "mine"}


@both_manners
@pytest.mark.parametrize("marks", STRANGERS.values(), ids=STRANGERS)
async def test_a_takeover_makes_it_ours_for_good(tmp_path: Path, on_existing: str, marks: dict[str, str]) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        await h.upload("a.md", "theirs", **marks)
        await h.upload("without a file.md", "theirs", **marks)
        fixture = h.add_mirror()
        fixture.write("a.md", "mine")
        fixture.use(takeover=True)
        await fixture.full()
        fixture.use(takeover=False)
        assert await h.contents() == {"a.md": "mine", "without a file.md": "theirs"}
        assert (await fixture.full()).tables.plan.counts.total() == 0
        fixture.remove("a.md")
        fixture.write("b.md", "mine")
        await fixture.full()
        assert list(await h.contents()) == ["b.md", "without a file.md"]


async def test_an_unmarked_item_with_our_content_is_adopted_and_then_ours(tmp_path: Path) -> None:
    async with open_harness(tmp_path, checksum="zero") as h:
        await h.upload("a.md", "the same")
        fixture = h.add_mirror()
        fixture.write("a.md", "the same")
        result = await fixture.full()
        assert (result.done, reasons(result)) == ({"adopt": 1}, {"unverified": 1})
        assert fixture.changing == 0
        fixture.write("a.md", "edited")
        await fixture.full()
        assert await h.contents() == {"a.md": "edited"}


@pytest.mark.parametrize(
    ("prune", "left"),
    [
        ("owned", ["keep.md", "nobody's.md", "yours.md"]),
        ("all", ["keep.md"]),
        ("never", ["gone.md", "keep.md", "nobody's.md", "yours.md"]),
    ],
)
async def test_prune_decides_which_entries_without_a_file_are_deleted(
    tmp_path: Path, prune: str, left: list[str]
) -> None:
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror(prune=prune)
        fixture.write("keep.md", "mine")
        fixture.write("gone.md", "mine")
        await fixture.full()
        await h.upload("yours.md", "theirs", owner="you")
        await h.upload("nobody's.md", "theirs")
        fixture.remove("gone.md")
        await fixture.full()
        assert list(await h.contents()) == left
        assert (await fixture.full()).tables.plan.counts.total() == 0


async def test_an_item_with_our_mark_but_without_file_and_record_is_an_orphan(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        await h.upload("old.md", "of an earlier life", owner="me", sha256="0" * 64)
        fixture = h.add_mirror()
        fixture.write("a.md", "mine")
        result = await fixture.full()
        assert reasons(result) == {"new": 1, "orphan": 1}
        assert list(await h.contents()) == ["a.md"]


def three(fixture: Any, text: str) -> None:
    for name in ("a.md", "b.md", "c.md"):
        fixture.write(name, f"{text} {name}")


async def test_two_mirrors_under_two_prefixes_do_not_see_each_other(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        one, other = h.add_mirror("one", prefix="x/", prune="all"), h.add_mirror("other", prefix="xx/", prune="all")
        await h.upload("x.md", "a stranger's")
        three(one, "one")
        three(other, "other")
        await one.full()
        await other.full()
        before = await h.items()
        assert sorted(row["key"] for row in before) == sorted(
            ["x.md", *(f"{prefix}/{name}.md" for prefix in ("x", "xx") for name in "abc")]
        )
        for fixture in (one, other):
            assert (await fixture.full()).tables.plan.counts.total() == 0
            fixture.lose_journal()
            assert (await fixture.full()).done == {"adopt": 3}
        assert await h.items() == before
        other.remove("a.md", "b.md")
        await other.full()
        assert len(await h.items()) == 5
        assert (await one.full()).tables.plan.counts.total() == 0


@both_manners
async def test_two_owners_share_an_instance_without_touching_each_other(tmp_path: Path, on_existing: str) -> None:
    async with open_harness(tmp_path, on_existing=on_existing) as h:
        one, other = h.add_mirror("one"), h.add_mirror("other")
        three(one, "one")
        other.write("c.md", "other c.md")
        other.write("d.md", "other d.md")
        await one.full()
        await other.full()
        assert (one.problems(), other.problems()) == ({}, {"c.md": "foreign"})
        for fixture in (one, other, one, other):
            assert (await fixture.full()).tables.plan.counts.total() == 0
        other.lose_journal()
        await other.full()
        one.remove("a.md")
        other.remove("d.md", "c.md")
        other.write("e.md", "other")
        await one.full()
        await other.full()
        assert await h.contents() == {"b.md": "one b.md", "c.md": "one c.md", "e.md": "other"}
        # A file that one mirror gives up is free for the other mirror.
        one.remove("c.md")
        other.write("c.md", "other c.md")
        await one.full()
        await other.full()
        assert (await h.contents())["c.md"] == "other c.md"


async def test_owners_differ_by_their_whole_name(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as h:
        await h.upload("a.md", "theirs", owner="Me", sha256="0" * 64)
        await h.upload("b.md", "theirs", owner="me2", sha256="0" * 64)
        await h.upload("c.md", "theirs", owner="", sha256="0" * 64)
        fixture = h.add_mirror("me")
        fixture.write("x.md", "mine")
        await fixture.full()
        assert len(await h.items()) == 4
