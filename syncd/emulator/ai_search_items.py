"""The endpoints of AI Search that list, read, re-index and delete items."""

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.ai_search_index import IndexingResult, cited_item
from syncd.emulator.ai_search_store import (
    BUILTIN,
    COLUMNS,
    LAST_SEEN_SQL,
    STATUS_SQL,
    STATUSES,
    InstanceRow,
    ItemRow,
    find_item,
    instance_endpoints,
    instance_of,
    queue_item,
    read_content,
    remove_item,
    remove_item_later,
    store_content,
)
from syncd.emulator.ai_search_upload import check_key, indexing_result, new_item, render_after_wait, render_item
from syncd.emulator.filters import compile_filter
from syncd.emulator.requests import ApiError, Call, invalid, ok, page_of, read_json, timestamp, validate
from syncd.emulator.store import VALID_AT

MAX_ITEMS_PER_PAGE = 50
MAX_ITEM_ID_LENGTH = 64
MAX_SOURCE_LENGTH = 512
MAX_FILTER_LENGTH = 2048
"""Characters of the list parameters item_id, source and metadata_filter."""

# The documentation names a priority of statuses without defining it. Here running items come first, completed last.
_PRIORITY = f"CASE {STATUS_SQL} WHEN 'running' THEN 0 WHEN 'queued' THEN 1 WHEN 'error' THEN 2 ELSE 3 END"
_ORDER = {"status": f"{_PRIORITY}, {LAST_SEEN_SQL} DESC, id", "modified_at": "modified_at DESC, id"}


async def _list(call: Call) -> Response:
    instance = instance_of(call)
    page, per_page = call.number("page", 1, 1), call.number("per_page", 20, 0, MAX_ITEMS_PER_PAGE)
    order = _ORDER[call.choice("sort_by", _ORDER)]
    conditions, values = _conditions(call, instance)
    where = f"FROM ai_items WHERE {' AND '.join(conditions)}"
    store = call.backend.store
    total = store.value(f"SELECT count(*) {where}", values)
    sql = f"SELECT {COLUMNS} {where} ORDER BY {order} LIMIT :limit OFFSET :offset"
    rows = store.all(sql, values | {"limit": per_page, "offset": (page - 1) * per_page})
    return page_of([render_item(call, instance, ItemRow(*row), values["at"]) for row in rows], page, per_page, total)


def _conditions(call: Call, instance: InstanceRow) -> tuple[list[str], dict[str, Any]]:
    """Return the SQL conditions of the listing as it was `list_lag` seconds ago, and their parameters."""
    lag = call.backend.options.list_lag
    values: dict[str, Any] = {"at": call.backend.clock() - lag, "instance": instance.number}
    conditions = ["instance = :instance", VALID_AT if lag else "valid_to IS NULL"]
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
    if call.query("status") is not None:
        conditions.append(f"{STATUS_SQL} = :status")
        values["status"] = call.choice("status", STATUSES)
    expression = call.query("metadata_filter")
    if expression is not None:
        define_filter(call, _parse_filter(expression))
        conditions.append("accepted(filterable)")
    return conditions, values


def _parse_filter(text: str) -> Any:
    if len(text) > MAX_FILTER_LENGTH:
        raise _bad_filter(f"at most {MAX_FILTER_LENGTH} characters")
    try:
        return read_json(text)
    except ValueError:
        raise _bad_filter("not JSON") from None


def define_filter(call: Call, expression: Any) -> None:
    """Define the SQL function accepted(metadata JSON) as this filter. The names of fields are case-insensitive."""
    if isinstance(expression, dict):
        expression = {field.lower(): condition for field, condition in expression.items()}
    try:
        call.backend.store.filter_by(compile_filter(expression))
    except ValueError as reason:
        raise _bad_filter(str(reason)) from reason


def _bad_filter(reason: str) -> ApiError:
    return ApiError(400, 7058, f"invalid_metadata_filter: {reason}")


class _IndexRequest(BaseModel):
    next_action: Literal["INDEX"]
    wait_for_completion: bool = False


class _IndexKeyRequest(_IndexRequest):
    key: str = Field(min_length=1)


async def _index_key(call: Call) -> Response:
    """Queue the item under a key again. Only an instance with an external source accepts a new key."""
    instance = instance_of(call)
    wanted = validate(_IndexKeyRequest, await call.body())
    check_key(wanted.key)
    source = _external_source(instance)
    item = find_item(call.backend, instance, key=wanted.key, source=source or BUILTIN)
    if item is not None:
        item = _index_again(call, item)
    elif source is not None:
        item = _announce_item(call, instance, wanted.key, source)
    else:
        raise ApiError(404, 7041, "item_not_found")
    return ok(await render_after_wait(call, instance, item, wait=wanted.wait_for_completion))


def _external_source(instance: InstanceRow) -> str | None:
    """Return the source_id of the instance's external source, e.g. "r2:my-bucket", or None if it has none."""
    source = instance.config.get("source")
    if not source:
        return None
    kind = instance.config.get("type") or ("web-crawler" if source.startswith("http") else "r2")
    return f"{kind}:{source}"


def _announce_item(call: Call, instance: InstanceRow, key: str, source: str) -> ItemRow:
    # The stand-in has no bucket to fetch the file from.
    item, _ = new_item(call, instance, (key, source), "", IndexingResult([], "file_not_found"))
    with call.backend.store.transaction():
        return queue_item(call.backend, item, call.backend.clock())


async def _get(call: Call) -> Response:
    instance = instance_of(call)
    return ok(render_item(call, instance, _item_of(call, instance), call.backend.clock()))


async def _index_item(call: Call) -> Response:
    instance = instance_of(call)
    item = _item_of(call, instance)
    wanted = validate(_IndexRequest, await call.body())
    item = _index_again(call, item)
    return ok(await render_after_wait(call, instance, item, wait=wanted.wait_for_completion))


async def _delete(call: Call) -> Response:
    item = _item_of(call, instance_of(call))
    if call.backend.options.delete_delay:
        remove_item_later(call.backend, item)
    else:
        with call.backend.store.transaction():
            remove_item(call.backend, item.id)
    return ok({"key": item.key})


async def _download(call: Call) -> Response:
    item = _item_of(call, instance_of(call))
    if item.source != BUILTIN:
        raise ApiError(400, 7059, "content_download_not_available_for_external_source_items")
    return Response(read_content(call.backend, item), media_type="application/octet-stream")


async def _list_chunks(call: Call) -> Response:
    item = _item_of(call, instance_of(call))
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
            "item": cited_item(item.key, item.metadata),
        }
        for row in rows
    ]
    return ok(shown, {"count": len(shown), "total": item.chunks, "limit": limit, "offset": offset})


async def _list_logs(call: Call) -> Response:
    """List the log lines, newest first. The cursor is the number of the last line of the page."""
    item = _item_of(call, instance_of(call))
    limit, cursor = call.number("limit", 50, 1, 100), call.query("cursor")
    if cursor is not None and not cursor.isdecimal():
        raise invalid("the cursor is not from this listing")
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


def _item_of(call: Call, instance: InstanceRow) -> ItemRow:
    item = find_item(call.backend, instance, id=call.path["item_id"])
    if item is None:
        raise ApiError(404, 7041, "item_not_found")
    return item


def _index_again(call: Call, item: ItemRow) -> ItemRow:
    """Queue the item again. An item of an external source has no content here, so its result is the same."""
    backend = call.backend
    with backend.store.transaction():
        if item.source == BUILTIN:
            data = read_content(backend, item)
            result = indexing_result(call, item.key, data, item)
            store_content(backend, item, data, result.chunks)
            item = replace(item, chunks=len(result.chunks), error=result.error)
        return queue_item(backend, item, backend.clock())


ENDPOINTS = [
    *instance_endpoints("GET", "/{id}/items", _list),
    *instance_endpoints("PUT", "/{id}/items", _index_key),
    *instance_endpoints("GET", "/{id}/items/{item_id}", _get),
    *instance_endpoints("PATCH", "/{id}/items/{item_id}", _index_item),
    *instance_endpoints("DELETE", "/{id}/items/{item_id}", _delete),
    *instance_endpoints("GET", "/{id}/items/{item_id}/download", _download),
    *instance_endpoints("GET", "/{id}/items/{item_id}/chunks", _list_chunks),
    *instance_endpoints("GET", "/{id}/items/{item_id}/logs", _list_logs),
]
