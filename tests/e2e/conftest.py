from collections.abc import Iterator

import pytest

from tests.e2e.browser import Browser, browser_path, open_browser


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Yield the browser of all tests, because its start takes longer than most of them."""
    program = browser_path()
    assert program is not None
    with open_browser(program, tmp_path_factory.mktemp("profile")) as browser:
        yield browser
