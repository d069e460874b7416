from collections.abc import Iterator
from pathlib import Path

import pytest
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


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def core(tmp_path: Path) -> Iterator[Core]:
    with open_core(tmp_path) as made:
        yield made
