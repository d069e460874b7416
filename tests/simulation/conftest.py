import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the work of threads at once, and begin with the same random numbers, so that only the test decides."""

    async def at_once(work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return work(*args, **kwargs)

    monkeypatch.setattr(asyncio, "to_thread", at_once)
    random.seed(1)
