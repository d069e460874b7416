"""The endpoints of Vectorize that write, delete, read, list and query vectors, and the checks of a body with vectors.

A query is an exact search over all stored vectors, one block at a time.
"""

import io
import json
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.filters import MetadataFilter, compile_filter, indexed_properties
from syncd.emulator.requests import (
    ApiError,
    Call,
    Endpoint,
    compact_json,
    ok,
    parse_form,
    timestamp,
    validate,
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
"""Maximum bytes of metadata as compact JSON."""

MAX_VECTORS = 5000
MAX_VECTORS_SIZE = 100_000_000
"""Maximum vectors, and maximum bytes (100 MB of the documentation), of one upsert or insert."""

MAX_DELETED_IDS = 100
MAX_READ_IDS = 20
"""Maximum ids of one delete_by_ids and of one get_by_ids. Both are undocumented. Users of the service report them."""

MAX_VECTOR_LIST = 1000
_FLOAT = np.dtype("<f4")
_Floats = np.ndarray[Any, np.dtype[np.float32]]

_LARGEST = float(np.finfo(_FLOAT).max)
_Values = list[Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]]
"""The values of a vector in a request: numbers within the range of float32."""

MAX_TOP_K = 100
MAX_TOP_K_WITH_CONTENT = 50
"""Maximum matches of one query. The second limit applies if the query returns values or all metadata."""

_METADATA_COLUMNS = {None: None, "none": None, False: None, "indexed": "indexed", "all": "metadata", True: "metadata"}
"""returnMetadata -> the column that the answer shows as metadata."""

_MAX_FILTER_SIZE = 2048
"""Bytes of a filter as compact JSON. A filter must have fewer."""
_BLOCK = 4096
"""Vectors that a query reads at a time."""
_NEXT_BLOCK = f"""
SELECT number, data FROM vz_vectors
WHERE of_index = :index AND number > :after AND {VALID_AT} AND (:namespace IS NULL OR namespace = :namespace)
    AND accepted(indexed)
ORDER BY number LIMIT :limit
"""  # noqa: S608 - a constant

_NDJSON = "application/x-ndjson"
_FORM = "multipart/form-data"
_PARTS = ("vectors", "body")
"""The names of the form part with the vectors: of wrangler, and of the example in the API reference."""

_DEFAULT_COUNT = 100


async def _write(call: Call, kind: MutationKind) -> Response:
    rows = await _read_vectors(call)
    index = find_index(call)
    _check_dimensions(rows, index)
    if kind == "upsert":
        rows = list({row["id"]: row for row in rows}.values())
    types = property_types(call.backend, index, accepted=True)
    rows = [row | {"indexed": indexed_properties(row["metadata"], types)} for row in rows]
    return change_index(call.backend, index, kind, rows)


async def _delete_by_ids(call: Call) -> Response:
    rows = [{"id": identifier} for identifier in await _ids(call, MAX_DELETED_IDS)]
    return change_index(call.backend, find_index(call), "delete", rows)


async def _get_by_ids(call: Call) -> Response:
    """Return the vectors of the ids. An unknown id has no row in the answer."""
    ids = await _ids(call, MAX_READ_IDS)
    index = find_index(call)
    rows = (_find_vector(call.backend, index, identifier) for identifier in dict.fromkeys(ids))
    return ok([_render(row) for row in rows if row is not None])


def _find_vector(backend: Backend, index: IndexRow, identifier: str) -> dict[str, Any] | None:
    """Return the row of the vector that is visible under this id, or None."""
    sql = f"SELECT * FROM vz_vectors WHERE of_index = :index AND id = :id AND {VALID_AT}"  # noqa: S608 - a constant
    row = backend.store.one(sql, {"index": index.number, "id": identifier, "at": backend.clock()})
    return None if row is None else dict(row)


def _render(row: dict[str, Any], *, values: bool = True, metadata: str | None = "metadata") -> dict[str, Any]:
    """Return a row as the API shows it. metadata: the column with the shown metadata, "metadata" or "indexed"."""
    shown = {"id": row["id"]}
    if values:
        shown["values"] = np.frombuffer(row["data"], _FLOAT).tolist()
    if row["namespace"] is not None:
        shown["namespace"] = row["namespace"]
    if metadata is not None and row["metadata"] is not None:
        shown["metadata"] = json.loads(row[metadata])
    return shown


class _Vector(BaseModel):
    """A vector of a request."""

    id: str
    values: _Values
    metadata: dict[str, Any] | None = None
    namespace: str | None = None


class _Ids(BaseModel):
    ids: list[str]


async def _ids(call: Call, limit: int) -> list[str]:
    ids = validate(_Ids, await call.body(refuse=unparsable), refuse=unparsable).ids
    if len(ids) > limit:
        raise refused(40007, f"too many ids in payload; max id count is {limit}, got {len(ids)}")
    for identifier in ids:
        _check_id(identifier)
    return ids


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


async def _read_vectors(call: Call) -> list[dict[str, Any]]:
    """Return the vectors of the body in their order, as rows of vz_vectors.

    Raises ApiError 413 if the body is too large, and 400 for the first mistake. With ?unparsable-behavior=discard,
    lines that cannot be parsed are omitted.
    """
    body = await call.read(MAX_VECTORS_SIZE, refuse=partial(refused, 10413))
    form = _form_type(call)
    discard = call.choice("unparsable-behavior", ("error", "discard"), refuse=not_valid) == "discard"
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(io.BytesIO(body if form is None else _part(form, body)), start=1):
        if not line.strip():
            continue
        try:
            rows.append(_row(validate(_Vector, line, refuse=ValueError)))
        except ValueError as reason:
            if discard:
                continue
            raise _bad_ndjson(f"line {number}: {reason}") from None
        if len(rows) > MAX_VECTORS:
            raise refused(40006, f"too many vectors in payload; max count is {MAX_VECTORS}")
    if not rows and not discard:
        raise _bad_ndjson("there is no vector in it")
    return rows


def _form_type(call: Call) -> str | None:
    """Return the multipart content type of the body, None for plain ndjson. Raises ApiError 400 for any other."""
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
        raise _bad_ndjson(str(reason)) from None
    part = next((parts[name] for name in _PARTS if name in parts), None)
    if part is None:
        raise _bad_ndjson(f"the form has no part named {' or '.join(_PARTS)}")
    return part.data


def _bad_ndjson(reason: str) -> ApiError:
    return refused(40023, f"failed to parse vectors in ndjson format: {reason}")


def _row(vector: _Vector) -> dict[str, Any]:
    """Return the vector as a row of vz_vectors. Raises ApiError 400 for a broken limit, ValueError for NaN."""
    _check_id(vector.id)
    size = len((vector.namespace or "").encode())
    if size > MAX_VECTOR_NAMESPACE_SIZE:
        message = f"namespace too long; max is {MAX_VECTOR_NAMESPACE_SIZE} bytes, got {size} bytes"
        raise refused(40009, message)
    metadata = None if vector.metadata is None else compact_json(vector.metadata)
    _check_keys(vector.id, vector.metadata or {})
    size = len((metadata or "").encode())
    if size > MAX_VECTOR_METADATA_SIZE:
        limit = f"its compact JSON must not exceed {MAX_VECTOR_METADATA_SIZE} bytes, got {size} bytes"
        raise refused(40016, f'oversized metadata for vector id="{vector.id}"; {limit}')
    data = np.array(vector.values, _FLOAT).tobytes()
    return {"id": vector.id, "namespace": vector.namespace or None, "metadata": metadata, "data": data}


def _check_dimensions(rows: list[dict[str, Any]], index: IndexRow) -> None:
    """Raise ApiError 400/40012, which names the first vector that does not fit the index."""
    for row in rows:
        count = len(row["data"]) // _FLOAT.itemsize
        if count != index.dimensions:
            message = f'invalid vector for id="{row["id"]}", expected {index.dimensions} dimensions, and got {count}'
            raise refused(40012, f"{message} dimensions")


def _check_id(identifier: str) -> None:
    """Raise ApiError 400/40008 unless the id has 1 to 64 bytes."""
    size = len(identifier.encode())
    if not size:
        raise refused(40008, "id must not be empty")
    if size > MAX_VECTOR_ID_SIZE:
        raise refused(40008, f"id too long; max is {MAX_VECTOR_ID_SIZE} bytes, got {size} bytes")


def _check_keys(identifier: str, fields: dict[str, Any]) -> None:
    """Raise ApiError 400/40023 for an invalid metadata key."""
    for key, value in fields.items():
        if not key or key.startswith("$") or "." in key or '"' in key:
            raise refused(40023, f'invalid metadata key {json.dumps(key)} for vector id="{identifier}"')
        if isinstance(value, dict):
            _check_keys(identifier, value)


class _Query(BaseModel):
    """A query. The type of topK in the official SDK is a float, so 5.0 is valid too.

    Clients of version 1 of the API send true or false as returnMetadata. wrangler can send `vectorId`, the id of a
    stored vector, in place of `vector`.
    """

    vector: _Values | None = None
    vectorId: str | None = None  # noqa: N815 - the names in the API
    topK: float | None = Field(default=None, ge=1, multiple_of=1)  # noqa: N815
    returnValues: bool | None = None  # noqa: N815
    returnMetadata: Literal["none", "indexed", "all"] | bool | None = None  # noqa: N815
    namespace: str | None = None
    filter: dict[str, Any] | None = Field(default=None, min_length=1)


async def _query(call: Call) -> Response:
    body = await call.body(refuse=unparsable)
    index = find_index(call)
    wanted = validate(_Query, body, refuse=unparsable)
    top_k = _top_k(wanted)
    call.backend.store.filter_by(_compiled_filter(wanted.filter))
    nearest = _nearest(call.backend, index, _query_vector(call, index, wanted), wanted, top_k)
    matches = []
    for score, number in nearest:
        row = dict(call.backend.store.one("SELECT * FROM vz_vectors WHERE number = ?", (number,)) or {})
        shown = _render(row, values=wanted.returnValues is True, metadata=_METADATA_COLUMNS[wanted.returnMetadata])
        matches.append(shown | {"score": round(score, 9)})
    return ok({"count": len(matches), "matches": matches})


def _query_vector(call: Call, index: IndexRow, wanted: _Query) -> _Floats:
    """Return the vector of the query, or the stored vector that `vectorId` names."""
    if wanted.vector is None:
        row = _find_vector(call.backend, index, wanted.vectorId or "")
        if row is None:
            raise unparsable(f"there is no vector, and no stored vector {wanted.vectorId}")
        return np.frombuffer(row["data"], _FLOAT)
    if len(wanted.vector) != index.dimensions:
        dimensions = f"expected {index.dimensions} dimensions, and got {len(wanted.vector)} dimensions"
        raise refused(40006, f"invalid query vector, {dimensions}")
    return np.array(wanted.vector, _FLOAT)


def _top_k(wanted: _Query) -> int:
    count = int(wanted.topK or 5)
    if count > MAX_TOP_K_WITH_CONTENT and (
        wanted.returnValues or _METADATA_COLUMNS[wanted.returnMetadata] == "metadata"
    ):
        message = f"with returnValues=true or returnMetadata=all, max top K is {MAX_TOP_K_WITH_CONTENT}"
        advice = f"for a top K up to {MAX_TOP_K}, retry with returnValues=false and returnMetadata=indexed"
        raise refused(40025, f"{message}, but got {count}; {advice}")
    if count > MAX_TOP_K:
        raise refused(40025, f"max top K is {MAX_TOP_K}, but got {count}")
    return count


def _compiled_filter(expression: dict[str, Any] | None) -> MetadataFilter:
    """Return the filter of a query. It sees the properties that have a metadata index."""
    if expression is None:
        return lambda _: True
    if len(compact_json(expression).encode()) >= _MAX_FILTER_SIZE:
        raise unparsable(f"filter: a filter must be less than {_MAX_FILTER_SIZE} bytes")
    try:
        return compile_filter(expression)
    except ValueError as reason:
        raise unparsable(f"filter: {reason}") from None


def _nearest(backend: Backend, index: IndexRow, vector: _Floats, wanted: _Query, top_k: int) -> list[tuple[float, int]]:
    """Return the scores and the numbers of the best vectors, best first. Equal scores keep the order of the writes."""
    sign = 1 if index.metric == "euclidean" else -1
    values = {"index": index.number, "namespace": wanted.namespace, "at": backend.clock(), "limit": _BLOCK}
    after = 0
    best: list[tuple[float, int]] = []
    while rows := backend.store.all(_NEXT_BLOCK, values | {"after": after}):
        block = np.frombuffer(b"".join(row["data"] for row in rows), _FLOAT).reshape(len(rows), index.dimensions)
        scores = _scores(index.metric, block, vector)
        places = np.argsort(sign * scores, kind="stable")[:top_k]
        best += [(float(scores[place]), rows[place]["number"]) for place in places]
        after = rows[-1]["number"]
    best.sort(key=lambda scored: (sign * scored[0], scored[1]))
    return best[:top_k]


def _scores(metric: str, block: _Floats, vector: _Floats) -> _Floats:
    """Return the distance or the similarity of each row of `block` to `vector`. A cosine with a zero vector is 0."""
    scores: _Floats = np.linalg.norm(block - vector, axis=1) if metric == "euclidean" else block @ vector
    if metric == "cosine":
        lengths = np.linalg.norm(block, axis=1) * np.linalg.norm(vector)
        scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    return scores


ENDPOINTS = [
    Endpoint("POST", f"{INDEX}/upsert", partial(_write, kind="upsert")),
    Endpoint("POST", f"{INDEX}/insert", partial(_write, kind="insert")),
    Endpoint("POST", f"{INDEX}/delete_by_ids", _delete_by_ids),
    Endpoint("POST", f"{INDEX}/get_by_ids", _get_by_ids),
    Endpoint("GET", f"{INDEX}/list", _list),
    Endpoint("POST", f"{INDEX}/query", _query),
]
