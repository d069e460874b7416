"""The AI Search API of one instance: a method for each endpoint, no decisions.

Every method but `upload` tries again by itself (see Transport.attempts) and raises what it raises.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal, TypeVar, Unpack

from tenacity import AsyncRetrying

from syncd.cloudflare.ai_search_models import (
    Instance,
    ItemChunk,
    ItemPage,
    ListParams,
    LogPage,
    Namespace,
    SearchHit,
    Stats,
    StoredItem,
    TokenStatus,
    UploadResult,
    search_hits,
)
from syncd.cloudflare.decoding import decode, decode_rows
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.response import Answer
from syncd.cloudflare.transport import Transport
from syncd.errors import Halt, Park, Retry

BUILTIN = "builtin"
"""source_id of what was uploaded; keys are unique within a source only."""
PER_PAGE = 50
"""Most items of one page (items list: per_page)."""
PAGES_LIMIT = 100_000
"""Most pages of one listing: an instance holds at most 1,000,000 files, and a server may give only 10 a page."""
DOWNLOAD_LIMIT = 64 * 1024 * 1024
"""Largest file that is downloaded, bytes; AI Search takes at most 10 MiB (limits, 2026-10)."""

_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, bytes that were no UTF-8
_T = TypeVar("_T")

_EDIT = "Account / AI Search:Edit"
_RUN = "Account / AI Search:Run"


class Misnamed(Park):
    """An upload was stored under another key than the one it was sent under, as `item`."""

    def __init__(self, message: str, item: StoredItem) -> None:
        super().__init__("invalid_key", message)
        self.item = item


class AISearch:
    """One instance in one namespace; always the namespaced form of the path."""

    def __init__(self, transport: Transport, namespace: str, instance: str) -> None:
        self.transport = transport
        self.namespace = namespace
        self.instance = instance
        self._base = path("accounts", transport.account_id, "ai-search")
        self._namespace = self._base + "/namespaces" + path(namespace)
        self._instance = self._namespace + "/instances" + path(instance)
        self._items = self._instance + "/items"

    # items

    async def list_items(self, **params: Unpack[ListParams]) -> ItemPage:
        """One page. page from 1; per_page is 50 unless given."""
        query = {name: str(value) for name, value in {"per_page": PER_PAGE, **params}.items()}
        # A key in an address may be what something on the way refuses.
        probe = self._instance if "key" in params or "search" in params else None
        request = Request("GET", self._items, params=query, permission=_EDIT, probe=probe)
        return await self.transport.ask(request, ItemPage.parse)

    async def iter_pages(self, **params: Unpack[ListParams]) -> AsyncIterator[ItemPage]:
        """The pages of a listing, until total_count is reached, a page is empty, or a page repeats the one before.

        Of empty pages only the first of all is yielded: its total_count may speak of rows that it does not show.
        There is no snapshot: rows move between pages while items are indexed. Drop repeats by id, and list again when
        total_count moved.
        """
        seen = 0
        before: tuple[StoredItem, ...] = ()
        query = ListParams(**params)
        first = params.get("page", 1)
        for number in range(first, first + PAGES_LIMIT):
            query["page"] = number
            page = await self.list_items(**query)
            empty = not (page.items or page.faults)
            if (empty and number > first) or (page.items and page.items == before):
                return
            yield page
            if empty:
                return
            before = page.items
            seen += len(page.items) + len(page.faults)
            if first == 1 and page.total_count is not None and seen >= page.total_count:
                return
        raise Retry(f"unexpected answer: the listing does not end after {PAGES_LIMIT} pages")

    async def find(self, key: str) -> StoredItem | None:
        """The uploaded item of this key. Survives servers that do not know `key=`, and those that do not know
        `search=` either: then the whole listing is read.
        """
        page = await self.list_items(key=key, source=BUILTIN)
        if (found := _uploaded(page, key)) is not None:
            return found
        if all(item.key == key for item in page.items):
            return None  # the server looked for the key, and it is not there
        searched = True
        async for page in self.iter_pages(search=key, source=BUILTIN):
            if (found := _uploaded(page, key)) is not None:
                return found
            searched = searched and all(key.lower() in item.key.lower() for item in page.items)
        if not searched:
            return None  # search= was ignored too, so that was the whole listing
        async for page in self.iter_pages(source=BUILTIN, sort_by="modified_at"):
            if (found := _uploaded(page, key)) is not None:
                return found
        return None

    async def upload(
        self,
        key: str,
        content: bytes,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        *,
        wait_for_completion: bool = False,
    ) -> UploadResult:
        """Store content under key, in ONE try: the caller loops over `attempts()` and looks the key up in between.

        An existing key is overwritten or raises Conflict; both are real. Metadata values are texts, as numbers have
        been refused. An ambiguous Retry may have been carried out. Park("invalid_key") when the key cannot be written
        as a file name, Misnamed when the remote stored it under another one.
        """
        _check_key(key)
        form = {}
        if metadata is not None:
            form["metadata"] = json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))
        form["wait_for_completion"] = "true" if wait_for_completion else "false"
        request = Request("POST", self._items, form=form, file=(key, content, content_type), permission=_EDIT)
        result = UploadResult.parse(await self.transport.once(request))
        if result.item.key != key:
            raise Misnamed(f"the remote stored it as {result.item.key!r}: rename the file", result.item)
        return result

    def attempts(self, **fields: str) -> AsyncRetrying:
        """The retry loop for `upload`; fields are logged with each retry. See Transport.attempts."""
        return self.transport.attempts(safe=True, **fields)

    async def create_or_update(self, key: str, *, wait_for_completion: bool = False) -> StoredItem:
        """Have the stored content of a key indexed again; no content travels."""
        body = {"key": key, "next_action": "INDEX", "wait_for_completion": wait_for_completion}
        return await self.transport.ask(Request("PUT", self._items, json=body, permission=_EDIT), _item)

    async def get(self, item_id: str) -> StoredItem:
        """One item; NotFound when absent."""
        request = Request("GET", self._item(item_id), permission=_EDIT)
        return await self.transport.ask(request, lambda answer: _same(_item(answer), item_id))

    async def sync(self, item_id: str, *, wait_for_completion: bool = False) -> StoredItem:
        """Index an item again without uploading it; NotFound when absent."""
        body = {"next_action": "INDEX", "wait_for_completion": wait_for_completion}
        return await self.transport.ask(Request("PATCH", self._item(item_id), json=body, permission=_EDIT), _item)

    async def delete(self, item_id: str) -> None:
        """Remove an item and its chunks; NotFound when absent, which after a lost answer means done."""
        await self.transport.request(Request("DELETE", self._item(item_id), permission=_EDIT))

    async def download(self, item_id: str, max_bytes: int = DOWNLOAD_LIMIT) -> bytes:
        """The stored bytes of an uploaded item; Park("too_large") over max_bytes."""
        request = Request("GET", self._item(item_id) + "/download", permission=_EDIT, probe=self._instance)
        return await self.transport.download(request, max_bytes)

    async def chunks(self, item_id: str, limit: int = 100, offset: int = 0) -> tuple[ItemChunk, ...]:
        """The indexed pieces of an item; limit 1 to 100."""
        params = {"limit": str(limit), "offset": str(offset)}
        request = Request("GET", self._item(item_id) + "/chunks", params=params, permission=_EDIT)
        return await self.transport.ask(request, _rows(ItemChunk, "chunk"))

    async def logs(self, item_id: str, limit: int = 100, cursor: str | None = None) -> LogPage:
        """How an item was indexed; limit 1 to 100."""
        params = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        request = Request("GET", self._item(item_id) + "/logs", params=params, permission=_EDIT)
        return await self.transport.ask(request, LogPage.parse)

    # the instance

    async def stats(self) -> Stats:
        """Items by status, in one request."""
        request = Request("GET", self._instance + "/stats", permission=_EDIT)
        return await self.transport.ask(request, lambda answer: decode(Stats, answer.result, "stats"))

    async def search(
        self,
        query: str,
        max_num_results: int = 10,
        match_threshold: float | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> tuple[SearchHit, ...]:
        """Chunks that match, best first.

        max_num_results 1 to 50; match_threshold 0 to 1 (None: the instance's own); filters in Vectorize syntax.
        """
        retrieval: dict[str, Any] = {"max_num_results": max_num_results}
        if match_threshold is not None:
            retrieval["match_threshold"] = match_threshold
        if filters:
            retrieval["filters"] = dict(filters)
        body = {"query": query, "ai_search_options": {"retrieval": retrieval}}
        request = Request("POST", self._instance + "/search", json=body, permission=_RUN, reads=True)
        return await self.transport.ask(request, search_hits)

    async def read_instance(self) -> Instance:
        """This instance; TargetMissing when it or its namespace is not there."""
        return await self.transport.ask(Request("GET", self._instance, permission=_EDIT), _instance)

    async def create_instance(self, custom_metadata: Mapping[str, str] | None = None) -> Instance:
        """Make this instance, with built-in storage; Conflict when it is there already.

        custom_metadata: field name -> text, number, boolean or datetime; at most 5 fields.
        """
        body: dict[str, Any] = {"id": self.instance}
        if custom_metadata:
            fields = custom_metadata.items()
            body["custom_metadata"] = [{"field_name": name, "data_type": data_type} for name, data_type in fields]
        request = Request("POST", self._namespace + "/instances", json=body, permission=_EDIT)
        return await self.transport.ask(request, _instance)

    async def list_instances(self, page: int = 1, per_page: int = PER_PAGE) -> tuple[Instance, ...]:
        """One page of the namespace's instances; an empty one is the end."""
        params = {"page": str(page), "per_page": str(per_page)}
        request = Request("GET", self._namespace + "/instances", params=params, permission=_EDIT)
        return await self.transport.ask(request, _rows(Instance, "instance"))

    # namespaces and token

    async def read_namespace(self) -> Namespace:
        """This namespace; TargetMissing when it is not there."""
        return await self.transport.ask(Request("GET", self._namespace, permission=_EDIT), _namespace)

    async def create_namespace(self) -> Namespace:
        """Make this namespace."""
        body = {"name": self.namespace}
        request = Request("POST", self._base + "/namespaces", json=body, permission=_EDIT)
        return await self.transport.ask(request, _namespace)

    async def list_namespaces(self, page: int = 1, per_page: int = PER_PAGE) -> tuple[Namespace, ...]:
        """One page of the account's namespaces; an empty one is the end."""
        params = {"page": str(page), "per_page": str(per_page)}
        request = Request("GET", self._base + "/namespaces", params=params, permission=_EDIT)
        return await self.transport.ask(request, _rows(Namespace, "namespace"))

    async def verify_token(self) -> TokenStatus | None:
        """What Cloudflare says of the token: asked as the user's, then as the account's; None for a global key."""
        if self.transport.login.credentials.kind != "token":
            return None
        try:
            return await self._verify("user", path("user", "tokens", "verify"))
        except Halt:
            # A token that an account owns fails on the user's URL.
            return await self._verify("account", path("accounts", self.transport.account_id, "tokens", "verify"))

    async def _verify(self, kind: Literal["user", "account"], where: str) -> TokenStatus:
        request = Request("GET", where, permission=_EDIT)
        return await self.transport.ask(request, lambda answer: TokenStatus.parse(answer, kind))

    def _item(self, item_id: str) -> str:
        return self._items + path(item_id)


def _item(answer: Answer) -> StoredItem:
    return decode(StoredItem, answer.result, "item")


def _same(item: StoredItem, item_id: str) -> StoredItem:
    if item.id != item_id:
        raise Retry("unexpected answer: another item than the requested one")
    return item


def _instance(answer: Answer) -> Instance:
    return decode(Instance, answer.result, "instance")


def _namespace(answer: Answer) -> Namespace:
    return decode(Namespace, answer.result, "namespace")


def _rows(kind: type[_T], name: str) -> Callable[[Answer], tuple[_T, ...]]:
    return lambda answer: decode_rows(kind, answer.result, name)


def _uploaded(page: ItemPage, key: str) -> StoredItem | None:
    return next((item for item in page.items if item.key == key and item.source_id == BUILTIN), None)


def _check_key(key: str) -> None:
    """Park for a key that cannot stand in the header of a multipart body."""
    if _UNWRITABLE.search(key):
        raise Park("invalid_key", "the key holds control characters or is not valid UTF-8: rename the file")
