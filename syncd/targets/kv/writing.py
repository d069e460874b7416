"""Puts and deletes of Workers KV, in bulk requests, with at most one write per second to a key."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from syncd.cloudflare.kv import KVNamespace
from syncd.cloudflare.kv_bodies import METADATA_LIMIT, VALUE_LIMIT, BulkBody, Pair, encode_pair
from syncd.core.errors import NotFound, Park, Retry, SyncdError, file_error, unexpected_error
from syncd.core.model import Content, Delete, Put, Stored
from syncd.core.names import FULL_KEY_FIELD
from syncd.targets.base import (
    Done,
    ReadContents,
    ReportOutcomes,
    WritePolicy,
    in_groups,
    in_halves,
    task_group,
)
from syncd.targets.shared import ShortNames, describe_content, fit_metadata, json_size

BULK_PAIRS = 1000
"""Maximum pairs of one bulk write. The API takes 10,000, but wrangler had time-outs at 5,000 (workers-sdk#7021)."""
BULK_BYTES = 90_000_000
"""Maximum bytes of the bodies that are held at a time. The API takes 100 MB, and may count other bytes than syncd."""
BULK_VALUE = VALUE_LIMIT // 4 * 3
"""Maximum bytes of a value in a bulk body: the API's schema limits its base64 to the length of a value (KV API)."""
TRIES = 6
"""Number of attempts for keys that the remote reports as unsuccessful. After these, the queue keeps the keys."""
Sleep = Callable[[float], Awaitable[None]]
SHA256, OWNER, STALE, PREFIX = "sha256", "owner", "stale", "prefix"
"""The marks in the metadata of a value. `stale`: the file no longer exists, and the value only waits to expire."""
BULK_DELETES = 1000
"""Maximum keys of one bulk delete. The API takes 10,000; the lower number has the same reason as BULK_PAIRS."""
RETIRED_VALUES = 100
"""Maximum number of values of one bulk write that lets values expire."""
READ_FILES = 8
"""Maximum files of one call of `read`, which runs in a thread. Starting a thread takes as long as reading a small file.
The number is small, because a file that is read early may change before it is sent."""
READ_BYTES = 256 * 1024
"""Maximum bytes of one call of `read`, by the sizes in the plan."""
KEY_REST_S = 1.0
"""Seconds between two writes to one key, and between two attempts (KV limits)."""


# -- requests


async def send_bulk(
    keys: Sequence[str], send: Callable[[Sequence[str]], Awaitable[Sequence[str]]], sleep: Sleep
) -> dict[str, SyncdError]:
    """Send a bulk request for all keys, and return the error of each key that failed. Raises Halt and Unreachable.

    send: sends one bulk request for the given keys, and returns the unsuccessful ones.
    """
    failed: dict[str, SyncdError] = {}

    async def persist(part: Sequence[str]) -> Sequence[str]:
        """Send until the remote reports no key of the part as unsuccessful. Return the keys that it still reports."""
        for attempt in range(TRIES):
            if attempt:
                await sleep(KEY_REST_S)
            unsuccessful = frozenset(await send(part))
            part = [key for key in part if key in unsuccessful]
            if not part:
                break
        return part

    async for part, answer in in_halves(keys, persist, unexpected=unexpected_error):
        if isinstance(answer, SyncdError):
            failed |= dict.fromkeys(part, answer)
        else:
            failed |= {key: Retry("the remote did not store it in all places") for key in answer}
    return failed


# -- bodies


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """A value to write, without its bytes.

    name: the key in KV. done: the outcome to report. marks: the metadata of the value. ttl: seconds until the value
    expires, None for never.
    """

    action: Put | Delete
    name: str
    done: Done
    marks: dict[str, Any]
    ttl: int | None


SendBody = Callable[[BulkBody, Sequence[PendingWrite]], Coroutine[Any, Any, None]]
"""Sends a body, and reports the outcomes of its writes."""


class BodySender:
    """Sends one body while the next one is under construction. Both together hold at most BULK_BYTES.

    group: runs the requests. At the end of its block no request is under way, even after an error.
    """

    def __init__(self, send: SendBody, group: asyncio.TaskGroup) -> None:
        self._send = send
        self._group = group
        self._body = _new_body()
        self._writes: list[PendingWrite] = []
        self._sending: asyncio.Task[None] | None = None
        self._bytes_under_way = 0

    async def add(self, write: PendingWrite, pair: Pair) -> None:
        """Add a pair to the next body. If that body has no room or already contains the name, begin another one."""
        if not self._body.add(pair):
            await self.start()
            self._body.add(pair)
        self._writes.append(write)
        if self._bytes_under_way + self._body.size > BULK_BYTES:
            await self.wait()

    async def start(self) -> None:
        """Wait for the body under way, and start to send the next one."""
        await self.wait()
        if self._writes:
            self._bytes_under_way = self._body.size
            self._sending = self._group.create_task(self._send(self._body, self._writes))
            self._body, self._writes = _new_body(), []

    async def wait(self) -> None:
        """Wait until no body is under way."""
        if self._sending:
            await self._sending
        self._sending, self._bytes_under_way = None, 0


def _new_body() -> BulkBody:
    return BulkBody(BULK_PAIRS, BULK_BYTES)


# -- the writer


@dataclass(frozen=True, slots=True)
class ValueWritePolicy(WritePolicy):
    """See WritePolicy. A put overwrites any value, so `takeover` has no effect.

    expiration_ttl: seconds until a value expires, None for never. stale_ttl: seconds until a stale value expires, None
    to delete it at once.
    """

    expiration_ttl: int | None = None
    stale_ttl: int | None = None


class ValueWriter:
    """Writes to one namespace.

    namespace: finds the namespace at the first use. clock: returns seconds of any origin.
    """

    def __init__(
        self, namespace: Callable[[], Awaitable[KVNamespace]], policy: ValueWritePolicy, names: ShortNames
    ) -> None:
        self.clock: Callable[[], float] = time.monotonic
        self.sleep: Sleep = asyncio.sleep
        self._namespace = namespace
        self._policy = policy
        self._names = names
        self._written: dict[str, float] = {}

    async def write(self, puts: Sequence[Put], read: ReadContents, report: ReportOutcomes) -> None:
        """Write puts in bulk requests, one at a time. During a request, the next body is read and encoded."""
        async with task_group() as group:
            sender = BodySender(partial(self._send, report), group)
            for files in in_groups(puts, lambda put: put.size, READ_FILES, READ_BYTES):
                for put, content in zip(files, await read(files), strict=True):
                    if isinstance(content, SyncdError):
                        report({put: content})
                    else:
                        await self._put(sender, put, content, report)
            await sender.start()

    async def remove(self, deletes: Sequence[Delete], report: ReportOutcomes) -> None:
        """Delete keys in bulk requests."""
        namespace = await self._namespace()
        for start in range(0, len(deletes), BULK_DELETES):
            part = deletes[start : start + BULK_DELETES]
            failed = await send_bulk([action.ref for action in part], namespace.bulk_delete, self.sleep)
            report({action: failed.get(action.ref) or Done() for action in part})

    async def retire(self, deletes: Sequence[Delete], report: ReportOutcomes) -> None:
        """Read each value and write it again with the mark `stale` and a time to live, so that it expires.

        Each RETIRED_VALUES values go in one bulk request, so that few of them are in memory.
        """
        async with task_group() as group:
            sender = BodySender(partial(self._send, report), group)
            for start in range(0, len(deletes), RETIRED_VALUES):
                for action in deletes[start : start + RETIRED_VALUES]:
                    await self._retire_one(sender, action, report)
                await sender.start()

    async def _retire_one(self, sender: BodySender, action: Delete, report: ReportOutcomes) -> None:
        namespace = await self._namespace()
        try:
            value = await namespace.read_value(action.ref)
        except NotFound:
            report({action: Done()})
        except Exception as error:  # noqa: BLE001 - file_error logs an unexpected one
            report({action: file_error(error, action.key)})
        else:
            marks = {OWNER: self._policy.owner, STALE: True}
            write = PendingWrite(action, action.ref, Done(), marks, self._policy.stale_ttl)
            await self._add(sender, write, value, report)

    async def _put(self, sender: BodySender, put: Put, content: Content, report: ReportOutcomes) -> None:
        try:
            name, size = self._names.name(put.key), len(content.data)
            stored = Stored(name, content.checksum, size, marked=True, remote_size=size)
            metadata = await self._metadata(put, name, content)
        except Exception as error:  # noqa: BLE001 - file_error logs an unexpected one
            report({put: file_error(error, put.key)})
        else:
            write = PendingWrite(put, name, Done(stored), metadata, self._policy.expiration_ttl)
            await self._add(sender, write, content.data, report)

    async def _add(self, sender: BodySender, write: PendingWrite, value: bytes, report: ReportOutcomes) -> None:
        """Add a value to a body. A value over BULK_VALUE gets a request of its own, while no body is under way."""
        if len(value) > BULK_VALUE:
            await sender.wait()
            await self._send_alone(write, value, report)
            return
        try:
            pair = encode_pair(write.name, value, metadata=write.marks, expiration_ttl=write.ttl)
        except Exception as error:  # noqa: BLE001 - file_error logs an unexpected one
            report({write.action: file_error(error, write.action.key)})
        else:
            await sender.add(write, pair)

    async def _send_alone(self, write: PendingWrite, value: bytes, report: ReportOutcomes) -> None:
        namespace = await self._namespace()
        await self._rest((write.name,))
        try:
            await namespace.write_value(write.name, value, write.marks, expiration_ttl=write.ttl)
        except Exception as error:  # noqa: BLE001 - file_error logs an unexpected one
            report({write.action: file_error(error, write.action.key)})
        else:
            self._written[write.name] = self.clock()
            report({write.action: write.done})

    async def _send(self, report: ReportOutcomes, body: BulkBody, writes: Sequence[PendingWrite]) -> None:
        namespace = await self._namespace()
        await self._rest(body.keys)
        failed = await send_bulk(body.keys, lambda keys: namespace.bulk_write(body.only(keys)), self.sleep)
        # No await from here on: a cancellation could lose outcomes.
        self._written |= dict.fromkeys(body.keys, self.clock())
        report({write.action: failed.get(write.name) or write.done for write in writes})

    async def _rest(self, names: Sequence[str]) -> None:
        """Wait until the last write to each name is KEY_REST_S ago."""
        now = self.clock()
        self._written = {name: at for name, at in self._written.items() if now - at < KEY_REST_S}
        wait = max((KEY_REST_S - (now - self._written[name]) for name in names if name in self._written), default=0.0)
        if wait > 0:
            await self.sleep(wait)

    async def _metadata(self, put: Put, name: str, content: Content) -> dict[str, Any]:
        """Return the metadata of a value: the marks, and as many of the mirror's fields as fit."""
        path = put.key if name != put.key else None
        marks = value_marks(content.checksum, self._policy.owner, len(content.data), path, self._policy.prefix)
        if path and json_size(marks) > METADATA_LIMIT:
            raise Park("key_too_long", "the key's metadata has no room for the whole name; shorten it")
        fields = await describe_content(self._policy.fields, put.key, content)
        return fit_metadata(marks, fields, METADATA_LIMIT)


def value_marks(checksum: str, owner: str, size: int, path: str | None, prefix: str = "") -> dict[str, Any]:
    """Return the marks of a value. path: the full key of a shortened name, else None.

    The mark of a prefix is its length.
    """
    marks: dict[str, Any] = {SHA256: checksum, OWNER: owner, "size": size} | ({PREFIX: len(prefix)} if prefix else {})
    return marks if path is None else {**marks, FULL_KEY_FIELD: path}
