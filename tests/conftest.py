import logging
import os
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

# The programs that tests start see no settings of the shell, which change their output.
for name in [name for name in os.environ if name.startswith(("SYNCD_", "CLOUDFLARE_"))]:
    del os.environ[name]

# The same examples on every machine and in every run; deadlines are for pytest-timeout.
settings.register_profile("syncd", derandomize=True, deadline=None, database=None)
settings.load_profile("syncd")


HERE = Path(__file__).parent
SLOW = {"e2e", "simulation", "system", "torture"}
"""Folders of tests that start programs or run for seconds."""
ON_DISK = ("e2e", "system", "torture", "unit/local", "unit/watch")
"""Folders of tests that need the file system of a disk: they run the program, or test the walk and the watcher."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each worker of pytest-xdist its slow tests first, so that all workers end at about the same time."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    groups: tuple[list[pytest.Item], list[pytest.Item]] = ([], [])
    for item in items:
        groups[item.path.relative_to(HERE).parts[0] not in SLOW].append(item)
    items[:] = [
        item
        for worker in range(workers)
        for group in groups
        for item in group[len(group) * worker // workers : len(group) * (worker + 1) // workers]
    ]


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say that slow tests are left out, because pytest-xdist does not count them."""
    return "tests marked slow are left out; ARGS='-m slow' runs them" if config.option.markexpr == "not slow" else None


def plain_log() -> None:
    """Print log lines without colours and times, which most tests produce by the hundred and nobody reads."""
    structlog.reset_defaults()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ]
    )


plain_log()
PLAIN = structlog.get_config()


def pytest_runtest_teardown() -> None:
    """Reset the log after a test that has configured it, because the stream of that test is closed."""
    if structlog.get_config() != PLAIN:
        logging.captureWarnings(capture=False)
        plain_log()


@pytest.fixture
def bare_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the handlers of pytest from the root logger, so that a test configures it as the program does."""
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tmp_path(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Replace the fixture of pytest by a directory in memory, except where the file system matters."""
    if any(request.path.is_relative_to(HERE / folder) for folder in ON_DISK):
        yield request.getfixturevalue("tmp_path")
        return
    with TemporaryDirectory(dir=IN_MEMORY) as path:
        yield Path(path)


@pytest.fixture
def core() -> Iterator[Core]:
    with TemporaryDirectory(dir=IN_MEMORY) as base, open_core(Path(base)) as made:
        yield made
