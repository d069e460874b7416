"""The body of an upsert or insert of Vectorize: its content types, its lines and the checks of each vector."""

import asyncio
import io
import json
from typing import Any

import numpy as np

from syncd.emulator.limits import (
    MAX_VECTOR_ID_SIZE,
    MAX_VECTOR_METADATA_SIZE,
    MAX_VECTOR_NAMESPACE_SIZE,
    MAX_VECTORS,
    MAX_VECTORS_SIZE,
)
from syncd.emulator.messages import ApiError, compact_json, parse_form, refuse_constant
from syncd.emulator.routing import Call
from syncd.emulator.vectorize_store import (
    DIMENSIONS,
    ID_SIZE,
    METADATA_SIZE,
    NAMESPACE_SIZE,
    TOO_MANY_VECTORS,
    UNKNOWN_CONTENT_TYPE,
    UNPARSABLE_VECTORS,
    IndexRow,
    VectorRow,
    not_valid,
    refused,
    too_large,
)

FLOAT = np.dtype("<f4")
Floats = np.ndarray[Any, np.dtype[np.float32]]

_LARGEST = float(np.finfo(FLOAT).max)
_NDJSON = "application/x-ndjson"
_FORM = "multipart/form-data"
_PARTS = ("vectors", "body")
"""The names of the form's part: wrangler uses the first, the example in the API reference the second."""

_LINES_PER_TURN = 50


async def read_vectors(call: Call) -> list[VectorRow]:
    """Return the vectors in their order. ApiError 413 if the body is too large, else 400 for the first mistake.

    With ?unparsable-behavior=discard, lines that cannot be parsed are omitted.
    """
    body = await call.read(MAX_VECTORS_SIZE, refuse=too_large)
    form = _form_type(call)
    discard = call.choice("unparsable-behavior", ("error", "discard"), refuse=not_valid) == "discard"
    vectors: list[VectorRow] = []
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
            raise refused(TOO_MANY_VECTORS, f"too many vectors in payload; max count is {MAX_VECTORS}")
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
        raise refused(UNPARSABLE_VECTORS, "failed to parse upsert vectors request in json format")
    raise refused(UNKNOWN_CONTENT_TYPE, "vectorize.unknown_content_type")


def _part(content_type: str, body: bytes) -> bytes:
    try:
        parts = parse_form(content_type, body)
    except ValueError as reason:
        raise _unparsable(str(reason)) from None
    part = next((parts[name] for name in _PARTS if name in parts), None)
    if part is None:
        raise _unparsable(f"the form has no part named {' or '.join(_PARTS)}")
    return bytes(part.data)


def _unparsable(reason: str) -> ApiError:
    return refused(UNPARSABLE_VECTORS, f"failed to parse vectors in ndjson format: {reason}")


def _read_line(line: bytes) -> VectorRow:
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
    return VectorRow(identifier, data, _metadata(identifier, raw.get("metadata")), _namespace(namespace))


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


def check_dimensions(vectors: list[VectorRow], index: IndexRow) -> None:
    """Raise ApiError 400/40012, which names the first vector that does not fit the index."""
    for vector in vectors:
        count = len(vector.data or b"") // FLOAT.itemsize
        if count != index.dimensions:
            message = f'invalid vector for id="{vector.id}", expected {index.dimensions} dimensions, and got {count}'
            raise refused(DIMENSIONS, f"{message} dimensions")


def check_id(identifier: str) -> None:
    """Raise ApiError 400/40008 unless the id has 1 to 64 bytes."""
    size = _size(identifier)
    if not size:
        raise refused(ID_SIZE, "id must not be empty")
    if size > MAX_VECTOR_ID_SIZE:
        raise refused(ID_SIZE, f"id too long; max is {MAX_VECTOR_ID_SIZE} bytes, got {size} bytes")


def _namespace(namespace: str | None) -> str | None:
    size = _size(namespace or "")
    if size > MAX_VECTOR_NAMESPACE_SIZE:
        message = f"namespace too long; max is {MAX_VECTOR_NAMESPACE_SIZE} bytes, got {size} bytes"
        raise refused(NAMESPACE_SIZE, message)
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
        raise refused(METADATA_SIZE, f'oversized metadata for vector id="{identifier}"; {limit}')
    return text


def _check_keys(identifier: str, fields: dict[str, Any]) -> None:
    for key, value in fields.items():
        if not key or key.startswith("$") or "." in key or '"' in key:
            raise refused(UNPARSABLE_VECTORS, f'invalid metadata key {json.dumps(key)} for vector id="{identifier}"')
        if isinstance(value, dict):
            _check_keys(identifier, value)


def _size(text: str) -> int:
    """Return the number of bytes in UTF-8. ValueError for half a surrogate pair, which has no UTF-8 form."""
    return len(text.encode())
