"""The query endpoint of Vectorize: an exact search over all stored vectors, one block at a time."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from starlette.responses import Response

from syncd.emulator.filters import compile_property_filter
from syncd.emulator.requests import Call, Endpoint, ok
from syncd.emulator.store import VALID_AT, Backend
from syncd.emulator.vectorize_store import INDEX, IndexRow, find_index, refused, unparsable
from syncd.emulator.vectorize_vectors import FLOAT, Floats, find_vector, pack, unpack

MAX_TOP_K = 100
MAX_TOP_K_WITH_CONTENT = 50
"""Matches of one query; the second limit applies if the query returns values or all metadata."""

_METADATA = {"none": "none", "indexed": "indexed", "all": "all", True: "all", False: "none"}
"""The values of returnMetadata; clients of version 1 of the API send the last two."""

_BLOCK = 4096
_SQL = f"""
SELECT number, data FROM vz_vectors
WHERE of_index = :index AND number > :after AND {VALID_AT} AND (:namespace IS NULL OR namespace = :namespace)
    AND (NOT :filtered OR vz_filter(indexed))
ORDER BY number LIMIT :limit
"""  # noqa: S608 - a constant


class _QueryRequest(NamedTuple):
    vector: Floats
    top_k: int
    values: bool
    metadata: str
    namespace: str | None
    filtered: bool


class _ScoredVector(NamedTuple):
    """number: the vector's key in the database; score: by the metric of the index."""

    number: int
    score: float


async def _query(call: Call) -> Response:
    body = await call.body(refuse=unparsable)
    index = find_index(call)
    wanted = _read_request(call, index, body)
    nearest = _nearest(call.backend, index, wanted)
    return ok({"count": len(nearest), "matches": [_render(call, scored, wanted) for scored in nearest]})


def _render(call: Call, scored: _ScoredVector, wanted: _QueryRequest) -> dict[str, Any]:
    row = dict(call.backend.store.one("SELECT * FROM vz_vectors WHERE number = ?", (scored.number,)) or {})
    shown: dict[str, Any] = {"id": row["id"], "score": round(scored.score, 9)}
    if wanted.values:
        shown["values"] = unpack(row["data"])
    if row["namespace"] is not None:
        shown["namespace"] = row["namespace"]
    if wanted.metadata != "none" and row["metadata"] is not None:
        shown["metadata"] = json.loads(row["metadata" if wanted.metadata == "all" else "indexed"])
    return shown


def _read_request(call: Call, index: IndexRow, body: dict[str, Any]) -> _QueryRequest:
    values, given, namespace = body.get("returnValues"), body.get("returnMetadata"), body.get("namespace")
    if values is not None and not isinstance(values, bool):
        raise unparsable("returnValues: expected true or false")
    given = "none" if given is None else given
    if not isinstance(given, (str, bool)) or given not in _METADATA:
        raise unparsable("returnMetadata: expected value")
    if namespace is not None and not isinstance(namespace, str):
        raise unparsable("namespace: expected a text")
    metadata = _METADATA[given]
    top_k = _top_k(body.get("topK"), with_content=values is True or metadata == "all")
    filtered = _define_filter(call, body.get("filter"))
    return _QueryRequest(_vector(call, index, body), top_k, values is True, metadata, namespace, filtered)


def _vector(call: Call, index: IndexRow, body: dict[str, Any]) -> Floats:
    """Return the vector of the query, or the stored vector that `vectorId` names, as wrangler sends it."""
    identifier = body.get("vectorId")
    if isinstance(identifier, str) and "vector" not in body:
        row = find_vector(call.backend, index, identifier)
        if row is None:
            raise unparsable(f"vectorId: there is no vector {identifier}")
        return np.frombuffer(row["data"], FLOAT)
    try:
        vector = pack(body.get("vector"))
    except ValueError as reason:
        raise unparsable(f"vector: {reason}") from None
    if len(vector) != index.dimensions:
        message = f"invalid query vector, expected {index.dimensions} dimensions, and got {len(vector)} dimensions"
        raise refused(40006, message)
    return vector


def _top_k(given: Any, *, with_content: bool) -> int:
    # The type in the official SDK is a float, so 5.0 is valid too.
    if given is None:
        given = 5
    if not isinstance(given, (int, float)) or isinstance(given, bool) or given % 1 or given < 1:
        raise unparsable("topK: expected a whole number, 1 or more")
    if with_content and given > MAX_TOP_K_WITH_CONTENT:
        message = f"with returnValues=true or returnMetadata=all, max top K is {MAX_TOP_K_WITH_CONTENT}"
        raise refused(
            40025,
            f"{message}, but got {given:.0f}; for a top K up to {MAX_TOP_K}, retry with returnValues=false"
            " and returnMetadata=indexed",
        )
    if given > MAX_TOP_K:
        raise refused(40025, f"max top K is {MAX_TOP_K}, but got {given:.0f}")
    return int(given)


def _define_filter(call: Call, expression: Any) -> bool:
    """Define the SQL function vz_filter(indexed metadata as JSON) for the rest of the request.

    Return whether there is a filter. Without one the function must still exist: SQLite resolves it before it reads a
    row.
    """
    accepts = None
    if expression is not None:
        try:
            accepts = compile_property_filter(expression)
        except ValueError as reason:
            raise unparsable(f"filter: {reason}") from None
    call.backend.store.function("vz_filter", 1, lambda indexed: accepts is None or accepts(json.loads(indexed)))
    return accepts is not None


def _nearest(backend: Backend, index: IndexRow, wanted: _QueryRequest) -> list[_ScoredVector]:
    """Return the best vectors, best first; of vectors with equal scores the first written comes first."""
    score = _METRICS[index.metric]
    sign = 1 if index.metric == "euclidean" else -1
    values = {
        "index": index.number,
        "at": backend.clock(),
        "after": 0,
        "namespace": wanted.namespace,
        "filtered": wanted.filtered,
        "limit": _BLOCK,
    }
    best: list[_ScoredVector] = []
    while rows := backend.store.all(_SQL, values):
        block = np.frombuffer(b"".join(row["data"] for row in rows), FLOAT).reshape(len(rows), index.dimensions)
        scores = score(block, wanted.vector)
        places = np.argsort(sign * scores, kind="stable")[: wanted.top_k]
        best += [_ScoredVector(rows[place]["number"], float(scores[place])) for place in places]
        values["after"] = rows[-1]["number"]
    best.sort(key=lambda scored: (sign * scored.score, scored.number))
    return best[: wanted.top_k]


def _cosine(block: Floats, vector: Floats) -> Floats:
    """Return values from -1 to 1; 0 if one of the two vectors has length 0."""
    lengths = np.linalg.norm(block, axis=1) * np.linalg.norm(vector)
    cosines: Floats = np.divide(block @ vector, lengths, out=np.zeros(len(block), np.float32), where=lengths > 0)
    return cosines


def _euclidean(block: Floats, vector: Floats) -> Floats:
    distances: Floats = np.linalg.norm(block - vector, axis=1)
    return distances


def _dot(block: Floats, vector: Floats) -> Floats:
    products: Floats = block @ vector
    return products


_METRICS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "cosine": _cosine,
    "euclidean": _euclidean,
    "dot-product": _dot,
}

ENDPOINTS = [Endpoint("POST", f"{INDEX}/query", _query)]
