"""The endpoints of Vectorize for indexes and for their metadata indexes."""

import re
from typing import Any, NamedTuple

from starlette.responses import Response

from syncd.emulator.filters import PROPERTY_TYPES, check_property
from syncd.emulator.limits import MAX_DIMENSIONS, MAX_INDEX_NAME_SIZE, MAX_METADATA_INDEXES
from syncd.emulator.requests import ApiError, Call, Endpoint, ok, timestamp
from syncd.emulator.vectorize_store import (
    INDEX,
    ROOT,
    PropertyIndex,
    accepted_property_types,
    change_index,
    current_index,
    find_index,
    not_valid,
    property_types,
    refused,
    remove_rows,
    unparsable,
)

METRICS = ("cosine", "euclidean", "dot-product")
PRESETS = {
    "@cf/baai/bge-small-en-v1.5": (384, "cosine"),
    "@cf/baai/bge-base-en-v1.5": (768, "cosine"),
    "@cf/baai/bge-large-en-v1.5": (1024, "cosine"),
    "openai/text-embedding-ada-002": (1536, "cosine"),
    "cohere/embed-multilingual-v2.0": (768, "dot-product"),
}
"""The dimensions and the metric of an index for the vectors of a model."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*[a-z0-9]")


class _IndexConfig(NamedTuple):
    dimensions: int
    metric: str
    preset: str | None


async def _create(call: Call) -> Response:
    body = await call.body(refuse=unparsable)
    name, description, config = _name(body), _description(body), _config(body.get("config"))
    account, store = call.path["account_id"], call.backend.store
    if store.one("SELECT 1 FROM vz_indexes WHERE account = ? AND name = ? AND deleted_at IS NULL", (account, name)):
        raise refused(3002, f'vectorize.index.duplicate_name - Index name "{name}"')
    with store.transaction():
        store.run("DELETE FROM vz_indexes WHERE account = ? AND name = ?", (account, name))
        store.run(
            "INSERT INTO vz_indexes (account, name, description, dimensions, metric, preset, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (account, name, description, *config, call.backend.clock()),
        )
    return ok(_index(call, name))


async def _list(call: Call) -> Response:
    sql = "SELECT * FROM vz_indexes WHERE account = ? AND deleted_at IS NULL ORDER BY name"
    return ok([_render(dict(row)) for row in call.backend.store.all(sql, (call.path["account_id"],))])


async def _get(call: Call) -> Response:
    return ok(_index(call, find_index(call).name))


async def _delete(call: Call) -> Response:
    index = find_index(call)
    with call.backend.store.transaction():
        remove_rows(call.backend, index)
        sql = "UPDATE vz_indexes SET deleted_at = ? WHERE number = ?"
        call.backend.store.run(sql, (call.backend.clock(), index.number))
    return ok(None)


async def _info(call: Call) -> Response:
    index, store = current_index(call), call.backend.store
    row = store.one("SELECT processed_mutation, processed_at FROM vz_indexes WHERE number = ?", (index.number,))
    mutation, moment = row or (None, None)
    counting = "SELECT count(*) FROM vz_vectors WHERE of_index = :index"
    return ok(
        {
            "dimensions": index.dimensions,
            "vectorCount": store.cached_value(counting, {"index": index.number}),
            "processedUpToMutation": mutation,
            "processedUpToDatetime": None if moment is None else timestamp(moment),
        }
    )


def _name(body: dict[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str) or len(name) > MAX_INDEX_NAME_SIZE or _NAME.fullmatch(name) is None:
        raise not_valid(f"name must be 2 to {MAX_INDEX_NAME_SIZE} characters of {_NAME.pattern}")
    return name


def _description(body: dict[str, Any]) -> str | None:
    description = body.get("description")
    if description is not None and not isinstance(description, str):
        raise not_valid("description must be a text")
    return description


def _config(config: Any) -> _IndexConfig:
    if not isinstance(config, dict):
        raise _bad_config("Config must be provided")
    preset = config.get("preset")
    if preset is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise _bad_config(f"Preset must be one of {', '.join(PRESETS)}")
        return _IndexConfig(*PRESETS[preset], preset)
    dimensions, metric = config.get("dimensions"), config.get("metric")
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= MAX_DIMENSIONS:
        raise _bad_config(f"Dimensions must be in range: [1, {MAX_DIMENSIONS}]")
    if metric not in METRICS:
        raise _bad_config(f"Metric must be one of {', '.join(METRICS)}")
    return _IndexConfig(dimensions, metric, None)


def _bad_config(message: str) -> ApiError:
    return not_valid(f"vectorize.index.invalid_config - {message}")


def _index(call: Call, name: str) -> dict[str, Any]:
    sql = "SELECT * FROM vz_indexes WHERE account = ? AND name = ?"
    return _render(dict(call.backend.store.one(sql, (call.path["account_id"], name)) or {}))


def _render(row: dict[str, Any]) -> dict[str, Any]:
    config = {"dimensions": row["dimensions"], "metric": row["metric"]}
    if row["preset"] is not None:
        config["preset"] = row["preset"]
    created = timestamp(row["created_at"])
    return {
        "name": row["name"],
        "description": row["description"] or "",
        "config": config,
        "created_on": created,
        "modified_on": created,
    }


async def _create_metadata_index(call: Call) -> Response:
    """Accept a metadata index. The request is also accepted if the property has one already."""
    body = await call.body(refuse=unparsable)
    name, value_type = _property_name(body), body.get("indexType")
    if not isinstance(value_type, str) or value_type not in PROPERTY_TYPES:
        raise not_valid(f"indexType must be one of {', '.join(PROPERTY_TYPES)}")
    index = current_index(call)
    others = accepted_property_types(call.backend, index).keys() - {name}
    if len(others) >= MAX_METADATA_INDEXES:
        raise not_valid(f"an index has at most {MAX_METADATA_INDEXES} metadata indexes")
    return change_index(call.backend, index, "index", changed=PropertyIndex(name, value_type))


async def _list_metadata_indexes(call: Call) -> Response:
    types = property_types(call.backend, current_index(call))
    shown = [{"propertyName": name, "indexType": value_type} for name, value_type in types.items()]
    return ok({"metadataIndexes": shown})


async def _delete_metadata_index(call: Call) -> Response:
    name = _property_name(await call.body(refuse=unparsable))
    index = current_index(call)
    value_type = accepted_property_types(call.backend, index).get(name)
    if value_type is None:
        raise refused(40005, f"there is no metadata index for property {name}")
    return change_index(call.backend, index, "unindex", changed=PropertyIndex(name, value_type))


def _property_name(body: dict[str, Any]) -> str:
    name = body.get("propertyName")
    try:
        check_property(name)
    except ValueError as reason:
        raise not_valid(f"propertyName: {reason}") from None
    return str(name)


ENDPOINTS = [
    Endpoint("POST", ROOT, _create),
    Endpoint("GET", ROOT, _list),
    Endpoint("GET", INDEX, _get),
    Endpoint("DELETE", INDEX, _delete),
    Endpoint("GET", f"{INDEX}/info", _info),
    Endpoint("POST", f"{INDEX}/metadata_index/create", _create_metadata_index),
    Endpoint("GET", f"{INDEX}/metadata_index/list", _list_metadata_indexes),
    Endpoint("POST", f"{INDEX}/metadata_index/delete", _delete_metadata_index),
]
