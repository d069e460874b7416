import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from tests import unclosed
from tests.harness import Core, open_core

pytest.register_assert_rewrite("tests.contract.harness")

# filterwarnings makes an error of what it warns of.
unclosed.watch()

# The same examples on every machine and in every run; deadlines are for pytest-timeout.
settings.register_profile("syncd", derandomize=True, deadline=None, database=None)
settings.load_profile("syncd")


def pytest_runtest_teardown() -> None:
    """Leave no log that the program set up in a test to the next one: its stream is closed by then."""
    if structlog.is_configured():
        logging.captureWarnings(capture=False)
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    with open_core(tmp_path) as made:
        yield made
