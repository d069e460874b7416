"""The Workers KV target. key = prefix + path, ref = the key itself; checksum and owner travel in the key's metadata.

One bulk request carries a thousand files, and the listing carries the checksums, so a full comparison of n files takes
n / 1000 requests. Reads and listings may lag a minute behind our own writes, so what we wrote lately outranks them.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog

from syncd.cloudflare.kv import BULK_GET_LIMIT, KV, KVNamespace
from syncd.cloudflare.kv_bulk import KEY_LIMIT, encode_pair
from syncd.cloudflare.kv_places import by_id, by_title
from syncd.errors import ConfigError, Conflict, Halt, NotFound, SyncdError, TargetMissing, Unreachable
from syncd.model import Delete, Entry, IndexStatus, Put
from syncd.targets.base import Content, Done, Fetched, Hit, Limits, Read, Report, Stored
from syncd.targets.bulk import BULK_PAIRS, BULK_VALUE, Job, Jobs, Keys, Sleep, in_parts
from syncd.targets.fetching import values

log = structlog.get_logger()

SHA256, OWNER, STALE = "sha256", "owner", "stale"
"""Our marks in a key's metadata. `stale`: the file is gone and the entry only waits for its end."""
BULK_DELETES = 1000
LAG_S = 60.0
"""Seconds after which a write is seen everywhere, in most cases (KV: how KV works)."""
KEY_REST_S = 1.0
"""One write per second to one key (KV limits)."""
CREATE_HINT = "create = true makes one by its title"


@dataclass(frozen=True, slots=True)
class Place:
    """Which namespace: by its id, or by its title."""

    namespace_id: str | None = None
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Terms:
    """What this mirror writes. expiration_ttl and stale_ttl: seconds, None for never."""

    owner: str
    prefix: str = ""
    expiration_ttl: int | None = None
    stale_ttl: int | None = None


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """The limits of KV: characters and bytes as configured, keys of at most 512 bytes, any type of file."""
    return Limits(
        max_key_length=max_key_length,
        max_file_size=max_file_size,
        lag_s=LAG_S,
        max_key_bytes=KEY_LIMIT,
        turn=BULK_PAIRS,
        delete_turn=BULK_DELETES,
        reads_lag=True,
    )


class KVTarget:
    """One mirror's view of one namespace."""

    def __init__(self, api: KV, place: Place, terms: Terms, limits: Limits) -> None:
        self.limits = limits
        self._api = api
        self._place = place
        self._terms = terms
        self._found: KVNamespace | None = None
        self._written: dict[str, float] = {}
        self._clock: Callable[[], float] = time.monotonic
        self._sleep: Sleep = asyncio.sleep

    # -- looking

    async def check(self) -> str:
        """One line on the namespace. Raises TargetMissing naming those that are there, Halt if a title stands twice."""
        self._found = None
        namespace = await self._namespace()
        return f"KV namespace {self._place.title or namespace.namespace_id} is there"

    async def create(self) -> None:
        """Make the namespace of our title. Raises TargetMissing if only an id is configured: ids are not chosen."""
        if self._place.title is None:
            raise TargetMissing(f"no KV namespace has the id {self._place.namespace_id}; name it by namespace_title")
        self._found = None
        try:
            made = await self._api.create_namespace(self._place.title)
        except Conflict:
            # Made by somebody else in this moment; the listing of namespaces will show it.
            return
        self._found = KVNamespace(self._api.transport, made.id)
        log.info("target.created", namespace=made.id, title=made.title)

    async def _namespace(self) -> KVNamespace:
        """Find the namespace once; by its title, if need be."""
        if self._found is None:
            self._found = KVNamespace(self._api.transport, await self._find_id())
        return self._found

    async def _find_id(self) -> str:
        if self._place.namespace_id is not None:
            return await by_id(self._api, self._place.namespace_id, hint=CREATE_HINT)
        return await by_title(self._api, self._place.title or "", hint=CREATE_HINT)

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield every key under the prefix, but for those of ours that only wait for their end."""
        namespace = await self._namespace()
        try:
            async with aclosing(namespace.iter_keys(self._terms.prefix)) as keys:
                async for key in keys:
                    entry = self._entry(key.name, key.metadata)
                    if entry is not None:
                        yield entry
        except TargetMissing:
            # By the next time its title may stand for another namespace.
            self._found = None
            raise

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Ask for one key by its metadata."""
        del ref
        try:
            return self._entry(key, await (await self._namespace()).read_metadata(key))
        except NotFound:
            return None

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """The sha-256 of the value, by reading it."""
        del content
        try:
            value = await (await self._namespace()).read_value(entry.key)
        except NotFound:
            return None
        return hashlib.sha256(value.content).hexdigest()

    async def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Read values: those that are text and marked as ours in bulk."""
        async for pair in values(await self._namespace(), entries):
            yield pair

    async def statuses(self, refs: frozenset[str]) -> Mapping[str, Entry | None]:
        """KV has no index."""
        del refs
        return {}

    async def search(self, query: str, limit: int) -> Sequence[Hit]:
        """KV has no search. Raises ConfigError."""
        del query, limit
        raise ConfigError("Workers KV has no search; ask a mirror of AI Search with --mirror")

    def requests(self, puts: int, deletes: int) -> int:
        """Bulk requests, if no file is large. Retiring an entry also takes a read."""
        removing = -(-deletes // BULK_DELETES)
        retiring = deletes + -(-deletes // BULK_GET_LIMIT)
        return -(-puts // BULK_PAIRS) + (removing if self._terms.stale_ttl is None else retiring)

    # -- changing

    async def apply(self, batch: Sequence[Put | Delete], read: Read, report: Report) -> None:
        """Write puts and remove deletes in bulk requests, one at a time: only one body is ever held."""
        puts = [action for action in batch if isinstance(action, Put)]
        deletes = [action for action in batch if isinstance(action, Delete)]
        if puts:
            await self._write(puts, read, report)
        if deletes and self._terms.stale_ttl is None:
            await self._remove(deletes, report)
        elif deletes:
            await self._retire(deletes, report)

    async def _write(self, puts: Sequence[Put], read: Read, report: Report) -> None:
        bulk = Jobs()
        for put in puts:
            try:
                content = await read(put)
                stored = Stored(
                    put.key, content.checksum, len(content.data), marked=True, remote_size=len(content.data)
                )
                job = Job(put, Done(stored), self._marks(content), self._terms.expiration_ttl)
                bulk = await self._add(bulk, job, content.data, report)
            except (Halt, Unreachable):
                raise
            except SyncdError as error:
                report(put, error)
        await self._send(bulk, report)

    async def _add(self, bulk: Jobs, job: Job, value: bytes, report: Report) -> Jobs:
        """Take one more value in, and return the body that takes the next; a full one is sent."""
        if len(value) > BULK_VALUE:
            await self._send_alone(job, value, report)
            return bulk
        pair = encode_pair(job.action.key, value, metadata=job.marks, expiration_ttl=job.ttl)
        del value
        if not bulk.body.add(pair):
            await self._send(bulk, report)
            bulk = Jobs()
            bulk.body.add(pair)
        bulk.of[job.action.key] = job
        return bulk

    async def _send_alone(self, job: Job, value: bytes, report: Report) -> None:
        namespace = await self._namespace()
        key = job.action.key
        await self._rest((key,))
        try:
            await namespace.write_value(key, value, job.marks, expiration_ttl=job.ttl)
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            report(job.action, error)
        else:
            self._written[key] = self._clock()
            report(job.action, job.done)

    async def _send(self, bulk: Jobs, report: Report) -> None:
        """Write a body, in as many requests as that takes, and report every key of it."""
        namespace = await self._namespace()
        await self._rest(bulk.body.keys)
        outcomes = await in_parts(bulk.body, namespace.bulk_write, self._sleep)
        now = self._clock()
        for key, job in bulk.of.items():
            error = outcomes.get(key)
            if error is None:
                self._written[key] = now
            report(job.action, error or job.done)

    async def _rest(self, keys: Sequence[str]) -> None:
        """Wait until the last write to each key is a second ago."""
        now = self._clock()
        self._written = {key: at for key, at in self._written.items() if now - at < KEY_REST_S}
        wait = max((KEY_REST_S - (now - self._written[key]) for key in keys if key in self._written), default=0.0)
        if wait > 0:
            await self._sleep(wait)

    async def _remove(self, deletes: Sequence[Delete], report: Report) -> None:
        namespace = await self._namespace()
        for start in range(0, len(deletes), BULK_DELETES):
            part = deletes[start : start + BULK_DELETES]
            outcomes = await in_parts(
                Keys(tuple(action.key for action in part)), lambda keys: namespace.bulk_delete(keys.keys), self._sleep
            )
            for action in part:
                report(action, outcomes.get(action.key) or Done())

    async def _retire(self, deletes: Sequence[Delete], report: Report) -> None:
        """Let entries expire: each is read and written once more, with a time to live and a mark."""
        namespace = await self._namespace()
        for start in range(0, len(deletes), BULK_GET_LIMIT):
            bulk = Jobs()
            for action in deletes[start : start + BULK_GET_LIMIT]:
                try:
                    value = (await namespace.read_value(action.key)).content
                except NotFound:
                    report(action, Done())
                    continue
                except (Halt, Unreachable):
                    raise
                except SyncdError as error:
                    report(action, error)
                    continue
                job = Job(action, Done(), {OWNER: self._terms.owner, STALE: True}, self._terms.stale_ttl)
                bulk = await self._add(bulk, job, value, report)
            await self._send(bulk, report)

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """KV has no index, so nothing asks for this."""
        raise AssertionError(f"KV has no index to put {key!r} ({ref!r}) into")

    async def aclose(self) -> None:
        """Nothing is held; the transport is shared."""

    # -- marks

    def _marks(self, content: Content) -> dict[str, Any]:
        return {SHA256: content.checksum, OWNER: self._terms.owner, "size": len(content.data)}

    def _entry(self, key: str, metadata: Any) -> Entry | None:
        marks = metadata if isinstance(metadata, dict) else {}
        owner, checksum, size = marks.get(OWNER), marks.get(SHA256), marks.get("size")
        if marks.get(STALE) and owner == self._terms.owner:
            return None
        return Entry(
            key=key,
            ref=key,
            checksum=str(checksum) if checksum else None,
            size=size if isinstance(size, int) else None,
            owner=str(owner) if owner is not None else None,
            marked=checksum is not None,
        )
