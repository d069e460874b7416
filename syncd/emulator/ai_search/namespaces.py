"""/ai-search/namespaces"""

from typing import Any

from starlette.responses import Response

from syncd.emulator.ai_search.places import DEFAULT, NAME, ROOT, add_namespace, namespace_of
from syncd.emulator.envelope import ApiError, invalid, ok, timestamp
from syncd.emulator.limits import MAX_DESCRIPTION_LENGTH, MAX_NAMESPACES, MAX_PER_PAGE
from syncd.emulator.routing import Call, Endpoint

_ALL = """
SELECT name, description, created_at FROM (
    SELECT name, description, created_at FROM ai_namespaces WHERE account = :account
    UNION ALL SELECT 'default', NULL, 0.0
) WHERE :search = '' OR instr(lower(name || ' ' || coalesce(description, '')), :search) ORDER BY name
"""


async def _list(call: Call) -> Response:
    page, per_page = call.number("page", 1, 1), call.number("per_page", 20, 1, MAX_PER_PAGE)
    values = {"account": call.path["account_id"], "search": (call.query("search") or "").lower()}
    rows = call.backend.store.all(_ALL, values)
    shown = [_render(dict(row)) for row in rows[(page - 1) * per_page : page * per_page]]
    return ok(shown, {"count": len(shown), "page": page, "per_page": per_page, "total_count": len(rows)})


async def _create(call: Call) -> Response:
    body = await call.body()
    name, account = body.get("name"), call.path["account_id"]
    if not isinstance(name, str) or NAME.match(name) is None:
        raise invalid("name must be 1-64 lowercase letters, digits, hyphens and underscores")
    description = _description(body)
    known = [row["name"] for row in call.backend.store.all(_ALL, {"account": account, "search": ""})]
    if name in known:
        raise ApiError(409, 7064, "namespace_already_exists")
    if len(known) >= MAX_NAMESPACES:
        raise ApiError(403, 7066, f"An account has at most {MAX_NAMESPACES} namespaces")
    add_namespace(call.backend, account, name, description)
    return ok(_read_row(call, name), status=201)


async def _read(call: Call) -> Response:
    return ok(_read_row(call, namespace_of(call)))


async def _update(call: Call) -> Response:
    name = _changeable(call)
    description = _description(await call.body())
    sql = "UPDATE ai_namespaces SET description = ? WHERE account = ? AND name = ?"
    call.backend.store.run(sql, (description, call.path["account_id"], name))
    return ok(_read_row(call, name))


async def _delete(call: Call) -> Response:
    name = _changeable(call)
    place = (call.path["account_id"], name)
    if call.backend.store.one("SELECT 1 FROM ai_instances WHERE account = ? AND namespace = ?", place):
        raise invalid(f"namespace {name} still has instances")
    shown = _read_row(call, name)
    call.backend.store.run("DELETE FROM ai_namespaces WHERE account = ? AND name = ?", place)
    return ok(shown)


def _changeable(call: Call) -> str:
    name = namespace_of(call)
    if name == DEFAULT:
        raise ApiError(400, 7065, "The default namespace cannot be changed or deleted")
    return name


def _description(body: dict[str, Any]) -> str | None:
    description = body.get("description")
    if description is None:
        return None
    if not isinstance(description, str) or len(description) > MAX_DESCRIPTION_LENGTH:
        raise invalid(f"description must be a text of at most {MAX_DESCRIPTION_LENGTH} characters")
    return description


def _read_row(call: Call, name: str) -> dict[str, Any]:
    rows = call.backend.store.all(_ALL, {"account": call.path["account_id"], "search": ""})
    return next(_render(dict(row)) for row in rows if row["name"] == name)


def _render(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"created_at": timestamp(row["created_at"])}


ENDPOINTS = [
    Endpoint("GET", f"{ROOT}/namespaces", _list),
    Endpoint("POST", f"{ROOT}/namespaces", _create),
    Endpoint("GET", f"{ROOT}/namespaces/{{name}}", _read),
    Endpoint("PUT", f"{ROOT}/namespaces/{{name}}", _update),
    Endpoint("DELETE", f"{ROOT}/namespaces/{{name}}", _delete),
]
