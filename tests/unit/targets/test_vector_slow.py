"""A file that takes long to split does not delay other files."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from syncd.targets.vectorize import writing
from tests.unit.targets.harness_vectorize import open_harness


@pytest.mark.parametrize("slow", [{"a.md"}, {"c.md"}, {"a.md", "b.md"}])
async def test_the_others_are_stored_while_a_file_takes_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow: set[str]
) -> None:
    go_on, real, stored = threading.Event(), writing.split_file, set[str]()

    def split_file(put: Any, *others: Any) -> Any:
        if put.key in slow:
            go_on.wait(30)
        return real(put, *others)

    monkeypatch.setattr(writing, "split_file", split_file)
    monkeypatch.setattr(writing, "PATIENCE_S", 0.01)
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        keys = {f"{name}.md" for name in "abcde"}
        for key in keys:
            fixture.write(key, f"# {key}\n\ntext of {key}")
        fixture.mirror.on_action = lambda event: stored.add(event.key)
        passing = asyncio.create_task(fixture.full())
        try:
            async with asyncio.timeout(20):
                while stored != keys - slow:  # noqa: ASYNC110 - the other fixture is code that knows nothing of this test
                    await asyncio.sleep(0.01)
        finally:
            go_on.set()
            await passing
        assert stored == keys
        assert await h.ids() == fixture.expected()


async def test_a_pass_that_is_cancelled_leaves_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, begun = threading.Event(), threading.Event()

    def split_file(*_: Any) -> Any:
        begun.set()
        go_on.wait(30)
        return []

    monkeypatch.setattr(writing, "split_file", split_file)
    async with open_harness(tmp_path) as h:
        fixture = h.add_mirror()
        fixture.write("a.md", "text")
        before = asyncio.all_tasks()
        passing = asyncio.create_task(fixture.full())
        try:
            assert await asyncio.to_thread(begun.wait, 20)
            passing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await passing
            assert asyncio.all_tasks() == before
        finally:
            go_on.set()
