from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.watch.harness import Room


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    made = Room(tmp_path)
    yield made
    await made.watcher.stop()
