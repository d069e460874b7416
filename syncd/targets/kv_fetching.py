"""Reading values back, byte for byte: many of text in one request, the others side by side."""

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence

from syncd.cloudflare.kv import BULK_GET_LIMIT, KVNamespace
from syncd.core.errors import Park, TooMuch
from syncd.core.model import Entry
from syncd.targets.base import Fetched
from syncd.targets.fetching import one_by_one

BULK_GET_BYTES = 4 * 1024 * 1024
"""Values of one bulk get together. The API takes 25 MiB of them, but in its JSON a byte may become six."""
_ENDINGS = (
    "7z avi avif bin bmp bz2 db docx eot epub exe flac gif gz ico jar jpeg jpg m4a mkv mov mp3 mp4 odt ogg otf parquet "
    "pdf png pptx pyc so sqlite tar tgz tif tiff ttf wasm wav webm webp woff woff2 xls xlsx xz zip zst"
)
SELDOM_TEXT = frozenset(_ENDINGS.split())
"""File name endings of values that would spoil a bulk get. A wrong guess costs a request and no more."""


async def values(namespace: KVNamespace, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
    """Yield the values of entries: in bulk where they may be text and can be recognised, one by one otherwise."""

    async def read(entry: Entry) -> bytes:
        return (await namespace.read_value(entry.ref)).content

    alone: list[Entry] = []
    for group in _groups(entries, alone):
        found, left = await _bulk(namespace, group)
        for entry in group:
            if entry.ref in found:
                yield entry, found.pop(entry.ref)
        async for pair in one_by_one(left, read):
            yield pair
    async for pair in one_by_one(alone, read):
        yield pair


def _groups(entries: Sequence[Entry], alone: list[Entry]) -> Iterator[list[Entry]]:
    """Yield what is read in one bulk get each; add to `alone` what must be read by itself.

    Of a value without a checksum of ours nobody could say that its text gives the same bytes back.
    """
    group: list[Entry] = []
    total = 0
    for entry in entries:
        known = entry.checksum is not None and entry.size is not None and 0 <= entry.size <= BULK_GET_BYTES
        if not known or entry.size is None or entry.key.rpartition(".")[2].lower() in SELDOM_TEXT:
            alone.append(entry)
            continue
        if len(group) == BULK_GET_LIMIT or total + entry.size > BULK_GET_BYTES:
            yield group
            group, total = [], 0
        group.append(entry)
        total += entry.size
    if group:
        yield group


async def _bulk(namespace: KVNamespace, group: list[Entry]) -> tuple[dict[str, bytes | None], list[Entry]]:
    """Return the values by ref that a bulk get told truly, and the entries that must be read one by one."""
    found: dict[str, bytes | None] = {}
    left: list[Entry] = []
    waiting = [group]
    while waiting:
        part = waiting.pop()
        try:
            got = await namespace.bulk_get([entry.ref for entry in part])
        except TooMuch:
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
            continue
        except Park:
            # One value that is no text, and all of it is refused.
            left += part
            continue
        for entry in part:
            value = got[entry.ref]
            data = None if value is None else str(value.value).encode("utf-8", "surrogatepass")
            if data is None or hashlib.sha256(data).hexdigest() == entry.checksum:
                found[entry.ref] = data
            else:
                left.append(entry)
    return found, left
