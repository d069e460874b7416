"""The Workers KV target. key = prefix + path; ref = the name in KV, which is the key, or short for it.

Checksum and owner travel in the metadata. One bulk request carries a thousand files, and the listing carries the
checksums, so a full comparison of n files takes n / 1000 requests. Reads and listings may lag a minute behind our own
writes, so what we wrote lately outranks them.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog

from syncd.cloudflare.decoding import encodable
from syncd.cloudflare.kv import BULK_GET_LIMIT, KV, LIST_LIMIT, KVNamespace, find_by_id, find_by_title
from syncd.cloudflare.kv_bulk import METADATA_LIMIT, VALUE_LIMIT
from syncd.cloudflare.pages import LISTINGS, CursorRefused
from syncd.core.errors import Conflict, NotFound, TargetMissing
from syncd.core.limits import KV_KEY_BYTES, Limits
from syncd.core.model import Content, Delete, Entry, Put
from syncd.core.short_names import FULL_KEY_FIELD, prefix_of
from syncd.targets.base import Advice, Fetched, Noting, Read, Report
from syncd.targets.bulk import BULK_BYTES, BULK_PAIRS
from syncd.targets.kv_fetching import values
from syncd.targets.kv_writing import BULK_DELETES, OWNER, PREFIX, SHA256, STALE, ValueWritePolicy, ValueWriter, marks_of
from syncd.targets.naming import NOWHERE, Names, Naming
from syncd.text.metadata import json_size

log = structlog.get_logger()

TURN = 4 * BULK_PAIRS
"""Puts handed over at a time: only with a next body can unsuccessful keys of one be sent without waiting for it."""
LAG_S = 60.0
"""Seconds after which a write is seen everywhere, in most cases (KV: how KV works)."""
CREATE_HINT = "create = true makes one by its title"


@dataclass(frozen=True, slots=True)
class Place:
    """Which namespace: by its id, or by its title."""

    namespace_id: str | None = None
    title: str | None = None


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """The limits of KV: characters and bytes as configured, keys of at most 512 bytes, any type of file."""
    return Limits(
        max_key_length=max_key_length,
        max_file_size=max_file_size,
        lag_s=LAG_S,
        max_key_bytes=KV_KEY_BYTES,
        turn=TURN,
        delete_turn=BULK_DELETES,
        reads_lag=True,
        page=LIST_LIMIT,
    )


def long_key_bytes(owner: str, prefix: str = "") -> int:
    """The room for a full key in a value's metadata, beside our marks; quotes and backslashes take two bytes."""
    return METADATA_LIMIT - json_size(marks_of("0" * 64, owner, VALUE_LIMIT, "", prefix))


class KVTarget:
    """One mirror's view of one namespace."""

    def __init__(
        self, api: KV, place: Place, policy: ValueWritePolicy, limits: Limits, *, names: Names = NOWHERE
    ) -> None:
        self.limits = limits
        self.unreadable_rows: Sequence[str] = ()
        self._api = api
        self._place = place
        self._policy = policy
        self._found: KVNamespace | None = None
        self._naming = Naming(limits, names)
        self.writer = ValueWriter(self._namespace, policy, self._naming)

    def log_removals(self, noting: Noting) -> None:
        """A put takes the place of what is there, so nothing is taken away beside it."""
        del noting

    # -- looking

    async def check(self) -> str:
        """One line on the namespace. Raises TargetMissing naming those that are there, Halt if a title stands twice."""
        self._found = None
        namespace = await self._namespace()
        return f"KV namespace {self._place.title or namespace.namespace_id} is there"

    async def advice(self) -> Sequence[Advice]:
        """A namespace has nothing to be set."""
        return ()

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
            return await find_by_id(self._api, self._place.namespace_id, hint=CREATE_HINT)
        return await find_by_title(self._api, self._place.title or "", hint=CREATE_HINT)

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield every key under the prefix, but for those of ours that only wait for their end."""
        namespace = await self._namespace()
        self._naming.forget()
        try:
            for number in range(1, LISTINGS + 1):
                try:
                    async with aclosing(self._listed(namespace)) as listed:
                        async for entry in listed:
                            yield entry
                except CursorRefused as error:
                    if number == LISTINGS:
                        raise
                    log.info("listing.again", why=str(error))
                else:
                    return
        except TargetMissing:
            # By the next time its title may stand for another namespace.
            self._found = None
            raise

    async def _listed(self, namespace: KVNamespace) -> AsyncGenerator[Entry, None]:
        async with aclosing(namespace.key_pages(self._policy.prefix)) as pages:
            async for keys in pages:
                for listed_key in keys:
                    name = listed_key.name
                    entry = self._entry(name, listed_key.metadata)
                    if entry is not None and self._naming.unproved(name, entry.key):
                        yield entry._replace(key=await self._naming.known(name))
                    elif entry is not None:
                        yield entry
        self.unreadable_rows = tuple(namespace.faults)

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Ask for one key by its metadata; first under the name it was last known by, if that is another."""
        namespace, name = await self._namespace(), self._naming.name(key)
        for each in dict.fromkeys((ref or name, name)):
            try:
                entry = self._entry(each, await namespace.read_metadata(each))
            except NotFound:
                continue
            if entry is not None and (each == name or entry.key == key):
                return entry._replace(key=key)
        return None

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """The sha-256 of the value, by reading it."""
        del content
        try:
            value = await (await self._namespace()).read_value(entry.ref)
        except NotFound:
            return None
        return hashlib.sha256(value.content).hexdigest()

    async def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Read values: those that are text and marked as ours in bulk."""
        async for pair in values(await self._namespace(), entries):
            yield pair

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """Bulk requests, by the number or by the bytes in base64. Retiring an entry also takes a read."""
        bodies = max(-(-puts // BULK_PAIRS), -(-(size or 0) * 4 // (3 * BULK_BYTES)))
        removing = -(-deletes // BULK_DELETES)
        retiring = deletes + -(-deletes // BULK_GET_LIMIT)
        return min(puts, bodies) + (removing if self._policy.stale_ttl is None else retiring)

    # -- changing

    async def apply(self, batch: Sequence[Put | Delete], read: Read, report: Report) -> None:
        """Write puts, then remove deletes or let them expire."""
        puts = [action for action in batch if isinstance(action, Put)]
        deletes = [action for action in batch if isinstance(action, Delete)]
        if puts:
            await self.writer.write(puts, read, report)
        if deletes and self._policy.stale_ttl is None:
            await self.writer.remove(deletes, report)
        elif deletes:
            await self.writer.retire(deletes, report)

    async def aclose(self) -> None:
        """Nothing is held; the transport is shared."""

    def _entry(self, name: str, metadata: Any) -> Entry | None:
        marks = metadata if isinstance(metadata, dict) else {}
        owner, checksum, size = marks.get(OWNER), marks.get(SHA256), marks.get("size")
        if marks.get(STALE) and owner == self._policy.owner:
            return None
        # By position, which is quicker, and there is one for each key of a listing. KV has no versions.
        key = self._naming.key(name, marks.get(FULL_KEY_FIELD))
        return Entry(
            key,
            name,
            _word(checksum) if checksum else None,
            None,
            size if isinstance(size, int) and 0 <= size <= VALUE_LIMIT else None,
            _word(owner) if owner is not None else None,
            checksum is not None,
            prefix=prefix_of(key, marks.get(PREFIX)) if checksum is not None else None,
            metadata=marks,
        )


def _word(mark: object) -> str:
    """A mark as text. What is no text was written by somebody else, and equals nothing of ours."""
    return encodable(mark) if isinstance(mark, str) else f"({type(mark).__name__})"
