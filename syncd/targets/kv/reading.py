"""Entries of Workers KV: the listing, single keys by their metadata, and downloads of values."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any

import structlog

from syncd.cloudflare.decoding import LISTINGS, CursorRefused, encodable
from syncd.cloudflare.kv import BULK_GET_LIMIT, KVNamespace
from syncd.cloudflare.kv_bulk import VALUE_LIMIT
from syncd.core.errors import NotFound, Park, SyncdError, TooMuch
from syncd.core.key_digests import FULL_KEY_FIELD, prefix_of
from syncd.core.model import Entry
from syncd.targets.base import Fetched, in_groups, in_halves
from syncd.targets.kv.writing import OWNER, PREFIX, SHA256, STALE, ValueWritePolicy
from syncd.targets.shared import ShortNames, fetch_each

log = structlog.get_logger()

BULK_GET_BYTES = 4 * 1024 * 1024
"""Maximum bytes of the values of one bulk get. The API takes 25 MiB of JSON, in which one byte may become six."""
_ENDINGS = """
    7z avi avif bin bmp bz2 db docx eot epub exe flac gif gz ico jar jpeg jpg m4a mkv mov mp3 mp4 odt ogg otf parquet
    pdf png pptx pyc so sqlite tar tgz tif tiff ttf wasm wav webm webp woff woff2 xls xlsx xz zip zst
"""
BINARY_ENDINGS = frozenset(_ENDINGS.split())
"""File name endings of values that a bulk get would refuse. A wrong guess costs one request."""


class ValueReader:
    """Reads the entries of one namespace.

    namespace: finds the namespace at the first use. unreadable_rows: messages about rows of the last listing.
    """

    def __init__(
        self, namespace: Callable[[], Awaitable[KVNamespace]], policy: ValueWritePolicy, names: ShortNames
    ) -> None:
        self.unreadable_rows: Sequence[str] = ()
        self._namespace = namespace
        self._policy = policy
        self._names = names

    async def entry_pages(self) -> AsyncGenerator[list[Entry], None]:
        """Yield the entries under the prefix by page, except for stale entries of this owner.

        A step of an asynchronous generator takes as long as reading an entry.
        """
        namespace = await self._namespace()
        self._names.forget()
        for number in range(1, LISTINGS + 1):
            try:
                async with aclosing(namespace.key_pages(self._policy.prefix)) as pages:
                    async for keys in pages:
                        entries = [self._entry(key.name, key.metadata) for key in keys]
                        yield [await self._with_full_key(entry) for entry in entries if entry is not None]
                self.unreadable_rows = tuple(namespace.faults)
            except CursorRefused as error:
                if number == LISTINGS:
                    raise
                log.info("listing.again", why=str(error))
            else:
                return

    async def _with_full_key(self, entry: Entry) -> Entry:
        if self._names.unproved(entry.ref, entry.key):
            return entry._replace(key=await self._names.look_up(entry.ref))
        return entry

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Return the entry of a key by its metadata: first under the name `ref`, then under the key's present name."""
        namespace, present = await self._namespace(), self._names.name(key)
        for name in dict.fromkeys((ref or present, present)):
            try:
                entry = self._entry(name, await namespace.read_metadata(name))
            except NotFound:
                continue
            if entry is not None and (name == present or entry.key == key):
                return entry._replace(key=key)
        return None

    async def checksum(self, entry: Entry) -> str | None:
        """Download the value and return its sha-256, None if the value does not exist."""
        try:
            value = await (await self._namespace()).read_value(entry.ref)
        except NotFound:
            return None
        return hashlib.sha256(value.content).hexdigest()

    def _entry(self, name: str, metadata: Any) -> Entry | None:
        marks = metadata if isinstance(metadata, dict) else {}
        owner, checksum, size = marks.get(OWNER), marks.get(SHA256), marks.get("size")
        if marks.get(STALE) and owner == self._policy.owner:
            return None
        key = self._names.key(name, marks.get(FULL_KEY_FIELD))
        # Positional arguments are faster, and a listing makes one entry for each key. KV has no version, status, error.
        return Entry(
            key,
            name,
            _text(checksum) if checksum else None,
            None,
            size if isinstance(size, int) and 0 <= size <= VALUE_LIMIT else None,
            _text(owner) if owner is not None else None,
            checksum is not None,
            None,
            None,
            prefix_of(key, marks.get(PREFIX)) if checksum is not None else None,
            marks,
        )


def _text(mark: object) -> str:
    """Return a mark as text. A mark of another type is foreign, and its text equals no mark of syncd."""
    return encodable(mark) if isinstance(mark, str) else f"({type(mark).__name__})"


# -- downloads


async def fetch_values(namespace: KVNamespace, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
    """Yield the value of each entry, in bulk requests for probable texts with a known checksum, else one by one."""

    async def read(entry: Entry) -> bytes:
        return (await namespace.read_value(entry.ref)).content

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
    """Return whether a bulk get can prove the value: its text must have the recorded checksum, so a text is needed."""
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
            # A single value that is no text makes the remote refuse the whole request.
            left += part
            continue
        if isinstance(answer, SyncdError):
            raise answer
        for entry in part:
            value = answer[entry.ref]
            data = None if value is None else str(value.value).encode("utf-8", "surrogatepass")
            if data is None or hashlib.sha256(data).hexdigest() == entry.checksum:
                values[entry.ref] = data
            else:
                left.append(entry)
    return values, left
