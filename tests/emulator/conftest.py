"""The official SDK as a client of the fixture `server`, which a module of tests defines."""

from collections.abc import Iterator

import pytest
from cloudflare import Cloudflare

from syncd.emulator.server import Server


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloudflare]:
    monkeypatch.delenv("CLOUDFLARE_EMAIL", raising=False)
    with Cloudflare(api_token="token", base_url=server.base_url, max_retries=0) as client:
        yield client
