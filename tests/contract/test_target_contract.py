"""The contract over the memory target of the tests and over the stand-in of the API.

For a new target, add a subclass of FilesContract with its own fixture `remote`.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import count
from typing import Self

import pytest

from syncd.cloudflare.ai_search import AISearch
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.transport import Transport
from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Server, serve
from syncd.service.build import LONG_KEY_LENGTH
from syncd.targets.ai_search.items import ItemWritePolicy
from syncd.targets.ai_search.target import AISearchTarget, limits
from syncd.targets.base import MirrorRecords, Target
from tests.contract.harness import MIB, PREFIX, FilesContract, KVRemote, Remote
from tests.memory_target import Held, MemoryTarget


class MemoryRemote:
    indexes = True

    def __init__(self) -> None:
        self._store: dict[str, Held] = {}
        self._ids = count()

    async def target(self, owner: str) -> Target:
        return MemoryTarget(owner, PREFIX, store=self._store, _ids=self._ids)

    async def put_unmarked(self, key: str, data: bytes) -> None:
        checksum = hashlib.sha256(data).hexdigest()
        self._store[key] = Held(f"u{next(self._ids)}", data, checksum, None, f"v{next(self._ids)}")

    async def rest(self) -> None:
        """Return at once: every change is visible."""


class AISearchRemote:
    indexes = True

    def __init__(self, server: Server, instance: str, stack: AsyncExitStack) -> None:
        self._server = server
        self._instance = instance
        self._stack = stack

    async def _api(self) -> AISearch:
        gate, credentials = Gate(0, 8), Credentials.bearer("any")
        transport = Transport(self._server.base_url, "0" * 32, credentials, gate, retry_for=5)
        await self._stack.enter_async_context(transport)
        return AISearch(transport, "default", self._instance)

    async def open(self) -> Self:
        await (await self._api()).create_instance()
        return self

    async def target(self, owner: str) -> Target:
        return AISearchTarget(
            await self._api(),
            ItemWritePolicy(owner, PREFIX),
            replace(limits(128, 4 * MIB), long_key_length=LONG_KEY_LENGTH),
            records=MirrorRecords(),
        )

    async def put_unmarked(self, key: str, data: bytes) -> None:
        await (await self._api()).upload(key, data, "text/markdown")

    async def rest(self) -> None:
        """Return at once: every change is visible."""


class TestMemoryTarget(FilesContract):
    @pytest.fixture
    def remote(self) -> Remote:
        return MemoryRemote()


@pytest.fixture(
    scope="module",
    params=[
        EmulatorOptions(index_delay=0),
        EmulatorOptions(index_delay=0, on_existing="conflict", checksum="zero"),
        EmulatorOptions(index_delay=0, on_existing="conflict", checksum="md5"),
    ],
    ids=["overwrite", "conflict", "conflict-md5"],
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve(request.param, 0) as server:
        yield server


class TestAISearchTarget(FilesContract):
    """The stand-in, once for each behaviour that users of the service report."""

    numbers = count()

    @pytest.fixture
    async def remote(self, server: Server) -> AsyncIterator[Remote]:
        async with AsyncExitStack() as stack:
            yield await AISearchRemote(server, f"docs-{next(self.numbers)}", stack).open()


@pytest.fixture(scope="module")
def kv_server() -> Iterator[Server]:
    with serve(EmulatorOptions(empty_pages=True), 0) as server:
        yield server


class TestKVTarget(FilesContract):
    """The stand-in with an empty page before every page of the listing."""

    numbers = count()

    @pytest.fixture
    async def remote(self, kv_server: Server) -> AsyncIterator[Remote]:
        async with AsyncExitStack() as stack:
            yield await KVRemote(kv_server.base_url, f"docs-{next(self.numbers)}", stack).open()
