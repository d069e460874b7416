"""/values/{key} and /metadata/{key}: one key at a time."""

import json
from typing import Any

from starlette.responses import Response

from syncd.emulator.envelope import ApiError, ok, read_json
from syncd.emulator.kv import entries
from syncd.emulator.kv.entries import Value
from syncd.emulator.kv.intake import read_body
from syncd.emulator.kv.pairs import Pair, check_size, compact, expires
from syncd.emulator.kv.places import NAMESPACE, key_of, namespace_of, refused
from syncd.emulator.limits import MAX_KV_VALUE_SIZE
from syncd.emulator.multipart import parse
from syncd.emulator.routing import Call, Endpoint, Handler

_FORM_OVERHEAD = 1024 * 1024


async def _get(call: Call) -> Response:
    found = _found(call)
    headers = {} if found.expiration is None else {"expiration": str(found.expiration)}
    return Response(found.data, headers=headers, media_type="application/octet-stream")


async def _put(call: Call) -> Response:
    """A form is taken apart, anything else is the value itself, whatever its content type says."""
    body = await read_body(call, MAX_KV_VALUE_SIZE + _FORM_OVERHEAD)
    namespace, key = namespace_of(call), key_of(call)
    value, metadata = bytes(body), None
    del body
    content_type = call.request.headers.get("content-type", "")
    if content_type.lower().startswith("multipart/form-data"):
        value, metadata = _read_form(content_type, value)
    check_size(value)
    given = {name: _number(call.query(name)) for name in ("expiration", "expiration_ttl")}
    pair = Pair(key, value, metadata, expires(given, call.backend.clock()))
    with call.backend.store.transaction():
        entries.write(call.backend, namespace, [pair])
    return ok({})


async def _delete(call: Call) -> Response:
    namespace, key = namespace_of(call), key_of(call)
    with call.backend.store.transaction():
        entries.remove(call.backend, namespace, [key])
    return ok({})


async def _metadata(call: Call) -> Response:
    metadata = _found(call).metadata
    return ok(None if metadata is None else json.loads(metadata))


def _found(call: Call) -> Value:
    found = entries.find(call.backend, namespace_of(call), key_of(call))
    if found is None:
        raise ApiError(404, 10009, "get: 'key not found'")
    return found


def _read_form(content_type: str, body: bytes) -> tuple[bytes, str | None]:
    """The parts `value` and `metadata`, each with or without a filename and a content type."""
    try:
        parts = parse(content_type, body)
    except ValueError as reason:
        raise refused(str(reason)) from None
    if "value" not in parts:
        raise refused("the form has no part named value")
    metadata = None
    if "metadata" in parts:
        try:
            metadata = compact(read_json(bytes(parts["metadata"].data)))
        except ValueError:
            raise refused("metadata is no JSON") from None
    return bytes(parts["value"].data), metadata


def _number(text: str | None) -> Any:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _with_key(method: str, below: str, handler: Handler) -> list[Endpoint]:
    """The empty key has a route of its own: it is refused as a key, not as an unknown path."""
    return [Endpoint(method, f"{NAMESPACE}/{below}/{name}", handler) for name in ("{key_name}", "")]


ENDPOINTS = [
    *_with_key("GET", "values", _get),
    *_with_key("PUT", "values", _put),
    *_with_key("DELETE", "values", _delete),
    *_with_key("GET", "metadata", _metadata),
]
