"""Bulk requests: bodies under construction, halves of refused bodies, and repetition of unsuccessful keys."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from syncd.cloudflare.kv_bulk import VALUE_LIMIT, BulkBody, Pair
from syncd.cloudflare.kv_models import BulkResult
from syncd.core.errors import Retry, SyncdError, unexpected_error
from syncd.core.model import Delete, Put
from syncd.targets.base import Done, in_halves, task_group

BULK_PAIRS = 1000
"""Maximum pairs of one bulk write. The API takes 10,000, but wrangler had time-outs at 5,000 (workers-sdk#7021)."""
BULK_BYTES = 90_000_000
"""Maximum bytes of the bodies that are held at a time. The API takes 100 MB, and may count other bytes than syncd."""
BULK_VALUE = VALUE_LIMIT // 4 * 3
"""Maximum bytes of a value in a bulk body: the API's schema limits its base64 to the length of a value (KV API)."""
TRIES = 6
"""Number of attempts for keys that the remote reports as unsuccessful. After these, the queue keeps the keys."""
TRY_AGAIN_S = 1.0
"""Seconds between two attempts: KV takes one write per second to one key (KV limits)."""

Sleep = Callable[[float], Awaitable[None]]


# -- requests


class NotStored(Retry):
    """The remote reports the key as unsuccessful."""


async def send_bulk(
    keys: Sequence[str], send: Callable[[Sequence[str]], Awaitable[BulkResult]], sleep: Sleep, tries: int = TRIES
) -> dict[str, SyncdError]:
    """Send a bulk request for all keys, and return the error of each key that failed. Raises Halt and Unreachable.

    send: sends one bulk request for the given keys. tries: the number of attempts for unsuccessful keys.
    """
    failed: dict[str, SyncdError] = {}

    async def persist(part: Sequence[str]) -> Sequence[str]:
        """Send until the remote reports no key of the part as unsuccessful. Return the keys that it still reports."""
        for attempt in range(tries):
            if attempt:
                await sleep(TRY_AGAIN_S)
            unsuccessful = frozenset((await send(part)).unsuccessful_keys)
            part = [key for key in part if key in unsuccessful]
            if not part:
                break
        return part

    async for part, answer in in_halves(keys, persist, unexpected=unexpected_error):
        if isinstance(answer, SyncdError):
            failed |= dict.fromkeys(part, answer)
        else:
            failed |= {key: NotStored("the remote did not store it in all places") for key in answer}
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


@dataclass(frozen=True, slots=True)
class PendingBody:
    """A bulk body under construction, and the pending write of each name in it."""

    body: BulkBody = field(default_factory=lambda: BulkBody(BULK_PAIRS, BULK_BYTES))
    writes: dict[str, PendingWrite] = field(default_factory=dict)

    def add(self, write: PendingWrite, pair: Pair) -> bool:
        """Add a pair. Return False, without a change, if the body has no room or already contains the name."""
        if not self.body.add(pair):
            return False
        self.writes[write.name] = write
        return True

    def add_all(self, other: "PendingBody") -> "PendingBody":
        """Add the pairs of another body that fit, and return the others."""
        rest = PendingBody()
        for pair in other.body.pairs:
            write = other.writes[pair.key]
            if not self.add(write, pair):
                rest.add(write, pair)
        return rest


SendBody = Callable[[PendingBody, int], Coroutine[Any, Any, PendingBody]]
"""Sends a body with a number of tries (see send_bulk), reports the outcomes, and returns the writes to send again."""


@asynccontextmanager
async def body_pipeline(send: SendBody) -> AsyncIterator["BodyPipeline"]:
    """Open a pipeline for pairs. At the end of the block it sends all pairs, unless the block raises.

    Raises the errors of `send` at any place of the block. No request is under way after the block, even after an error.
    """
    async with task_group() as group:
        pipeline = BodyPipeline(send, group)
        yield pipeline
        await pipeline.finish()


class BodyPipeline:
    """Sends one body while the next one is under construction. Both together hold at most BULK_BYTES."""

    def __init__(self, send: SendBody, group: asyncio.TaskGroup) -> None:
        self._send = send
        self._group = group
        self._next = PendingBody()
        self._left = PendingBody()
        """Writes to send again that do not fit into the next body. That body is full then."""
        self._sent = PendingBody()
        self._task: asyncio.Task[PendingBody] | None = None

    async def add(self, write: PendingWrite, pair: Pair) -> None:
        """Add one pair. Without room for it, wait for the body under way, then send the full one."""
        tries = 1
        while not self._has_added(write, pair):
            if self._task:
                await self.wait()
            else:
                self._start(tries)
                # With one try only, a remote that stores nothing would return the same writes forever.
                tries = TRIES

    async def wait(self) -> None:
        """Wait until no body is under way."""
        if self._task:
            left = await self._task
            self._task, self._sent = None, PendingBody()
            self._left = self._next.add_all(left)

    async def finish(self) -> None:
        """Send all remaining pairs and wait for their outcomes."""
        await self.wait()
        while self._next.writes:
            self._start(TRIES)
            await self.wait()

    def _has_added(self, write: PendingWrite, pair: Pair) -> bool:
        sent, size = self._sent, self._sent.body.size + self._next.body.size + pair.size
        # Of two puts of one key under way, the later arrival would win, so they must not overlap.
        if self._task and (write.name in sent.writes or size > BULK_BYTES):
            return False
        return self._next.add(write, pair)

    def _start(self, tries: int) -> None:
        self._sent, self._next, self._left = self._next, self._left, PendingBody()
        self._task = self._group.create_task(self._send(self._sent, tries))
