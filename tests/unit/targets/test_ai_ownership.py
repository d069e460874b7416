"""Whose is whose: several mirrors, strangers and other sources in one instance."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.targets.harness_ai_search import INSTANCES, ITEMS, World, world

both_manners = pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])


async def crawled(w: World, key: str) -> None:
    """An item that the instance fetched from a bucket."""
    await w.stranger.put(f"{INSTANCES}/docs", json={"type": "r2", "source": "bucket"})
    (await w.stranger.put(ITEMS, json={"key": key, "next_action": "INDEX"})).raise_for_status()


@both_manners
async def test_items_of_other_sources_are_none_of_our_business(tmp_path: Path, on_existing: str) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        await crawled(w, "a.md")
        await crawled(w, "b.md")
        side = w.side(prune="all")
        side.write("a.md", "mine")
        await side.full()
        assert side.problems() == {}
        assert await w.contents() == {"a.md": "mine"}
        assert sorted(row["key"] for row in await w.items(source="r2:bucket")) == ["a.md", "b.md"]
        side.remove("a.md")
        side.write("c.md", "mine")
        await side.full()
        assert sorted(row["key"] for row in await w.items(source="r2:bucket")) == ["a.md", "b.md"]


STRANGERS: dict[str, dict[str, str]] = {
    "another owner's": {"owner": "you", "sha256": "0" * 64},
    "nobody's": {},
    "marked in another way": {"author": "somebody"},
}


@both_manners
@pytest.mark.parametrize("marks", STRANGERS.values(), ids=STRANGERS)
async def test_what_others_wrote_stays_and_is_reported_where_a_file_has_its_key(
    tmp_path: Path, on_existing: str, marks: dict[str, str]
) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        await w.upload("taken.md", "theirs", **marks)
        await w.upload("without a file.md", "theirs", **marks)
        before = await w.items()
        side = w.side()
        side.write("taken.md", "mine")
        side.write("free.md", "mine")
        result = await side.full()
        assert side.problems() == {"taken.md": "foreign"}
        assert not result.clean
        side.write("taken.md", "mine, edited")
        await side.hint("taken.md")
        assert side.problems() == {"taken.md": "foreign"}
        side.remove("taken.md")
        await side.hint("taken.md")
        await side.full()
        assert side.problems() == {}
        assert [row for row in await w.items() if row["key"] != "free.md"] == before


@both_manners
async def test_a_new_file_found_by_a_hint_does_not_take_a_strangers_key(tmp_path: Path, on_existing: str) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        side = w.side()
        side.write("first.md", "mine")
        await side.full()
        await w.upload("a.md", "theirs", owner="you")
        await w.upload("b.md", "theirs, unmarked")
        before = [row for row in await w.items() if row["key"] != "first.md"]
        side.write("a.md", "mine")
        side.write("b.md", "mine")
        await side.hint("a.md", "b.md")
        assert side.problems() == {"a.md": "foreign", "b.md": "foreign"}
        assert [row for row in await w.items() if row["key"] != "first.md"] == before


@both_manners
async def test_an_entry_that_another_owner_took_from_us_is_theirs_for_hints_too(
    tmp_path: Path, on_existing: str
) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        side = w.side()
        side.write("a.md", "mine")
        side.write("b.md", "mine")
        await side.full()
        await w.delete("a.md")
        await w.upload("a.md", "theirs", owner="you", sha256="0" * 64)
        await side.full()
        assert side.problems() == {"a.md": "foreign"}
        side.write("a.md", "mine, edited")
        await side.hint("a.md")
        assert side.problems() == {"a.md": "foreign"}
        side.remove("a.md")
        await side.hint("a.md")
        await side.full()
        assert await w.contents() == {"a.md": "theirs", "b.md": "mine"}


@both_manners
@pytest.mark.parametrize("marks", STRANGERS.values(), ids=STRANGERS)
async def test_a_takeover_makes_it_ours_for_good(tmp_path: Path, on_existing: str, marks: dict[str, str]) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        await w.upload("a.md", "theirs", **marks)
        await w.upload("without a file.md", "theirs", **marks)
        side = w.side()
        side.write("a.md", "mine")
        side.use(takeover=True)
        await side.full()
        side.use(takeover=False)
        assert await w.contents() == {"a.md": "mine", "without a file.md": "theirs"}
        assert (await side.full()).tables.plan.counts.total() == 0
        side.remove("a.md")
        side.write("b.md", "mine")
        await side.full()
        assert list(await w.contents()) == ["b.md", "without a file.md"]


async def test_an_unmarked_item_with_our_content_is_adopted_and_then_ours(tmp_path: Path) -> None:
    async with world(tmp_path, checksum="zero") as w:
        await w.upload("a.md", "the same")
        side = w.side()
        side.write("a.md", "the same")
        result = await side.full()
        assert (result.done, result.reasons) == ({"adopt": 1}, {"unverified": 1})
        assert side.changing == 0
        side.write("a.md", "edited")
        await side.full()
        assert await w.contents() == {"a.md": "edited"}


@pytest.mark.parametrize(
    ("prune", "left"),
    [
        ("owned", ["keep.md", "nobody's.md", "yours.md"]),
        ("all", ["keep.md"]),
        ("never", ["gone.md", "keep.md", "nobody's.md", "yours.md"]),
    ],
)
async def test_prune_says_what_goes_when_there_is_no_file(tmp_path: Path, prune: str, left: list[str]) -> None:
    async with world(tmp_path) as w:
        side = w.side(prune=prune)
        side.write("keep.md", "mine")
        side.write("gone.md", "mine")
        await side.full()
        await w.upload("yours.md", "theirs", owner="you")
        await w.upload("nobody's.md", "theirs")
        side.remove("gone.md")
        await side.full()
        assert list(await w.contents()) == left
        assert (await side.full()).tables.plan.counts.total() == 0


async def test_what_is_ours_by_mark_but_neither_file_nor_record_is_an_orphan(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.upload("old.md", "of an earlier life", owner="me", sha256="0" * 64)
        side = w.side()
        side.write("a.md", "mine")
        result = await side.full()
        assert result.reasons == {"new": 1, "orphan": 1}
        assert list(await w.contents()) == ["a.md"]


def three(side: Any, text: str) -> None:
    for name in ("a.md", "b.md", "c.md"):
        side.write(name, f"{text} {name}")


async def test_two_mirrors_under_two_prefixes_do_not_see_each_other(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        one, other = w.side("one", prefix="x/", prune="all"), w.side("other", prefix="xx/", prune="all")
        await w.upload("x.md", "a stranger's")
        three(one, "one")
        three(other, "other")
        await one.full()
        await other.full()
        before = await w.items()
        assert sorted(row["key"] for row in before) == sorted(
            ["x.md", *(f"{prefix}/{name}.md" for prefix in ("x", "xx") for name in "abc")]
        )
        for side in (one, other):
            assert (await side.full()).tables.plan.counts.total() == 0
            side.lose_journal()
            assert (await side.full()).done == {"adopt": 3}
        assert await w.items() == before
        other.remove("a.md", "b.md")
        await other.full()
        assert len(await w.items()) == 5
        assert (await one.full()).tables.plan.counts.total() == 0


@both_manners
async def test_two_owners_share_an_instance_without_touching_each_other(tmp_path: Path, on_existing: str) -> None:
    async with world(tmp_path, on_existing=on_existing) as w:
        one, other = w.side("one"), w.side("other")
        three(one, "one")
        other.write("c.md", "other c.md")
        other.write("d.md", "other d.md")
        await one.full()
        await other.full()
        assert (one.problems(), other.problems()) == ({}, {"c.md": "foreign"})
        for side in (one, other, one, other):
            assert (await side.full()).tables.plan.counts.total() == 0
        other.lose_journal()
        await other.full()
        one.remove("a.md")
        other.remove("d.md", "c.md")
        other.write("e.md", "other")
        await one.full()
        await other.full()
        assert await w.contents() == {"b.md": "one b.md", "c.md": "one c.md", "e.md": "other"}
        # What one lets go of is free for the other.
        one.remove("c.md")
        other.write("c.md", "other c.md")
        await one.full()
        await other.full()
        assert (await w.contents())["c.md"] == "other c.md"


async def test_owners_are_told_apart_by_their_whole_name(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.upload("a.md", "theirs", owner="Me", sha256="0" * 64)
        await w.upload("b.md", "theirs", owner="me2", sha256="0" * 64)
        await w.upload("c.md", "theirs", owner="", sha256="0" * 64)
        side = w.side("me")
        side.write("x.md", "mine")
        await side.full()
        assert len(await w.items()) == 4
