import pytest

from syncd.core import plain_text
from tests.unit.cloudflare.harness import Remote, VirtualTime


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "_secrets", [])


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def remote(time: VirtualTime) -> Remote:
    return Remote(time)
