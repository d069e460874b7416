"""Puts and deletes: an upload is one request, unless the key is taken or an answer is lost."""

from collections.abc import Sequence

import structlog

from syncd.cloudflare.ai_search import AISearch
from syncd.cloudflare.ai_search_values import Item
from syncd.cloudflare.content_types import content_type
from syncd.errors import Conflict, Halt, NotFound, Park, Retry, SyncdError, Unreachable
from syncd.model import Delete, Put
from syncd.targets.aisearch.items import Items
from syncd.targets.aisearch.rows import OWNER, SHA256, Marks, entry_of, stored
from syncd.targets.base import Content, Done, Outcome, Read, Report, each

log = structlog.get_logger()

METADATA_REFUSED = 7056


class Writer:
    """Writes files as items. concurrency: uploads whose content is held in memory at a time."""

    def __init__(self, api: AISearch, items: Items, marks: Marks, concurrency: int) -> None:
        self._api = api
        self._items = items
        self._marks = marks
        self._concurrency = concurrency
        self._metadata_refused = False

    async def apply(self, batch: Sequence[Put | Delete], read: Read, report: Report) -> None:
        """Carry out a batch, `concurrency` actions at a time."""

        async def one(action: Put | Delete) -> None:
            report(action, await self._one(action, read))

        await each(batch, one, self._concurrency)

    async def _one(self, action: Put | Delete, read: Read) -> Outcome:
        try:
            if isinstance(action, Delete):
                await self._delete(action.ref)
                return Done()
            return await self._put(action, await read(action))
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            return error

    async def _delete(self, ref: str) -> None:
        try:
            await self._api.delete(ref)
        except NotFound:
            # Deleted by a request whose answer was lost, or by somebody else: gone is what was wanted.
            log.debug("delete.absent", ref=ref)

    async def _put(self, put: Put, content: Content) -> Done:
        """Upload, as often as it takes; after an ambiguous answer look first whether it was carried out.

        Look first, too, if the listing left something out: an overwriting remote takes the place of a stranger's item.
        """
        look_first = put.ref is None and not self._items.listed_whole
        async for attempt in self._api.attempts(key=put.key):
            with attempt:
                if look_first and (found := await self._items.find(put.key)):
                    if await self._holds(found, content):
                        return Done(stored(found, content))
                    self._check_replaceable(put, found)
                try:
                    return await self._upload(put, content)
                except Retry as error:
                    look_first = look_first or error.ambiguous
                    raise
        raise AssertionError("attempts end with a result or an error")

    async def _upload(self, put: Put, content: Content) -> Done:
        try:
            return Done(stored(await self._post(put, content), content))
        except Conflict:
            pass
        found = await self._items.find(put.key)
        if found is None:
            raise Retry("the remote says the key exists, but does not show it; it may still be on its way out")
        if await self._holds(found, content):
            return Done(stored(found, content), unchanged=True)
        self._check_replaceable(put, found)
        await self._delete(found.id)
        try:
            return Done(stored(await self._post(put, content), content))
        except Conflict as error:
            raise Retry("the deleted item is not gone yet") from error

    async def _post(self, put: Put, content: Content) -> Item:
        kind = content_type(put.key) or "application/octet-stream"
        marks = None if self._metadata_refused else {SHA256: content.checksum, OWNER: self._marks.owner}
        try:
            item = (await self._api.upload(put.key, content.data, kind, marks)).item
        except Park as error:
            if error.code != METADATA_REFUSED or marks is None:
                raise
            item = (await self._api.upload(put.key, content.data, kind)).item
            self._metadata_refused = True
            log.warning("metadata.refused", instance=self._api.instance, consequence="ownership is known locally only")
        if item.file_size and item.file_size != len(content.data) and not await self._holds(item, content):
            # 2xx without the new bytes: make room for them.
            self._check_replaceable(put, item)
            await self._delete(item.id)
            raise Retry("the remote kept the old content")
        return item

    async def _holds(self, item: Item, content: Content) -> bool:
        """True if the item has these bytes and is not marked as another's."""
        if (item.metadata or {}).get(OWNER, self._marks.owner) != self._marks.owner:
            return False
        checksum = (item.metadata or {}).get(SHA256)
        if checksum is not None:
            return bool(checksum == content.checksum)
        if item.file_size and item.file_size != len(content.data):
            return False
        return await self._items.checksum(entry_of(item), content) == content.checksum

    def _check_replaceable(self, put: Put, found: Item) -> None:
        """Park unless the item is ours: by its mark, or because it has none and its id is the one we know."""
        owner = entry_of(found).owner
        if not (self._marks.takeover or owner == self._marks.owner or (owner is None and found.id == put.ref)):
            raise Park("foreign", "the key is taken by an entry that is not this mirror's; syncd reconcile --takeover")
