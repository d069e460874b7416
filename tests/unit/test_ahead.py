"""The files of a turn, read a few at a time."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from scan_room import tree, write

from syncd.errors import Park
from syncd.model import Put
from syncd.scan import Tree
from syncd.sync.ahead import BYTES, FILES, Ahead
from syncd.targets.base import Again, Content


class Counted(Tree):
    """A tree that notes in which order its files are read, and whether torn."""

    def __init__(self, found: Tree) -> None:
        super().__init__(found.root, found.rules, found.limits, found.prefix)
        self.reads: list[tuple[str, bool]] = []

    def read(self, path: str, *, torn: bool = False) -> tuple[Content, os.stat_result]:
        self.reads.append((path, torn))
        return super().read(path, torn=torn)


def puts(root: Path, number: int, size: int = 10) -> list[Put]:
    names = [f"{place:03d}.md" for place in range(number)]
    write(root, *names)
    return [Put(name, "new", name, size) for name in names]


def opened(root: Path, all_puts: list[Put], torn: Callable[[str], bool] = lambda _: False) -> tuple[Ahead, Counted]:
    counted = Counted(tree(root))
    return Ahead(counted, all_puts, torn), counted


@pytest.mark.parametrize("number", [1, FILES - 1, FILES, FILES + 1, 3 * FILES])
async def test_every_file_is_read_once_and_handed_to_its_own_put(tmp_path: Path, number: int) -> None:
    planned = puts(tmp_path, number)
    ahead, counted = opened(tmp_path, planned)
    contents = await asyncio.gather(*(ahead.read(put) for put in planned))
    assert [content.data.decode() for content, _ in contents] == [put.path for put in planned]
    assert sorted(counted.reads) == [(put.path, False) for put in planned]


async def test_no_more_is_read_ahead_than_one_trip(tmp_path: Path) -> None:
    planned = puts(tmp_path, 3 * FILES)
    ahead, counted = opened(tmp_path, planned)
    await ahead.read(planned[0])
    assert len(counted.reads) == FILES


@pytest.mark.parametrize(("size", "together"), [(BYTES // 2, 2), (BYTES // 2 + 1, 1), (BYTES * 2, 1)])
async def test_a_trip_is_bounded_in_bytes(tmp_path: Path, size: int, together: int) -> None:
    planned = puts(tmp_path, 4, size)
    ahead, counted = opened(tmp_path, planned)
    await ahead.read(planned[0])
    assert len(counted.reads) == together


async def test_a_file_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    planned = puts(tmp_path, 3)
    (tmp_path / planned[1].path).unlink()
    (tmp_path / planned[2].path).write_bytes(b"x" * 1001)
    ahead, _ = opened(tmp_path, planned)
    assert (await ahead.read(planned[0]))[0].data == b"000.md"
    with pytest.raises(Again):
        await ahead.read(planned[1])
    with pytest.raises(Park):
        await ahead.read(planned[2])


async def test_only_files_that_never_rest_are_read_torn(tmp_path: Path) -> None:
    planned = puts(tmp_path, 3)
    ahead, counted = opened(tmp_path, planned, lambda key: key == "001.md")
    for put in planned:
        await ahead.read(put)
    assert counted.reads == [("000.md", False), ("001.md", True), ("002.md", False)]


async def test_who_leaves_does_not_take_the_others_along(tmp_path: Path) -> None:
    planned = puts(tmp_path, 2)
    ahead, _ = opened(tmp_path, planned)
    first = asyncio.create_task(ahead.read(planned[0]))
    second = asyncio.create_task(ahead.read(planned[1]))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)[0].data == b"001.md"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_put_that_waited_for_the_next_turn_is_read_anew(tmp_path: Path) -> None:
    planned = puts(tmp_path, 2)
    ahead, _ = opened(tmp_path, planned)
    await ahead.read(planned[0])
    ahead.close()
    (tmp_path / planned[1].path).write_text("newer")
    ahead, _ = opened(tmp_path, planned[1:])
    assert (await ahead.read(planned[1]))[0].data == b"newer"
