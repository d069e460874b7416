"""upsert, insert, delete_by_ids, get_by_ids."""

import json
from typing import Any, Literal

from starlette.responses import Response

from syncd.emulator.envelope import ok
from syncd.emulator.limits import MAX_DELETED_IDS, MAX_READ_IDS
from syncd.emulator.routing import Call, Endpoint
from syncd.emulator.vectorize.elements import Vector, check_dimensions, check_id, unpack
from syncd.emulator.vectorize.intake import read_vectors
from syncd.emulator.vectorize.mutations import change_vectors, current_index
from syncd.emulator.vectorize.places import INDEX, TOO_MANY_IDS, read_object, refused, unparsable


async def _upsert(call: Call) -> Response:
    return await _write(call, "upsert")


async def _insert(call: Call) -> Response:
    return await _write(call, "insert")


async def _write(call: Call, kind: Literal["upsert", "insert"]) -> Response:
    vectors = await read_vectors(call)
    index = current_index(call)
    check_dimensions(vectors, index)
    return ok({"mutationId": change_vectors(call.backend, index, kind, vectors)})


async def _delete(call: Call) -> Response:
    ids = await _ids(call, MAX_DELETED_IDS)
    gone = [Vector(identifier, None) for identifier in ids]
    return ok({"mutationId": change_vectors(call.backend, current_index(call), "delete", gone)})


async def _get(call: Call) -> Response:
    """An id without a vector has no row in the answer."""
    ids = await _ids(call, MAX_READ_IDS)
    index = current_index(call)
    sql = "SELECT * FROM vz_vectors WHERE of_index = ? AND id = ?"
    rows = (call.backend.store.one(sql, (index.number, identifier)) for identifier in dict.fromkeys(ids))
    return ok([_render(dict(row)) for row in rows if row is not None])


def _render(row: dict[str, Any]) -> dict[str, Any]:
    shown = {"id": row["id"], "values": unpack(row["data"])}
    if row["namespace"] is not None:
        shown["namespace"] = row["namespace"]
    if row["metadata"] is not None:
        shown["metadata"] = json.loads(row["metadata"])
    return shown


async def _ids(call: Call, limit: int) -> list[str]:
    ids = (await read_object(call)).get("ids")
    if not isinstance(ids, list) or not all(isinstance(identifier, str) for identifier in ids):
        raise unparsable("ids: expected an array of texts")
    if len(ids) > limit:
        raise refused(TOO_MANY_IDS, f"too many ids in payload; max id count is {limit}, got {len(ids)}")
    for identifier in ids:
        check_id(identifier)
    return ids


ENDPOINTS = [
    Endpoint("POST", f"{INDEX}/upsert", _upsert),
    Endpoint("POST", f"{INDEX}/insert", _insert),
    Endpoint("POST", f"{INDEX}/delete_by_ids", _delete),
    Endpoint("POST", f"{INDEX}/get_by_ids", _get),
]
