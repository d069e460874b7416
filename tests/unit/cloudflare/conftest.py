import pytest

from tests.unit.cloudflare.harness import Remote, VirtualTime


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def remote(time: VirtualTime) -> Remote:
    return Remote(time)
