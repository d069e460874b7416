"""The endpoints of Vectorize that write, delete and read vectors, and the listing of their ids."""

import json
import secrets
from typing import Any, Literal, NamedTuple

from starlette.responses import Response

from syncd.emulator.limits import MAX_DELETED_IDS, MAX_READ_IDS, MAX_VECTOR_LIST, VECTOR_CURSOR_LIFE
from syncd.emulator.messages import ok, timestamp
from syncd.emulator.routing import Backend, Call, Endpoint
from syncd.emulator.vectorize_body import check_dimensions, check_id, read_vectors, unpack
from syncd.emulator.vectorize_store import (
    INDEX,
    TOO_MANY_IDS,
    IndexRow,
    VectorRow,
    change_vectors,
    current_index,
    not_valid,
    refused,
    unparsable,
)

_DEFAULT_COUNT = 100


async def _upsert(call: Call) -> Response:
    return await _write(call, "upsert")


async def _insert(call: Call) -> Response:
    return await _write(call, "insert")


async def _write(call: Call, kind: Literal["upsert", "insert"]) -> Response:
    vectors = await read_vectors(call)
    index = current_index(call)
    check_dimensions(vectors, index)
    return ok({"mutationId": change_vectors(call.backend, index, kind, vectors)})


async def _delete_by_ids(call: Call) -> Response:
    vectors = [VectorRow(identifier, None) for identifier in await _ids(call, MAX_DELETED_IDS)]
    return ok({"mutationId": change_vectors(call.backend, current_index(call), "delete", vectors)})


async def _get_by_ids(call: Call) -> Response:
    """Return the vectors of the ids. An unknown id has no row in the answer."""
    ids = await _ids(call, MAX_READ_IDS)
    index = current_index(call)
    sql = "SELECT * FROM vz_vectors WHERE of_index = ? AND id = ?"
    rows = (call.backend.store.one(sql, (index.number, identifier)) for identifier in dict.fromkeys(ids))
    return ok([_render_vector(dict(row)) for row in rows if row is not None])


def _render_vector(row: dict[str, Any]) -> dict[str, Any]:
    shown = {"id": row["id"], "values": unpack(row["data"])}
    if row["namespace"] is not None:
        shown["namespace"] = row["namespace"]
    if row["metadata"] is not None:
        shown["metadata"] = json.loads(row["metadata"])
    return shown


async def _ids(call: Call, limit: int) -> list[str]:
    ids = (await call.body(refuse=unparsable)).get("ids")
    if not isinstance(ids, list) or not all(isinstance(identifier, str) for identifier in ids):
        raise unparsable("ids: expected an array of texts")
    if len(ids) > limit:
        raise refused(TOO_MANY_IDS, f"too many ids in payload; max id count is {limit}, got {len(ids)}")
    for identifier in ids:
        check_id(identifier)
    return ids


class _IdSnapshot(NamedTuple):
    """The ids of an index at the first page of a listing. Every page of the listing reads the snapshot."""

    number: int
    token: str
    total: int
    expires_at: float


async def _list(call: Call) -> Response:
    """Return one page of ids. A listing of one page has no snapshot and no cursor; a cursor is TOKEN.PLACE."""
    count = call.number("count", _DEFAULT_COUNT, 1, MAX_VECTOR_LIST, refuse=not_valid)
    index = current_index(call)
    cursor = call.query("cursor")
    _remove_expired(call.backend)
    if cursor:
        return _snapshot_page(call.backend, *_find_page(call.backend, index, cursor), count)
    sql = "SELECT id FROM vz_vectors WHERE of_index = ? ORDER BY id LIMIT ?"
    ids = [row["id"] for row in call.backend.store.all(sql, (index.number, count + 1))]
    if len(ids) <= count:
        return ok(_render_page(ids, len(ids)))
    return _snapshot_page(call.backend, _take_snapshot(call.backend, index), 0, count)


def _snapshot_page(backend: Backend, snapshot: _IdSnapshot, start: int, count: int) -> Response:
    end = start + count
    sql = "SELECT id FROM vz_snapshot_ids WHERE snapshot = ? AND place >= ? AND place < ? ORDER BY place"
    ids = [row["id"] for row in backend.store.all(sql, (snapshot.number, start, end))]
    shown = _render_page(ids, snapshot.total)
    if end < snapshot.total:
        shown |= {
            "isTruncated": True,
            "nextCursor": f"{snapshot.token}.{end}",
            "cursorExpirationTimestamp": timestamp(snapshot.expires_at),
        }
    return ok(shown)


def _render_page(ids: list[str], total: int) -> dict[str, Any]:
    return {
        "count": len(ids),
        "totalCount": total,
        "isTruncated": False,
        "nextCursor": None,
        "cursorExpirationTimestamp": None,
        "vectors": [{"id": identifier} for identifier in ids],
    }


def _take_snapshot(backend: Backend, index: IndexRow) -> _IdSnapshot:
    store = backend.store
    token, expires_at = secrets.token_urlsafe(12), backend.clock() + VECTOR_CURSOR_LIFE
    with store.transaction():
        total = store.value("SELECT count(*) FROM vz_vectors WHERE of_index = ?", (index.number,))
        sql = "INSERT INTO vz_snapshots (token, of_index, total, expires_at) VALUES (?, ?, ?, ?)"
        store.run(sql, (token, index.number, total, expires_at))
        number = store.value("SELECT last_insert_rowid()")
        store.run(
            "INSERT INTO vz_snapshot_ids (snapshot, place, id)"
            " SELECT ?, row_number() OVER (ORDER BY id) - 1, id FROM vz_vectors WHERE of_index = ?",
            (number, index.number),
        )
    return _IdSnapshot(number, token, total, expires_at)


def _find_page(backend: Backend, index: IndexRow, cursor: str) -> tuple[_IdSnapshot, int]:
    """Return the snapshot of a cursor and the place in it at which the page begins."""
    token, _, place = cursor.rpartition(".")
    sql = "SELECT number, token, total, expires_at FROM vz_snapshots WHERE of_index = ? AND token = ?"
    row = backend.store.one(sql, (index.number, token))
    if row is None or not place.isascii() or not place.isdigit():
        raise not_valid("the cursor is not from this index, or it has expired: start the listing again")
    return _IdSnapshot(*row), int(place)


def _remove_expired(backend: Backend) -> None:
    store, now = backend.store, backend.clock()
    if store.one("SELECT 1 FROM vz_snapshots WHERE expires_at <= ?", (now,)) is None:
        return
    with store.transaction():
        expired = "SELECT number FROM vz_snapshots WHERE expires_at <= ?"
        store.run(f"DELETE FROM vz_snapshot_ids WHERE snapshot IN ({expired})", (now,))  # noqa: S608 - a constant
        store.run("DELETE FROM vz_snapshots WHERE expires_at <= ?", (now,))


ENDPOINTS = [
    Endpoint("POST", f"{INDEX}/upsert", _upsert),
    Endpoint("POST", f"{INDEX}/insert", _insert),
    Endpoint("POST", f"{INDEX}/delete_by_ids", _delete_by_ids),
    Endpoint("POST", f"{INDEX}/get_by_ids", _get_by_ids),
    Endpoint("GET", f"{INDEX}/list", _list),
]
