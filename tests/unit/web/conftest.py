from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.web.harness import Room, open_web_room


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_web_room(tmp_path) as opened:
        yield opened
