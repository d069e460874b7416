"""The Workers KV API: the models of its answers, one method for each endpoint, and the search for a namespace.

Every method repeats failed requests and raises the errors of Transport.attempts. A missing namespace (10013) raises
TargetMissing, a missing key (10009) raises NotFound. Expirations are Unix seconds, None if the remote gives none.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from syncd.cloudflare.decoding import (
    OptionalInt,
    OptionalText,
    Page,
    Text,
    as_object,
    decode_page,
    decode_rows,
    listed_total,
    object_of,
    pages,
    parse_cursor,
    rows_by_number,
    unexpected,
)
from syncd.cloudflare.kv_bodies import (
    VALUE_LIMIT,
    BulkBody,
    check_key,
    check_text,
    encode_metadata,
)
from syncd.cloudflare.request import Body, Method, Request, compact_json, path
from syncd.cloudflare.response import Answer
from syncd.cloudflare.transport import Transport
from syncd.core.errors import Halt, NotFound, Park, Retry, TargetMissing, TooMuch
from syncd.core.plain_text import over_limit

NAMESPACES_PER_PAGE = 100
"""Namespaces of one page; an account holds at most 1,000 (KV limits)."""
LIST_LIMIT = 1000
"""Keys of one page, the largest number that the API takes (KV API: list limit)."""
BULK_GET_LIMIT = 100
"""Maximum number of keys of one bulk get (KV API)."""
BULK_SLOW_S = 60.0
"""Additional seconds for a bulk request. Cloudflare's edge answers 524 after 100 s: the caller then sends less."""

GATEWAY_TIMEOUT = 524
"""HTTP status of the edge if the API takes too long (workers-sdk#7021)."""
KEY_NOT_FOUND = 10009
"""Error code of a missing key. The status 404 alone may mean a missing namespace."""
NAMESPACE_ID = re.compile(r"[0-9a-f]{32}")
TITLES_SHOWN = 20
"""Titles that an error names. The error counts the others."""

_request = partial(Request, permission="Account / Workers KV Storage:Edit")
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class KVNamespaceInfo:
    """One KV namespace. jurisdiction: where the data is stored (eu, fedramp, us), None without a restriction."""

    id: Text
    title: Text
    jurisdiction: OptionalText = None


@dataclass(frozen=True, slots=True)
class ListedKey:
    """One row of a key listing. metadata: any JSON value, None if there is none."""

    name: Text
    metadata: Any = None
    expiration: OptionalInt = None


class KV:
    """The KV namespaces of one account."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._base = _namespaces(transport)

    async def list_namespaces(self, page: int = 1) -> Page[KVNamespaceInfo]:
        """Return one page, counted from 1. A page past the end is empty."""
        request = _request("GET", self._base, params={"page": page, "per_page": NAMESPACES_PER_PAGE})
        return await self.transport.ask(request, _namespace_page)

    def iter_namespaces(self) -> AsyncIterator[KVNamespaceInfo]:
        """Yield each namespace once."""
        return rows_by_number(self.list_namespaces, lambda namespace: namespace.id)

    async def get_namespace(self, namespace_id: str) -> KVNamespaceInfo:
        """Return one namespace. Raises TargetMissing if it does not exist."""
        return await self.transport.ask(_request("GET", self._base + path(namespace_id)), _info)

    async def create_namespace(self, title: str, jurisdiction: str | None = None) -> KVNamespaceInfo:
        """Create a namespace. Raises Conflict if the title exists. After an ambiguous Retry the namespace may exist.

        jurisdiction: eu, fedramp or us, where the data is stored. It can never be changed (KV API).
        """
        body = {"title": title} | ({"jurisdiction": jurisdiction} if jurisdiction else {})
        return await self.transport.ask(_request("POST", self._base, json=body), _info)

    async def rename_namespace(self, namespace_id: str, title: str) -> KVNamespaceInfo:
        """Change the title of a namespace. Raises TargetMissing, or Conflict if the title exists."""
        request = _request("PUT", self._base + path(namespace_id), json={"title": title})

        def parse(answer: Answer) -> KVNamespaceInfo:
            # Older servers answer {} after a successful change.
            return _info(answer) if answer.result else KVNamespaceInfo(namespace_id, title)

        return await self.transport.ask(request, parse)

    async def delete_namespace(self, namespace_id: str) -> None:
        """Delete a namespace with its keys.

        Raises TargetMissing if the namespace does not exist. After a lost answer this means success.
        """
        await self.transport.request(_request("DELETE", self._base + path(namespace_id)))


class KVNamespace:
    """The keys and values of one namespace. namespace_id: 32 hex digits, not the title.

    The class has one method for each endpoint. Methods raise Park("invalid_key" or "key_too_long") for a key that KV
    does not accept, before the request. Operations on a single key also refuse control characters, which bulk requests
    accept.
    faults: messages about unreadable rows of the latest listing.
    """

    def __init__(self, transport: Transport, namespace_id: str) -> None:
        self.transport = transport
        self.namespace_id = namespace_id
        self.faults: list[str] = []
        self._base = _namespaces(transport) + path(namespace_id)

    # many keys

    async def bulk_write(self, body: BulkBody) -> tuple[str, ...]:
        """Write the pairs of the body, replacing values, metadata and expirations.

        Returns the keys that the remote did not write to every copy, which the caller sends again. A bulk is not
        atomic, and the answer that names such keys may report a success or an error. Raises TooMuch if the remote
        refuses (413) or does not finish (524) more than one pair; the caller then sends the pairs in two halves.
        """
        return await self._change("PUT", "/bulk", Body(body.pieces()), len(body))

    async def bulk_delete(self, keys: Sequence[str]) -> tuple[str, ...]:
        """Delete up to BULK_PAIRS_LIMIT keys. Absent keys count as deleted. Failed keys, TooMuch: see bulk_write."""
        for key in keys:
            check_key(key)
        return await self._change("POST", "/bulk/delete", compact_json(list(keys)), len(keys))

    async def bulk_get(self, keys: Sequence[str]) -> Mapping[str, Any]:
        """Return the values of up to BULK_GET_LIMIT keys, None for an absent key.

        Only for text values. Values of more than 25 MiB together raise TooMuch.
        """
        for key in keys:
            check_key(key)
        url, body = self._base + "/bulk/get", {"keys": list(keys), "type": "text", "withMetadata": False}
        request = _request("POST", url, json=body, reads=True, slow_s=BULK_SLOW_S)
        found = await self.transport.ask(request, _bulk_values, partial(_too_much, len(keys)))
        return {key: found.get(key) for key in keys}

    async def list_keys(self, prefix: str = "", cursor: str | None = None) -> Page[ListedKey]:
        """Return one page of the keys that start with prefix.

        A listing may lag behind writes by 60 s and more (KV: consistency).
        """
        check_text(prefix)
        params = {"limit": LIST_LIMIT, "prefix": prefix or None, "cursor": cursor or None}
        return await self.transport.ask(_request("GET", self._base + "/keys", params=params), _key_page)

    async def iter_keys(self, prefix: str = "") -> AsyncGenerator[ListedKey, None]:
        """Yield each key that starts with prefix. Raises Retry if the listing does not end."""
        async with aclosing(self.key_pages(prefix)) as key_pages:
            async for keys in key_pages:
                for key in keys:
                    yield key

    async def key_pages(self, prefix: str) -> AsyncGenerator[list[ListedKey], None]:
        """Yield the keys by page, because a generator step for each key would be slow."""
        self.faults = []
        async with aclosing(pages(partial(self.list_keys, prefix))) as listing:
            async for page in listing:
                self.faults += page.faults
                # A key outside of the prefix must not reach the planner, which could delete it.
                yield [key for key in page.rows if key.name.startswith(prefix)]

    # one key

    async def read_metadata(self, key: str) -> Any:
        """Return the metadata of a key, any JSON value, None if the key has none. Raises NotFound for an absent key."""
        request = _request("GET", self._of("metadata", key), probe=self._base)
        return (await self.transport.request(request)).result

    async def read_value(self, key: str) -> bytes:
        """Return the stored bytes. Raises NotFound for an absent key, Park("too_large") for more than VALUE_LIMIT."""
        request = _request("GET", self._of("values", key), probe=self._base)
        return await self.transport.fetch(request, VALUE_LIMIT)

    async def write_value(
        self, key: str, value: bytes, metadata: Mapping[str, Any] | None = None, expiration_ttl: int | None = None
    ) -> None:
        """Store one value. The metadata and the expiration of the old value do not remain.

        expiration_ttl: seconds from now, at least 60 (KV API). Raises Park("too_large") for a value over VALUE_LIMIT,
        Park("refused") for more than 1024 bytes of metadata.
        """
        put = partial(_request, "PUT", self._of("values", key), probe=self._base)
        if len(value) > VALUE_LIMIT:
            raise Park("too_large", f"{over_limit(len(value), VALUE_LIMIT)}; make it smaller")
        params = {"expiration_ttl": expiration_ttl}
        if metadata is None:
            request = put(params=params, content=value, headers={"Content-Type": "application/octet-stream"})
        else:
            form = {"metadata": encode_metadata(metadata).decode()}
            # The part has a file name: a server reads a part without one as text, which changes binary values.
            request = put(params=params, form=form, file=("value", value, "application/octet-stream"), part="value")
        await self.transport.request(request)

    async def delete_value(self, key: str) -> None:
        """Delete one key. An absent key is no error."""
        try:
            await self.transport.request(_request("DELETE", self._of("values", key), probe=self._base))
        except NotFound as error:
            if error.code != KEY_NOT_FOUND:
                raise

    def _of(self, resource: str, key: str) -> str:
        check_key(key, in_url=True)
        return f"{self._base}/{resource}{path(key)}"

    async def _change(self, method: Method, url: str, content: bytes | Body, count: int) -> tuple[str, ...]:
        bulk_request = partial(_request, headers=_JSON, safe=True, slow_s=BULK_SLOW_S, is_partial=_names_failed_keys)
        request = bulk_request(method, self._base + url, content=content)
        return await self.transport.ask(request, _failed_keys, partial(_too_much, count))


async def find_by_id(kv: KV, namespace_id: str, *, hint: str = "") -> str:
    """Return the id of an existing namespace. Raises TargetMissing with the existing titles and the hint."""
    try:
        return (await kv.get_namespace(namespace_id)).id
    except TargetMissing as error:
        existing = [namespace async for namespace in kv.iter_namespaces()]
        raise _missing(f"no KV namespace has the id {namespace_id}", existing, hint) from error


async def find_by_title(kv: KV, title: str, *, hint: str = "", remedy: str = "set namespace_id to one of") -> str:
    """Return the id of the namespace with this title.

    Raises TargetMissing like `find_by_id`, Halt if several namespaces have the title.
    """
    existing = [namespace async for namespace in kv.iter_namespaces()]
    ids = [namespace.id for namespace in existing if namespace.title == title]
    if len(ids) > 1:
        raise Halt(f"{len(ids)} KV namespaces have the title {title!r}: {remedy} {ids}")
    if not ids:
        raise _missing(f"no KV namespace has the title {title!r}", existing, hint)
    return ids[0]


async def find_by_id_or_title(kv: KV, name: str) -> str:
    """Return the id of the namespace with this id, else of the namespace with this title."""
    if NAMESPACE_ID.fullmatch(name):
        try:
            return (await kv.get_namespace(name)).id
        except TargetMissing:
            pass
    return await find_by_title(kv, name, remedy="name it by one of the ids")


def _missing(message: str, existing: Iterable[KVNamespaceInfo], hint: str) -> TargetMissing:
    titles = sorted(namespace.title for namespace in existing)
    named = ", ".join(map(repr, titles[:TITLES_SHOWN]))
    if len(titles) > TITLES_SHOWN:
        named += f" and {len(titles) - TITLES_SHOWN} more"
    return TargetMissing(f"{message}; there is: {named or 'none'}{hint and '. ' + hint}")


@contextmanager
def _too_much(count: int) -> Iterator[None]:
    """Raise TooMuch in place of an error of the block that half of the keys probably avoid.

    count: the number of keys in the request.
    """
    try:
        yield
    except (Park, Retry) as error:
        too_much = error.kind == "too_large" if isinstance(error, Park) else error.status == GATEWAY_TIMEOUT
        if count > 1 and too_much:
            raise TooMuch(f"too much for one request of {count} keys: {error}", status=error.status) from error
        raise


def _namespaces(transport: Transport) -> str:
    return path("accounts", transport.account_id, "storage", "kv", "namespaces")


_info = object_of(KVNamespaceInfo, "namespace")


def _namespace_page(answer: Answer) -> Page[KVNamespaceInfo]:
    return Page(decode_rows(KVNamespaceInfo, answer.result, "namespace"), total_count=listed_total(answer))


def _key_page(answer: Answer) -> Page[ListedKey]:
    info = answer.result_info
    older = info.get("cursors")  # the place of the cursor in older versions of the API
    cursor = parse_cursor(info.get("cursor")) or parse_cursor(older.get("after") if isinstance(older, dict) else None)
    return decode_page(ListedKey, answer.result, "key", cursor=cursor)


def _failed_keys(answer: Answer) -> tuple[str, ...]:
    if answer.result is None:
        return ()
    failed = as_object(answer.result, "bulk result").get("unsuccessful_keys") or []
    if not isinstance(failed, list) or not all(isinstance(key, str) for key in failed):
        raise unexpected("unsuccessful_keys is no list of keys")
    return tuple(failed)


def _names_failed_keys(result: object) -> bool:
    """Whether the result of an error names the keys that failed, which means that the others succeeded."""
    return isinstance(result, dict) and isinstance(failed := result.get("unsuccessful_keys"), list) and bool(failed)


def _bulk_values(answer: Answer) -> Mapping[str, Any]:
    """Return the values of a bulk get by key, without the keys whose value is null."""
    values = as_object(as_object(answer.result, "bulk get").get("values"), "values of a bulk get")
    return {key: value for key, value in values.items() if value is not None}
