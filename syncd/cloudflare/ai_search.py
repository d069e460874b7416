"""The AI Search API of one instance: the models of its answers, and one method for each endpoint.

Every method except `upload` repeats failed requests and raises the errors of Transport.attempts. Times are ISO 8601
texts of the remote; sizes are bytes.
"""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Literal, TypedDict, TypeVar, Unpack, get_args

from pydantic import AliasPath, Field, PlainValidator

from syncd.cloudflare.decoding import (
    PAGES_LIMIT,
    Flag,
    NumberOrZero,
    OptionalInt,
    OptionalRemoteMetadata,
    OptionalText,
    Page,
    RemoteMetadata,
    Text,
    TextOrEmpty,
    as_object,
    decode,
    decode_page,
    decode_rows,
    endless_listing,
    listed_total,
    object_of,
    parse_list,
    rows_by_number,
    rows_of,
)
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.response import Answer
from syncd.cloudflare.transport import Transport
from syncd.core.errors import Halt, Park, Retry
from syncd.core.model import IndexStatus
from syncd.core.probe_answers import Quoting

BUILTIN = "builtin"
"""source_id of uploaded items. A key is unique only within a source."""
PER_PAGE = 50
"""Maximum number of items of one page (items list: per_page)."""
DOWNLOAD_LIMIT = 64 * 1024 * 1024
"""Largest download, bytes. AI Search accepts files of at most 10 MiB (limits, 2026-10)."""

EDIT = "Account / AI Search: Edit"
"""The permission for every request but searches (REST API: create an API token)."""
RUN = "Account / AI Search: Run"
"""The permission for searches. Edit alone does not search, and Run alone does not write."""

_request = partial(Request, permission=EDIT)
_UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters and bytes that are not UTF-8. A header of a multipart body cannot contain them."""
_T = TypeVar("_T")
_STATUSES: Mapping[str, IndexStatus] = {status: status for status in get_args(IndexStatus)}


class ListParams(TypedDict, total=False):
    """The query of one listing page. per_page: at most 50. key and search need a server of July 2026."""

    page: int
    per_page: int
    key: str
    search: str
    source: str
    status: IndexStatus
    sort_by: Literal["status", "modified_at"]


def _status(value: object) -> IndexStatus | None:
    return _STATUSES.get(value) if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class StoredItem:
    """One stored file.

    status: None if syncd does not know the status. source_id: "builtin" for an uploaded file. metadata: None if the
    remote does not show metadata, which servers before July 2026 do not.
    """

    id: Text
    key: Text
    status: Annotated[IndexStatus | None, PlainValidator(_status)] = None
    checksum: OptionalText = None
    file_size: OptionalInt = None
    source_id: OptionalText = None
    next_action: OptionalText = None
    error: OptionalText = None
    created_at: OptionalText = None
    last_seen_at: OptionalText = None
    metadata: OptionalRemoteMetadata = None


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One step in the indexing of an item."""

    action: Text
    timestamp: OptionalText = None
    message: OptionalText = None
    error_type: Annotated[OptionalText, Field(validation_alias="errorType")] = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Items by index status. degraded: the remote cannot count, and the counts are None."""

    queued: OptionalInt = None
    running: OptionalInt = None
    completed: OptionalInt = None
    error: OptionalInt = None
    skipped: OptionalInt = None
    outdated: OptionalInt = None
    degraded: Flag = False


@dataclass(frozen=True, slots=True)
class FoundChunk:
    """One chunk that matches a search. key: None if the remote does not name the item. score: higher is better."""

    id: Text
    score: NumberOrZero = 0.0
    text: TextOrEmpty = ""
    key: Annotated[OptionalText, Field(validation_alias=AliasPath("item", "key"))] = None
    metadata: Annotated[RemoteMetadata, Field(validation_alias=AliasPath("item", "metadata"))] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class Namespace:
    """One AI Search namespace."""

    name: Text


@dataclass(frozen=True, slots=True)
class TokenStatus:
    """The state of a token, without its permissions. status: active, disabled or expired. kind: who owns the token."""

    status: Text
    kind: Literal["user", "account"]


@dataclass(frozen=True, slots=True)
class _DeclaredField:
    field_name: Text
    data_type: OptionalText = None


def _declared_fields(value: object) -> dict[str, str]:
    rows = [row for row in parse_list(value) if isinstance(row, dict)]
    declared = decode_rows(_DeclaredField, rows, "field")
    return {field.field_name: field.data_type or "text" for field in declared}


@dataclass(frozen=True, slots=True)
class Instance:
    """One AI Search instance. type: None for built-in storage. custom_metadata: maps field names to data types.

    settings: the settings that the service shows, by the names of `instances.create`.
    """

    id: Text
    namespace: OptionalText = None
    type: OptionalText = None
    paused: Flag = False
    custom_metadata: Annotated[Mapping[str, str], PlainValidator(_declared_fields)] = field(default_factory=dict)
    settings: RemoteMetadata = field(default_factory=dict)


class Misnamed(Park):
    """The remote stored an upload under another key. item: the stored item."""

    def __init__(self, message: str, item: StoredItem) -> None:
        super().__init__("invalid_key", message)
        self.item = item


class AISearch:
    """One instance in one namespace. All paths contain the namespace. The class has one method for each endpoint."""

    def __init__(self, transport: Transport, namespace: str, instance: str) -> None:
        self.transport = transport
        self.namespace = namespace
        self.instance = instance
        self._base = path("accounts", transport.account_id, "ai-search")
        self._namespace = self._base + "/namespaces" + path(namespace)
        self._instance = self._namespace + "/instances" + path(instance)
        self._items = self._instance + "/items"

    # items

    async def list_items(self, **params: Unpack[ListParams]) -> Page[StoredItem]:
        """Return one page. page counts from 1; per_page is 50 by default."""
        # A proxy may refuse the key in the address.
        probe = self._instance if "key" in params or "search" in params else None
        query: dict[str, Any] = {"per_page": PER_PAGE, **params}
        return await self.transport.ask(_request("GET", self._items, params=query, probe=probe), _item_page)

    async def iter_pages(self, **params: Unpack[ListParams]) -> AsyncIterator[Page[StoredItem]]:
        """Yield the pages of a listing. The listing ends at total_count, at an empty page, or at a repeated page.

        An empty page is yielded only if it is the first page, whose total_count may count rows that the page omits.
        Rows move between pages while the remote indexes items. The caller drops repeated ids, and lists again if
        total_count changes.
        """
        seen = 0
        previous: tuple[StoredItem, ...] = ()
        query = ListParams(**params)
        for number in range(1, PAGES_LIMIT + 1):
            query["page"] = number
            page = await self.list_items(**query)
            empty = not (page.rows or page.faults)
            if (empty and number > 1) or (page.rows and page.rows == previous):
                return
            yield page
            if empty:
                return
            previous = page.rows
            seen += len(page.rows) + len(page.faults)
            if page.total_count is not None and seen >= page.total_count:
                return
        raise endless_listing()

    async def find(self, key: str) -> StoredItem | None:
        """Return the uploaded item of this key.

        If the server ignores `key=`, the method searches by `search=`. If it ignores this too, the method reads the
        whole listing.
        """
        page = await self.list_items(key=key, source=BUILTIN)
        if (found := _uploaded(page, key)) or all(item.key == key for item in page.rows):
            return found  # None: the server knows `key=`, and has no such item
        searched = True
        async for page in self.iter_pages(search=key, source=BUILTIN):
            if found := _uploaded(page, key):
                return found
            searched = searched and all(key.lower() in item.key.lower() for item in page.rows)
        if not searched:
            return None  # the server ignores `search=`: the pages were the whole listing
        async for page in self.iter_pages(source=BUILTIN, sort_by="modified_at"):
            if found := _uploaded(page, key):
                return found
        return None

    async def upload(
        self,
        key: str,
        content: bytes,
        content_type: str,
        metadata: Mapping[str, str] | None = None,
        quoting: Quoting = "backslash",
    ) -> StoredItem:
        """Store content under a key with one request. The caller repeats it and looks the key up between.

        The remote overwrites an existing key or raises Conflict. Metadata values are texts, because the remote has
        refused numbers. quoting: how a quote in the file name is written. After an ambiguous Retry the item may exist.
        Raises Park("invalid_key") for a key that is no valid file name, Misnamed if the remote stores the item under
        another key.
        """
        if _UNWRITABLE.search(key):
            raise Park("invalid_key", "the key holds control characters or is not valid UTF-8: rename the file")
        form = {}
        if metadata is not None:
            form["metadata"] = json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))
        form["wait_for_completion"] = "false"
        file = key, content, content_type
        request = _request("POST", self._items, form=form, file=file, quoting=quoting)
        item = _item(await self.transport.once(request))
        if item.key != key:
            raise Misnamed(f"the remote stored it as {item.key!r}: rename the file", item)
        return item

    async def create_or_update(self, key: str) -> StoredItem:
        """Index the stored content of a key again, without an upload."""
        body = {"key": key, "next_action": "INDEX", "wait_for_completion": False}
        return await self.transport.ask(_request("PUT", self._items, json=body), _item)

    async def get(self, item_id: str) -> StoredItem:
        """Return one item. Raises NotFound if it does not exist."""
        return await self._get(self._item(item_id), lambda answer: _same(_item(answer), item_id))

    async def sync(self, item_id: str) -> StoredItem:
        """Index an item again without an upload. Raises NotFound if it does not exist."""
        body = {"next_action": "INDEX", "wait_for_completion": False}
        return await self.transport.ask(_request("PATCH", self._item(item_id), json=body), _item)

    async def delete(self, item_id: str) -> None:
        """Delete an item and its chunks.

        Raises NotFound if the item does not exist. After a lost answer this means success.
        """
        await self.transport.request(_request("DELETE", self._item(item_id)))

    async def download(self, item_id: str) -> bytes:
        """Return the stored bytes of an uploaded item. Raises Park("too_large") for more than DOWNLOAD_LIMIT."""
        request = _request("GET", self._item(item_id) + "/download", probe=self._instance)
        return await self.transport.fetch(request, DOWNLOAD_LIMIT)

    async def logs(self, item_id: str, limit: int) -> tuple[LogEntry, ...]:
        """Return the latest entries in the indexing log of an item. limit: 1 to 100."""
        return await self._get(self._item(item_id) + "/logs", rows_of(LogEntry, "log entry"), {"limit": limit})

    # the instance

    async def stats(self) -> Stats:
        """Return the number of items by status."""
        return await self._get(self._instance + "/stats", object_of(Stats, "stats"))

    async def search(
        self, query: str, max_num_results: int = 10, filters: Mapping[str, Any] | None = None
    ) -> tuple[FoundChunk, ...]:
        """Return matching chunks, the best first, from the index and never from the cache of similar searches.

        max_num_results: 1 to 50. filters: in the syntax of Vectorize.
        """
        retrieval: dict[str, Any] = {"max_num_results": max_num_results}
        if filters:
            retrieval["filters"] = dict(filters)
        return await self.transport.ask(self._search(query, retrieval), search_hits)

    async def try_search(self) -> None:
        """Search with one request. Raises AuthHalt if the token must not search, other errors if the search fails."""
        search_hits(await self.transport.once(self._search("syncd", {"max_num_results": 1})))

    def _search(self, query: str, retrieval: Mapping[str, Any]) -> Request:
        # Without these two options the service may answer from a cache of up to 48 h (similarity cache), and answers an
        # empty list if the retrieval fails.
        options = {"retrieval": {**retrieval, "return_on_failure": False}, "cache": {"enabled": False}}
        body = {"query": query, "ai_search_options": options}
        return Request("POST", self._instance + "/search", json=body, permission=RUN, reads=True)

    async def read_instance(self) -> Instance:
        """Return this instance. Raises TargetMissing if the instance or its namespace does not exist."""
        return await self._get(self._instance, _instance)

    async def create_instance(
        self, custom_metadata: Mapping[str, str] | None = None, settings: Mapping[str, Any] | None = None
    ) -> Instance:
        """Create this instance with built-in storage. Raises Conflict if it exists.

        custom_metadata: maps at most 5 field names to text, number, boolean or datetime. settings: values by the names
        of the API. A setting that is left out gets the default of the service.
        """
        fields = (custom_metadata or {}).items()
        rows = [{"field_name": name, "data_type": data_type} for name, data_type in fields]
        body = {"id": self.instance, **(settings or {}), **({"custom_metadata": rows} if rows else {})}
        request = _request("POST", self._namespace + "/instances", json=body)
        return await self.transport.ask(request, _instance)

    # namespaces and token

    async def create_namespace(self) -> None:
        """Create this namespace."""
        body = {"name": self.namespace}
        await self.transport.request(_request("POST", self._base + "/namespaces", json=body))

    async def list_namespaces(self, page: int = 1) -> Page[Namespace]:
        """Return one page of the namespaces of the account. An empty page is the end."""
        return await self._get(self._base + "/namespaces", _namespace_page, {"page": page, "per_page": PER_PAGE})

    async def namespace_names(self) -> tuple[str, ...]:
        """Return the names of all namespaces of the account."""
        return tuple([row.name async for row in rows_by_number(self.list_namespaces, lambda row: row.name)])

    async def count_instances(self, namespace: str) -> int | None:
        """Return the number of instances of a namespace, None if the remote does not give it."""
        url = self._base + "/namespaces" + path(namespace) + "/instances"
        return await self._get(url, listed_total, {"page": 1, "per_page": 1})

    async def verify_token(self) -> TokenStatus | None:
        """Return the state of the token, which a user or the account owns. None: the credentials are a global key."""
        if self.transport.login.credentials.kind != "token":
            return None
        try:
            return await self._verify("user", path("user", "tokens", "verify"))
        except Halt:
            # The user's URL refuses a token that the account owns.
            return await self._verify("account", path("accounts", self.transport.account_id, "tokens", "verify"))

    async def _verify(self, kind: Literal["user", "account"], url: str) -> TokenStatus:
        # Every token may read its own state, so this request shows nothing of its permissions.
        def parse(answer: Answer) -> TokenStatus:
            return decode(TokenStatus, {**as_object(answer.result, "token"), "kind": kind}, "token")

        return await self.transport.ask(Request("GET", url), parse)

    async def _get(self, url: str, parse: Callable[[Answer], _T], params: Mapping[str, int] = {}) -> _T:
        return await self.transport.ask(_request("GET", url, params=params), parse)

    def _item(self, item_id: str) -> str:
        return self._items + path(item_id)


def _same(item: StoredItem, item_id: str) -> StoredItem:
    if item.id != item_id:
        raise Retry("unexpected answer: another item than the requested one")
    return item


_item = object_of(StoredItem, "item")


def _item_page(answer: Answer) -> Page[StoredItem]:
    return decode_page(StoredItem, answer.result, "item", total_count=listed_total(answer))


def _namespace_page(answer: Answer) -> Page[Namespace]:
    return Page(decode_rows(Namespace, answer.result, "namespace"), total_count=listed_total(answer))


def _instance(answer: Answer) -> Instance:
    shown = as_object(answer.result, "instance")
    return decode(Instance, {**shown, "settings": shown}, "instance")


def _uploaded(page: Page[StoredItem], key: str) -> StoredItem | None:
    return next((item for item in page.rows if item.key == key and item.source_id == BUILTIN), None)


def search_hits(answer: Answer) -> tuple[FoundChunk, ...]:
    """Decode the hits of a search. Raises Retry for an answer without a list: no hits are an empty list."""
    chunks = as_object(answer.result, "search result").get("chunks")
    if not isinstance(chunks, list):
        raise Retry("unexpected answer: the search result has no list of chunks")
    return decode_rows(FoundChunk, chunks, "chunk")
