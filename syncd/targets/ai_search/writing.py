"""Puts and deletes: an upload is one request, unless the key is taken or an answer is lost."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime

import structlog

from syncd.cloudflare.ai_search import AISearch, Misnamed
from syncd.cloudflare.ai_search_models import StoredItem
from syncd.cloudflare.content_types import content_type
from syncd.core.errors import Conflict, Halt, NotFound, Park, Retry, SyncdError, Unreachable
from syncd.core.keys import shown
from syncd.core.model import Content, Delete, Put
from syncd.core.short_names import FULL_KEY_FIELD
from syncd.core.unexpected import unexpected_error
from syncd.targets.ai_search.items import Items
from syncd.targets.ai_search.rows import OWNER, PREFIX, SHA256, ItemWritePolicy, entry_of, stored
from syncd.targets.base import Done, Noting, Outcome, Read, Removed, Report, each, read_one, unnoted
from syncd.targets.describing import description
from syncd.targets.naming import Naming
from syncd.text.metadata import fit_metadata

log = structlog.get_logger()

METADATA_REFUSED = 7056
METADATA_LIMIT = 9 * 1024
"""Bytes of the metadata that we send. The service has 10 KiB for it and fields of its own (changelog, 2026-08)."""
LATEST = 1000
NEW_S = 0.25
"""An item is new if the remote saw it last within so many seconds of its making, both by the remote's clock."""
_CONSEQUENCES = ("", "entries go up without title and the like", "ownership is known locally only")
"""Of metadata that the instance refuses: all of it is tried first, then our marks alone, then none."""


class ItemWriter:
    """Writes files as items. concurrency: uploads whose content is held in memory at a time."""

    def __init__(self, api: AISearch, items: Items, naming: Naming, policy: ItemWritePolicy, concurrency: int) -> None:
        self._api = api
        self._items = items
        self._naming = naming
        self._policy = policy
        self._concurrency = concurrency
        self._refused = 0
        self.noting: Noting = unnoted
        # Ids of the latest uploads, some of which a misnamed one may have taken the place of.
        self._latest: deque[str] = deque(maxlen=LATEST)

    async def apply(self, batch: Sequence[Put | Delete], read: Read, report: Report) -> None:
        """Carry out a batch, `concurrency` actions at a time."""

        async def one(action: Put | Delete) -> None:
            report({action: await self._one(action, read)})

        await each(batch, one, self._concurrency)

    async def _one(self, action: Put | Delete, read: Read) -> Outcome:
        try:
            if isinstance(action, Delete):
                await self._delete(action.ref)
                return Done()
            return await self._put(action, await read_one(read, action))
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            return error
        except Exception as error:  # noqa: BLE001 - what it is stands in the log
            return unexpected_error(error, action.key)

    async def _delete(self, ref: str) -> None:
        try:
            await self._api.delete(ref)
        except NotFound:
            # Deleted by a request whose answer was lost, or by somebody else: gone is what was wanted.
            log.debug("delete.absent", ref=ref)

    async def _take_away(self, removed: Removed) -> None:
        """Delete an item that no plan deletes, and enter it in the log of deletes."""
        with self.noting([removed]) as noted:
            await self._delete(removed.ref)
            noted(removed)

    async def _take_back(self, key: str, item: StoredItem) -> None:
        """Delete what went up under another name than its own, unless it took the place of an item that was there."""
        if item.id in self._latest or not _made_just_now(item):
            log.warning("put.misnamed", key=shown(key), stored_as=shown(item.key), consequence="left, as it was there")
            return
        what = f"{shown(key)} was stored under this name, which is not its own"
        await self._take_away(Removed(item.key, item.id, "misnamed", what))

    async def _make_room(self, key: str, ref: str) -> None:
        """Delete the item in the place of a new one. Searches do not find the key until the new item is indexed."""
        await self._take_away(
            Removed(key, ref, "replaced", "the remote did not overwrite it with the file's new content")
        )

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
        """Upload in the place of the item that is there."""
        name = self._naming.name(put.key)
        try:
            return Done(stored(await self._post(put, content, name), content))
        except Conflict:
            pass
        found = await self._items.named(name)
        if found is None:
            raise Retry("the remote says the key exists, but does not show it; it may still be on its way out")
        if not self._items.is_of(found, put.key):
            raise Retry(f"the name {name!r} was taken meanwhile by the item of another file")
        if await self._holds(found, content):
            return Done(stored(found, content), unchanged=True)
        self._check_replaceable(put, found)
        await self._make_room(put.key, found.id)
        try:
            return Done(stored(await self._post(put, content, name), content))
        except Conflict as error:
            raise Retry("the deleted item is not gone yet") from error

    async def _post(self, put: Put, content: Content, name: str) -> StoredItem:
        item = await self._send(put, content, name)
        if item.file_size and item.file_size != len(content.data) and not await self._holds(item, content):
            # 2xx without the new bytes: make room for them.
            self._check_replaceable(put, item)
            await self._make_room(put.key, item.id)
            raise Retry("the remote kept the old content")
        return item

    async def _send(self, put: Put, content: Content, name: str) -> StoredItem:
        """Upload with as much metadata as the instance takes."""
        kind = content_type(put.key) or "application/octet-stream"
        marks = {SHA256: content.checksum, OWNER: self._policy.owner} | (
            {} if name == put.key else {FULL_KEY_FIELD: put.key}
        )
        if self._policy.prefix:
            marks[PREFIX] = str(len(self._policy.prefix))
        fields = await description(self._policy.fields, put.key, content)
        offers = (fit_metadata(marks, fields, METADATA_LIMIT), marks, None)
        first = max(self._refused, 0 if fields else 1)
        for number, metadata in enumerate(offers[first:], first):
            try:
                item = (await self._api.upload(name, content.data, kind, metadata)).item
            except Misnamed as error:
                await self._take_back(put.key, error.item)
                raise
            except Park as error:
                if error.code != METADATA_REFUSED or metadata is None:
                    raise
                continue
            if number > first:
                self._refuses(number)
            self._latest.append(item.id)
            return item
        raise AssertionError("the last offer ends with an item or an error")

    def _refuses(self, number: int) -> None:
        """The instance takes no more metadata than in this offer."""
        if number > self._refused:
            self._refused = number
            log.warning("metadata.refused", instance=self._api.instance, consequence=_CONSEQUENCES[number])

    async def _holds(self, item: StoredItem, content: Content) -> bool:
        """True if the item has these bytes and is not marked as another's."""
        if (item.metadata or {}).get(OWNER, self._policy.owner) != self._policy.owner:
            return False
        checksum = (item.metadata or {}).get(SHA256)
        if checksum is not None:
            return bool(checksum == content.checksum)
        if item.file_size and item.file_size != len(content.data):
            return False
        return await self._items.checksum(entry_of(item), content) == content.checksum

    def _check_replaceable(self, put: Put, found: StoredItem) -> None:
        """Park unless the item is ours: by its mark, or because it has none and its id is the one we know."""
        owner = entry_of(found).owner
        if not (self._policy.takeover or owner == self._policy.owner or (owner is None and found.id == put.ref)):
            raise Park("foreign", "the key is taken by an entry that is not this mirror's; syncd reconcile --takeover")


def _made_just_now(item: StoredItem) -> bool:
    """Whether the remote says that an upload made this item, and did not change one that was there."""
    try:
        made, seen = (datetime.fromisoformat(said or "") for said in (item.created_at, item.last_seen_at))
        return abs((seen - made).total_seconds()) <= NEW_S
    except (ValueError, TypeError):
        return False  # it does not say, or one with a zone and one without
