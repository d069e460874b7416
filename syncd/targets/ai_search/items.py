"""Items of an AI Search instance as entries: the listing, which shifts while it is read, and single items."""

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import structlog

from syncd.cloudflare.ai_search import BUILTIN, AISearch, StoredItem
from syncd.cloudflare.decoding import Page, parse_time
from syncd.core.errors import NotFound
from syncd.core.keys import prefix_of
from syncd.core.model import Content, Entry, Stored
from syncd.core.names import FULL_KEY_FIELD, full_key, neighbours
from syncd.core.probe_answers import DIGESTS, NO_ANSWERS, ProbeAnswers, digest_of, is_probe_name, plain_digest
from syncd.state.caches import StoredAnswers
from syncd.targets.base import Landmark, Newest, NewestPage, WritePolicy
from syncd.targets.shared import ShortNames, content_checksum, refusals_halt

log = structlog.get_logger()

SHA256, OWNER, PREFIX = "sha256", "owner", "prefix"
"""Names of the marks. A mark is a text field in the metadata of every item that syncd uploads."""
INSTANCE = "the AI Search instance"
READINGS = 3
"""Maximum readings of a listing that changes meanwhile. An item missing after them is requested by its key."""


@dataclass(frozen=True, slots=True)
class ItemWritePolicy(WritePolicy):
    """See WritePolicy. settings: the settings of an instance that syncd creates, by the names of the API."""

    settings: Mapping[str, Any] = field(default_factory=dict)

    def marks(self, checksum: str) -> dict[str, str]:
        """Return the marks of an item. checksum: the sha-256 of its content."""
        marks = {SHA256: checksum, OWNER: self.owner}
        return {**marks, PREFIX: str(len(self.prefix))} if self.prefix else marks


# -- values


def is_present(item: StoredItem) -> bool:
    """Return whether the item was uploaded and is not being deleted. A listing may ignore its source filter."""
    return item.source_id == BUILTIN and item.next_action != "DELETE"


def digests(data: bytes) -> frozenset[str]:
    """Return the digests of a content (hex) that a remote checksum may equal."""
    return frozenset(hashlib.new(name, data, usedforsecurity=False).hexdigest() for name in ("md5", "sha1", "sha256"))


def key_of(name: str, metadata: Mapping[str, Any] | None) -> str:
    """Return the key of the item with this name and metadata."""
    return full_key(name, (metadata or {}).get(FULL_KEY_FIELD))


def entry_of(item: StoredItem) -> Entry:
    """Return the item as an entry whose key is the item's name."""
    marks = item.metadata
    owner = marks.get(OWNER) if marks else None
    checksum = marks.get(SHA256) if marks else None
    return Entry(
        key=item.key,
        ref=item.id,
        checksum=str(checksum) if checksum else None,
        version=item.checksum,
        # A size of 0 is an unknown one, because syncd uploads no empty file.
        size=item.file_size or None,
        owner=str(owner) if owner is not None else None,
        marked=None if marks is None else checksum is not None,
        status=item.status,
        error=item.error,
        prefix=prefix_of(item.key, marks.get(PREFIX)) if marks and checksum is not None else None,
        metadata=marks,
    )


def stored_of(item: StoredItem, content: Content) -> Stored:
    """Return the facts for the journal about an item that holds this content."""
    entry = entry_of(item)
    return Stored(
        ref=item.id,
        checksum=content.checksum,
        size=len(content.data),
        version=entry.version,
        remote_size=entry.size,
        # The answer to an upload may omit metadata that the next listing shows, so False is not remembered.
        marked=entry.marked or None,
        status=item.status,
        error=item.error,
    )


def seconds_of(time: str | None) -> float | None:
    """Return a time of an item as seconds since the epoch, None if it is unknown."""
    parsed = parse_time(time)
    return parsed.timestamp() if parsed else None


# -- the listing and single items


class CurrentAnswers:
    """The answers of the last `syncd check --probe`. `refresh` reads them again.

    learned: the stored answers, None for a target that stores none. A wrong answer is dropped.
    """

    def __init__(self, learned: StoredAnswers | None) -> None:
        self.current: ProbeAnswers = NO_ANSWERS
        self._learned = learned
        self.refresh()

    def refresh(self) -> None:
        """Read the stored answers again, because `syncd check --probe` may have stored new ones."""
        if self._learned is not None:
            self.current = self._learned.get()

    def drop(self, answer: str, why: str) -> None:
        """Remove a wrong answer here and from the stored answers. answer: its name. why: the observation."""
        if self._learned is not None:
            self._learned.drop(answer, why)
        self.current = self.current.without(answer)

    def check_checksum(self, checksum: str | None, content: Content) -> None:
        """Drop the answer about checksums if the checksum of an upload is not the expected digest of its content."""
        kind = self.current.checksum
        if kind in DIGESTS and checksum and plain_digest(checksum) != digest_of(kind, content.data):
            self.drop("checksum", f"an upload got the checksum {checksum[:64]!r}")


class ItemReader:
    """Reads the uploaded items of one instance.

    listed_whole: whether the last listing contained every item. landmark: the summary of the last listing, None if it
    may have missed rows. unreadable_rows: messages about unreadable rows of the last listing. leftovers: the throw-away
    items of probes that the last listing showed.
    """

    def __init__(self, api: AISearch, policy: ItemWritePolicy, names: ShortNames, answers: CurrentAnswers) -> None:
        self.leftovers: list[StoredItem] = []
        self.listed_whole = True
        self.landmark: Landmark | None = None
        self.unreadable_rows: list[str] = []
        self._api = api
        self._policy = policy
        self.names = names
        self._answers = answers

    async def entries(self) -> AsyncIterator[Entry]:
        """Yield every uploaded item under the prefix, each id at least once, even if pages shift during the listing.

        Additions and changes move rows down or to the top. So a row may appear twice, and another reading from the top
        shows a row that was missed. The listing is complete when it has shown as many rows as existed at the start of
        that reading. A removal can move an unread row to a page that was read already. So if the total number falls,
        the rows that were seen before no longer count.
        """
        seen: set[str] = set()
        self.listed_whole, self.landmark = False, None
        self.unreadable_rows, self.leftovers = [], []
        self._answers.refresh()
        self.names.forget()
        count = _RowCount(seen)
        for reading in range(READINGS):
            count.begin()
            async for page in self.pages():
                self.unreadable_rows += [] if reading else page.faults
                for item in page.rows:
                    if item.id in seen or not is_present(item):
                        pass
                    elif is_probe_name(item.key):
                        self.leftovers.append(item)
                    else:
                        entry = await self._entry(item)
                        if entry.key.startswith(self._policy.prefix):
                            yield entry
                    seen.add(item.id)
                # Rows of other writers count too, because total_count includes them.
                count.add(page)
                if reading and count.complete:
                    break
            if count.complete or count.total is None:
                self.listed_whole, self.landmark = True, count.landmark
                return
            log.info("listing.shifted", seen=len(seen), total=count.total)

    async def newest(self) -> AsyncIterator[NewestPage]:
        """Yield the pages of the listing with the rows of all owners, the latest change first."""
        async for page in self.pages():
            rows = [
                Newest(await self._entry(item), seconds_of(item.created_at), is_present(item)) for item in page.rows
            ]
            yield NewestPage(rows, page.total_count)

    async def pages(self) -> AsyncIterator[Page[StoredItem]]:
        """Yield the pages of the listing, the latest change first."""
        with refusals_halt(INSTANCE):
            async for page in self._api.iter_pages(source=BUILTIN, sort_by="modified_at"):
                yield page

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Return the item of a key as an entry: by its id `ref`, else by key. None: there is no such item."""
        item = await self.look(key, ref)
        return entry_of(item)._replace(key=key) if item else None

    async def look(self, key: str, ref: str | None) -> StoredItem | None:
        """Return the item of a key by its id `ref`, else by key. None: there is no such item."""
        item = None
        if ref is not None:
            with suppress(NotFound):
                item = await self._api.get(ref)
        if item is None or not self.is_of(item, key) or not is_present(item):
            item = await self.find(key)
        return item

    def is_of(self, item: StoredItem, key: str) -> bool:
        """Return whether the item belongs to this key. An item whose metadata has no key is judged by its name."""
        own = key_of(item.key, item.metadata)
        return self.names.is_of(item.key, own, key, ours=self._is_ours(item))

    def is_left_by_other(self, item: StoredItem, key: str) -> bool:
        """Return whether the item is ours and has the name of a key, but was sent for another file, which is gone.

        Two files with the same remote name are a key collision, and syncd sends neither of them (core/names.py).
        """
        own = key_of(item.key, item.metadata)
        return own != key and self._is_ours(item) and own in neighbours(key)

    def _is_ours(self, item: StoredItem) -> bool:
        marks = item.metadata or {}
        return SHA256 in marks and marks.get(OWNER) == self._policy.owner

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """Return the sha-256 of the stored content, None if the item does not exist.

        A remote checksum that equals a digest of the local content proves that the contents are equal. If a probe
        learned that the checksum is a digest, a different checksum proves that they differ. Otherwise the method
        downloads the item.
        """
        if content and entry.version and entry.version.lower() in digests(content.data):
            return content.checksum
        kind = self._answers.current.checksum
        if content and entry.version and kind in DIGESTS:
            return entry.version.lower() if kind == "sha256" else f"{kind}:{entry.version}"
        try:
            return content_checksum(await self._api.download(entry.ref), content)
        except NotFound:
            return None

    async def find(self, key: str) -> StoredItem | None:
        """Return the item of this key, unless it is being deleted."""
        item = await self.find_name(self.names.name(key))
        return item if item and self.is_of(item, key) else None

    async def find_name(self, name: str) -> StoredItem | None:
        """Return the item with this name and any key, unless it is being deleted."""
        item = await self._api.find(name)
        return item if item and is_present(item) else None

    async def _entry(self, item: StoredItem) -> Entry:
        key = key_of(item.key, item.metadata)
        if self.names.unproved(item.key, key, ours=self._is_ours(item)):
            key = await self.names.look_up(item.key)
        return entry_of(item) if key == item.key else entry_of(item)._replace(key=key)


class _RowCount:
    """Decides whether a listing that changes meanwhile is complete, by the total number of rows and the seen rows.

    seen: the ids of the rows so far. The caller adds to the same set.
    """

    def __init__(self, seen: set[str]) -> None:
        self.total: int | None = None
        self._seen = seen
        self._at_start: int | None = None
        self._total_fell = False
        self._no_rows = True
        self._newest: float | None = 0.0

    def begin(self) -> None:
        """Start a reading from the top."""
        self._at_start, self._total_fell = None, False

    def add(self, page: Page[StoredItem]) -> None:
        """Count the rows of the next page."""
        self._no_rows = self._no_rows and not (page.rows or page.faults)
        if self.total is not None and page.total_count is not None and page.total_count < self.total:
            self._seen = set()
            self._total_fell = True
        self.total = page.total_count
        self._at_start = page.total_count if self._at_start is None else self._at_start
        for item in page.rows:
            created = seconds_of(item.created_at)
            self._newest = None if created is None or self._newest is None else max(self._newest, created)
            self._seen.add(item.id)

    @property
    def complete(self) -> bool:
        """Whether all present rows were seen, or all rows at the start of a reading without a removal."""
        if self.total is None or self._at_start is None:
            return False
        return len(self._seen) >= (self.total if self._total_fell else min(self.total, self._at_start))

    @property
    def landmark(self) -> Landmark | None:
        """The summary of the listing, None if the total number differs from the number of seen rows."""
        rows = 0 if self._no_rows else self.total
        return Landmark(rows, self._newest) if rows is not None and rows == len(self._seen) else None
