"""The official SDK as a client of the fixture `server`, which a module of tests defines."""

from collections.abc import Iterator

import pytest
from cloudflare import Cloudflare

from syncd.emulator.server import Server
from tests.emulator.harness_sdk import open_client


@pytest.fixture
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloudflare]:
    monkeypatch.delenv("CLOUDFLARE_EMAIL", raising=False)
    with open_client(server.base_url) as client:
        yield client
