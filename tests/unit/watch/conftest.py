from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.watch.harness import WatchHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[WatchHarness]:
    made = WatchHarness(tmp_path)
    yield made
    await made.watcher.stop()
