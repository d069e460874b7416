"""POST /items: a file comes in."""

import hashlib
import json
import secrets
from dataclasses import replace
from typing import Any, NamedTuple

from starlette.responses import Response

from syncd.emulator.ai_search import library, metadata
from syncd.emulator.ai_search.indexing import Outcome, fault_of, index
from syncd.emulator.ai_search.library import BUILTIN, Item
from syncd.emulator.ai_search.places import Instance, both, instance_of
from syncd.emulator.envelope import ApiError, ok, timestamp
from syncd.emulator.limits import FILE_TYPES, MAX_FILE_SIZE, MAX_KEY_LENGTH, MAX_WAIT
from syncd.emulator.multipart import Part, parse
from syncd.emulator.routing import Call

_MAX_BODY = MAX_FILE_SIZE + 1024 * 1024
_TOO_BIG = ApiError(413, 7054, f"file_too_large: a file has at most {MAX_FILE_SIZE} bytes")


class _Form(NamedTuple):
    key: str
    data: bytes
    custom: dict[str, Any]
    wait: bool


async def _upload(call: Call) -> Response:
    instance = instance_of(call)
    body = await _read_body(call)
    if instance.config.get("paused"):
        raise ApiError(400, 7032, "ai_search_is_paused")
    form = _read_form(call, body)
    existing = library.find_key(call.backend, instance, form.key, BUILTIN)
    if existing is not None and call.backend.options.on_existing == "conflict":
        raise ApiError(409, 7042, "item_key_already_exist")
    outcome = outcome_of(call, form.key, form.data, existing)
    item, warnings = new_item(call, instance, (form.key, BUILTIN), form.custom, outcome)
    item = replace(item, size=len(form.data), checksum=_checksum(call, form.data))
    if existing is not None:
        item = replace(item, id=existing.id, created_at=existing.created_at)
    with call.backend.store.transaction():
        item = library.queue(call.backend, item, item.modified_at)
        library.store_content(call.backend, item, form.data, outcome.chunks)
    shown = await settled(call, instance, item, wait=form.wait)
    return ok(shown | {"warnings": warnings}, status=201)


async def _read_body(call: Call) -> bytes:
    """The whole body. One that is too large is read to its end all the same: a client that is still sending would
    see a broken connection instead of the answer.
    """
    body = bytearray()
    async for piece in call.request.stream():
        if len(body) <= _MAX_BODY:
            body += piece
    if len(body) > _MAX_BODY:
        raise _TOO_BIG
    return bytes(body)


def _read_form(call: Call, body: bytes) -> _Form:
    try:
        parts = parse(call.request.headers.get("content-type", ""), body)
    except ValueError as reason:
        raise ApiError(400, 7055, f"file_not_provided: {reason}") from reason
    file = parts.get("file")
    if file is None or not file.filename:
        raise ApiError(400, 7055, "file_not_provided: the form has no part named file with a filename")
    check_key(file.filename)
    if not file.filename.lower().endswith(FILE_TYPES):
        raise ApiError(400, 7060, f"unsupported_file_type: {file.filename}")
    if len(file.data) > MAX_FILE_SIZE:
        raise _TOO_BIG
    custom = _custom(call, parts.get("metadata"))
    wait = parts.get("wait_for_completion")
    return _Form(file.filename, bytes(file.data), custom, wait is not None and wait.text.strip().lower() == "true")


def _custom(call: Call, part: Part | None) -> dict[str, Any]:
    if part is None or not part.text.strip():
        return {}
    try:
        custom = metadata.read_custom(part.text)
    except ValueError as reason:
        raise ApiError(400, 7056, f"invalid_metadata_format: {reason}") from reason
    manner = call.backend.options.metadata
    if custom and manner == "refuse":
        raise ApiError(400, 7056, "invalid_metadata_format: this instance takes no metadata")
    if manner == "texts" and not all(isinstance(value, str) for value in custom.values()):
        raise ApiError(400, 7056, "invalid_metadata_format: this instance takes texts only")
    return custom


def check_key(key: str) -> None:
    """ApiError 400 if the key is over 128 characters."""
    if len(key) > MAX_KEY_LENGTH:
        raise ApiError(400, 7072, "filename_exceeds_maximum_length")


def outcome_of(call: Call, key: str, data: bytes, item: Item | None) -> Outcome:
    """How the indexing of this content will end, under the options of this run. item: what has the key by now."""
    options = call.backend.options
    if library.matches(options.fail_index, key):
        return Outcome([], fault_of(key))
    if library.matches(options.skip_index, key):
        return Outcome([], library.SKIPPED)
    if library.matches(options.fail_index_transient, key):
        before = library.indexings(call.backend, item) if item else 0
        if not options.fail_index_times or before < options.fail_index_times:
            return Outcome([], "unknown_error")
    return index(key, data)


def new_item(
    call: Call, instance: Instance, name: tuple[str, str], custom: dict[str, Any], outcome: Outcome
) -> tuple[Item, list[dict[str, str]]]:
    """An item that is not stored yet, and the warnings about its metadata. name: (key, source_id)."""
    now = call.backend.clock()
    key, source = name
    try:
        schema = metadata.read_schema(instance.config.get("custom_metadata") or [])
        if call.backend.options.metadata == "declared" and not custom.keys() <= schema.keys():
            raise ValueError("this instance takes declared fields only")  # noqa: TRY301 - answered as the others are
        fields = metadata.build(key, now, custom, schema)
    except ValueError as reason:
        raise ApiError(400, 7056, f"invalid_metadata_format: {reason}") from reason
    item = Item(
        id=secrets.token_hex(16),
        instance=instance.number,
        key=key,
        source=source,
        checksum="0",
        size=None,
        metadata=json.dumps(fields.shown),
        filterable=json.dumps(fields.filterable),
        chunks=len(outcome.chunks),
        error=outcome.error,
        created_at=now,
        modified_at=now,
        queued_at=now,
        started_at=now,
        done_at=now,
    )
    return item, fields.warnings


def _checksum(call: Call, data: bytes) -> str:
    kind = call.backend.options.checksum
    if kind == "opaque":
        return secrets.token_hex(16)
    if kind == "zero":
        return "0"
    return hashlib.new(kind, data, usedforsecurity=False).hexdigest()


async def settled(call: Call, instance: Instance, item: Item, *, wait: bool) -> dict[str, Any]:
    """The item as the API shows it, at once or after its indexing (at most 40 s). Another request may have changed or
    removed it by then; the answer is about the state this one made.
    """
    now = call.backend.clock()
    if wait and item.done_at > now:
        until = min(item.done_at, now + MAX_WAIT)
        await call.backend.sleep(until - now)
        now = max(until, call.backend.clock())
    return render(call, instance, item, now)


def render(call: Call, instance: Instance, item: Item, at: float) -> dict[str, Any]:
    """The item as the API shows it at a moment."""
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
    if status == "error":
        shown["error"] = item.error
    if call.backend.options.list_metadata:
        shown["metadata"] = json.loads(item.metadata)
    return shown


ENDPOINTS = both("POST", "/{id}/items", _upload)
