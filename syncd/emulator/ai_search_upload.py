"""The endpoint of AI Search that uploads an item, and the parts that re-indexing shares with it."""

import hashlib
import json
import secrets
from dataclasses import replace
from typing import Any, NamedTuple

from starlette.responses import Response

from syncd.emulator.ai_search_files import FILE_TYPES, INSTANCE_ERRORS, MAX_LARGE_FILE_SIZE, max_file_size
from syncd.emulator.ai_search_index import (
    IndexingResult,
    build_metadata,
    index_content,
    read_custom_metadata,
    schema_of,
)
from syncd.emulator.ai_search_store import (
    BUILTIN,
    SKIPPED,
    InstanceRow,
    ItemRow,
    find_item,
    instance_endpoints,
    instance_of,
    pause_instance,
    queue_item,
    remove_item,
    store_content,
)
from syncd.emulator.options import matches
from syncd.emulator.requests import ApiError, Call, ok, parse_form, timestamp

MAX_KEY_LENGTH = 128
"""Characters of an item's key."""

MAX_WAIT = 40.0
"""Seconds that wait_for_completion delays an answer at most."""

_MAX_FORM_SIZE = MAX_LARGE_FILE_SIZE + 1024 * 1024


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
    result = oversize or indexing_result(call, form.key, form.data, existing)
    item, warnings = new_item(call, instance, (form.key, BUILTIN), form.metadata, result)
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
    shown = await render_after_wait(call, instance, item, wait=form.wait)
    return ok(shown | {"warnings": warnings}, status=201)


def _too_large(message: str) -> ApiError:
    return ApiError(413, 7054, f"file_exceeds_maximum_size: {message}")


def _oversize(call: Call, instance: InstanceRow, form: _UploadForm) -> IndexingResult | None:
    """Return the result for a file over the limit of its type, None for any other file; ApiError 413 if refused."""
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
    check_key(file.filename)
    if not file.filename.lower().endswith(FILE_TYPES):
        raise ApiError(400, 7060, f"unsupported_file_type: {file.filename}")
    metadata, wait = (
        parts[name].data.decode(errors="replace").strip() if name in parts else ""
        for name in ("metadata", "wait_for_completion")
    )
    return _UploadForm(file.filename, file.data, metadata, wait.lower() == "true")


def check_key(key: str) -> None:
    """Raise ApiError 400 if the key is over 128 characters."""
    if len(key) > MAX_KEY_LENGTH:
        raise ApiError(400, 7072, "filename_exceeds_maximum_length")


def indexing_result(call: Call, key: str, data: bytes, existing: ItemRow | None) -> IndexingResult:
    """Return the result of indexing this content under the options. existing: the present item under the key."""
    options = call.backend.options
    chosen = options.chosen_result(key)
    if chosen is None and matches(options.fail_index_transient, key):
        sql = "SELECT count(*) FROM ai_logs WHERE item = ? AND action = 'queued'"
        before = call.backend.store.value(sql, (existing and existing.id,))
        if not options.fail_index_times or before < options.fail_index_times:
            chosen = "unknown_error"
    return index_content(key, data) if chosen is None else IndexingResult([], chosen)


def new_item(
    call: Call, instance: InstanceRow, name: tuple[str, str], metadata: str, result: IndexingResult
) -> tuple[ItemRow, list[dict[str, str]]]:
    """Return an item that is not stored yet, and the warnings about its metadata; ApiError 400 if they are not valid.

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


async def render_after_wait(call: Call, instance: InstanceRow, item: ItemRow, *, wait: bool) -> dict[str, Any]:
    """Return the item as the API shows it, at once or after its indexing (at most 40 s).

    Another request may change or remove the item meanwhile. The answer shows the state that this request made.
    """
    now = call.backend.clock()
    if wait and item.done_at > now:
        until = min(item.done_at, now + MAX_WAIT)
        await call.backend.sleep(until - now)
        now = max(until, call.backend.clock())
    return render_item(call, instance, item, now)


def render_item(call: Call, instance: InstanceRow, item: ItemRow, at: float) -> dict[str, Any]:
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


ENDPOINTS = instance_endpoints("POST", "/{id}/items", _upload)
