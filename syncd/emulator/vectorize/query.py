"""/query: a vector in, the nearest ones out."""

import json
from typing import Any, NamedTuple

from starlette.responses import Response

from syncd.emulator.envelope import ok
from syncd.emulator.limits import MAX_TOP_K, MAX_TOP_K_WITH_CONTENT
from syncd.emulator.routing import Call, Endpoint
from syncd.emulator.vectorize.elements import FLOAT, pack, unpack
from syncd.emulator.vectorize.mutations import current_index
from syncd.emulator.vectorize.nearest import Floats, Hit, nearest
from syncd.emulator.vectorize.places import (
    INDEX,
    QUERY_DIMENSIONS,
    TOP_K,
    Index,
    read_object,
    refused,
    unparsable,
)
from syncd.emulator.vectorize.properties import compile_indexed

_METADATA = {"none": "none", "indexed": "indexed", "all": "all", True: "all", False: "none"}
"""What returnMetadata may be; clients of the first version of the API send the last two."""


class _Wish(NamedTuple):
    vector: Floats
    top_k: int
    values: bool
    metadata: str
    namespace: str | None
    filtered: bool


async def _query(call: Call) -> Response:
    body = await read_object(call)
    index = current_index(call)
    wish = _read(call, index, body)
    hits = nearest(call.backend.store, index, wish.vector, (wish.namespace, wish.filtered), wish.top_k)
    return ok({"count": len(hits), "matches": [_render(call, hit, wish) for hit in hits]})


def _render(call: Call, hit: Hit, wish: _Wish) -> dict[str, Any]:
    row = dict(call.backend.store.one("SELECT * FROM vz_vectors WHERE number = ?", (hit.number,)) or {})
    shown: dict[str, Any] = {"id": row["id"], "score": round(hit.score, 9)}
    if wish.values:
        shown["values"] = unpack(row["data"])
    if row["namespace"] is not None:
        shown["namespace"] = row["namespace"]
    if wish.metadata != "none" and row["metadata"] is not None:
        shown["metadata"] = json.loads(row["metadata" if wish.metadata == "all" else "indexed"])
    return shown


def _read(call: Call, index: Index, body: dict[str, Any]) -> _Wish:
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
    filtered = _use_filter(call, body.get("filter"))
    return _Wish(_vector(call, index, body), top_k, values is True, metadata, namespace, filtered)


def _vector(call: Call, index: Index, body: dict[str, Any]) -> Floats:
    """The query's vector, or the stored one that vectorId names, as wrangler does."""
    identifier = body.get("vectorId")
    if isinstance(identifier, str) and "vector" not in body:
        sql = "SELECT data FROM vz_vectors WHERE of_index = ? AND id = ?"
        row = call.backend.store.one(sql, (index.number, identifier))
        if row is None:
            raise unparsable(f"vectorId: there is no vector {identifier}")
        return pack(unpack(row["data"]))
    try:
        vector = pack(body.get("vector"))
    except ValueError as reason:
        raise unparsable(f"vector: {reason}") from None
    if len(vector) != index.dimensions:
        message = f"invalid query vector, expected {index.dimensions} dimensions, and got {len(vector)} dimensions"
        raise refused(QUERY_DIMENSIONS, message)
    return vector.astype(FLOAT)


def _top_k(given: Any, *, with_content: bool) -> int:
    # The official SDK's type is a float, so 5.0 comes too.
    if given is None:
        given = 5
    if not isinstance(given, (int, float)) or isinstance(given, bool) or given % 1 or given < 1:
        raise unparsable("topK: expected a whole number, 1 or more")
    if with_content and given > MAX_TOP_K_WITH_CONTENT:
        message = f"with returnValues=true or returnMetadata=all, max top K is {MAX_TOP_K_WITH_CONTENT}"
        raise refused(
            TOP_K,
            f"{message}, but got {given:.0f}; for a top K up to {MAX_TOP_K}, retry with returnValues=false"
            " and returnMetadata=indexed",
        )
    if given > MAX_TOP_K:
        raise refused(TOP_K, f"max top K is {MAX_TOP_K}, but got {given:.0f}")
    return int(given)


def _use_filter(call: Call, expression: Any) -> bool:
    """Makes the SQL function vz_filter(indexed metadata as JSON) mean this filter, for the rest of the request, and
    tells whether there is one.
    """
    accepts = None
    if expression is not None:
        try:
            accepts = compile_indexed(expression)
        except ValueError as reason:
            raise unparsable(f"filter: {reason}") from None
    # Without a filter the function must exist all the same, for SQLite looks for it before it reads a row.
    call.backend.store.function("vz_filter", 1, lambda indexed: accepts is None or accepts(json.loads(indexed)))
    return accepts is not None


ENDPOINTS = [Endpoint("POST", f"{INDEX}/query", _query)]
