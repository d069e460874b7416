"""/items: listing, reading, re-indexing and deleting. Uploading has its own module."""

import json
from typing import Any

from starlette.responses import Response

from syncd.emulator.ai_search import library
from syncd.emulator.ai_search.indexing import Outcome
from syncd.emulator.ai_search.library import BUILTIN, COLUMNS, STATUS_SQL, STATUSES, Item
from syncd.emulator.ai_search.places import Instance, both, instance_of
from syncd.emulator.ai_search.upload import check_key, new_item, outcome_of, render, settled
from syncd.emulator.envelope import ApiError, invalid, ok, read_json, timestamp
from syncd.emulator.filters import compile_filter
from syncd.emulator.limits import MAX_FILTER_LENGTH, MAX_ITEM_ID_LENGTH, MAX_ITEMS_PER_PAGE, MAX_SOURCE_LENGTH
from syncd.emulator.routing import Call

# What runs first, what is done last; the documentation speaks of a priority without giving it.
_PRIORITY = f"CASE {STATUS_SQL} WHEN 'running' THEN 0 WHEN 'queued' THEN 1 WHEN 'error' THEN 2 ELSE 3 END"
_SEEN = "CASE WHEN :at < started_at THEN queued_at WHEN :at < done_at THEN started_at ELSE done_at END"
_ORDER = {"modified_at": "modified_at DESC, id", "status": f"{_PRIORITY}, {_SEEN} DESC, id"}


async def _list(call: Call) -> Response:
    instance = instance_of(call)
    page, per_page = call.number("page", 1, 1), call.number("per_page", 20, 0, MAX_ITEMS_PER_PAGE)
    order = _ORDER[call.choice("sort_by", _ORDER) or "status"]
    conditions, values = _conditions(call, instance)
    where = f"FROM ai_items WHERE {' AND '.join(conditions)}"
    store = call.backend.store
    counting = f"SELECT count(*) {where}"
    timeless = ":at" not in counting and "ai_filter" not in counting
    count = {name: value for name, value in values.items() if f":{name}" in counting}
    total = store.remembered(counting, count) if timeless else store.value(counting, values)
    sql = f"SELECT {COLUMNS} {where} ORDER BY {order} LIMIT :limit OFFSET :offset"
    rows = store.all(sql, values | {"limit": per_page, "offset": (page - 1) * per_page})
    shown = [render(call, instance, Item(*row), values["at"]) for row in rows]
    return ok(shown, {"count": len(shown), "page": page, "per_page": per_page, "total_count": total})


def _conditions(call: Call, instance: Instance) -> tuple[list[str], dict[str, Any]]:
    """The listing as it was `list_lag` seconds ago, narrowed by the query parameters."""
    lag = call.backend.options.list_lag
    values: dict[str, Any] = {"at": call.backend.clock() - lag, "instance": instance.number}
    conditions = ["instance = :instance", "valid_to IS NULL"]
    if lag:
        conditions[1] = "valid_from <= :at AND (valid_to IS NULL OR valid_to > :at)"
    for name, limit, condition in (
        ("item_id", MAX_ITEM_ID_LENGTH, "id = :item_id"),
        ("source", MAX_SOURCE_LENGTH, "source = :source"),
        ("key", None, "key = :key"),
        ("search", None, "instr(lower(key), lower(:search))"),
    ):
        value = call.query(name)
        if value is not None:
            if limit is not None and len(value) > limit:
                raise invalid(f"{name} has at most {limit} characters")
            conditions.append(condition)
            values[name] = value
    status = call.choice("status", STATUSES)
    if status is not None:
        conditions.append(f"{STATUS_SQL} = :status")
        values["status"] = status
    expression = call.query("metadata_filter")
    if expression is not None:
        use_filter(call, _parse_filter(expression))
        conditions.append("ai_filter(filterable)")
    return conditions, values


def _parse_filter(text: str) -> Any:
    if len(text) > MAX_FILTER_LENGTH:
        raise ApiError(400, 7058, f"invalid_metadata_filter: at most {MAX_FILTER_LENGTH} characters")
    try:
        return read_json(text)
    except ValueError:
        raise ApiError(400, 7058, "invalid_metadata_filter: no JSON") from None


def use_filter(call: Call, expression: Any) -> None:
    """Makes the SQL function ai_filter(metadata JSON) mean this filter, for the rest of the request."""
    try:
        accepts = compile_filter(expression)
    except ValueError as reason:
        raise ApiError(400, 7058, f"invalid_metadata_filter: {reason}") from reason
    call.backend.store.function("ai_filter", 1, lambda metadata: accepts(json.loads(metadata)))


async def _put(call: Call) -> Response:
    """Re-queues what is stored under a key. Only an instance with an external source can be told a key that is new."""
    instance = instance_of(call)
    body = await call.body()
    key = body.get("key")
    if not isinstance(key, str) or not key:
        raise invalid("key must be a text")
    check_key(key)
    wait = _index_request(body)
    source = external_source(instance)
    item = library.find_key(call.backend, instance, key, source or BUILTIN)
    if item is None and source is not None:
        item = _announce(call, instance, key, source)
    elif item is not None:
        item = library.reindex(call.backend, item, _again(call, item))
    if item is None:
        raise ApiError(404, 7041, "item_not_found")
    return ok(await settled(call, instance, item, wait=wait))


def external_source(instance: Instance) -> str | None:
    """The source_id of what an instance crawls, e.g. "r2:my-bucket"; None for uploads only."""
    source = instance.config.get("source")
    if not source:
        return None
    kind = instance.config.get("type") or ("web-crawler" if source.startswith("http") else "r2")
    return f"{kind}:{source}"


def _announce(call: Call, instance: Instance, key: str, source: str) -> Item:
    # The stand-in has no bucket to fetch the file from.
    missing = Outcome([], "file_not_found")
    item, _ = new_item(call, instance, (key, source), {}, missing)
    with call.backend.store.transaction():
        return library.queue(call.backend, item, call.backend.clock())


async def _get(call: Call) -> Response:
    instance = instance_of(call)
    return ok(render(call, instance, _item(call, instance), call.backend.clock()))


async def _sync(call: Call) -> Response:
    instance = instance_of(call)
    item = _item(call, instance)
    wait = _index_request(await call.body())
    item = library.reindex(call.backend, item, _again(call, item))
    return ok(await settled(call, instance, item, wait=wait))


async def _delete(call: Call) -> Response:
    item = _item(call, instance_of(call))
    library.remove(call.backend, item)
    return ok({"key": item.key})


async def _download(call: Call) -> Response:
    item = _item(call, instance_of(call))
    if item.source != BUILTIN:
        raise ApiError(400, 7059, "download_only_for_builtin_items")
    return Response(library.content(call.backend, item), media_type="application/octet-stream")


async def _chunks(call: Call) -> Response:
    item = _item(call, instance_of(call))
    limit, offset = call.number("limit", 20, 1, 100), call.number("offset", 0, 0)
    rows = []
    if item.status(call.backend.clock()) == "completed":
        sql = "SELECT * FROM ai_chunks WHERE item = ? ORDER BY position LIMIT ? OFFSET ?"
        rows = call.backend.store.all(sql, (item.id, limit, offset))
    shown = [
        {
            "id": f"{item.id}-{row['position']}",
            "text": row["text"],
            "start_byte": row["start_byte"],
            "end_byte": row["end_byte"],
            "item": cited(item.key, item.metadata),
        }
        for row in rows
    ]
    return ok(shown, {"count": len(shown), "total": item.chunks, "limit": limit, "offset": offset})


def cited(key: str, metadata: str) -> dict[str, Any]:
    """An item as it stands beside its chunks."""
    fields = json.loads(metadata)
    return {"key": key, "timestamp": fields["timestamp"], "metadata": fields}


async def _logs(call: Call) -> Response:
    """Newest first; the cursor is the number of the last line given."""
    item = _item(call, instance_of(call))
    limit, cursor = call.number("limit", 50, 1, 100), call.query("cursor")
    if cursor is not None and not cursor.isdecimal():
        raise invalid("cursor is none of this listing's")
    sql = "SELECT * FROM ai_logs WHERE item = ? AND at <= ? AND number < ? ORDER BY number DESC LIMIT ?"
    before = 2**62 if cursor is None else min(int(cursor), 2**62)
    rows = call.backend.store.all(sql, (item.id, call.backend.clock(), before, limit + 1))
    shown = [
        {
            "timestamp": timestamp(row["at"]),
            "action": row["action"],
            "message": row["message"],
            "fileKey": item.key,
            "chunkCount": row["chunks"],
            "processingTimeMs": row["milliseconds"],
            "errorType": row["error"],
        }
        for row in rows[:limit]
    ]
    more = len(rows) > limit
    following = str(rows[limit - 1]["number"]) if more else None
    return ok(shown, {"count": len(shown), "per_page": limit, "cursor": following, "truncated": more})


def _item(call: Call, instance: Instance) -> Item:
    item = library.find(call.backend, instance, call.path["item_id"])
    if item is None:
        raise ApiError(404, 7041, "item_not_found")
    return item


def _index_request(body: dict[str, Any]) -> bool:
    """Checks the body of PUT and PATCH; whether the answer is to wait for the index."""
    if body.get("next_action") != "INDEX":
        raise invalid('next_action must be "INDEX"')
    wait = body.get("wait_for_completion", False)
    if not isinstance(wait, bool):
        raise invalid("wait_for_completion must be true or false")
    return wait


def _again(call: Call, item: Item) -> Outcome:
    if item.source != BUILTIN:
        return Outcome([], item.error)
    return outcome_of(call, item.key, library.content(call.backend, item), item)


ENDPOINTS = [
    *both("GET", "/{id}/items", _list),
    *both("PUT", "/{id}/items", _put),
    *both("GET", "/{id}/items/{item_id}", _get),
    *both("PATCH", "/{id}/items/{item_id}", _sync),
    *both("DELETE", "/{id}/items/{item_id}", _delete),
    *both("GET", "/{id}/items/{item_id}/download", _download),
    *both("GET", "/{id}/items/{item_id}/chunks", _chunks),
    *both("GET", "/{id}/items/{item_id}/logs", _logs),
]
