"""The endpoints of Vectorize that write, delete, read and list vectors, and the checks of a body with vectors."""

import asyncio
import io
import json
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from starlette.responses import Response

from syncd.emulator.filters import indexed_properties
from syncd.emulator.requests import (
    ApiError,
    Call,
    Endpoint,
    compact_json,
    ok,
    parse_form,
    refuse_constant,
    timestamp,
)
from syncd.emulator.store import VALID_AT, Backend
from syncd.emulator.vectorize_store import (
    INDEX,
    VECTOR_CURSOR_LIFE,
    IndexRow,
    MutationKind,
    change_index,
    find_index,
    not_valid,
    property_types,
    refused,
    unparsable,
)

MAX_VECTOR_ID_SIZE = 64
MAX_VECTOR_NAMESPACE_SIZE = 64
MAX_VECTOR_METADATA_SIZE = 10 * 1024
"""Bytes of metadata as compact JSON."""

MAX_VECTORS = 5000
MAX_VECTORS_SIZE = 100_000_000
"""Bytes of a whole upsert or insert: megabytes, like the limits of KV."""

MAX_DELETED_IDS = 100
MAX_READ_IDS = 20
"""Ids of one delete_by_ids and of one get_by_ids. Undocumented; users of the service report both."""

MAX_VECTOR_LIST = 1000
FLOAT = np.dtype("<f4")
Floats = np.ndarray[Any, np.dtype[np.float32]]

_LARGEST = float(np.finfo(FLOAT).max)
_NDJSON = "application/x-ndjson"
_FORM = "multipart/form-data"
_PARTS = ("vectors", "body")
"""The names of the form's part: wrangler uses the first, the example in the API reference the second."""

_LINES_PER_TURN = 50
_DEFAULT_COUNT = 100


async def _write(call: Call, kind: MutationKind) -> Response:
    vectors = await _read_vectors(call)
    index = find_index(call)
    _check_dimensions(vectors, index)
    if kind == "upsert":
        vectors = list({vector.id: vector for vector in vectors}.values())
    types = property_types(call.backend, index, accepted=True)
    rows = [vector._asdict() | {"indexed": indexed_properties(vector.metadata, types)} for vector in vectors]
    return change_index(call.backend, index, kind, rows)


async def _delete_by_ids(call: Call) -> Response:
    rows = [{"id": identifier} for identifier in await _ids(call, MAX_DELETED_IDS)]
    return change_index(call.backend, find_index(call), "delete", rows)


async def _get_by_ids(call: Call) -> Response:
    """Return the vectors of the ids. An unknown id has no row in the answer."""
    ids = await _ids(call, MAX_READ_IDS)
    index = find_index(call)
    rows = (find_vector(call.backend, index, identifier) for identifier in dict.fromkeys(ids))
    return ok([render_vector(row) for row in rows if row is not None])


def find_vector(backend: Backend, index: IndexRow, identifier: str) -> dict[str, Any] | None:
    """Return the row of the vector that is visible under this id, or None."""
    sql = f"SELECT * FROM vz_vectors WHERE of_index = :index AND id = :id AND {VALID_AT}"  # noqa: S608 - a constant
    row = backend.store.one(sql, {"index": index.number, "id": identifier, "at": backend.clock()})
    return None if row is None else dict(row)


def render_vector(row: dict[str, Any], *, values: bool = True, metadata: str | None = "metadata") -> dict[str, Any]:
    """Return a row as the API shows it. metadata: the column that is shown as such, "metadata" or "indexed"."""
    shown = {"id": row["id"]}
    if values:
        shown["values"] = unpack(row["data"])
    if row["namespace"] is not None:
        shown["namespace"] = row["namespace"]
    if metadata is not None and row["metadata"] is not None:
        shown["metadata"] = json.loads(row[metadata])
    return shown


async def _ids(call: Call, limit: int) -> list[str]:
    ids = (await call.body(refuse=unparsable)).get("ids")
    if not isinstance(ids, list) or not all(isinstance(identifier, str) for identifier in ids):
        raise unparsable("ids: expected an array of texts")
    if len(ids) > limit:
        raise refused(40007, f"too many ids in payload; max id count is {limit}, got {len(ids)}")
    for identifier in ids:
        check_id(identifier)
    return ids


class _Vector(NamedTuple):
    """A vector of a request. data: its float32 values; metadata: JSON text."""

    id: str
    data: bytes
    metadata: str | None = None
    namespace: str | None = None


async def _list(call: Call) -> Response:
    """Return one page of ids. All pages show the vectors as they were at the first page.

    A cursor names the index, the time of the first page, and the number of ids before the page.
    """
    count = call.number("count", _DEFAULT_COUNT, 1, MAX_VECTOR_LIST, refuse=not_valid)
    index, store = find_index(call), call.backend.store
    at, start = _read_cursor(call.query("cursor"), index, call.backend.clock())
    values = {"index": index.number, "at": at, "count": count, "start": start}
    where = f"FROM vz_vectors WHERE of_index = :index AND {VALID_AT}"
    rows = store.all(f"SELECT id {where} ORDER BY id LIMIT :count OFFSET :start", values)
    total = store.value(f"SELECT count(*) {where}", values)
    more = start + count < total
    return ok(
        {
            "count": len(rows),
            "totalCount": total,
            "isTruncated": more,
            "nextCursor": f"{index.number}:{at}:{start + count}" if more else None,
            "cursorExpirationTimestamp": timestamp(at + VECTOR_CURSOR_LIFE) if more else None,
            "vectors": [{"id": row["id"]} for row in rows],
        }
    )


def _read_cursor(cursor: str | None, index: IndexRow, now: float) -> tuple[float, int]:
    """Return the time of the listing and the number of ids before the page."""
    if not cursor:
        return now, 0
    try:
        number, at, start = cursor.split(":")
        if int(number) == index.number and now - VECTOR_CURSOR_LIFE < float(at) <= now:
            return float(at), int(start)
    except ValueError:
        pass
    raise not_valid("the cursor is not from this index, or it has expired: start the listing again")


async def _read_vectors(call: Call) -> list[_Vector]:
    """Return the vectors in their order. ApiError 413 if the body is too large, else 400 for the first mistake.

    With ?unparsable-behavior=discard, lines that cannot be parsed are omitted.
    """
    body = await call.read(MAX_VECTORS_SIZE, refuse=_too_large)
    form = _form_type(call)
    discard = call.choice("unparsable-behavior", ("error", "discard"), refuse=not_valid) == "discard"
    vectors: list[_Vector] = []
    for number, line in enumerate(io.BytesIO(body if form is None else _part(form, body)), start=1):
        if number % _LINES_PER_TURN == 0:
            # Parsing 100 MB of numbers takes seconds; other requests run in between.
            await asyncio.sleep(0)
        if not line.strip():
            continue
        try:
            vector = _read_line(line)
        except ValueError as reason:
            if discard:
                continue
            raise _unparsable(f"line {number}: {reason}") from None
        if len(vectors) == MAX_VECTORS:
            raise refused(40006, f"too many vectors in payload; max count is {MAX_VECTORS}")
        vectors.append(vector)
    if not vectors and not discard:
        raise _unparsable("there is no vector in it")
    return vectors


def _form_type(call: Call) -> str | None:
    """Return the multipart content type of the body, None for plain ndjson; ApiError 400 for any other type."""
    content_type = call.request.headers.get("content-type", "")
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    # curl with the content type from the example in the API reference sends a form labelled as ndjson with a boundary.
    if media_type == _FORM or (media_type == _NDJSON and "boundary=" in parameters.lower()):
        return f"{_FORM};{parameters}"
    if media_type == _NDJSON:
        return None
    if media_type == "application/json":
        raise refused(40023, "failed to parse upsert vectors request in json format")
    raise refused(1005, "vectorize.unknown_content_type")


def _part(content_type: str, body: bytes) -> bytes:
    try:
        parts = parse_form(content_type, body)
    except ValueError as reason:
        raise _unparsable(str(reason)) from None
    part = next((parts[name] for name in _PARTS if name in parts), None)
    if part is None:
        raise _unparsable(f"the form has no part named {' or '.join(_PARTS)}")
    return part.data


def _too_large(message: str) -> ApiError:
    return ApiError(413, 10413, message)


def _unparsable(reason: str) -> ApiError:
    return refused(40023, f"failed to parse vectors in ndjson format: {reason}")


def _read_line(line: bytes) -> _Vector:
    """Return the vector of one line. ValueError if the line cannot be parsed, ApiError if it breaks a known rule."""
    try:
        # Not read_json, which serializes the value again: that takes seconds for five thousand vectors.
        raw = json.loads(line, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(raw, dict):
        raise ValueError("a vector must be a JSON object")  # noqa: TRY004 - one error for every line without a vector
    identifier, namespace = raw.get("id"), raw.get("namespace")
    if not isinstance(identifier, str):
        raise ValueError("id must be a text")  # noqa: TRY004 - as above
    if namespace is not None and not isinstance(namespace, str):
        raise ValueError("namespace must be a text")
    data = pack(raw.get("values")).tobytes()
    check_id(identifier)
    return _Vector(identifier, data, _metadata(identifier, raw.get("metadata")), _namespace(namespace))


def pack(values: Any) -> Floats:
    """Return a JSON array of numbers as float32. ValueError if it is not one, or if a number is beyond float32."""
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
        raise ValueError("values must be an array of numbers")
    try:
        exact = np.array(values, np.float64)
    except OverflowError:
        raise ValueError("values must be finite") from None
    if not (np.abs(exact) <= _LARGEST).all():
        raise ValueError("values must be finite")
    return exact.astype(FLOAT)


def unpack(data: bytes) -> list[float]:
    """Return the values as doubles, e.g. 58.79999923706055 for 58.8, like the service shows them."""
    values: list[float] = np.frombuffer(data, FLOAT).tolist()
    return values


def _check_dimensions(vectors: list[_Vector], index: IndexRow) -> None:
    """Raise ApiError 400/40012, which names the first vector that does not fit the index."""
    for vector in vectors:
        count = len(vector.data) // FLOAT.itemsize
        if count != index.dimensions:
            message = f'invalid vector for id="{vector.id}", expected {index.dimensions} dimensions, and got {count}'
            raise refused(40012, f"{message} dimensions")


def check_id(identifier: str) -> None:
    """Raise ApiError 400/40008 unless the id has 1 to 64 bytes."""
    size = _size(identifier)
    if not size:
        raise refused(40008, "id must not be empty")
    if size > MAX_VECTOR_ID_SIZE:
        raise refused(40008, f"id too long; max is {MAX_VECTOR_ID_SIZE} bytes, got {size} bytes")


def _namespace(namespace: str | None) -> str | None:
    size = _size(namespace or "")
    if size > MAX_VECTOR_NAMESPACE_SIZE:
        message = f"namespace too long; max is {MAX_VECTOR_NAMESPACE_SIZE} bytes, got {size} bytes"
        raise refused(40009, message)
    return namespace or None


def _metadata(identifier: str, metadata: Any) -> str | None:
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise ValueError("metadata must be a JSON object")  # noqa: TRY004 - as above
    _check_keys(identifier, metadata)
    text = compact_json(metadata)
    size = _size(text)
    if size > MAX_VECTOR_METADATA_SIZE:
        limit = f"its compact JSON must not exceed {MAX_VECTOR_METADATA_SIZE} bytes, got {size} bytes"
        raise refused(40016, f'oversized metadata for vector id="{identifier}"; {limit}')
    return text


def _check_keys(identifier: str, fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        if not key or key.startswith("$") or "." in key or '"' in key:
            raise refused(40023, f'invalid metadata key {json.dumps(key)} for vector id="{identifier}"')
        if isinstance(value, dict):
            _check_keys(identifier, value)


def _size(text: str) -> int:
    """Return the number of bytes in UTF-8. ValueError for half a surrogate pair, which has no UTF-8 form."""
    return len(text.encode())


ENDPOINTS = [
    Endpoint("POST", f"{INDEX}/upsert", partial(_write, kind="upsert")),
    Endpoint("POST", f"{INDEX}/insert", partial(_write, kind="insert")),
    Endpoint("POST", f"{INDEX}/delete_by_ids", _delete_by_ids),
    Endpoint("POST", f"{INDEX}/get_by_ids", _get_by_ids),
    Endpoint("GET", f"{INDEX}/list", _list),
]
