"""The endpoints of AI Search that upload, list, read, re-index and delete items."""

import hashlib
import json
import secrets
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.ai_search_files import FILE_TYPES, INSTANCE_ERRORS, MAX_LARGE_FILE_SIZE, max_file_size
from syncd.emulator.ai_search_index import (
    IndexingResult,
    build_metadata,
    cited_item,
    index_content,
    read_custom_metadata,
    schema_of,
)
from syncd.emulator.ai_search_store import (
    BUILTIN,
    COLUMNS,
    LAST_SEEN_SQL,
    SKIPPED,
    STATUS_SQL,
    STATUSES,
    InstanceRow,
    ItemRow,
    bad_filter,
    define_filter,
    find_item,
    instance_endpoints,
    instance_of,
    pause_instance,
    queue_item,
    read_content,
    remove_item,
    store_content,
)
from syncd.emulator.options import matches
from syncd.emulator.requests import (
    ApiError,
    Call,
    invalid,
    ok,
    page_of,
    parse_form,
    read_json,
    timestamp,
    validate,
)
from syncd.emulator.store import VALID_AT

MAX_KEY_LENGTH = 128
"""Characters of an item's key."""

MAX_WAIT = 40.0
"""Seconds that wait_for_completion delays an answer at most."""

_MAX_FORM_SIZE = MAX_LARGE_FILE_SIZE + 1024 * 1024

MAX_ITEMS_PER_PAGE = 50
MAX_ITEM_ID_LENGTH = 64
MAX_SOURCE_LENGTH = 512
MAX_FILTER_LENGTH = 2048
"""Characters of the list parameters item_id, source and metadata_filter."""

# The documentation names a priority of statuses without defining it. Here running items come first, completed last.
_PRIORITY = f"CASE {STATUS_SQL} WHEN 'running' THEN 0 WHEN 'queued' THEN 1 WHEN 'error' THEN 2 ELSE 3 END"
_ORDER = {"status": f"{_PRIORITY}, {LAST_SEEN_SQL} DESC, id", "modified_at": "modified_at DESC, id"}


class _UploadForm(NamedTuple):
    """metadata: JSON text, "" without any."""

    key: str
    data: bytes
    metadata: str
    wait: bool


async def _upload(call: Call) -> Response:
    instance = instance_of(call)
    body = await call.read(_MAX_FORM_SIZE, refuse=_too_large)
    if instance.config.get("paused", call.backend.options.paused):
        raise ApiError(400, 7032, "ai_search_is_paused")
    if not call.backend.options.builtin_storage:
        raise ApiError(400, 7053, "this_operation_requires_a_managed_instance")
    form = _read_form(call, body)
    oversize = _oversize(call, instance, form)
    existing = find_item(call.backend, instance, key=form.key, source=BUILTIN)
    if existing is not None and call.backend.options.on_existing == "conflict":
        raise ApiError(409, 7042, "item_key_already_exist")
    result = oversize or _indexing_result(call, form.key, form.data, existing)
    item, warnings = _new_item(call, instance, (form.key, BUILTIN), form.metadata, result)
    item = replace(item, size=len(form.data), checksum=_checksum(call, form.data))
    renewed = existing is not None and call.backend.options.overwritten_id == "new"
    if existing is not None and not renewed:
        item = replace(item, id=existing.id, created_at=existing.created_at)
    with call.backend.store.transaction():
        if existing is not None and renewed:
            remove_item(call.backend, existing.id)
        item = queue_item(call.backend, item, item.modified_at)
        store_content(call.backend, item, form.data, result.chunks)
        if result.error in INSTANCE_ERRORS:
            pause_instance(call.backend, instance)
    shown = await _render_after_wait(call, instance, item, wait=form.wait)
    return ok(shown | {"warnings": warnings}, status=201)


def _too_large(message: str) -> ApiError:
    return ApiError(413, 7054, f"file_exceeds_maximum_size: {message}")


def _oversize(call: Call, instance: InstanceRow, form: _UploadForm) -> IndexingResult | None:
    """Return the result for a file over the limit of its type, None for another. Raises ApiError 413 if refused."""
    options = instance.config.get("indexing_options") or {}
    limit = max_file_size(form.key, use_ocr=bool(options.get("use_ocr")))
    if len(form.data) <= limit:
        return None
    if call.backend.options.oversize == "refuse":
        raise _too_large(f"a file of this type has at most {limit} bytes")
    return IndexingResult([], SKIPPED if call.backend.options.oversize == "skip" else "over_size")


def _read_form(call: Call, body: bytes) -> _UploadForm:
    try:
        parts = parse_form(call.request.headers.get("content-type", ""), body, call.backend.options.form_names)
    except ValueError as reason:
        raise ApiError(400, 7055, f"file_field_is_required: {reason}") from reason
    file = parts.get("file")
    if file is None or not file.filename:
        raise ApiError(400, 7055, "file_field_is_required: the form has no part named file with a filename")
    _check_key(file.filename)
    if not file.filename.lower().endswith(FILE_TYPES):
        raise ApiError(400, 7060, f"unsupported_file_type: {file.filename}")
    metadata, wait = (
        parts[name].data.decode(errors="replace").strip() if name in parts else ""
        for name in ("metadata", "wait_for_completion")
    )
    return _UploadForm(file.filename, file.data, metadata, wait.lower() == "true")


def _check_key(key: str) -> None:
    """Raise ApiError 400 if the key is over 128 characters."""
    if len(key) > MAX_KEY_LENGTH:
        raise ApiError(400, 7072, "filename_exceeds_maximum_length")


def _indexing_result(call: Call, key: str, data: bytes, existing: ItemRow | None) -> IndexingResult:
    """Return the result of indexing this content under the options. existing: the present item under the key."""
    options = call.backend.options
    chosen = options.chosen_result(key)
    if chosen is None and matches(options.fail_index_transient, key):
        sql = "SELECT count(*) FROM ai_logs WHERE item = ? AND action = 'queued'"
        before = call.backend.store.value(sql, (existing and existing.id,))
        if not options.fail_index_times or before < options.fail_index_times:
            chosen = "unknown_error"
    return index_content(key, data) if chosen is None else IndexingResult([], chosen)


def _new_item(
    call: Call, instance: InstanceRow, name: tuple[str, str], metadata: str, result: IndexingResult
) -> tuple[ItemRow, list[dict[str, str]]]:
    """Return an item that is not stored yet, and the warnings about its metadata. Raises ApiError 400 for wrong ones.

    name: (key, source_id). metadata: the custom fields as JSON text, "" without any.
    """
    now, (key, source) = call.backend.clock(), name
    schema = schema_of(instance.config)
    try:
        custom = read_custom_metadata(metadata, call.backend.options.metadata, schema)
        built = build_metadata(key, now, custom, schema)
    except ValueError as reason:
        raise ApiError(400, 7056, f"invalid_metadata_format: {reason}") from reason
    item = ItemRow(
        id=secrets.token_hex(16),
        instance=instance.number,
        key=key,
        source=source,
        metadata=json.dumps(built.shown),
        filterable=json.dumps(built.filterable),
        chunks=len(result.chunks),
        error=result.error,
        created_at=now,
        modified_at=now,
    )
    return item, built.warnings


def _checksum(call: Call, data: bytes) -> str:
    kind = call.backend.options.checksum
    if kind == "opaque":
        return secrets.token_hex(16)
    if kind == "zero":
        return "0"
    return hashlib.new(kind, data, usedforsecurity=False).hexdigest()


async def _render_after_wait(call: Call, instance: InstanceRow, item: ItemRow, *, wait: bool) -> dict[str, Any]:
    """Return the item as the API shows it, at once or after its indexing (at most 40 s).

    Another request may change or remove the item meanwhile. The answer shows the state that this request made.
    """
    now = call.backend.clock()
    if wait and item.done_at > now:
        until = min(item.done_at, now + MAX_WAIT)
        await call.backend.sleep(until - now)
        now = max(until, call.backend.clock())
    return _render(call, instance, item, now)


def _render(call: Call, instance: InstanceRow, item: ItemRow, at: float) -> dict[str, Any]:
    """Return the item as the API shows it at the time `at`."""
    status = item.status(at)
    seen = {"queued": item.queued_at, "running": item.started_at}.get(status, item.done_at)
    shown: dict[str, Any] = {
        "id": item.id,
        "key": item.key,
        "checksum": item.checksum,
        "status": status,
        "next_action": "INDEX" if status == "queued" else None,
        "chunks_count": item.chunks if status == "completed" else None,
        "file_size": item.size,
        "created_at": timestamp(item.created_at),
        "last_seen_at": timestamp(seen),
        "namespace": instance.namespace,
        "source_id": item.source,
    }
    if item.gone_at is not None:
        shown["next_action"] = "DELETE"
    if status == "error":
        shown["error"] = item.error
    if call.backend.options.list_metadata:
        shown["metadata"] = json.loads(item.metadata)
    return shown


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
    return page_of([_render(call, instance, ItemRow(*row), values["at"]) for row in rows], page, per_page, total)


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
        raise bad_filter(f"at most {MAX_FILTER_LENGTH} characters")
    try:
        return read_json(text)
    except ValueError:
        raise bad_filter("not JSON") from None


class _IndexRequest(BaseModel):
    next_action: Literal["INDEX"]
    wait_for_completion: bool = False


class _IndexKeyRequest(_IndexRequest):
    key: str = Field(min_length=1)


async def _index_key(call: Call) -> Response:
    """Queue the item under a key again. Only an instance with an external source accepts a new key."""
    instance = instance_of(call)
    wanted = validate(_IndexKeyRequest, await call.body())
    _check_key(wanted.key)
    source = _external_source(instance)
    item = find_item(call.backend, instance, key=wanted.key, source=source or BUILTIN)
    if item is not None:
        item = _index_again(call, item)
    elif source is not None:
        item = _announce_item(call, instance, wanted.key, source)
    else:
        raise ApiError(404, 7041, "item_not_found")
    return ok(await _render_after_wait(call, instance, item, wait=wanted.wait_for_completion))


def _external_source(instance: InstanceRow) -> str | None:
    """Return the source_id of the instance's external source, e.g. "r2:my-bucket", or None if it has none."""
    source = instance.config.get("source")
    if not source:
        return None
    kind = instance.config.get("type") or ("web-crawler" if source.startswith("http") else "r2")
    return f"{kind}:{source}"


def _announce_item(call: Call, instance: InstanceRow, key: str, source: str) -> ItemRow:
    # The stand-in has no bucket to fetch the file from.
    item, _ = _new_item(call, instance, (key, source), "", IndexingResult([], "file_not_found"))
    with call.backend.store.transaction():
        return queue_item(call.backend, item, call.backend.clock())


async def _get(call: Call) -> Response:
    instance = instance_of(call)
    return ok(_render(call, instance, _item_of(call, instance), call.backend.clock()))


async def _index_item(call: Call) -> Response:
    instance = instance_of(call)
    item = _item_of(call, instance)
    wanted = validate(_IndexRequest, await call.body())
    item = _index_again(call, item)
    return ok(await _render_after_wait(call, instance, item, wait=wanted.wait_for_completion))


async def _delete(call: Call) -> Response:
    item = _item_of(call, instance_of(call))
    store, delay = call.backend.store, call.backend.options.delete_delay
    with store.transaction():
        if delay:
            # A second request does not prolong the delay.
            sql = "UPDATE ai_items SET gone_at = ? WHERE valid_to IS NULL AND id = ? AND gone_at IS NULL"
            store.execute(sql, (call.backend.clock() + delay, item.id))
        else:
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
            result = _indexing_result(call, item.key, data, item)
            store_content(backend, item, data, result.chunks)
            item = replace(item, chunks=len(result.chunks), error=result.error)
        return queue_item(backend, item, backend.clock())


ENDPOINTS = [
    *instance_endpoints("POST", "/{id}/items", _upload),
    *instance_endpoints("GET", "/{id}/items", _list),
    *instance_endpoints("PUT", "/{id}/items", _index_key),
    *instance_endpoints("GET", "/{id}/items/{item_id}", _get),
    *instance_endpoints("PATCH", "/{id}/items/{item_id}", _index_item),
    *instance_endpoints("DELETE", "/{id}/items/{item_id}", _delete),
    *instance_endpoints("GET", "/{id}/items/{item_id}/download", _download),
    *instance_endpoints("GET", "/{id}/items/{item_id}/chunks", _list_chunks),
    *instance_endpoints("GET", "/{id}/items/{item_id}/logs", _list_logs),
]
