"""The endpoints of KV for many keys in one request."""

import base64
import json
from typing import Any

from starlette.responses import Response

from syncd.emulator.kv_entries import (
    KVPair,
    KVValue,
    check_key,
    check_value_size,
    expiration_of,
    failing_keys,
    find_value,
    remove_keys,
    stored_metadata,
    write_pairs,
)
from syncd.emulator.kv_namespaces import NAMESPACE, namespace_of, refused
from syncd.emulator.limits import MAX_KV_BULK_GET, MAX_KV_BULK_ITEMS, MAX_KV_BULK_SIZE, MAX_KV_VALUE_SIZE
from syncd.emulator.messages import ApiError, ok, read_json
from syncd.emulator.routing import Call, Endpoint

_TIMED_OUT = "<!DOCTYPE html>\n<html><head><title>524: A timeout occurred</title></head><body>Error 524</body></html>\n"


async def _write(call: Call) -> Response:
    now = call.backend.clock()
    given = [_read_pair(place, item, now) for place, item in enumerate(await _read_items(call))]
    namespace = namespace_of(call)
    pairs = _distinct(given)
    if _times_out(call, len(given)):
        return _timed_out()
    with call.backend.store.transaction():
        failed = failing_keys(call.backend, namespace, list(pairs))
        write_pairs(call.backend, namespace, [pair for key, pair in pairs.items() if key not in failed])
    return _result(len(pairs), failed)


async def _delete(call: Call) -> Response:
    given = [_read_key(place, item) for place, item in enumerate(await _read_items(call))]
    namespace = namespace_of(call)
    keys = list(dict.fromkeys(given))
    if _times_out(call, len(given)):
        return _timed_out()
    with call.backend.store.transaction():
        failed = failing_keys(call.backend, namespace, keys)
        remove_keys(call.backend, namespace, [key for key in keys if key not in failed])
    return _result(len(keys), failed)


async def _read_items(call: Call) -> list[Any]:
    """Return the array of a bulk body; ApiError 413 if the body is too large, 400 if it is not an array or too long."""
    allowed = call.backend.options.bulk_max_bytes
    limit = MAX_KV_BULK_SIZE if allowed is None else min(allowed, MAX_KV_BULK_SIZE)
    body = await call.read(limit, refuse=refused)
    try:
        items = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise refused("the body is not JSON") from None
    if not isinstance(items, list):
        raise refused("the body is not a JSON array")
    if len(items) > MAX_KV_BULK_ITEMS:
        raise refused(f"A bulk request has at most {MAX_KV_BULK_ITEMS} items")
    return items


def _read_pair(place: int, item: Any, now: float) -> KVPair:
    """Return one item of a bulk write. The message of an ApiError names its place and, if it has one, its key."""
    where = f"item {place}"
    try:
        if not isinstance(item, dict):
            raise refused("a pair must be a JSON object")
        key = item.get("key")
        if not isinstance(key, str):
            raise refused("key must be a text")
        where = f"{where} (key {json.dumps(key[:80])})"
        check_key(key)
        return KVPair(key, _value(item), stored_metadata(item.get("metadata")), expiration_of(item, now))
    except ApiError as refusal:
        raise ApiError(refusal.status, refusal.code, f"{where}: {refusal.message}") from None


def _read_key(place: int, item: Any) -> str:
    """Return one item of a bulk delete. The message of an ApiError names its place."""
    try:
        if not isinstance(item, str):
            raise refused("a key must be a text")
        check_key(item)
    except ApiError as refusal:
        raise ApiError(refusal.status, refusal.code, f"item {place}: {refusal.message}") from None
    return item


def _value(item: dict[str, Any]) -> bytes:
    text, encoded = item.get("value"), item.get("base64")
    if not isinstance(text, str):
        raise refused("value must be a text")
    if encoded is not None and not isinstance(encoded, bool):
        raise refused("base64 must be true or false")
    if encoded and len(text) > MAX_KV_VALUE_SIZE:
        raise refused(f"value: Too big: expected string to have <={MAX_KV_VALUE_SIZE} characters")
    try:
        value = base64.b64decode(text, validate=True) if encoded else text.encode()
    except ValueError:
        raise refused("Invalid base64 value" if encoded else "value is not UTF-8") from None
    check_value_size(value)
    return value


def _distinct(given: list[KVPair]) -> dict[str, KVPair]:
    """Return the pairs by key; ApiError 400 for two pairs of one key that differ."""
    pairs: dict[str, KVPair] = {}
    for pair in given:
        if not pairs.setdefault(pair.key, pair).equals(pair):
            message = "received duplicate key with different values or expiration parameters"
            raise refused(f"{message}: {json.dumps(pair.key)}")
    return pairs


def _times_out(call: Call, count: int) -> bool:
    limit = call.backend.options.bulk_fail_over
    return limit is not None and count > limit


def _timed_out() -> Response:
    return Response(_TIMED_OUT, 524, media_type="text/html")


def _result(count: int, failed: set[str]) -> Response:
    return ok({"successful_key_count": count - len(failed), "unsuccessful_keys": sorted(failed)})


async def _get(call: Call) -> Response:
    """Return the values of the keys; null for a key without a value.

    A value that is not UTF-8, or not JSON if JSON was requested, makes the whole answer 400.
    """
    body = await call.body(refuse=refused)
    namespace, keys, kind = namespace_of(call), _keys(body), body.get("type") or "text"
    if kind not in ("text", "json"):
        raise refused(f'{json.dumps(kind)} is not a valid type. Use "json" or "text"')
    with_metadata = body.get("withMetadata") is True
    values: dict[str, Any] = {}
    size = 0
    for key in keys:
        value = find_value(call.backend, namespace, key)
        size += 0 if value is None else len(value.data)
        if size > MAX_KV_VALUE_SIZE:
            raise refused(f"Total size of request exceeds the limit of {MAX_KV_VALUE_SIZE // 2**20}MB", 413)
        values[key] = None if value is None else _render(value, kind, with_metadata=with_metadata)
    return ok({"values": values})


def _keys(body: dict[str, Any]) -> list[str]:
    keys = body.get("keys")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise refused("keys must be an array of texts")
    if not 1 <= len(keys) <= MAX_KV_BULK_GET:
        raise refused(f"You can request 1 to {MAX_KV_BULK_GET} keys")
    for key in keys:
        check_key(key)
    return keys


def _render(value: KVValue, kind: str, *, with_metadata: bool) -> Any:
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
    Endpoint("PUT", f"{NAMESPACE}/bulk", _write),
    Endpoint("DELETE", f"{NAMESPACE}/bulk", _delete),
    Endpoint("POST", f"{NAMESPACE}/bulk/delete", _delete),
    Endpoint("POST", f"{NAMESPACE}/bulk/get", _get),
]
