"""/bulk: many keys in one request."""

import json
from functools import partial
from typing import Any

from starlette.responses import Response

from syncd.emulator.envelope import ok, read_json
from syncd.emulator.kv import entries
from syncd.emulator.kv.entries import Value
from syncd.emulator.kv.intake import read_items, read_object
from syncd.emulator.kv.pairs import Pair, read_key, read_pair
from syncd.emulator.kv.places import NAMESPACE, check_key, namespace_of, refused
from syncd.emulator.limits import MAX_KV_BULK_GET, MAX_KV_VALUE_SIZE
from syncd.emulator.routing import Call, Endpoint

_TIMED_OUT = "<!DOCTYPE html>\n<html><head><title>524: A timeout occurred</title></head><body>Error 524</body></html>\n"


async def _write(call: Call) -> Response:
    given = await read_items(call, partial(read_pair, now=call.backend.clock()))
    namespace = namespace_of(call)
    pairs = _folded(given)
    if _times_out(call, len(given)):
        return _timed_out()
    with call.backend.store.transaction():
        failed = entries.failing(call.backend, namespace, list(pairs))
        entries.write(call.backend, namespace, [pair for key, pair in pairs.items() if key not in failed])
    return _done(len(pairs), failed)


async def _delete(call: Call) -> Response:
    given = await read_items(call, read_key)
    namespace = namespace_of(call)
    keys = list(dict.fromkeys(given))
    if _times_out(call, len(given)):
        return _timed_out()
    with call.backend.store.transaction():
        failed = entries.failing(call.backend, namespace, keys)
        entries.remove(call.backend, namespace, [key for key in keys if key not in failed])
    return _done(len(keys), failed)


def _folded(given: list[Pair]) -> dict[str, Pair]:
    pairs: dict[str, Pair] = {}
    for pair in given:
        if not pairs.setdefault(pair.key, pair).same(pair):
            message = "received duplicate key with different values or expiration parameters"
            raise refused(f"{message}: {json.dumps(pair.key)}")
    return pairs


def _times_out(call: Call, count: int) -> bool:
    limit = call.backend.options.bulk_fail_over
    return limit is not None and count > limit


def _timed_out() -> Response:
    return Response(_TIMED_OUT, 524, media_type="text/html")


def _done(count: int, failed: set[str]) -> Response:
    return ok({"successful_key_count": count - len(failed), "unsuccessful_keys": sorted(failed)})


async def _get(call: Call) -> Response:
    """A key without a value reads null. A value that is no UTF-8, or no JSON where that was asked for, spoils the whole
    answer: 400.
    """
    body = await read_object(call)
    namespace, keys, kind = namespace_of(call), _keys(body), body.get("type") or "text"
    if kind not in ("text", "json"):
        raise refused(f'{json.dumps(kind)} is not a valid type. Use "json" or "text"')
    with_metadata = body.get("withMetadata") is True
    values: dict[str, Any] = {}
    size = 0
    for key in keys:
        found = entries.find(call.backend, namespace, key)
        size += 0 if found is None else len(found.data)
        if size > MAX_KV_VALUE_SIZE:
            raise refused(f"Total size of request exceeds the limit of {MAX_KV_VALUE_SIZE // 2**20}MB", 413)
        values[key] = None if found is None else _render(found, kind, with_metadata=with_metadata)
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


def _render(found: Value, kind: str, *, with_metadata: bool) -> Any:
    try:
        value = read_json(found.data) if kind == "json" else found.data.decode()
    except ValueError:
        raise refused(f"At least one of the requested keys corresponds to a non-{kind} value") from None
    if not with_metadata:
        return value
    shown = {"value": value, "metadata": None if found.metadata is None else json.loads(found.metadata)}
    if found.expiration is not None:
        shown["expiration"] = found.expiration
    return shown


ENDPOINTS = [
    Endpoint("PUT", f"{NAMESPACE}/bulk", _write),
    Endpoint("DELETE", f"{NAMESPACE}/bulk", _delete),
    Endpoint("POST", f"{NAMESPACE}/bulk/delete", _delete),
    Endpoint("POST", f"{NAMESPACE}/bulk/get", _get),
]
