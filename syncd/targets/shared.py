"""Helpers that several kinds of target use: short names, metadata fields, downloads, refusals."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar

import structlog

from syncd.cloudflare.decoding import CursorRefused
from syncd.core import names
from syncd.core.errors import Halt, NotFound, Park, SyncdError, Unreachable
from syncd.core.keys import shown
from syncd.core.model import Content, Entry
from syncd.core.problems import Limits
from syncd.targets.base import Fetched, MirrorRecords, task_group

T = TypeVar("T")
log = structlog.get_logger()

LISTINGS = 3
"""Attempts to list if the remote refuses a later cursor: snapshots expire, and servers forget them."""
DOWNLOADS = 4
"""Entries that `fetch_each` downloads at a time, each with a request of its own."""


# -- names


class ShortNames:
    """Translates between keys and names of entries (see core/names.py).

    The name of a file in another form has a suffix. Names are shortened only if the limits allow it. Names that an
    earlier configuration made are always understood.
    """

    def __init__(self, limits: Limits, records: MirrorRecords) -> None:
        self._limits = limits
        self._records = records
        self._by_name: dict[str, str] | None = None

    def name(self, key: str) -> str:
        """Return the name under which the target stores this key."""
        name = self._limits.forms.name(key)
        if self._limits.long_key_length is None:
            return name
        return self._short(name)

    def unproved(self, name: str, key: str, *, ours: bool) -> bool:
        """Return whether the name may be the name of another key, although the metadata does not contain a full key.

        ours: whether the entry has the marks of this mirror, which include the full key if a form has changed the name.
        """
        if name != key:
            return False
        return names.looks_shortened(name) or (not ours and any(self._limits.forms.sources(name)))

    def is_of(self, name: str, own: str, key: str, *, ours: bool) -> bool:
        """Return whether an entry belongs to a key. own: its key by `full_key`. ours: see `unproved`.

        An entry of another owner under the name of a file belongs to the key of the file, so that it is foreign.
        """
        return own == key or (own == name == self.name(key) and self.unproved(name, own, ours=ours))

    async def look_up(self, name: str) -> str:
        """Return the key of the journal or of the folder that has this name, else the name itself.

        Without the lookup, an entry that lost its metadata would count as foreign or as the entry of a deleted file.
        """
        if self._by_name is None:
            recorded = self._renamed(self._records.recorded())
            self._by_name = await asyncio.to_thread(lambda: self._renamed(self._records.walked())) | recorded
        return self._by_name.get(name, name)

    def forget(self) -> None:
        """Read the keys again at the next `look_up`. Each listing begins with this call."""
        self._by_name = None

    def _renamed(self, keys: Iterable[str]) -> dict[str, str]:
        most, name = (self._limits.max_key_length, self._limits.max_key_bytes), self._limits.forms.name
        long_or_mapped = (key for key in keys if name(key) != key or not names.fits(key, *most))
        return {self._short(name(key)): key for key in long_or_mapped}

    def _short(self, name: str) -> str:
        return names.remote_name(name, self._limits.max_key_length, self._limits.max_key_bytes)


# -- metadata


def content_checksum(data: bytes, content: Content | None) -> str:
    """Return the checksum of stored bytes: that of the local content if it has the same bytes, else their sha-256."""
    return content.checksum if content and content.data == data else hashlib.sha256(data).hexdigest()


async def describe_content(sources: Mapping[str, str], key: str, content: Content) -> dict[str, str]:
    """Return the fields of `describe_file`, which runs in a thread."""
    return await asyncio.to_thread(describe_file, sources, key, content) if sources else {}


def describe_file(sources: Mapping[str, str], key: str, content: Content) -> dict[str, str]:
    """Return the metadata fields of a file. sources: the source of each field (see text/documents.py).

    A front matter that cannot be read gives no fields and is logged. Slow for a large file.
    """
    # Imported here, because a pass without a put parses no text.
    from syncd.text.documents import describe

    fields, fault = describe(sources, key, content)
    if fault:
        log.debug("front_matter.unread", key=shown(key), why=fault[:200])
    return fields


def title_field(sources: Mapping[str, str]) -> str:
    """Return the metadata field that holds the title of a file. sources: the source of each field."""
    return next((name for name, source in sources.items() if source == "title"), "title")


def fit_metadata(marks: Mapping[str, Any], fields: Mapping[str, str], limit: int) -> dict[str, Any]:
    """Return marks and fields of at most `limit` bytes of compact JSON. The longest fields are left out first."""
    kept = dict(fields)
    while kept and json_size({**kept, **marks}) > limit:
        del kept[max(kept, key=lambda name: len(name.encode()) + len(kept[name].encode()))]
    return {**kept, **marks}


def json_size(value: Mapping[str, Any]) -> int:
    """Return the bytes of a value as compact JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"))


# -- requests


async def relisted(read: Callable[[], AsyncGenerator[T, None]]) -> AsyncIterator[T]:
    """Yield a listing, and yield it again from the start if the remote refuses a later page. Raises CursorRefused.

    read: begins the listing, which is read LISTINGS times at most.
    """
    for number in range(1, LISTINGS + 1):
        try:
            async with aclosing(read()) as parts:
                async for part in parts:
                    yield part
        except CursorRefused as error:
            if number == LISTINGS:
                raise
            log.info("listing.again", why=str(error))
        else:
            return


async def fetch_each(
    entries: Sequence[Entry], read: Callable[[Entry], Awaitable[bytes]]
) -> AsyncIterator[tuple[Entry, Fetched]]:
    """Yield the result of `read` for each entry, in order, with at most DOWNLOADS calls of `read` at a time."""
    for start in range(0, len(entries), DOWNLOADS):
        part = entries[start : start + DOWNLOADS]
        async with task_group() as group:
            reading = [group.create_task(_fetched(read(entry))) for entry in part]
        for entry, task in zip(part, reading, strict=True):
            yield entry, task.result()


async def _fetched(reading: Awaitable[bytes]) -> Fetched:
    """Return the bytes, None or the error of one entry. Raises Halt and Unreachable, which concern every entry."""
    try:
        return await reading
    except NotFound:
        return None
    except (Halt, Unreachable):
        raise
    except SyncdError as error:
        return error


@contextmanager
def refusals_halt(store: str) -> Iterator[None]:
    """Raise Halt if the remote refuses a request of the block. No request of the block concerns a single entry.

    store: the name of the remote store in the message.
    """
    try:
        yield
    except Park as error:
        raise Halt(f"{store} cannot be used: {error}") from error
