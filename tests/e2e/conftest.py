from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Browser, browser_path, open_browser
from tests.e2e.harness import Workspace, open_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with open_workspace(tmp_path) as workspace:
        yield workspace


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Yield the browser of all tests, because its start takes longer than most of them."""
    program = browser_path()
    assert program is not None
    with open_browser(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser
