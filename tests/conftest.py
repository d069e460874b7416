import logging
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from hypothesis import settings

from tests import unclosed
from tests.harness import IN_MEMORY, Core, open_core

pytest.register_assert_rewrite("tests.contract.harness")

# filterwarnings makes an error of what it warns of.
unclosed.watch()

# The same examples on every machine and in every run; deadlines are for pytest-timeout.
settings.register_profile("syncd", derandomize=True, deadline=None, database=None)
settings.load_profile("syncd")


def pytest_runtest_teardown() -> None:
    """Reset the log after each test, because the stream that the test configured is closed."""
    if structlog.is_configured():
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def core() -> Iterator[Core]:
    with TemporaryDirectory(dir=IN_MEMORY) as base, open_core(Path(base)) as made:
        yield made
