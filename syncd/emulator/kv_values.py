"""The endpoints of KV for one key: its value and its metadata; and the listing of keys."""

import base64
import json
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.responses import Response

from syncd.emulator.kv_entries import (
    KVKeyRow,
    KVPair,
    KVValue,
    check_key,
    check_key_size,
    check_value_size,
    expiration_of,
    find_value,
    list_keys,
    remove_keys,
    stored_metadata,
    write_pairs,
)
from syncd.emulator.kv_namespaces import NAMESPACE, namespace_of, refused
from syncd.emulator.limits import MAX_KV_LIST, MAX_KV_VALUE_SIZE, MIN_KV_LIST
from syncd.emulator.messages import ApiError, ok, parse_form, read_json
from syncd.emulator.routing import Call, Endpoint, Handler

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
    given = {name: _number(call.query(name)) for name in ("expiration", "expiration_ttl")}
    pair = KVPair(key, value, metadata, expiration_of(given, call.backend.clock()))
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


def _value_of(call: Call) -> KVValue:
    value = find_value(call.backend, namespace_of(call), _key_of(call))
    if value is None:
        raise ApiError(404, 10009, "get: 'key not found'")
    return value


def _key_of(call: Call) -> str:
    """Return the key at the end of the path, percent-decoded once; ApiError 400 or 414 if it is not valid."""
    raw = call.request.scope.get("raw_path", call.request.url.path.encode()).split(b"?")[0]
    try:
        key = unquote_to_bytes(raw.rsplit(b"/", 1)[1]).decode()
    except UnicodeDecodeError:
        raise refused("the key is not UTF-8") from None
    check_key(key)
    return key


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
            metadata = stored_metadata(read_json(bytes(parts["metadata"].data)))
        except ValueError:
            raise refused("metadata is not JSON") from None
    return bytes(parts["value"].data), metadata


def _number(text: str | None) -> Any:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


class _KeyCursor(NamedTuple):
    """The number of pages before this one, and the last key of these pages."""

    pages: int = 0
    after: bytes = b""

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(b"%d:%s" % self).decode()


async def _list_keys(call: Call) -> Response:
    namespace = namespace_of(call)
    limit = call.number("limit", MAX_KV_LIST, MIN_KV_LIST, MAX_KV_LIST, refuse=refused)
    prefix = call.query("prefix") or ""
    check_key_size(prefix)
    cursor = _read_cursor(call.query("cursor") or "")
    if call.backend.options.empty_pages and cursor.pages % 2 == 0:
        return _page([], _KeyCursor(cursor.pages + 1, cursor.after))
    rows = list_keys(call.backend, namespace, _bounds(prefix.encode(), cursor.after), limit + 1)
    more = len(rows) > limit
    return _page(rows[:limit], _KeyCursor(cursor.pages + 1, rows[limit - 1].key) if more else None)


def _page(rows: list[KVKeyRow], following: _KeyCursor | None) -> Response:
    info = {"count": len(rows), "cursor": "" if following is None else str(following)}
    return ok([_render(row) for row in rows], info)


def _render(row: KVKeyRow) -> dict[str, Any]:
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


def _read_cursor(text: str) -> _KeyCursor:
    if not text:
        return _KeyCursor()
    try:
        pages, _, after = base64.b64decode(text, altchars=b"-_", validate=True).partition(b":")
        return _KeyCursor(int(pages), after)
    except ValueError:
        raise refused("the cursor is not from this API") from None


def _with_key(method: str, below: str, handler: Handler) -> list[Endpoint]:
    """Return the endpoint with a key, and the endpoint of the empty key, which is refused as a key."""
    return [Endpoint(method, f"{NAMESPACE}/{below}/{name}", handler) for name in ("{key_name}", "")]


ENDPOINTS = [
    Endpoint("GET", f"{NAMESPACE}/keys", _list_keys),
    *_with_key("GET", "values", _get),
    *_with_key("PUT", "values", _put),
    *_with_key("DELETE", "values", _delete),
    *_with_key("GET", "metadata", _get_metadata),
]
