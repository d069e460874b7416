"""The endpoints of KV for values and metadata, of one key and of many in one request; and the listing of keys."""

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.kv_store import (
    MAX_KV_VALUE_SIZE,
    NAMESPACE,
    Expiration,
    KVPair,
    check_value_size,
    find_pair,
    key_of,
    list_pairs,
    namespace_of,
    prefix_of,
    refused,
    remove_keys,
    stored_metadata,
    write_pairs,
)
from syncd.emulator.requests import ApiError, Call, Endpoint, Handler, ok, parse_form, read_json, validate

MAX_KV_BULK_ITEMS = 10_000
MAX_KV_BULK_SIZE = 100_000_000
"""Maximum bytes of a bulk request: 100 decimal megabytes."""

MAX_KV_BULK_GET = 100
"""Maximum keys of one bulk read. All values together have the limit of one value."""

MIN_KV_LIST = 10
MAX_KV_LIST = 1000

_TIMED_OUT = "<!DOCTYPE html>\n<html><head><title>524: A timeout occurred</title></head><body>Error 524</body></html>\n"
_FORM_OVERHEAD = 1024 * 1024
_AFTER_UTF8 = b"\xff"
"""Greater than any UTF-8."""


async def _get(call: Call) -> Response:
    value = _value_of(call)
    headers = {} if value.expiration is None else {"expiration": str(value.expiration)}
    return Response(value.data, headers=headers, media_type="application/octet-stream")


async def _put(call: Call) -> Response:
    """Store a value. A multipart form contains the value as a part; any other body is the value itself."""
    value = await call.read(MAX_KV_VALUE_SIZE + _FORM_OVERHEAD, refuse=refused)
    namespace, key = namespace_of(call), _key_of(call)
    metadata = None
    content_type = call.request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        value, metadata = _read_form(content_type, value)
    check_value_size(value)
    end = validate(Expiration, dict(call.request.query_params), refuse=refused, strict=False).time(call.backend.clock())
    pair = KVPair(key, metadata, end, value)
    with call.backend.store.transaction():
        write_pairs(call.backend, namespace, [pair])
    return ok({})


async def _delete(call: Call) -> Response:
    namespace, key = namespace_of(call), _key_of(call)
    with call.backend.store.transaction():
        remove_keys(call.backend, namespace, [key])
    return ok({})


async def _get_metadata(call: Call) -> Response:
    metadata = _value_of(call).metadata
    return ok(None if metadata is None else json.loads(metadata))


def _value_of(call: Call) -> KVPair:
    value = find_pair(call.backend, namespace_of(call), _key_of(call))
    if value is None:
        raise ApiError(404, 10009, "get: 'key not found'")
    return value


def _key_of(call: Call) -> bytes:
    """Return the key at the end of the path, percent-decoded once. Raises ApiError 400 or 414 if it is not valid."""
    try:
        return key_of(unquote_to_bytes(call.request.scope["raw_path"].rpartition(b"/")[2]).decode())
    except UnicodeDecodeError:
        raise refused("the key is not UTF-8") from None


def _read_form(content_type: str, body: bytes) -> tuple[bytes, str | None]:
    """Return the parts `value` and `metadata`. A filename and a content type of a part do not matter."""
    try:
        parts = parse_form(content_type, body)
    except ValueError as reason:
        raise refused(str(reason)) from None
    if "value" not in parts:
        raise refused("the form has no part named value")
    metadata = None
    if "metadata" in parts:
        try:
            metadata = stored_metadata(read_json(parts["metadata"].data))
        except ValueError:
            raise refused("metadata is not JSON") from None
    return parts["value"].data, metadata


async def _list_keys(call: Call) -> Response:
    namespace = namespace_of(call)
    limit = call.number("limit", MAX_KV_LIST, MIN_KV_LIST, MAX_KV_LIST, refuse=refused)
    prefix = prefix_of(call.query("prefix") or "")
    after_empty, last = _read_cursor(call.query("cursor") or "")
    if call.backend.options.empty_pages and not after_empty:
        return _page([], _cursor(1, last))
    rows = list_pairs(call.backend, namespace, _bounds(prefix, last), limit + 1)
    return _page(rows[:limit], _cursor(0, rows[limit - 1].key) if len(rows) > limit else "")


def _page(rows: list[KVPair], cursor: str) -> Response:
    return ok([_render_key(row) for row in rows], {"count": len(rows), "cursor": cursor})


def _cursor(after_empty: int, last: bytes) -> str:
    """Return the cursor of a page. after_empty: 1 if the page before it is empty. last: the last key before it."""
    return base64.urlsafe_b64encode(b"%d:%s" % (after_empty, last)).decode()


def _read_cursor(text: str) -> tuple[int, bytes]:
    if not text:
        return 0, b""
    try:
        after_empty, _, last = base64.b64decode(text, altchars=b"-_", validate=True).partition(b":")
        return int(after_empty), last
    except ValueError:
        raise refused("the cursor is not from this API") from None


def _render_key(row: KVPair) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": row.key.decode()}
    if row.expiration is not None:
        shown["expiration"] = row.expiration
    if row.metadata is not None:
        shown["metadata"] = json.loads(row.metadata)
    return shown


def _bounds(prefix: bytes, after: bytes) -> tuple[bytes, bytes]:
    """Return the first key of the page's range and the first key beyond it. UTF-8 never ends in 0xff."""
    end = prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else _AFTER_UTF8
    return max(prefix, after + b"\0" if after else b""), end


def _with_key(method: str, below: str, handler: Handler) -> list[Endpoint]:
    """Return the endpoint with a key, and the endpoint of the empty key, which is refused as a key."""
    return [Endpoint(method, f"{NAMESPACE}/{below}/{name}", handler) for name in ("{key_name}", "")]


async def _write_many(call: Call) -> Response:
    now = call.backend.clock()
    given = [_read_pair(place, item, now) for place, item in enumerate(await _read_items(call))]
    namespace = namespace_of(call)
    return _change_many(call, namespace, len(given), _distinct(given))


async def _delete_many(call: Call) -> Response:
    given = []
    for place, item in enumerate(await _read_items(call)):
        with _named(f"item {place}"):
            given.append(key_of(item))
    return _change_many(call, namespace_of(call), len(given), dict.fromkeys(given))


def _change_many(call: Call, namespace: int, count: int, changes: Mapping[bytes, KVPair | None]) -> Response:
    """Store the pairs of the keys that do not fail, and remove their keys without a pair.

    `count`, the number of items in the request, decides whether it times out.
    """
    limit = call.backend.options.bulk_fail_over
    if limit is not None and count > limit:
        return Response(_TIMED_OUT, 524, media_type="text/html")
    chance, share = call.backend.chance, call.backend.options.unsuccessful
    failed = {key for key in changes if chance.random() < share}
    done = {key: pair for key, pair in changes.items() if key not in failed}
    with call.backend.store.transaction():
        remove_keys(call.backend, namespace, [key for key, pair in done.items() if pair is None])
        write_pairs(call.backend, namespace, [pair for pair in done.values() if pair is not None])
    return ok({"successful_key_count": len(done), "unsuccessful_keys": sorted(key.decode() for key in failed)})


async def _read_items(call: Call) -> list[Any]:
    """Return the array of a bulk body. Raises ApiError 413 for too many bytes, 400 if it is no array or too long."""
    allowed = call.backend.options.bulk_max_bytes
    limit = MAX_KV_BULK_SIZE if allowed is None else min(allowed, MAX_KV_BULK_SIZE)
    body = await call.read(limit, refuse=refused)
    try:
        items = read_json(body)
    except ValueError:
        raise refused("the body is not JSON") from None
    if not isinstance(items, list):
        raise refused("the body is not a JSON array")
    if len(items) > MAX_KV_BULK_ITEMS:
        raise refused(f"A bulk request has at most {MAX_KV_BULK_ITEMS} items")
    return items


class _Pair(Expiration):
    """One item of a bulk write."""

    key: str
    value: str
    base64: bool | None = None
    metadata: Any = None


def _read_pair(place: int, item: Any, now: float) -> KVPair:
    """Return one item of a bulk write. The message of an ApiError names its place and, if it has one, its key."""
    key = item.get("key") if isinstance(item, dict) else None
    with _named(f"item {place} (key {json.dumps(key[:80])})" if isinstance(key, str) else f"item {place}"):
        pair = validate(_Pair, item, refuse=refused)
        return KVPair(key_of(pair.key), stored_metadata(pair.metadata), pair.time(now), _value(pair))


@contextmanager
def _named(item: str) -> Iterator[None]:
    """Put the name of an item before the message of an ApiError."""
    try:
        yield
    except ApiError as refusal:
        raise ApiError(refusal.status, refusal.code, f"{item}: {refusal.message}") from None


def _value(pair: _Pair) -> bytes:
    if pair.base64 and len(pair.value) > MAX_KV_VALUE_SIZE:
        raise refused(f"value: Too big: expected string to have <={MAX_KV_VALUE_SIZE} characters")
    try:
        value = base64.b64decode(pair.value, validate=True) if pair.base64 else pair.value.encode()
    except ValueError:
        raise refused("Invalid base64 value" if pair.base64 else "value is not UTF-8") from None
    check_value_size(value)
    return value


def _distinct(given: list[KVPair]) -> dict[bytes, KVPair]:
    """Return the pairs by key. Raises ApiError 400 for two pairs of one key that differ."""
    pairs: dict[bytes, KVPair] = {}
    for pair in given:
        first = pairs.setdefault(pair.key, pair)
        if first is not pair and _comparable(first) != _comparable(pair):
            message = "received duplicate key with different values or expiration parameters"
            raise refused(f"{message}: {json.dumps(pair.key.decode())}")
    return pairs


def _comparable(pair: KVPair) -> tuple[Any, ...]:
    """Return a value in which the order of the fields of the metadata does not matter."""
    metadata = None if pair.metadata is None else json.dumps(json.loads(pair.metadata), sort_keys=True)
    return pair.data, pair.expiration, metadata


class _BulkRead(BaseModel):
    keys: list[str] = Field(min_length=1, max_length=MAX_KV_BULK_GET)
    type: Literal["text", "json"] = "text"
    withMetadata: bool = False  # noqa: N815 - the name in the API


async def _get_many(call: Call) -> Response:
    """Return the values of the keys; null for a key without a value.

    A value that is not UTF-8, or not JSON if JSON was requested, makes the whole answer 400.
    """
    wanted = validate(_BulkRead, await call.body(refuse=refused), refuse=refused)
    namespace = namespace_of(call)
    values: dict[str, Any] = {}
    size = 0
    for key in wanted.keys:
        value = find_pair(call.backend, namespace, key_of(key))
        size += 0 if value is None else len(value.data)
        if size > MAX_KV_VALUE_SIZE:
            raise refused(f"Total size of request exceeds the limit of {MAX_KV_VALUE_SIZE // 2**20}MB", 413)
        values[key] = None if value is None else _render_value(value, wanted.type, with_metadata=wanted.withMetadata)
    return ok({"values": values})


def _render_value(value: KVPair, kind: str, *, with_metadata: bool) -> Any:
    try:
        shown = read_json(value.data) if kind == "json" else value.data.decode()
    except ValueError:
        raise refused(f"At least one of the requested keys corresponds to a non-{kind} value") from None
    if not with_metadata:
        return shown
    whole = {"value": shown, "metadata": None if value.metadata is None else json.loads(value.metadata)}
    if value.expiration is not None:
        whole["expiration"] = value.expiration
    return whole


ENDPOINTS = [
    Endpoint("GET", f"{NAMESPACE}/keys", _list_keys),
    *_with_key("GET", "values", _get),
    *_with_key("PUT", "values", _put),
    *_with_key("DELETE", "values", _delete),
    *_with_key("GET", "metadata", _get_metadata),
    Endpoint("PUT", f"{NAMESPACE}/bulk", _write_many),
    Endpoint("DELETE", f"{NAMESPACE}/bulk", _delete_many),
    Endpoint("POST", f"{NAMESPACE}/bulk/delete", _delete_many),
    Endpoint("POST", f"{NAMESPACE}/bulk/get", _get_many),
]
