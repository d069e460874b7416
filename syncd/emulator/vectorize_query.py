"""The query endpoint of Vectorize: an exact search over all stored vectors, one block at a time."""

import json
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.filters import compile_property_filter
from syncd.emulator.requests import Call, Endpoint, ok, validate
from syncd.emulator.store import VALID_AT, Backend
from syncd.emulator.vectorize_store import INDEX, IndexRow, find_index, refused, unparsable
from syncd.emulator.vectorize_vectors import FLOAT, Floats, Values, find_vector, render_vector

MAX_TOP_K = 100
MAX_TOP_K_WITH_CONTENT = 50
"""Matches of one query; the second limit applies if the query returns values or all metadata."""

_SHOWN = {None: None, "none": None, False: None, "indexed": "indexed", "all": "metadata", True: "metadata"}
"""returnMetadata -> the column that the answer shows as metadata."""

_BLOCK = 4096
_SQL = f"""
SELECT number, data FROM vz_vectors
WHERE of_index = :index AND number > :after AND {VALID_AT} AND (:namespace IS NULL OR namespace = :namespace)
    AND (NOT :filtered OR vz_filter(indexed))
ORDER BY number LIMIT :limit
"""  # noqa: S608 - a constant


class _Request(BaseModel):
    """A query. The type of topK in the official SDK is a float, so 5.0 is valid too.

    Clients of version 1 of the API send true and false as returnMetadata. wrangler may name a stored vector.
    """

    vector: Values | None = None
    vectorId: str | None = None  # noqa: N815
    topK: float | None = Field(default=None, ge=1, multiple_of=1)  # noqa: N815 - the name in the API
    returnValues: bool | None = None  # noqa: N815
    returnMetadata: Literal["none", "indexed", "all"] | bool | None = None  # noqa: N815
    namespace: str | None = None
    filter: Any = None


class _ScoredVector(NamedTuple):
    """number: the vector's key in the database; score: by the metric of the index."""

    number: int
    score: float


async def _query(call: Call) -> Response:
    body = await call.body(refuse=unparsable)
    index = find_index(call)
    wanted = validate(_Request, body, refuse=unparsable)
    top_k = _top_k(wanted)
    _define_filter(call, wanted.filter)
    nearest = _nearest(call.backend, index, _vector(call, index, wanted), wanted, top_k)
    matches = []
    for scored in nearest:
        row = dict(call.backend.store.one("SELECT * FROM vz_vectors WHERE number = ?", (scored.number,)) or {})
        shown = render_vector(row, values=wanted.returnValues is True, metadata=_SHOWN[wanted.returnMetadata])
        matches.append(shown | {"score": round(scored.score, 9)})
    return ok({"count": len(matches), "matches": matches})


def _vector(call: Call, index: IndexRow, wanted: _Request) -> Floats:
    """Return the vector of the query, or the stored vector that `vectorId` names."""
    if wanted.vector is None:
        row = find_vector(call.backend, index, wanted.vectorId or "")
        if row is None:
            raise unparsable(f"there is no vector, and no stored vector {wanted.vectorId}")
        return np.frombuffer(row["data"], FLOAT)
    if len(wanted.vector) != index.dimensions:
        dimensions = f"expected {index.dimensions} dimensions, and got {len(wanted.vector)} dimensions"
        raise refused(40006, f"invalid query vector, {dimensions}")
    return np.array(wanted.vector, FLOAT)


def _top_k(wanted: _Request) -> int:
    count = int(wanted.topK or 5)
    if count > MAX_TOP_K_WITH_CONTENT and (wanted.returnValues or _SHOWN[wanted.returnMetadata] == "metadata"):
        message = f"with returnValues=true or returnMetadata=all, max top K is {MAX_TOP_K_WITH_CONTENT}"
        advice = f"for a top K up to {MAX_TOP_K}, retry with returnValues=false and returnMetadata=indexed"
        raise refused(40025, f"{message}, but got {count}; {advice}")
    if count > MAX_TOP_K:
        raise refused(40025, f"max top K is {MAX_TOP_K}, but got {count}")
    return count


def _define_filter(call: Call, expression: Any) -> None:
    """Define the SQL function vz_filter(indexed metadata as JSON) for the rest of the request.

    Without a filter the function must still exist: SQLite resolves it before it reads a row.
    """
    try:
        accepts = None if expression is None else compile_property_filter(expression)
    except ValueError as reason:
        raise unparsable(f"filter: {reason}") from None
    call.backend.store.create_function("vz_filter", 1, lambda indexed: accepts is None or accepts(json.loads(indexed)))


def _nearest(backend: Backend, index: IndexRow, vector: Floats, wanted: _Request, top_k: int) -> list[_ScoredVector]:
    """Return the best vectors, best first; of vectors with equal scores the first written comes first."""
    sign = 1 if index.metric == "euclidean" else -1
    values = {
        "index": index.number,
        "at": backend.clock(),
        "after": 0,
        "namespace": wanted.namespace,
        "filtered": wanted.filter is not None,
        "limit": _BLOCK,
    }
    best: list[_ScoredVector] = []
    while rows := backend.store.all(_SQL, values):
        block = np.frombuffer(b"".join(row["data"] for row in rows), FLOAT).reshape(len(rows), index.dimensions)
        scores = _scores(index.metric, block, vector)
        places = np.argsort(sign * scores, kind="stable")[:top_k]
        best += [_ScoredVector(rows[place]["number"], float(scores[place])) for place in places]
        values["after"] = rows[-1]["number"]
    best.sort(key=lambda scored: (sign * scored.score, scored.number))
    return best[:top_k]


def _scores(metric: str, block: Floats, vector: Floats) -> Floats:
    """Return the distance or the similarity of each vector. A cosine is 0 if one of the two vectors has length 0."""
    scores: Floats = np.linalg.norm(block - vector, axis=1) if metric == "euclidean" else block @ vector
    if metric == "cosine":
        lengths = np.linalg.norm(block, axis=1) * np.linalg.norm(vector)
        scores = np.divide(scores, lengths, out=np.zeros_like(scores), where=lengths > 0)
    return scores


ENDPOINTS = [Endpoint("POST", f"{INDEX}/query", _query)]
