"""A KV writer without a pass: a remote with answers that the test chooses, and puts with invented files."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import pytest

from syncd.cloudflare.kv_bodies import BulkBody
from syncd.cloudflare.request import compact_json
from syncd.core.errors import Halt, SyncdError
from syncd.core.model import Content, Delete, Put
from syncd.targets.base import Done, MirrorRecords, Outcome
from syncd.targets.kv import writing
from syncd.targets.kv.target import limits
from syncd.targets.kv.writing import ValueWritePolicy, ValueWriter
from syncd.targets.shared import ShortNames
from tests.unit.targets.harness_mirrors import Clock

Answer = Callable[[list[str]], Awaitable[Sequence[str]]]


async def all_stored(keys: list[str]) -> Sequence[str]:
    del keys
    return ()


class Remote:
    """A namespace that records its requests. answer: awaited for every bulk, returns the keys that were not stored."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.answer: Answer = all_stored
        self.sent: list[list[str]] = []
        self.sizes: list[int] = []
        self.values: dict[str, bytes] = {}
        self.times: dict[str, list[float]] = defaultdict(list)
        self.under_way = self.most_under_way = self.held = self.cancelled = 0

    async def bulk_write(self, body: BulkBody) -> tuple[str, ...]:
        keys = list(body.keys)
        async with self._request(keys, body.size):
            unstored = await self.answer(keys)
            rows = json.loads(b"".join(body.pieces()))
            self.values |= {row["key"]: compact_json(row) for row in rows if row["key"] not in unstored}
            return tuple(unstored)

    async def write_value(self, key: str, value: bytes, marks: Any, *, expiration_ttl: int | None) -> None:
        del marks, expiration_ttl
        async with self._request([key], len(value)):
            await asyncio.sleep(0)
            self.values[key] = value

    @asynccontextmanager
    async def _request(self, keys: list[str], size: int) -> AsyncIterator[None]:
        self.sent.append(keys)
        self.sizes.append(size)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        self.held = size
        try:
            yield
            for key in keys:
                self.times[key].append(self.clock.now)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
            self.held = 0


class WriterHarness:
    """A writer to a remote of its own. read: returns the bytes of a put's file, or raises the error of reading it."""

    def __init__(self) -> None:
        self.remote = Remote()
        self.read: Callable[[Put], Awaitable[bytes]] = self.whole
        self.reads: list[str] = []
        self.reported: list[tuple[Put | Delete, Outcome]] = []
        names = ShortNames(limits(512, 1000), MirrorRecords())
        self.writer = ValueWriter(self._namespace, ValueWritePolicy("me"), names)
        self.writer.clock, self.writer.sleep = self.remote.clock, self.remote.clock.sleep

    async def _namespace(self) -> Any:
        return self.remote

    @staticmethod
    async def whole(put: Put) -> bytes:
        """Return the path of a file as its text."""
        # The real read runs in a thread, so other tasks run during it.
        await asyncio.sleep(0)
        return put.path.encode()

    async def _read(self, puts: Sequence[Put]) -> list[Content | SyncdError]:
        return [await self._one(put) for put in puts]

    async def _one(self, put: Put) -> Content | SyncdError:
        self.reads.append(put.key)
        try:
            data = await self.read(put)
        except Halt:
            raise
        except SyncdError as error:
            return error
        return Content(data, sha256(data).hexdigest())

    def report(self, outcomes: Mapping[Put | Delete, Outcome]) -> None:
        self.reported += outcomes.items()

    async def write(self, keys: str | Sequence[Put]) -> None:
        """Write puts, or one put for each letter. Fail if a task is left at the end, or if the call hangs."""
        puts = [new(key) for key in keys] if isinstance(keys, str) else keys
        before = asyncio.all_tasks()
        try:
            async with asyncio.timeout(10):
                await self.writer.write(puts, self._read, self.report)
        finally:
            assert asyncio.all_tasks() == before
            assert self.remote.under_way == 0

    def done(self) -> str:
        """Return the keys that were reported as done, in order."""
        return "".join(action.key for action, outcome in self.reported if isinstance(outcome, Done))


def new(key: str, path: str = "") -> Put:
    return Put(key, "new", path or key, 1)


def may_hold(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(writing, "BULK_BYTES", size)


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - the other fixture is code that knows nothing of this test
        await asyncio.sleep(0)


async def turns(number: int) -> None:
    """Let other tasks run for so many rounds of the loop."""
    for _ in range(number):
        await asyncio.sleep(0)
