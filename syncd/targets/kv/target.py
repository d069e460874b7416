"""The target of one namespace. key = prefix + path; ref = the name in KV, which is the key or its short name.

Checksum and owner are in the metadata of a value. One bulk request writes a thousand files, and the listing contains
the checksums, so a full comparison of n files takes n / 1000 requests. Reads and listings may show our own write up to
a minute late. For that time, syncd believes the journal and not the answer.
"""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from syncd.cloudflare.decoding import encodable
from syncd.cloudflare.kv import BULK_GET_LIMIT, KV, LIST_LIMIT, KVNamespace, find_by_id, find_by_title
from syncd.cloudflare.kv_bodies import METADATA_LIMIT, VALUE_LIMIT
from syncd.core.errors import Conflict, NotFound, Park, SyncdError, TargetMissing, TooMuch
from syncd.core.keys import prefix_of
from syncd.core.model import Content, Delete, Entry, Put
from syncd.core.names import FULL_KEY_FIELD, full_key
from syncd.core.problems import KV_KEY_BYTES, Limits
from syncd.targets.base import (
    Advice,
    Fetched,
    MirrorRecords,
    ReadContents,
    ReportOutcomes,
    Usage,
    in_groups,
    in_halves,
)
from syncd.targets.kv.writing import (
    BULK_BYTES,
    BULK_DELETES,
    BULK_PAIRS,
    OWNER,
    PREFIX,
    RETIRED_VALUES,
    SHA256,
    STALE,
    ValueWritePolicy,
    ValueWriter,
    value_marks,
)
from syncd.targets.shared import ShortNames, content_checksum, fetch_each, json_size, relisted

log = structlog.get_logger()

BULK_GET_BYTES = 4 * 1024 * 1024
"""Maximum bytes of the values of one bulk get. The API takes 25 MiB of JSON, in which one byte may become six."""
_ENDINGS = """
    7z avi avif bin bmp bz2 db docx eot epub exe flac gif gz ico jar jpeg jpg m4a mkv mov mp3 mp4 odt ogg otf parquet
    pdf png pptx pyc so sqlite tar tgz tif tiff ttf wasm wav webm webp woff woff2 xls xlsx xz zip zst
"""
BINARY_ENDINGS = frozenset(_ENDINGS.split())
"""File name endings of values that a bulk get would refuse. A wrong guess costs one request."""
TURN = 4 * BULK_PAIRS
"""Maximum puts of one batch. A batch has several bodies, so that one is read while another one is sent."""
LAG_S = 60.0
"""Seconds until a write is visible everywhere in most cases (KV: how KV works)."""
NAMESPACES = 1000
"""Maximum namespaces of one account, on both plans (KV limits)."""
WRITES_FREE = 1000
"""Maximum writes in one day on the free plan (KV limits). A paid plan has no such limit."""
CREATE_HINT = "create = true makes one by its title"


# -- entries


class ValueReader:
    """Reads the entries of one namespace. unreadable_rows: messages about rows of the last listing."""

    def __init__(self, namespace: "NamespaceFinder", policy: ValueWritePolicy, names: ShortNames) -> None:
        self.unreadable_rows: Sequence[str] = ()
        self._namespace = namespace
        self._policy = policy
        self._names = names

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield every entry under the prefix, except for stale entries of this owner."""
        namespace = await self._namespace.find()
        self._names.forget()
        try:
            async for keys in relisted(lambda: namespace.key_pages(self._policy.prefix)):
                for entry in filter(None, (self._entry(key.name, key.metadata) for key in keys)):
                    if self._names.unproved(entry.ref, entry.key, ours=self._is_ours(entry)):
                        yield entry._replace(key=await self._names.look_up(entry.ref))
                    else:
                        yield entry
        except TargetMissing:
            self._namespace.forget()
            raise
        self.unreadable_rows = tuple(namespace.faults)

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Return the entry of a key, None if there is none. Look under the name `ref`, then under the present name."""
        namespace, present = await self._namespace.find(), self._names.name(key)
        for name in dict.fromkeys((ref or present, present)):
            try:
                entry = self._entry(name, await namespace.read_metadata(name))
            except NotFound:
                continue
            if entry is None or (name == entry.key == present != key and self._is_ours(entry)):
                # In the second case, the value belongs to another file, whose key is this name.
                continue
            if name == present or entry.key == key:
                return entry._replace(key=key)
        return None

    def _is_ours(self, entry: Entry) -> bool:
        return entry.owner == self._policy.owner and entry.marked is True

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """Download the value and return its checksum, None if the value does not exist."""
        try:
            value = await (await self._namespace.find()).read_value(entry.ref)
        except NotFound:
            return None
        return content_checksum(value, content)

    def _entry(self, name: str, metadata: Any) -> Entry | None:
        marks = metadata if isinstance(metadata, dict) else {}
        owner, checksum, size = marks.get(OWNER), marks.get(SHA256), marks.get("size")
        if marks.get(STALE) and owner == self._policy.owner:
            return None
        key = full_key(name, marks.get(FULL_KEY_FIELD))
        return Entry(
            key=key,
            ref=name,
            checksum=_text(checksum) if checksum else None,
            size=size if isinstance(size, int) and 0 <= size <= VALUE_LIMIT else None,
            owner=_text(owner) if owner is not None else None,
            marked=checksum is not None,
            prefix=prefix_of(key, marks.get(PREFIX)) if checksum is not None else None,
            metadata=marks,
        )


def _text(mark: object) -> str:
    """Return a mark as text. A mark of another type is foreign, and its text equals no mark of syncd."""
    return encodable(mark) if isinstance(mark, str) else f"({type(mark).__name__})"


# -- downloads


async def fetch_values(namespace: KVNamespace, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
    """Yield the value of each entry. Entries that are probably text are requested in bulk, and others one by one."""

    async def read(entry: Entry) -> bytes:
        return await namespace.read_value(entry.ref)

    bulk = [entry for entry in entries if _fits_bulk_get(entry)]
    for group in in_groups(bulk, lambda entry: entry.size or 0, BULK_GET_LIMIT, BULK_GET_BYTES):
        values, left = await _bulk_get(namespace, group)
        for entry in group:
            if entry.ref in values:
                yield entry, values.pop(entry.ref)
        async for pair in fetch_each(left, read):
            yield pair
    alone = [entry for entry in entries if not _fits_bulk_get(entry)]
    async for pair in fetch_each(alone, read):
        yield pair


def _fits_bulk_get(entry: Entry) -> bool:
    """Return whether a bulk get can return the value. It returns text only, and needs a checksum to prove the bytes."""
    is_text = entry.key.rpartition(".")[2].lower() not in BINARY_ENDINGS
    return is_text and entry.checksum is not None and entry.size is not None and 0 <= entry.size <= BULK_GET_BYTES


async def _bulk_get(namespace: KVNamespace, group: Sequence[Entry]) -> tuple[dict[str, bytes | None], list[Entry]]:
    """Return the verified values by ref, None for a value that does not exist, and the entries to read one by one."""
    values: dict[str, bytes | None] = {}
    left: list[Entry] = []
    async for part, answer in in_halves(
        group, lambda entries: namespace.bulk_get([entry.ref for entry in entries]), refused=TooMuch
    ):
        if isinstance(answer, Park):
            # The remote refuses the whole request if a single value is no text.
            left += part
            continue
        if isinstance(answer, SyncdError):
            raise answer
        for entry in part:
            value = answer[entry.ref]
            data = None if value is None else str(value).encode("utf-8", "surrogatepass")
            if data is None or hashlib.sha256(data).hexdigest() == entry.checksum:
                values[entry.ref] = data
            else:
                left.append(entry)
    return values, left


# -- the target


def limits(max_key_length: int, max_file_size: int) -> Limits:
    """Return the limits of KV: keys of at most 512 bytes, any type of file.

    max_key_length: characters, as configured. max_file_size: bytes, as configured.
    """
    return Limits(
        max_key_length=max_key_length,
        max_file_size=max_file_size,
        lag_s=LAG_S,
        most_file_size=VALUE_LIMIT,
        max_key_bytes=KV_KEY_BYTES,
        turn=TURN,
        delete_turn=BULK_DELETES,
        reads_lag=True,
        page=LIST_LIMIT,
    )


def long_key_bytes(owner: str, prefix: str = "") -> int:
    """Return the bytes that a value's metadata leaves for a full key beside the marks.

    A quote or a backslash of the key takes two bytes.
    """
    return METADATA_LIMIT - json_size(value_marks("0" * 64, owner, VALUE_LIMIT, "", prefix))


@dataclass(frozen=True, slots=True)
class NamespaceChoice:
    """The configured namespace, by its id or by its title. jurisdiction: where a new namespace stores its data."""

    namespace_id: str | None = None
    title: str | None = None
    jurisdiction: str | None = None


class NamespaceFinder:
    """Finds the configured namespace at the first use, and creates it."""

    def __init__(self, api: KV, choice: NamespaceChoice) -> None:
        self._api = api
        self._choice = choice
        self._found: KVNamespace | None = None

    async def find(self) -> KVNamespace:
        """Return the namespace. Raises TargetMissing if it does not exist, Halt if two namespaces have the title."""
        if self._found is None:
            self._found = KVNamespace(self._api.transport, await self._find_id())
        return self._found

    def forget(self) -> None:
        """Let the next `find` search again, because the title may belong to another namespace then."""
        self._found = None

    async def create(self) -> None:
        """Create the namespace of the title. Raises TargetMissing if only an id is configured."""
        title = self._choice.title
        if title is None:
            raise TargetMissing(f"no KV namespace has the id {self._choice.namespace_id}; name it by namespace_title")
        self._found = None
        try:
            made = await self._api.create_namespace(title, self._choice.jurisdiction)
        except Conflict:
            # Another program has just created the namespace. The next `find` lists it.
            return
        self._found = KVNamespace(self._api.transport, made.id)
        log.info("target.created", namespace=made.id, title=made.title)

    async def _find_id(self) -> str:
        if self._choice.namespace_id is not None:
            return await find_by_id(self._api, self._choice.namespace_id, hint=CREATE_HINT)
        return await find_by_title(self._api, self._choice.title or "", hint=CREATE_HINT)


class KVTarget:
    """The target of one mirror in one namespace. It implements Store and Managed with a reader and a writer."""

    def __init__(
        self,
        api: KV,
        choice: NamespaceChoice,
        policy: ValueWritePolicy,
        limits: Limits,
        *,
        records: MirrorRecords,
    ) -> None:
        self.limits = limits
        self._api = api
        self._choice = choice
        self._policy = policy
        names = ShortNames(limits, records)
        self._namespace = NamespaceFinder(api, choice)
        self.create = self._namespace.create
        self._reader = reader = ValueReader(self._namespace, policy, names)
        self.entries, self.confirm, self.checksum = reader.entries, reader.confirm, reader.checksum
        self.writer = ValueWriter(self._namespace.find, policy, names)

    # -- the namespace

    async def check(self) -> str:
        """Return one line about the namespace. Raises TargetMissing, or Halt if two have its title."""
        self._namespace.forget()
        namespace = await self._namespace.find()
        return f"KV namespace {self._choice.title or namespace.namespace_id} is there"

    async def usage(self, *, account: bool) -> Sequence[Usage]:
        """Return the writes of a day, and the namespaces of the account if `account` or if the namespace is missing."""
        try:
            await self._namespace.find()
            to_come = 0
        except TargetMissing:
            account, to_come = True, 1
        writes = Usage("KV writes of today", None, WRITES_FREE, None, per="put")
        if not account:
            return (writes,)
        count = (await self._api.list_namespaces()).total_count
        return writes, Usage("KV namespaces", count, NAMESPACES, NAMESPACES, to_come, of_account=True)

    async def advice(self) -> Sequence[Advice]:
        """Compare the jurisdiction of the namespace with the config, if the config names one."""
        if (wanted := self._choice.jurisdiction) is None:
            return ()
        namespace = await self._namespace.find()
        found = (await self._api.get_namespace(namespace.namespace_id)).jurisdiction
        if found == wanted:
            return (Advice(f"{found}, as in the config", None, "jurisdiction"),)
        shown = f'"{found}"' if found else "none"
        message = f'{shown} in the namespace and "{wanted}" in the config; it can never be changed'
        keep = f"set it to {shown} in the config" if found else "remove it from the config"
        remedy = f"{keep}, or name another namespace_title there, which create = true makes in this jurisdiction"
        return (Advice(message, remedy, "jurisdiction"),)

    # -- reading

    @property
    def unreadable_rows(self) -> Sequence[str]:
        """Messages about unreadable rows of the last listing."""
        return self._reader.unreadable_rows

    async def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Yield the value of each entry."""
        async for pair in fetch_values(await self._namespace.find(), entries):
            yield pair

    # -- writing

    async def apply(self, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        """Write the puts, then delete the values of the deletes or let them expire."""
        puts = [action for action in batch if isinstance(action, Put)]
        deletes = [action for action in batch if isinstance(action, Delete)]
        if puts:
            await self.writer.write(puts, read, report)
        if deletes and self._policy.stale_ttl is None:
            await self.writer.remove(deletes, report)
        elif deletes:
            await self.writer.retire(deletes, report)

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """Return the number of requests. Bulk writes are limited by pairs and by bytes of base64.

        With stale_ttl, a delete also reads the value.
        """
        bodies = max(-(-puts // BULK_PAIRS), -(-(size or 0) * 4 // (3 * BULK_BYTES)))
        removing = -(-deletes // BULK_DELETES)
        retiring = deletes + -(-deletes // RETIRED_VALUES)
        return min(puts, bodies) + (removing if self._policy.stale_ttl is None else retiring)
