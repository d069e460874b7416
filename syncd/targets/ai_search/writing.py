"""Puts and deletes of AI Search. An upload is one request, unless the name is taken or an answer is lost."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import get_args

import structlog

from syncd.cloudflare.ai_search import AISearch, Misnamed, StoredItem
from syncd.cloudflare.file_types import LARGE_WITH_OCR, MAX_FILE_SIZE, content_type, extension
from syncd.core.errors import Conflict, NotFound, Park, Retry, file_error
from syncd.core.keys import shown
from syncd.core.model import Content, Delete, Put
from syncd.core.names import FULL_KEY_FIELD
from syncd.core.plain_text import over_limit
from syncd.core.probe_answers import Offer
from syncd.core.requests import Priority, requests_at
from syncd.targets.ai_search.items import (
    OWNER,
    SHA256,
    CurrentAnswers,
    ItemReader,
    ItemWritePolicy,
    entry_of,
    seconds_of,
    stored_of,
)
from syncd.targets.base import (
    Done,
    OpenRemovalLog,
    Outcome,
    ReadContents,
    Removed,
    ReportOutcomes,
    for_each,
    read_one,
)
from syncd.targets.shared import describe_content, fit_metadata

log = structlog.get_logger()

METADATA_REFUSED = 7056
"""The error code for metadata that the instance does not take."""
METADATA_LIMIT = 9 * 1024
"""Maximum bytes of metadata in an upload. The service takes 10 KiB with fields of its own (changelog, 2026-08)."""
LATEST = 1000
"""Ids of our latest uploads that are remembered."""
NEW_S = 0.25
"""Maximum seconds from the creation of a new item to its last change, both by the remote's clock."""
_CONSEQUENCES = ("", "uploads carry no title and no other fields", "only the state file tells who owns an entry")
"""The consequence of each offer of metadata: all of it, the marks alone, none."""


class ItemWriter:
    """Writes files as items.

    concurrency: most uploads whose content is in memory at a time. open_log: opens the log for items that no plan
    deletes.
    """

    def __init__(
        self,
        api: AISearch,
        items: ItemReader,
        policy: ItemWritePolicy,
        answers: CurrentAnswers,
        concurrency: int,
        open_log: OpenRemovalLog,
    ) -> None:
        self._api = api
        self._items = items
        self._policy = policy
        self._answers = answers
        self._concurrency = concurrency
        self._remover = _ItemRemover(api, open_log)
        self._uploader = _ItemUploader(api, policy, self._remover, answers)

    async def remove_leftover(self, item: StoredItem) -> None:
        """Delete a throw-away item that a killed probe left, and record it in the log of deletes."""
        why = "syncd check --probe left this throw-away item"
        await self._remover.delete_logged(Removed(item.key, item.id, "leftover", why))

    async def apply(self, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        """Apply a batch, at most `concurrency` actions at a time."""
        self._answers.refresh()
        ocr_limit = _OcrLimit(self._api)

        async def one(action: Put | Delete) -> None:
            report({action: await self._apply_one(action, read, ocr_limit)})

        await for_each(batch, one, self._concurrency)

    async def _apply_one(self, action: Put | Delete, read: ReadContents, ocr_limit: "_OcrLimit") -> Outcome:
        try:
            if isinstance(action, Delete):
                await self._remover.delete(action.ref)
                return Done()
            content = await read_one(read, action)
            await ocr_limit.check(action.key + content.suffix, len(content.data))
            return await self._put(action, content)
        except Exception as error:  # noqa: BLE001 - file_error logs an unexpected one
            return file_error(error, action.key)

    async def _put(self, put: Put, content: Content) -> Done:
        """Upload with retries. After an ambiguous error, look for the item before the next attempt.

        After a listing that may have missed items, look before the first attempt too: an upload would overwrite a
        foreign item.
        """
        look_first = put.ref is None and not self._items.listed_whole
        async for attempt in self._api.transport.attempts(key=put.key):
            with attempt:
                found = await self._items.find(put.key) if look_first else None
                if found:
                    if await self._holds(found, content):
                        return Done(stored_of(found, content))
                    self._check_replaceable(put, found)
                try:
                    return await self._replace(put, content, found)
                except Retry as error:
                    look_first = look_first or error.ambiguous
                    raise
        raise AssertionError("attempts end with a result or an error")

    async def _replace(self, put: Put, content: Content, found: StoredItem | None) -> Done:
        """Upload a file. If the remote does not overwrite the present item, delete the item and upload again.

        found: the present item if the caller looked for it. If a probe learned that the remote refuses such an upload,
        the method does not try it.
        """
        name = self._items.names.name(put.key)
        if self._answers.current.existing != "conflict":
            found = None
        elif found is None and put.ref is not None:
            found = await self._items.look(put.key, put.ref)
        if found is None:
            try:
                return Done(stored_of(await self._upload(put, content, name), content))
            except Conflict:
                if self._answers.current.existing == "overwrite":
                    self._answers.drop("existing", "an upload over an item was refused")
            found = await self._items.find_name(name)
            if found is None:
                raise Retry("the remote says the key exists, but does not show it; its delete may not be finished")
        is_left = self._items.is_left_by_other(found, put.key)
        if not (is_left or self._items.is_of(found, put.key)):
            raise Retry(f"the name {name!r} was taken meanwhile by the item of another file")
        if not is_left and await self._holds(found, content):
            return Done(stored_of(found, content), unchanged=True)
        self._check_replaceable(put, found)
        await self._remover.make_room(put.key, found.id)
        try:
            # The key has no item until this upload is done, so the upload leaves no reserve to other edits.
            with requests_at(Priority()):
                return Done(stored_of(await self._upload(put, content, name), content))
        except Conflict as error:
            raise Retry("the deleted item is not gone yet") from error

    async def _upload(self, put: Put, content: Content, name: str) -> StoredItem:
        item = await self._uploader.upload(put, content, name)
        self._answers.check_checksum(item.checksum, content)
        if item.file_size and item.file_size != len(content.data) and not await self._holds(item, content):
            # The remote answered with success and kept the old bytes.
            self._check_replaceable(put, item)
            await self._remover.make_room(put.key, item.id)
            raise Retry("the remote kept the old content")
        return item

    async def _holds(self, item: StoredItem, content: Content) -> bool:
        """Return whether the item has these bytes and no mark of another owner."""
        if (item.metadata or {}).get(OWNER, self._policy.owner) != self._policy.owner:
            return False
        checksum = (item.metadata or {}).get(SHA256)
        if checksum is not None:
            return bool(checksum == content.checksum)
        if item.file_size and item.file_size != len(content.data):
            return False
        return await self._items.checksum(entry_of(item), content) == content.checksum

    def _check_replaceable(self, put: Put, found: StoredItem) -> None:
        """Raise Park unless the item is ours: by its owner mark, or without a mark by the id in the journal."""
        owner = entry_of(found).owner
        if not (self._policy.takeover or owner == self._policy.owner or (owner is None and found.id == put.ref)):
            raise Park("foreign", "the key is taken by an entry that is not this mirror's; syncd reconcile --takeover")


class _OcrLimit:
    """Refuses PDFs of one batch that only an instance with OCR takes. The first such PDF makes it read the instance."""

    def __init__(self, api: AISearch) -> None:
        self._api = api
        self._reading = asyncio.Lock()
        self._use_ocr: bool | None = None

    async def check(self, key: str, size: int) -> None:
        """Raise Park for a PDF over MAX_FILE_SIZE if the instance has no OCR or does not show it."""
        if size <= MAX_FILE_SIZE or extension(key) not in LARGE_WITH_OCR:
            return
        async with self._reading:
            if self._use_ocr is None:
                options = (await self._api.read_instance()).settings.get("indexing_options")
                self._use_ocr = isinstance(options, dict) and options.get("use_ocr") is True
        if not self._use_ocr:
            remedy = "make it smaller, or turn on use_ocr in the indexing_options of the instance, then syncd retry"
            raise Park("too_large", f"{over_limit(size, MAX_FILE_SIZE)} for a PDF without OCR; {remedy}")


class _ItemRemover:
    """Deletes items. open_log: opens the log for items that no plan deletes."""

    def __init__(self, api: AISearch, open_log: OpenRemovalLog) -> None:
        self._api = api
        self._open_log = open_log

    async def delete(self, ref: str) -> None:
        """Delete an item. An item that does not exist counts as deleted."""
        try:
            await self._api.delete(ref)
        except NotFound:
            # An earlier request, whose answer was lost, or somebody else deleted it.
            log.debug("delete.absent", ref=ref)

    async def delete_logged(self, removed: Removed) -> None:
        """Delete an item that no plan deletes, and record it in the log of deletes."""
        with self._open_log([removed]) as log_removal:
            await self.delete(removed.ref)
            log_removal(removed)

    async def make_room(self, key: str, ref: str) -> None:
        """Delete the item in the place of a new one. Searches do not find the key until the new item is indexed."""
        why = "the remote did not overwrite it with the file's new content"
        await self.delete_logged(Removed(key, ref, "replaced", why))


class _ItemUploader:
    """Sends uploads with as much metadata as the instance takes."""

    def __init__(self, api: AISearch, policy: ItemWritePolicy, remover: _ItemRemover, answers: CurrentAnswers) -> None:
        self._api = api
        self._policy = policy
        self._remover = remover
        self._answers = answers
        self._first_offer = 0
        """The first offer of metadata that the instance may take."""
        self._latest: deque[str] = deque(maxlen=LATEST)

    async def upload(self, put: Put, content: Content, name: str) -> StoredItem:
        """Upload a content under this name. Raises Misnamed if the remote stored it under another name."""
        kind = content_type(put.key + content.suffix) or "application/octet-stream"
        marks = self._policy.marks(content.checksum)
        if name != put.key:
            marks[FULL_KEY_FIELD] = put.key
        fields = await describe_content(self._policy.fields, put.key, content)
        offers = (fit_metadata(marks, fields, METADATA_LIMIT), marks, None)
        self._apply_probe()
        first = max(self._first_offer, 0 if fields else 1)
        quoting = self._answers.current.names or "backslash"
        for number, metadata in enumerate(offers[first:], first):
            try:
                item = await self._api.upload(name, content.data, kind, metadata, quoting)
            except Misnamed as error:
                await self._undo(put.key, error.item)
                if quoting != "backslash":
                    self._answers.drop("names", str(error))
                    raise Retry(str(error)) from error
                raise
            except Park as error:
                if error.code != METADATA_REFUSED or metadata is None:
                    raise
                continue
            if number > max(first, self._first_offer):
                self._offer_less(number)
            self._latest.append(item.id)
            return item
        raise AssertionError("the last offer ends with an item or an error")

    def _apply_probe(self) -> None:
        """Leave out the offers that the remote refused to a probe, if the probe offered the fields of this mirror."""
        answers = self._answers.current
        if answers.metadata is None or answers.fields != offered_fields(self._policy):
            return
        if (number := get_args(Offer).index(answers.metadata)) > self._first_offer:
            self._offer_less(number)

    def _offer_less(self, number: int) -> None:
        self._first_offer = number
        log.warning("metadata.refused", instance=self._api.instance, consequence=_CONSEQUENCES[number])

    async def _undo(self, key: str, item: StoredItem) -> None:
        """Delete an item that was stored under a wrong name, unless the upload replaced an earlier item."""
        if item.id in self._latest or not _is_new(item):
            log.warning("put.misnamed", key=shown(key), stored_as=shown(item.key), consequence="left, as it was there")
            return
        why = f"{shown(key)} was stored under this name, which is not its own"
        await self._remover.delete_logged(Removed(item.key, item.id, "misnamed", why))


def offered_fields(policy: ItemWritePolicy) -> tuple[str, ...]:
    """Return the names of the metadata that an upload of a mirror may carry, in order."""
    return tuple(sorted({*policy.marks(""), *policy.fields}))


def _is_new(item: StoredItem) -> bool:
    """Return whether the upload created this item, by the remote's own times. False if the remote gives none."""
    created, seen = seconds_of(item.created_at), seconds_of(item.last_seen_at)
    return created is not None and seen is not None and abs(seen - created) <= NEW_S
