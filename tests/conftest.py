import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import unclosed
from core_room import Core, open_core
from hypothesis import settings

pytest.register_assert_rewrite("contract_room")
# Plugins, not further conftest files: test directories are no packages, so every module name stands once.
pytest_plugins = ["cf_fixtures", "system_fixtures", "watch_fixtures"]

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
