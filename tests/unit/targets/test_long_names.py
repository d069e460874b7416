"""Long names at AI Search and KV: written short, listed in full, and nothing goes in circles."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from syncd.core.short_names import looks_shortened, remote_name
from syncd.targets.kv.target import long_key_bytes
from syncd.targets.kv.writing import value_marks
from tests.unit.targets import harness_ai_search as ai_room
from tests.unit.targets import harness_kv as kv_room

LONG = "guides/" + "a-very-long-folder/" * 7 + "the-story.md"
OTHER = LONG.replace("story", "other")


@asynccontextmanager
async def ai(base: Path, **more: Any) -> AsyncIterator[tuple[Any, Any]]:
    prune = more.pop("prune", "owned")
    async with ai_room.world(base, **more) as w:
        yield w, w.side(prune=prune)


@asynccontextmanager
async def kv(base: Path, **more: Any) -> AsyncIterator[tuple[Any, Any]]:
    prune = more.pop("prune", "owned")
    async with kv_room.world(base, **more) as w:
        yield w, w.side(prune=prune, sizes=(128, 4 * kv_room.MIB))


BOTH = pytest.mark.parametrize("room", [ai, kv])


async def passed(w: Any, side: Any) -> Any:
    """A full pass when everything shows."""
    w.clock.now += 120
    return await side.full()


async def listed(side: Any) -> set[str]:
    return {entry.key async for entry in side.mirror.target.entries()}


@BOTH
async def test_a_long_name_is_a_problem_unless_it_may_be_shortened(tmp_path: Path, room: Callable[..., Any]) -> None:
    async with room(tmp_path) as (w, side):
        side.write(LONG, "one")
        await passed(w, side)
        assert side.problems() == {LONG: "key_too_long"}
        side.shorten()
        await passed(w, side)
        assert side.problems() == {}
        assert await w.contents() == {remote_name(LONG, 128): "one" if room is ai else b"one"}
        assert await listed(side) == {LONG}


@BOTH
async def test_a_long_name_lives_as_others_do(tmp_path: Path, room: Callable[..., Any]) -> None:
    async with room(tmp_path) as (w, side):
        side.shorten()
        side.write(LONG, "one")
        side.write(OTHER, "two")
        await passed(w, side)
        assert (await passed(w, side)).tables.plan.counts.total() == 0
        side.write(LONG, "changed")
        await passed(w, side)
        assert len(await w.contents()) == 2
        side.lose_journal()
        result = await passed(w, side)
        assert dict(result.tables.plan.counts) == {"adopt": 2}
        side.remove(LONG)
        await passed(w, side)
        assert await listed(side) == {OTHER}
        assert len(await w.contents()) == 1


@BOTH
async def test_an_entry_stays_when_names_are_no_longer_shortened(tmp_path: Path, room: Callable[..., Any]) -> None:
    async with room(tmp_path, prune="all") as (w, side):
        side.shorten()
        side.write(LONG, "one")
        await passed(w, side)
        side.shorten(on=False)
        side.write(LONG, "two")
        for _ in range(2):
            result = await passed(w, side)
            assert result.tables.plan.counts.total() == 0
            assert side.problems() == {LONG: "key_too_long"}
        assert set(await w.contents()) == {remote_name(LONG, 128)}
        side.shorten()
        await passed(w, side)
        assert set((await w.contents()).values()) <= {"two", b"two"}
        side.write("other.md", "there is a file left, so that the folder is not empty")
        side.remove(LONG)
        side.shorten(on=False)
        await passed(w, side)
        assert set(await w.contents()) == {"other.md"}


@BOTH
async def test_a_file_that_is_called_like_a_shortened_one_is_another(tmp_path: Path, room: Callable[..., Any]) -> None:
    async with room(tmp_path) as (w, side):
        side.write(remote_name(LONG, 128), "short")
        await passed(w, side)
        side.shorten()
        side.write(LONG, "long")
        for _ in range(3):
            await passed(w, side)
        assert await listed(side) == {LONG, remote_name(LONG, 128)}
        assert (await passed(w, side)).tables.plan.counts.total() == 0


@pytest.mark.parametrize("prune", ["owned", "all"])
async def test_without_metadata_journal_or_folder_tell_whose_a_name_is(tmp_path: Path, prune: str) -> None:
    async with ai(tmp_path, metadata="refuse", prune=prune) as (w, side):
        side.shorten()
        side.write(LONG, "one")
        await passed(w, side)
        assert (await passed(w, side)).tables.plan.counts.total() == 0
        assert await listed(side) == {LONG}
        side.lose_journal()
        result = await passed(w, side)
        assert result.tables.plan.counts["put"] == result.tables.plan.counts["delete"] == 0
        assert (await passed(w, side)).tables.plan.counts.total() == 0
        side.write("other.md", "there is a file left, so that the folder is not empty")
        side.remove(LONG)
        await passed(w, side)
        assert set(await w.contents()) == {"other.md"}


async def test_a_forged_path_leads_nowhere(tmp_path: Path) -> None:
    async with ai(tmp_path) as (w, side):
        side.shorten()
        side.write("victim.md", "mine")
        await passed(w, side)
        for name in ("short.md", remote_name(LONG, 128)):
            await w.upload(name, "theirs", path="victim.md", owner="me", sha256="0" * 64)
        assert await listed(side) == {"victim.md", "short.md", remote_name(LONG, 128)}


async def test_a_key_that_its_metadata_has_no_room_for_is_too_long(tmp_path: Path) -> None:
    async with kv(tmp_path) as (w, side):
        side.shorten()
        most = long_key_bytes("me")
        folder = "/".join(["d" * 200] * 5)[: most - 5]
        fits, over, quotes = f"{folder}/a.md", f"{folder}/ab.md", f"{folder[:-20]}/{chr(34) * 18}.md"
        for key in (fits, over, quotes):
            side.write(key, "x")
        await passed(w, side)
        assert len(fits) == most
        assert side.problems() == {over: "key_too_long", quotes: "key_too_long"}
        assert await listed(side) == {fits}
        assert len(value_marks("0" * 64, "me", 1, None)) == 3


async def test_a_search_names_the_file_and_not_its_short_name(tmp_path: Path) -> None:
    async with ai(tmp_path) as (w, side):
        side.shorten()
        side.write(LONG, "a zebra crossing")
        await passed(w, side)
        [hit] = await side.mirror.target.search("zebra", 5, "guides/")
        assert hit.key == LONG
        [item] = await w.items()
        assert looks_shortened(item["key"])


async def test_fields_of_kv_go_where_there_is_room_for_them(tmp_path: Path) -> None:
    async with kv_room.world(tmp_path) as w:
        side = w.side(fields={"title": "title", "long": "front:long"})
        side.write("a.md", f"---\nlong: {'x' * 499}\n---\n# A")
        side.write("b.md", f"---\nlong: {'x' * 499}\n---\n# {'y' * 400}")
        await side.full()
        a, b = await w.marks("a.md"), await w.marks("b.md")
        assert (a["title"], len(a["long"]), a["owner"]) == ("A", 499, "me")
        assert set(b) >= {"sha256", "owner", "size", "title"}
