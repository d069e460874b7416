"""/storage/kv/namespaces: the namespaces themselves."""

import secrets
from typing import Any

from starlette.responses import Response

from syncd.emulator.envelope import ApiError, ok
from syncd.emulator.kv.intake import read_object
from syncd.emulator.kv.places import NAMESPACE, ROOT, choice, namespace_of, number, refused
from syncd.emulator.limits import MAX_KV_NAMESPACES, MAX_KV_PER_PAGE, MAX_KV_TITLE_SIZE
from syncd.emulator.routing import Call, Endpoint

_JURISDICTIONS = ("eu", "fedramp", "us")
_TITLE_TAKEN = ApiError(400, 10014, "a namespace with this account ID and title already exists")


async def _list(call: Call) -> Response:
    page, per_page = number(call, "page", 1, 1), number(call, "per_page", 20, 1, MAX_KV_PER_PAGE)
    order, direction = choice(call, "order", ("id", "title")), choice(call, "direction", ("asc", "desc"))
    account = call.path["account_id"]
    sql = f"SELECT * FROM kv_namespaces WHERE account = ? ORDER BY {order} {direction} LIMIT ? OFFSET ?"  # noqa: S608
    rows = call.backend.store.all(sql, (account, per_page, (page - 1) * per_page))
    info = {"count": len(rows), "page": page, "per_page": per_page, "total_count": _total(call)}
    return ok([_render(dict(row)) for row in rows], info)


async def _create(call: Call) -> Response:
    body = await read_object(call)
    title, jurisdiction = _title(body), body.get("jurisdiction")
    if jurisdiction is not None and jurisdiction not in _JURISDICTIONS:
        raise refused(f"jurisdiction must be one of {', '.join(_JURISDICTIONS)}")
    if _find_title(call, title) is not None:
        raise _TITLE_TAKEN
    if _total(call) >= MAX_KV_NAMESPACES:
        raise refused(f"An account has at most {MAX_KV_NAMESPACES} namespaces")
    row = (call.path["account_id"], secrets.token_hex(16), title, jurisdiction)
    call.backend.store.run("INSERT INTO kv_namespaces (account, id, title, jurisdiction) VALUES (?, ?, ?, ?)", row)
    return ok(_find_title(call, title))


async def _read(call: Call) -> Response:
    return ok(_read_row(call, namespace_of(call)))


async def _rename(call: Call) -> Response:
    title = _title(await read_object(call))
    namespace = namespace_of(call)
    found = _find_title(call, title)
    if found is not None and found["id"] != call.path["namespace_id"].lower():
        raise _TITLE_TAKEN
    call.backend.store.run("UPDATE kv_namespaces SET title = ? WHERE number = ?", (title, namespace))
    return ok(_read_row(call, namespace))


async def _delete(call: Call) -> Response:
    namespace = namespace_of(call)
    with call.backend.store.transaction():
        for table in ("kv_entries", "kv_attempts"):
            call.backend.store.run(f"DELETE FROM {table} WHERE namespace = ?", (namespace,))  # noqa: S608 - as above
        call.backend.store.run("DELETE FROM kv_namespaces WHERE number = ?", (namespace,))
    return ok({})


def _title(body: dict[str, Any]) -> str:
    title = body.get("title")
    if not isinstance(title, str) or not 0 < len(title.encode()) <= MAX_KV_TITLE_SIZE:
        raise refused(f"title must be a text of 1 to {MAX_KV_TITLE_SIZE} bytes")
    return title


def _total(call: Call) -> int:
    sql = "SELECT count(*) FROM kv_namespaces WHERE account = ?"
    total: int = call.backend.store.value(sql, (call.path["account_id"],))
    return total


def _find_title(call: Call, title: str) -> dict[str, Any] | None:
    sql = "SELECT * FROM kv_namespaces WHERE account = ? AND title = ?"
    row = call.backend.store.one(sql, (call.path["account_id"], title))
    return None if row is None else _render(dict(row))


def _read_row(call: Call, namespace: int) -> dict[str, Any]:
    row = call.backend.store.one("SELECT * FROM kv_namespaces WHERE number = ?", (namespace,))
    return _render(dict(row or {}))


def _render(row: dict[str, Any]) -> dict[str, Any]:
    shown = {"id": row["id"], "title": row["title"], "supports_url_encoding": True}
    if row["jurisdiction"] is not None:
        shown["jurisdiction"] = row["jurisdiction"]
    return shown


ENDPOINTS = [
    Endpoint("GET", ROOT, _list),
    Endpoint("POST", ROOT, _create),
    Endpoint("GET", NAMESPACE, _read),
    Endpoint("PUT", NAMESPACE, _rename),
    Endpoint("DELETE", NAMESPACE, _delete),
]
