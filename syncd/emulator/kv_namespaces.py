"""The endpoints of KV for namespaces, and the namespace and errors that every endpoint of KV needs."""

import re
import secrets
from typing import Any

from starlette.responses import Response

from syncd.emulator.limits import MAX_KV_NAMESPACES, MAX_KV_PER_PAGE, MAX_KV_TITLE_SIZE
from syncd.emulator.messages import ApiError, ok, page_of
from syncd.emulator.routing import Call, Endpoint

ROOT = "/accounts/{account_id}/storage/kv/namespaces"
NAMESPACE = f"{ROOT}/{{namespace_id}}"

_ID = re.compile(r"[0-9a-fA-F]{32}")
_JURISDICTIONS = ("eu", "fedramp", "us")
_TITLE_TAKEN = ApiError(400, 10014, "a namespace with this account ID and title already exists")


def refused(message: str, status: int = 400) -> ApiError:
    """Return the error of a request that is not valid. This API uses 10001 for it, whatever the status."""
    return ApiError(status, 10001, message)


def namespace_of(call: Call) -> int:
    """Return the number of the namespace in the path.

    ApiError 400/10011 if the id is malformed, 404/10013 if the namespace does not exist.
    """
    given = call.path["namespace_id"]
    if _ID.fullmatch(given) is None:
        raise ApiError(400, 10011, f"could not parse UUID from request's namespace_id: '{given}'")
    sql = "SELECT number FROM kv_namespaces WHERE account = ? AND id = ?"
    row = call.backend.store.one(sql, (call.path["account_id"], given.lower()))
    if row is None:
        raise ApiError(404, 10013, "namespace not found")
    number: int = row["number"]
    return number


async def _list(call: Call) -> Response:
    page = call.number("page", 1, 1, refuse=refused)
    per_page = call.number("per_page", 20, 1, MAX_KV_PER_PAGE, refuse=refused)
    order = call.choice("order", ("id", "title"), refuse=refused)
    direction = call.choice("direction", ("asc", "desc"), refuse=refused)
    account = call.path["account_id"]
    sql = f"SELECT * FROM kv_namespaces WHERE account = ? ORDER BY {order} {direction} LIMIT ? OFFSET ?"  # noqa: S608
    rows = call.backend.store.all(sql, (account, per_page, (page - 1) * per_page))
    return page_of([_render(dict(row)) for row in rows], page, per_page, _count(call))


async def _create(call: Call) -> Response:
    body = await call.body(refuse=refused)
    title, jurisdiction = _title(body), body.get("jurisdiction")
    if jurisdiction is not None and jurisdiction not in _JURISDICTIONS:
        raise refused(f"jurisdiction must be one of {', '.join(_JURISDICTIONS)}")
    if _find_by_title(call, title) is not None:
        raise _TITLE_TAKEN
    if _count(call) >= MAX_KV_NAMESPACES:
        raise refused(f"An account has at most {MAX_KV_NAMESPACES} namespaces")
    row = (call.path["account_id"], secrets.token_hex(16), title, jurisdiction)
    call.backend.store.run("INSERT INTO kv_namespaces (account, id, title, jurisdiction) VALUES (?, ?, ?, ?)", row)
    return ok(_find_by_title(call, title))


async def _get(call: Call) -> Response:
    return ok(_namespace(call, namespace_of(call)))


async def _rename(call: Call) -> Response:
    title = _title(await call.body(refuse=refused))
    namespace = namespace_of(call)
    existing = _find_by_title(call, title)
    if existing is not None and existing["id"] != call.path["namespace_id"].lower():
        raise _TITLE_TAKEN
    call.backend.store.run("UPDATE kv_namespaces SET title = ? WHERE number = ?", (title, namespace))
    return ok(_namespace(call, namespace))


async def _delete(call: Call) -> Response:
    namespace = namespace_of(call)
    with call.backend.store.transaction():
        for table in ("kv_entries", "kv_attempts"):
            call.backend.store.run(f"DELETE FROM {table} WHERE namespace = ?", (namespace,))  # noqa: S608 - constants
        call.backend.store.run("DELETE FROM kv_namespaces WHERE number = ?", (namespace,))
    return ok({})


def _title(body: dict[str, Any]) -> str:
    title = body.get("title")
    if not isinstance(title, str) or not 0 < len(title.encode()) <= MAX_KV_TITLE_SIZE:
        raise refused(f"title must be a text of 1 to {MAX_KV_TITLE_SIZE} bytes")
    return title


def _count(call: Call) -> int:
    sql = "SELECT count(*) FROM kv_namespaces WHERE account = ?"
    count: int = call.backend.store.value(sql, (call.path["account_id"],))
    return count


def _find_by_title(call: Call, title: str) -> dict[str, Any] | None:
    sql = "SELECT * FROM kv_namespaces WHERE account = ? AND title = ?"
    row = call.backend.store.one(sql, (call.path["account_id"], title))
    return None if row is None else _render(dict(row))


def _namespace(call: Call, number: int) -> dict[str, Any]:
    row = call.backend.store.one("SELECT * FROM kv_namespaces WHERE number = ?", (number,))
    return _render(dict(row or {}))


def _render(row: dict[str, Any]) -> dict[str, Any]:
    shown = {"id": row["id"], "title": row["title"], "supports_url_encoding": True}
    if row["jurisdiction"] is not None:
        shown["jurisdiction"] = row["jurisdiction"]
    return shown


ENDPOINTS = [
    Endpoint("GET", ROOT, _list),
    Endpoint("POST", ROOT, _create),
    Endpoint("GET", NAMESPACE, _get),
    Endpoint("PUT", NAMESPACE, _rename),
    Endpoint("DELETE", NAMESPACE, _delete),
]
