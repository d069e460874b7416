"""Long names in AI Search and KV: stored short, listed in full, and stable over passes."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.core.names import looks_shortened, remote_name
from syncd.targets.kv.target import long_key_bytes
from syncd.targets.kv.writing import value_marks
from tests.unit.targets import harness_ai_search as ai_search_harness
from tests.unit.targets import harness_kv as kv_harness

LONG = "guides/" + "a-very-long-folder/" * 7 + "the-story.md"
OTHER = LONG.replace("story", "other")


@asynccontextmanager
async def ai(base: Path, **more: Any) -> AsyncIterator[tuple[Any, Any]]:
    prune = more.pop("prune", "owned")
    async with ai_search_harness.open_harness(base, **more) as h:
        yield h, h.add_mirror(prune=prune)


@asynccontextmanager
async def kv(base: Path, **more: Any) -> AsyncIterator[tuple[Any, Any]]:
    prune = more.pop("prune", "owned")
    async with kv_harness.open_harness(base, **more) as h:
        yield h, h.add_mirror(prune=prune, sizes=(128, 4 * kv_harness.MIB))


BOTH = pytest.mark.parametrize("opened", [ai, kv])


async def passed(h: Any, fixture: Any) -> Any:
    """Make a full pass after the lag."""
    h.clock.now += 120
    return await fixture.full()


async def listed(fixture: Any) -> set[str]:
    return {entry.key async for entry in fixture.mirror.target.entries()}


@BOTH
async def test_a_long_name_is_a_problem_unless_it_may_be_shortened(tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.write(LONG, "one")
        await passed(h, fixture)
        assert fixture.problems() == {LONG: "key_too_long"}
        fixture.shorten()
        await passed(h, fixture)
        assert fixture.problems() == {}
        assert await h.contents() == {remote_name(LONG, 128): "one" if opened is ai else b"one"}
        assert await listed(fixture) == {LONG}


@BOTH
async def test_a_long_name_lives_as_others_do(tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.shorten()
        fixture.write(LONG, "one")
        fixture.write(OTHER, "two")
        await passed(h, fixture)
        assert (await passed(h, fixture)).tables.plan.counts.total() == 0
        fixture.write(LONG, "changed")
        await passed(h, fixture)
        assert len(await h.contents()) == 2
        fixture.lose_journal()
        result = await passed(h, fixture)
        assert dict(result.tables.plan.counts) == {"adopt": 2}
        fixture.remove(LONG)
        await passed(h, fixture)
        assert await listed(fixture) == {OTHER}
        assert len(await h.contents()) == 1


@BOTH
async def test_an_entry_stays_when_names_are_no_longer_shortened(tmp_path: Path, opened: Callable[..., Any]) -> None:
    async with opened(tmp_path, prune="all") as (h, fixture):
        fixture.shorten()
        fixture.write(LONG, "one")
        await passed(h, fixture)
        fixture.shorten(on=False)
        fixture.write(LONG, "two")
        for _ in range(2):
            result = await passed(h, fixture)
            assert result.tables.plan.counts.total() == 0
            assert fixture.problems() == {LONG: "key_too_long"}
        assert set(await h.contents()) == {remote_name(LONG, 128)}
        fixture.shorten()
        await passed(h, fixture)
        assert set((await h.contents()).values()) <= {"two", b"two"}
        fixture.write("other.md", "there is a file left, so that the folder is not empty")
        fixture.remove(LONG)
        fixture.shorten(on=False)
        await passed(h, fixture)
        assert set(await h.contents()) == {"other.md"}


@BOTH
async def test_a_file_that_is_called_like_a_shortened_one_is_another(
    tmp_path: Path, opened: Callable[..., Any]
) -> None:
    async with opened(tmp_path) as (h, fixture):
        fixture.write(remote_name(LONG, 128), "short")
        await passed(h, fixture)
        fixture.shorten()
        fixture.write(LONG, "long")
        for _ in range(3):
            await passed(h, fixture)
        assert await listed(fixture) == {LONG, remote_name(LONG, 128)}
        assert (await passed(h, fixture)).tables.plan.counts.total() == 0


@pytest.mark.parametrize("prune", ["owned", "all"])
async def test_without_metadata_journal_or_folder_give_the_key_of_a_name(tmp_path: Path, prune: str) -> None:
    async with ai(tmp_path, metadata="refuse", prune=prune) as (h, fixture):
        fixture.shorten()
        fixture.write(LONG, "one")
        await passed(h, fixture)
        assert (await passed(h, fixture)).tables.plan.counts.total() == 0
        assert await listed(fixture) == {LONG}
        fixture.lose_journal()
        result = await passed(h, fixture)
        assert result.tables.plan.counts["put"] == result.tables.plan.counts["delete"] == 0
        assert (await passed(h, fixture)).tables.plan.counts.total() == 0
        fixture.write("other.md", "there is a file left, so that the folder is not empty")
        fixture.remove(LONG)
        await passed(h, fixture)
        assert set(await h.contents()) == {"other.md"}


async def test_a_forged_path_is_not_believed(tmp_path: Path) -> None:
    async with ai(tmp_path) as (h, fixture):
        fixture.shorten()
        fixture.write("victim.md", "mine")
        await passed(h, fixture)
        for name in ("short.md", remote_name(LONG, 128)):
            await h.upload(name, "theirs", path="victim.md", owner="me", sha256="0" * 64)
        assert await listed(fixture) == {"victim.md", "short.md", remote_name(LONG, 128)}


async def test_a_key_that_its_metadata_has_no_room_for_is_too_long(tmp_path: Path) -> None:
    async with kv(tmp_path) as (h, fixture):
        fixture.shorten()
        most = long_key_bytes("me")
        folder = "/".join(["d" * 200] * 5)[: most - 5]
        fits, over, quotes = f"{folder}/a.md", f"{folder}/ab.md", f"{folder[:-20]}/{chr(34) * 18}.md"
        for key in (fits, over, quotes):
            fixture.write(key, "x")
        await passed(h, fixture)
        assert len(fits) == most
        assert fixture.problems() == {over: "key_too_long", quotes: "key_too_long"}
        assert await listed(fixture) == {fits}
        assert len(value_marks("0" * 64, "me", 1, None)) == 3


async def test_a_search_names_the_file_and_not_its_short_name(tmp_path: Path) -> None:
    async with ai(tmp_path) as (h, fixture):
        fixture.shorten()
        fixture.write(LONG, "a zebra crossing")
        await passed(h, fixture)
        [hit] = await fixture.mirror.target.search("zebra", 5, "guides/")
        assert hit.key == LONG
        [item] = await h.items()
        assert looks_shortened(item["key"])


async def test_fields_of_kv_go_where_there_is_room_for_them(tmp_path: Path) -> None:
    async with kv_harness.open_harness(tmp_path) as h:
        fixture = h.add_mirror(fields={"title": "title", "long": "front:long"})
        fixture.write("a.md", f"---\nlong: {'x' * 499}\n---\n# A")
        fixture.write("b.md", f"---\nlong: {'x' * 499}\n---\n# {'y' * 400}")
        await fixture.full()
        a, b = await h.marks("a.md"), await h.marks("b.md")
        assert (a["title"], len(a["long"]), a["owner"]) == ("A", 499, "me")
        assert set(b) >= {"sha256", "owner", "size", "title"}
