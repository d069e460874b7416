"""/list: the ids of an index, page by page of one snapshot."""

import secrets
from typing import Any, NamedTuple

from starlette.responses import Response

from syncd.emulator.envelope import ApiError, ok, timestamp
from syncd.emulator.limits import MAX_VECTOR_LIST, VECTOR_CURSOR_LIFE
from syncd.emulator.routing import Backend, Call, Endpoint
from syncd.emulator.vectorize.mutations import current_index
from syncd.emulator.vectorize.places import INDEX, Index, misfit

_DEFAULT_COUNT = 100


class _Snapshot(NamedTuple):
    number: int
    token: str
    total: int
    expires_at: float


class _Page(NamedTuple):
    """Where a page begins in its snapshot. As a cursor it is TOKEN.PLACE."""

    snapshot: _Snapshot
    place: int


async def _list(call: Call) -> Response:
    """A listing that fits into one page needs no snapshot, and has no cursor."""
    count = _count(call)
    index = current_index(call)
    cursor = call.query("cursor")
    _prune(call.backend)
    if cursor:
        return _answer(call.backend, _find(call.backend, index, cursor), count)
    sql = "SELECT id FROM vz_vectors WHERE of_index = ? ORDER BY id LIMIT ?"
    ids = [row["id"] for row in call.backend.store.all(sql, (index.number, count + 1))]
    if len(ids) <= count:
        return ok(_render(ids, len(ids)))
    return _answer(call.backend, _Page(_take(call.backend, index), 0), count)


def _count(call: Call) -> int:
    try:
        return call.number("count", _DEFAULT_COUNT, 1, MAX_VECTOR_LIST)
    except ApiError as reason:
        raise misfit(reason.message) from None


def _answer(backend: Backend, page: _Page, count: int) -> Response:
    snapshot, end = page.snapshot, page.place + count
    sql = "SELECT id FROM vz_snapshot_ids WHERE snapshot = ? AND place >= ? AND place < ? ORDER BY place"
    ids = [row["id"] for row in backend.store.all(sql, (snapshot.number, page.place, end))]
    if end >= snapshot.total:
        return ok(_render(ids, snapshot.total))
    following = {
        "isTruncated": True,
        "nextCursor": f"{snapshot.token}.{end}",
        "cursorExpirationTimestamp": timestamp(snapshot.expires_at),
    }
    return ok(_render(ids, snapshot.total) | following)


def _render(ids: list[str], total: int) -> dict[str, Any]:
    return {
        "count": len(ids),
        "totalCount": total,
        "isTruncated": False,
        "nextCursor": None,
        "cursorExpirationTimestamp": None,
        "vectors": [{"id": identifier} for identifier in ids],
    }


def _take(backend: Backend, index: Index) -> _Snapshot:
    store = backend.store
    token, expires_at = secrets.token_urlsafe(12), backend.clock() + VECTOR_CURSOR_LIFE
    with store.transaction():
        store.run(
            "INSERT INTO vz_snapshots (token, of_index, total, expires_at)"
            " VALUES (:token, :index, (SELECT count(*) FROM vz_vectors WHERE of_index = :index), :expires_at)",
            {"token": token, "index": index.number, "expires_at": expires_at},
        )
        number = store.value("SELECT last_insert_rowid()")
        store.run(
            "INSERT INTO vz_snapshot_ids (snapshot, place, id)"
            " SELECT ?, row_number() OVER (ORDER BY id) - 1, id FROM vz_vectors WHERE of_index = ?",
            (number, index.number),
        )
    return _Snapshot(
        number, token, store.value("SELECT total FROM vz_snapshots WHERE number = ?", (number,)), expires_at
    )


def _find(backend: Backend, index: Index, cursor: str) -> _Page:
    token, _, place = cursor.rpartition(".")
    sql = "SELECT number, token, total, expires_at FROM vz_snapshots WHERE of_index = ? AND token = ?"
    row = backend.store.one(sql, (index.number, token))
    if row is None or not place.isascii() or not place.isdigit():
        raise _bad_cursor()
    return _Page(_Snapshot(*row), int(place))


def _bad_cursor() -> ApiError:
    return misfit("the cursor is none of this index, or it has expired: start the listing anew")


def _prune(backend: Backend) -> None:
    store, now = backend.store, backend.clock()
    if store.one("SELECT 1 FROM vz_snapshots WHERE expires_at <= ?", (now,)) is None:
        return
    with store.transaction():
        old = "SELECT number FROM vz_snapshots WHERE expires_at <= ?"
        store.run(f"DELETE FROM vz_snapshot_ids WHERE snapshot IN ({old})", (now,))  # noqa: S608 - a constant
        store.run("DELETE FROM vz_snapshots WHERE expires_at <= ?", (now,))


ENDPOINTS = [Endpoint("GET", f"{INDEX}/list", _list)]
