"""The Workers KV API: a method for each endpoint, no decisions.

Every method tries again by itself (see Transport.attempts) and raises what it raises. A namespace that is not there
is TargetMissing (10013), a key that is not there NotFound (10009).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Literal, TypeVar

from syncd.cloudflare.envelope import Answer
from syncd.cloudflare.fields import Fields
from syncd.cloudflare.kv_bulk import (
    BULK_PAIRS_LIMIT,
    VALUE_LIMIT,
    BulkBody,
    check_key,
    check_text,
    check_ttl,
    check_value,
    compact_json,
    encode_metadata,
)
from syncd.cloudflare.kv_values import (
    BulkResult,
    BulkValue,
    KeyPage,
    KVNamespaceInfo,
    KVNamespacePage,
    ListedKey,
    Value,
    bulk_values,
)
from syncd.cloudflare.pages import pages
from syncd.cloudflare.request import Method, Request, Stream, path
from syncd.cloudflare.transport import Transport
from syncd.errors import NotFound, Park, Retry, TooMuch

NAMESPACES_PER_PAGE = 100
"""Namespaces of one page; an account holds at most 1,000 (KV limits)."""
LIST_LIMIT_MIN, LIST_LIMIT = 10, 1000
"""Fewest and most keys of one page (KV API: list limit)."""
BULK_GET_LIMIT = 100
"""Most keys of one bulk get (KV API)."""
PAGES_LIMIT = 100_000
"""Most pages of one listing: a hundred million keys."""
BULK_SLOW_S = 60.0
"""A bulk may take so many seconds longer: Cloudflare's edge gives up after 100 s, and its 524 is worth waiting for."""

GATEWAY_TIMEOUT = 524
"""HTTP status of the edge when the API took too long (workers-sdk#7021)."""
KEY_NOT_FOUND = 10009
"""Error code of a key that is not there; 404 alone may mean the namespace."""

_EDIT = "Account / Workers KV Storage:Edit"
_JSON = {"Content-Type": "application/json"}
_T = TypeVar("_T")


class KV:
    """The KV namespaces of one account."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._base = _namespaces(transport)

    async def list_namespaces(
        self,
        page: int = 1,
        per_page: int = NAMESPACES_PER_PAGE,
        order: Literal["id", "title"] | None = None,
        direction: Literal["asc", "desc"] | None = None,
    ) -> KVNamespacePage:
        """One page, from 1; one past the end is empty."""
        given = {"page": page, "per_page": per_page, "order": order, "direction": direction}
        request = Request("GET", self._base, params=_said(given), permission=_EDIT)
        return await self.transport.ask(request, KVNamespacePage.parse)

    async def iter_namespaces(
        self, order: Literal["id", "title"] | None = None, direction: Literal["asc", "desc"] | None = None
    ) -> AsyncIterator[KVNamespaceInfo]:
        """All namespaces, each once: until total_count is reached, a page is empty, or a page brings nothing new."""
        seen: set[str] = set()
        for number in range(1, PAGES_LIMIT + 1):
            page = await self.list_namespaces(number, order=order, direction=direction)
            fresh = [each for each in page.namespaces if each.id not in seen]
            for each in fresh:
                yield each
            seen.update(each.id for each in fresh)
            if not fresh or (page.total_count is not None and len(seen) >= page.total_count):
                return
        raise Retry(f"unexpected answer: the listing does not end after {PAGES_LIMIT} pages")

    async def get_namespace(self, namespace_id: str) -> KVNamespaceInfo:
        """One namespace; TargetMissing when absent."""
        request = Request("GET", self._base + path(namespace_id), permission=_EDIT)
        return await self.transport.ask(request, _info)

    async def create_namespace(self, title: str) -> KVNamespaceInfo:
        """Make a namespace; Conflict when one of this title is there. An ambiguous Retry may have made it."""
        request = Request("POST", self._base, json={"title": title}, permission=_EDIT)
        return await self.transport.ask(request, _info)

    async def rename_namespace(self, namespace_id: str, title: str) -> KVNamespaceInfo:
        """Give a namespace another title; TargetMissing when absent, Conflict when the title is taken."""
        request = Request("PUT", self._base + path(namespace_id), json={"title": title}, permission=_EDIT)

        def parse(answer: Answer) -> KVNamespaceInfo:
            # Older servers answer a bare {} here: it is done, and no reason to ask again.
            return _info(answer) if answer.result else KVNamespaceInfo(namespace_id, title)

        return await self.transport.ask(request, parse)

    async def delete_namespace(self, namespace_id: str) -> None:
        """Remove a namespace and all that is in it; TargetMissing when absent, which after a lost answer means done."""
        await self.transport.request(Request("DELETE", self._base + path(namespace_id), permission=_EDIT))


class KVNamespace:
    """The keys and values of one namespace. namespace_id: 32 hex digits, not the title.

    Park("invalid_key" or "key_too_long") for a key that KV does not take, before anything is sent; operations on a
    single key refuse control characters too, which bulk requests take.
    """

    def __init__(self, transport: Transport, namespace_id: str) -> None:
        self.transport = transport
        self.namespace_id = namespace_id
        self.faults: list[str] = []
        self._base = _namespaces(transport) + path(namespace_id)

    # many keys

    async def bulk_write(self, body: BulkBody) -> BulkResult:
        """Write all pairs of the body; an empty one is not sent. Existing values, metadata and expirations go.

        Keys that the remote names as failed are in the result, whether it called that a success or an error.
        TooMuch when it cannot take (413) or manage (524) more than one pair at once: send `body.halves()`.
        """
        if not body:
            return BulkResult(0)
        return await self._change("PUT", "/bulk", body, len(body))

    async def bulk_delete(self, keys: Sequence[str]) -> BulkResult:
        """Remove up to BULK_PAIRS_LIMIT keys (ValueError over it); absent ones count as removed. No keys, no request.

        Failed keys and TooMuch as in bulk_write.
        """
        _check_keys(keys, BULK_PAIRS_LIMIT)
        if not keys:
            return BulkResult(0)
        return await self._change("POST", "/bulk/delete", compact_json(list(keys)), len(keys))

    async def bulk_get(
        self, keys: Sequence[str], kind: Literal["text", "json"] = "text", *, with_metadata: bool = False
    ) -> Mapping[str, BulkValue | None]:
        """The values of up to BULK_GET_LIMIT keys (ValueError over it), None for each that is absent.

        For values that are text only, 25 MiB together; TooMuch over it. kind "json" has them parsed; a stored null
        then reads as absent. No keys, no request.
        """
        _check_keys(keys, BULK_GET_LIMIT)
        if not keys:
            return {}
        asked = {"keys": list(keys), "type": kind, "withMetadata": with_metadata}
        where = self._base + "/bulk/get"
        request = Request("POST", where, json=asked, permission=_EDIT, reads=True, slow_s=BULK_SLOW_S)
        found = await self._bulk(request, len(keys), lambda answer: bulk_values(answer, with_metadata=with_metadata))
        return {key: found.get(key) for key in keys}

    async def list_keys(self, prefix: str = "", limit: int = LIST_LIMIT, cursor: str | None = None) -> KeyPage:
        """One page of the keys that begin with prefix; limit 10 to 1000, else ValueError.

        A listing may lag behind writes by 60 s and more (KV: consistency).
        """
        check_text(prefix)
        if not LIST_LIMIT_MIN <= limit <= LIST_LIMIT:
            raise ValueError(f"limit must be {LIST_LIMIT_MIN} to {LIST_LIMIT}")
        params = _said({"limit": limit, "prefix": prefix or None, "cursor": cursor or None})
        request = Request("GET", self._base + "/keys", params=params, permission=_EDIT)
        return await self.transport.ask(request, KeyPage.parse)

    async def iter_keys(self, prefix: str = "", limit: int = LIST_LIMIT) -> AsyncGenerator[ListedKey, None]:
        """All keys that begin with prefix, in pages of `limit`. Retry if the listing does not end (see pages)."""
        async with aclosing(self.key_pages(prefix, limit)) as found:
            async for keys in found:
                for key in keys:
                    yield key

    async def key_pages(self, prefix: str = "", limit: int = LIST_LIMIT) -> AsyncGenerator[list[ListedKey], None]:
        """Like iter_keys, a page at a time: to go on from key to key takes longer than to look at one.

        faults: of the rows of the latest listing.
        """
        self.faults = []
        async with aclosing(pages(lambda cursor: self.list_keys(prefix, limit, cursor), PAGES_LIMIT)) as found:
            async for page in found:
                self.faults += page.faults
                # What lies outside is nobody's to prune, whatever the server says.
                yield [key for key in page.keys if key.name.startswith(prefix)]

    # one key

    async def read_metadata(self, key: str) -> Any:
        """The metadata of a key, any JSON, None when it has none; NotFound when the key is absent."""
        request = Request("GET", self._of("metadata", key), permission=_EDIT, probe=self._base)
        return (await self.transport.request(request)).result

    async def read_value(self, key: str, max_bytes: int = VALUE_LIMIT) -> Value:
        """The stored bytes; NotFound when the key is absent, Park("too_large") over max_bytes."""
        request = Request("GET", self._of("values", key), permission=_EDIT, probe=self._base)
        return Value.parse(await self.transport.fetch(request, max_bytes))

    async def write_value(
        self,
        key: str,
        value: bytes,
        metadata: Mapping[str, Any] | None = None,
        expiration: int | None = None,
        expiration_ttl: int | None = None,
    ) -> None:
        """Store one value. What is not given is taken away: metadata and expiration of the old value do not stay.

        expiration: Unix s; expiration_ttl: s from now, at least 60 (else ValueError), wins over expiration.
        Park("too_large") over 25 MiB, Park("refused") for metadata over 1024 bytes of JSON.
        """
        where = self._of("values", key)
        check_value(value)
        check_ttl(expiration_ttl)
        params = _said({"expiration": expiration, "expiration_ttl": expiration_ttl})
        if metadata is None:
            headers = {"Content-Type": "application/octet-stream"}
            request = Request(
                "PUT", where, params=params, content=value, headers=headers, permission=_EDIT, probe=self._base
            )
        else:
            form = {"metadata": encode_metadata(metadata).decode()}
            # With a file name, as a part without one is read as text, which would change bytes that are none.
            file = ("value", value, "application/octet-stream")
            request = Request(
                "PUT", where, params=params, form=form, file=file, part="value", permission=_EDIT, probe=self._base
            )
        await self.transport.request(request)

    async def delete_value(self, key: str) -> None:
        """Remove one key; an absent one is no error."""
        try:
            where = self._of("values", key)
            await self.transport.request(Request("DELETE", where, permission=_EDIT, probe=self._base))
        except NotFound as error:
            if error.code != KEY_NOT_FOUND:
                raise

    def _of(self, what: str, key: str) -> str:
        check_key(key, in_url=True)
        return f"{self._base}/{what}{path(key)}"

    async def _change(self, method: Method, where: str, content: bytes | Stream, count: int) -> BulkResult:
        request = Request(
            method,
            self._base + where,
            content=content,
            headers=_JSON,
            permission=_EDIT,
            safe=True,
            slow_s=BULK_SLOW_S,
            partial=BulkResult.is_partial,
        )
        return await self._bulk(request, count, BulkResult.parse)

    async def _bulk(self, request: Request, count: int, parse: Callable[[Answer], _T]) -> _T:
        """Like Transport.ask; TooMuch at once where fewer keys would do better than the same request again."""
        async for attempt in self.transport.attempts(safe=request.repeatable, method=request.method, path=request.path):
            with attempt:
                try:
                    return parse(await self.transport.once(request))
                except (Park, Retry) as error:
                    if count > 1 and _is_too_much(error):
                        said = f"too much for one request of {count} keys: {error}"
                        raise TooMuch(said, status=error.status) from error
                    raise
        raise AssertionError("attempts() ends with an answer or an error")


def _is_too_much(error: Park | Retry) -> bool:
    return error.kind == "too_large" if isinstance(error, Park) else error.status == GATEWAY_TIMEOUT


def _namespaces(transport: Transport) -> str:
    return path("accounts", transport.account_id, "storage", "kv", "namespaces")


def _info(answer: Answer) -> KVNamespaceInfo:
    return KVNamespaceInfo.parse(Fields(answer.result, "namespace"))


def _said(params: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in params.items() if value is not None}


def _check_keys(keys: Sequence[str], most: int) -> None:
    if len(keys) > most:
        raise ValueError(f"at most {most} keys at once")
    for key in keys:
        check_key(key)
