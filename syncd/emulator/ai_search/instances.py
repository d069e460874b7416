"""/ai-search/…/instances: the instances themselves, their statistics and jobs."""

import json
from typing import Any

from starlette.responses import Response

from syncd.emulator.ai_search import library
from syncd.emulator.ai_search.metadata import read_schema
from syncd.emulator.ai_search.places import (
    NAME,
    Instance,
    add_instance,
    as_instance,
    both,
    find_instance,
    instance_of,
    namespace_of,
)
from syncd.emulator.ai_search.search import in_range
from syncd.emulator.envelope import ApiError, invalid, ok, timestamp
from syncd.emulator.limits import MAX_INSTANCES, MAX_PER_PAGE, MAX_RESULTS
from syncd.emulator.routing import Call

_DEFAULTS: dict[str, Any] = {
    "type": None,
    "source": None,
    "enable": True,
    "paused": False,
    "status": "ready",
    "engine_version": 3,
    "chunk_size": 256,
    "chunk_overlap": 10,
    "custom_metadata": [],
    "index_method": {"vector": True, "keyword": True},
    "max_num_results": 10,
    "score_threshold": 0.4,
}


async def _list(call: Call) -> Response:
    page, per_page = call.number("page", 1, 1), call.number("per_page", 20, 1, MAX_PER_PAGE)
    call.choice("order_by", ("created_at",))
    order = "number" if call.choice("order_by_direction", ("asc", "desc")) == "asc" else "number DESC"
    sql = f"SELECT * FROM ai_instances WHERE account = ? AND namespace = ? AND instr(id, ?) ORDER BY {order}"  # noqa: S608
    namespace = namespace_of(call)
    if "name" not in call.path:
        namespace = call.query("namespace") or namespace
    rows = call.backend.store.all(sql, (call.path["account_id"], namespace, (call.query("search") or "").lower()))
    shown = [_render(call, as_instance(dict(row))) for row in rows[(page - 1) * per_page : page * per_page]]
    return ok(shown, {"count": len(shown), "page": page, "per_page": per_page, "total_count": len(rows)})


async def _create(call: Call) -> Response:
    body = await call.body()
    account, namespace, name = call.path["account_id"], namespace_of(call), body.pop("id", None)
    if not isinstance(name, str) or NAME.match(name) is None:
        raise invalid("id must be 1-64 lowercase letters, digits, hyphens and underscores")
    _check(body)
    if find_instance(call.backend, (account, namespace, name)) is not None:
        raise ApiError(400, 7022, "ai_search_name_already_exists")
    if call.backend.store.value("SELECT count(*) FROM ai_instances WHERE account = ?", (account,)) >= MAX_INSTANCES:
        raise ApiError(403, 7013, f"An account has at most {MAX_INSTANCES} instances")
    add_instance(call.backend, (account, namespace, name), body)
    created = find_instance(call.backend, (account, namespace, name))
    return ok(created and _render(call, created), status=201)


async def _read(call: Call) -> Response:
    return ok(_render(call, instance_of(call)))


async def _update(call: Call) -> Response:
    instance = instance_of(call)
    body = await call.body()
    _check(body)
    config = instance.config | body
    sql = "UPDATE ai_instances SET config = ?, modified_at = ? WHERE number = ?"
    with call.backend.store.transaction():
        call.backend.store.run(sql, (json.dumps(config), call.backend.clock(), instance.number))
        if config.get("custom_metadata", []) != instance.config.get("custom_metadata", []):
            library.requeue_all(call.backend, instance_of(call))
    return ok(_render(call, instance_of(call)))


async def _delete(call: Call) -> Response:
    instance = instance_of(call)
    with call.backend.store.transaction():
        library.remove_all(call.backend, instance)
        call.backend.store.run("DELETE FROM ai_instances WHERE number = ?", (instance.number,))
    return ok(_render(call, instance))


async def _stats(call: Call) -> Response:
    instance = instance_of(call)
    numbers = library.statistics(call.backend, instance)
    engine = {
        "r2": {
            "objectCount": numbers.objects,
            "payloadSizeBytes": numbers.payload_bytes,
            "metadataSizeBytes": numbers.metadata_bytes,
        },
        "vectorize": {"dimensions": 1024, "vectorsCount": numbers.chunks},
    }
    counts = {status: numbers.by_status.get(status, 0) for status in library.STATUSES}
    last = None if numbers.last_activity is None else timestamp(numbers.last_activity)
    return ok(counts | {"last_activity": last, "degraded": False, "engine": engine})


async def _jobs(call: Call) -> Response:
    """No source is ever crawled here, so there is no job."""
    instance_of(call)
    page, per_page = call.number("page", 1, 1), call.number("per_page", 20, 1, MAX_PER_PAGE)
    return ok([], {"count": 0, "page": page, "per_page": per_page, "total_count": 0})


def _check(config: dict[str, Any]) -> None:
    if config.get("type") not in (None, "r2", "web-crawler"):
        raise invalid("type must be r2 or web-crawler, or left out")
    if not isinstance(config.get("source"), (str, type(None))):
        raise invalid("source must be a text")
    if not isinstance(config.get("paused", False), bool):
        raise invalid("paused must be true or false")
    in_range(config, "max_num_results", 10, (1, MAX_RESULTS))
    in_range(config, "score_threshold", 0.4, (0, 1))
    try:
        read_schema(config.get("custom_metadata") or [])
    except ValueError as reason:
        raise invalid(str(reason)) from reason


def _render(call: Call, instance: Instance) -> dict[str, Any]:
    times = {"created_at": timestamp(instance.created_at), "modified_at": timestamp(instance.modified_at)}
    fixed = {"id": instance.id, "namespace": instance.namespace, "account_id": call.path["account_id"]}
    return _DEFAULTS | instance.config | fixed | times


ENDPOINTS = [
    *both("GET", "", _list),
    *both("POST", "", _create),
    *both("GET", "/{id}", _read),
    *both("PUT", "/{id}", _update),
    *both("DELETE", "/{id}", _delete),
    *both("GET", "/{id}/stats", _stats),
    *both("GET", "/{id}/jobs", _jobs),
]
