"""Files in parts on KV and Vectorize: they know nothing of it, and so nothing of it may trouble them."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import kv_room
import pytest
import vector_room

from syncd.sync.mirror import Mirror


def book(seed: int, chapters: int) -> str:
    chance = random.Random(seed)
    lines = (" ".join(chance.choices(["alpha", "beta", "gamma", "delta"], k=30)) for _ in range(chapters))
    return "".join(f"# Chapter {number}\n\n{line}\n\n" for number, line in enumerate(lines))


async def held(mirror: Mirror) -> dict[str, str]:
    """What the target holds, file by file."""
    entries = sorted([entry async for entry in mirror.target.entries()], key=lambda entry: entry.key)
    data = {entry.key: data async for entry, data in mirror.target.fetch(entries)}
    files: dict[str, bytes] = {}
    for entry in entries:
        part = data[entry.key]
        assert isinstance(part, bytes)
        file = mirror.tree.names.file(entry.key)
        files[file] = files.get(file, b"") + part
    return {file: found.decode() for file, found in files.items()}


async def test_kv_follows_a_file_through_its_life(tmp_path: Path) -> None:
    async with kv_room.world(tmp_path) as world:
        side = world.side(prefix="p/", sizes=(512, 1000))
        side.settings = replace(side.settings, split=True)
        side.restart()
        for text in (book(1, 20), book(1, 30), "short", "# New\n\n" + book(1, 20)):
            side.write("a.md", text)
            await side.full()
            world.clock.now += 100
            assert await held(side.mirror) == {"p/a.md": text}
            before = side.changing
            await side.full()
            assert side.changing == before
        side.lose_journal()
        before = side.changing
        await side.full()
        assert side.changing == before
        side.remove("a.md")
        await side.full(force=True)
        world.clock.now += 100
        assert await held(side.mirror) == {}


@pytest.mark.parametrize("ending", ["md", "txt"])
async def test_vectorize_follows_a_file_through_its_life(tmp_path: Path, ending: str) -> None:
    async with vector_room.world(tmp_path) as world:
        side: Any = world.side(max_file_size=1000)
        side.section = side.section.model_copy(update={"oversize": "split"})
        side.restart()
        for text, parts in ((book(2, 20), True), ("short", False), (book(2, 30), True)):
            side.write(f"a.{ending}", text)
            await side.full()
            world.clock.now += 100
            keys = sorted([entry.key async for entry in side.mirror.target.entries()])
            assert keys == [item.key for item in side.mirror.tree.parts(f"a.{ending}")]
            assert (len(keys) > 1) == parts
            before = side.changing
            await side.full()
            assert side.changing == before
        assert await side.mirror.target.search("alpha beta", 3)
        side.remove(f"a.{ending}")
        await side.full(force=True)
        world.clock.now += 100
        assert [entry.key async for entry in side.mirror.target.entries()] == []
