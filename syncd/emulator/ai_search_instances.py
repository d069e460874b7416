"""The endpoints of AI Search for namespaces and for instances with their statistics."""

import json
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.ai_search_settings import created_settings, needs_reindexing, shown_settings, updated_settings
from syncd.emulator.ai_search_store import (
    DEFAULT_NAMESPACE,
    NAME,
    ROOT,
    InstanceRow,
    as_instance,
    find_instance,
    instance_endpoints,
    instance_of,
    instance_statistics,
    instance_status,
    namespace_of,
    reindex_all,
    remove_instance,
)
from syncd.emulator.limits import (
    MAX_DESCRIPTION_LENGTH,
    MAX_INSTANCE_SEARCH_LENGTH,
    MAX_INSTANCES,
    MAX_NAMESPACES,
    MAX_PER_PAGE,
)
from syncd.emulator.requests import ApiError, Call, Endpoint, invalid, ok, page_of, timestamp, validate

_NAMESPACES = """
SELECT name, description, created_at FROM (
    SELECT name, description, created_at FROM ai_namespaces WHERE account = :account
    UNION ALL SELECT 'default', NULL, 0.0
) WHERE :search = '' OR instr(lower(name || ' ' || coalesce(description, '')), :search) ORDER BY name
"""


class _NamespaceFields(BaseModel):
    description: str | None = Field(default=None, max_length=MAX_DESCRIPTION_LENGTH)


async def _list_namespaces(call: Call) -> Response:
    return page_rows(call, _all_namespaces(call, (call.query("search") or "").lower()))


async def _create_namespace(call: Call) -> Response:
    body = await call.body()
    name = _name(body, "name")
    description = validate(_NamespaceFields, body).description
    known = [row["name"] for row in _all_namespaces(call)]
    if name in known:
        raise ApiError(409, 7064, "namespace_already_exists")
    if len(known) >= MAX_NAMESPACES:
        raise ApiError(403, 7062, "max_namespaces_reached")
    row = (call.path["account_id"], name, description, call.backend.clock())
    call.backend.store.run("INSERT INTO ai_namespaces VALUES (?, ?, ?, ?)", row)
    return ok(_namespace(call, name), status=201)


async def _get_namespace(call: Call) -> Response:
    return ok(_namespace(call, namespace_of(call)))


async def _update_namespace(call: Call) -> Response:
    name = _changeable_namespace(call)
    description = validate(_NamespaceFields, await call.body()).description
    sql = "UPDATE ai_namespaces SET description = ? WHERE account = ? AND name = ?"
    call.backend.store.run(sql, (description, call.path["account_id"], name))
    return ok(_namespace(call, name))


async def _delete_namespace(call: Call) -> Response:
    name = _changeable_namespace(call)
    place = (call.path["account_id"], name)
    if call.backend.store.one("SELECT 1 FROM ai_instances WHERE account = ? AND namespace = ?", place):
        raise ApiError(400, 7066, "namespace_not_empty")
    shown = _namespace(call, name)
    call.backend.store.run("DELETE FROM ai_namespaces WHERE account = ? AND name = ?", place)
    return ok(shown)


def _changeable_namespace(call: Call) -> str:
    name = namespace_of(call)
    if name == DEFAULT_NAMESPACE:
        raise ApiError(400, 7065, "cannot_modify_default_namespace")
    return name


def _name(body: dict[str, Any], field: str) -> str:
    name = body.get(field)
    if not isinstance(name, str) or NAME.match(name) is None:
        raise invalid(f"{field} must be 1-64 lowercase letters, digits, hyphens and underscores")
    return name


def _namespace(call: Call, name: str) -> dict[str, Any]:
    return next(row for row in _all_namespaces(call) if row["name"] == name)


def _all_namespaces(call: Call, search: str = "") -> list[dict[str, Any]]:
    rows = call.backend.store.all(_NAMESPACES, {"account": call.path["account_id"], "search": search})
    return [dict(row) | {"created_at": timestamp(row["created_at"])} for row in rows]


async def _list_instances(call: Call) -> Response:
    call.choice("order_by", ("created_at",))
    order = "number" if call.choice("order_by_direction", ("desc", "asc")) == "asc" else "number DESC"
    sql = f"SELECT * FROM ai_instances WHERE account = ? AND namespace = ? AND instr(id, ?) ORDER BY {order}"  # noqa: S608
    namespace = namespace_of(call)
    if "name" not in call.path:
        namespace = call.query("namespace") or namespace
    search = (call.query("search") or "").lower()
    if len(search) > MAX_INSTANCE_SEARCH_LENGTH:
        raise invalid(f"search has at most {MAX_INSTANCE_SEARCH_LENGTH} characters")
    rows = call.backend.store.all(sql, (call.path["account_id"], namespace, search))
    return page_rows(call, [_render(call, as_instance(dict(row))) for row in rows])


async def _create_instance(call: Call) -> Response:
    body = await call.body()
    account, namespace, name = call.path["account_id"], namespace_of(call), _name(body, "id")
    config = created_settings(body)
    if find_instance(call.backend, (account, namespace, name)) is not None:
        raise ApiError(400, 7022, "ai_search_with_this_name_already_exist")
    if call.backend.store.value("SELECT count(*) FROM ai_instances WHERE account = ?", (account,)) >= MAX_INSTANCES:
        raise ApiError(403, 7013, "max_instances_reached")
    now = call.backend.clock()
    sql = "INSERT INTO ai_instances (account, namespace, id, config, created_at, modified_at) VALUES (?, ?, ?, ?, ?, ?)"
    call.backend.store.run(sql, (account, namespace, name, json.dumps(config), now, now))
    created = find_instance(call.backend, (account, namespace, name))
    return ok(created and _render(call, created), status=201)


async def _get_instance(call: Call) -> Response:
    return ok(_render(call, instance_of(call)))


async def _update_instance(call: Call) -> Response:
    instance = instance_of(call)
    config = updated_settings(instance.config, await call.body(), permanent=call.backend.options.permanent)
    sql = "UPDATE ai_instances SET config = ?, modified_at = ? WHERE number = ?"
    with call.backend.store.transaction():
        call.backend.store.run(sql, (json.dumps(config), call.backend.clock(), instance.number))
        if needs_reindexing(instance.config, config):
            reindex_all(call.backend, instance_of(call))
    return ok(_render(call, instance_of(call)))


async def _delete_instance(call: Call) -> Response:
    instance = instance_of(call)
    shown = _render(call, instance)
    remove_instance(call.backend, instance)
    return ok(shown)


async def _get_statistics(call: Call) -> Response:
    return ok(instance_statistics(call.backend, instance_of(call)))


def page_rows(call: Call, rows: list[dict[str, Any]]) -> Response:
    """Return the page of these rows that the request asks for."""
    page, per_page = call.number("page", 1, 1), call.number("per_page", 20, 1, MAX_PER_PAGE)
    return page_of(rows[(page - 1) * per_page : page * per_page], page, per_page, len(rows))


def _render(call: Call, instance: InstanceRow) -> dict[str, Any]:
    times = {"created_at": timestamp(instance.created_at), "modified_at": timestamp(instance.modified_at)}
    fixed = {"id": instance.id, "namespace": instance.namespace, "account_id": instance.account}
    state = {"enable": True, "engine_version": 3, "status": instance_status(call.backend, instance)}
    paused = {"paused": call.backend.options.paused}
    settings = shown_settings(paused | instance.config, defaults=call.backend.options.show_defaults)
    return settings | state | fixed | times


ENDPOINTS = [
    Endpoint("GET", f"{ROOT}/namespaces", _list_namespaces),
    Endpoint("POST", f"{ROOT}/namespaces", _create_namespace),
    Endpoint("GET", f"{ROOT}/namespaces/{{name}}", _get_namespace),
    Endpoint("PUT", f"{ROOT}/namespaces/{{name}}", _update_namespace),
    Endpoint("DELETE", f"{ROOT}/namespaces/{{name}}", _delete_namespace),
    *instance_endpoints("GET", "", _list_instances),
    *instance_endpoints("POST", "", _create_instance),
    *instance_endpoints("GET", "/{id}", _get_instance),
    *instance_endpoints("PUT", "/{id}", _update_instance),
    *instance_endpoints("DELETE", "/{id}", _delete_instance),
    *instance_endpoints("GET", "/{id}/stats", _get_statistics),
]
