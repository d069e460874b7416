"""One vector of an upsert or insert, taken from its line and checked. PURE."""

import json
from typing import Any, NamedTuple

import numpy as np

from syncd.emulator.limits import MAX_VECTOR_ID_SIZE, MAX_VECTOR_METADATA_SIZE, MAX_VECTOR_NAMESPACE_SIZE
from syncd.emulator.vectorize.places import (
    DIMENSIONS,
    ID_SIZE,
    METADATA_SIZE,
    NAMESPACE_SIZE,
    UNPARSABLE_VECTORS,
    Index,
    refused,
)

FLOAT = np.dtype("<f4")
_LARGEST = float(np.finfo(FLOAT).max)


class Vector(NamedTuple):
    """A vector as stored. data: its float32 values, None where only the id matters; metadata: JSON text."""

    id: str
    data: bytes | None
    metadata: str | None = None
    namespace: str | None = None


def read_line(line: bytes) -> Vector:
    """One line of the body. ValueError if it cannot be read as a vector, ApiError if the service has a rule against it.

    Whether it fits its index is for check_dimensions.
    """
    try:
        # Not envelope.read_json: that writes everything back, which takes seconds for five thousand vectors.
        raw = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(raw, dict):
        raise ValueError("a vector must be a JSON object")  # noqa: TRY004 - one error for all that cannot be read
    identifier, namespace = raw.get("id"), raw.get("namespace")
    if not isinstance(identifier, str):
        raise ValueError("id must be a text")  # noqa: TRY004 - as above
    if namespace is not None and not isinstance(namespace, str):
        raise ValueError("namespace must be a text")
    data = pack(raw.get("values")).tobytes()
    check_id(identifier)
    return Vector(identifier, data, _metadata(identifier, raw.get("metadata")), _namespace(namespace))


def pack(values: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """A JSON array of numbers as float32. ValueError if it is none, or if a number is beyond float32."""
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
    """The values for the wire: the nearest doubles, e.g. 58.79999923706055 for 58.8, as the service shows them."""
    values: list[float] = np.frombuffer(data, FLOAT).tolist()
    return values


def check_dimensions(vectors: list[Vector], index: Index) -> None:
    """ApiError 400/40012 names the first vector that does not fit the index."""
    for vector in vectors:
        count = len(vector.data or b"") // FLOAT.itemsize
        if count != index.dimensions:
            message = f'invalid vector for id="{vector.id}", expected {index.dimensions} dimensions, and got {count}'
            raise refused(DIMENSIONS, f"{message} dimensions")


def check_id(identifier: str) -> None:
    """ApiError 400/40008 unless it has 1 to 64 bytes."""
    size = len(_encode(identifier))
    if not size:
        raise refused(ID_SIZE, "id must not be empty")
    if size > MAX_VECTOR_ID_SIZE:
        raise refused(ID_SIZE, f"id too long; max is {MAX_VECTOR_ID_SIZE} bytes, got {size} bytes")


def _namespace(namespace: str | None) -> str | None:
    size = len(_encode(namespace or ""))
    if size > MAX_VECTOR_NAMESPACE_SIZE:
        message = f"namespace too long; max is {MAX_VECTOR_NAMESPACE_SIZE} bytes, got {size} bytes"
        raise refused(NAMESPACE_SIZE, message)
    return namespace or None


def _metadata(identifier: str, metadata: Any) -> str | None:
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise ValueError("metadata must be a JSON object")  # noqa: TRY004 - one error for all that cannot be read
    _check_keys(identifier, metadata)
    text = json.dumps(metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(_encode(text))
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


def _encode(text: str) -> bytes:
    # Half a surrogate pair has no UTF-8: a UnicodeEncodeError, which is a ValueError.
    return text.encode()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
