"""/vectorize/v2/indexes: the indexes themselves."""

import re
from typing import Any, NamedTuple

from starlette.responses import Response

from syncd.emulator.envelope import ApiError, ok, timestamp
from syncd.emulator.limits import MAX_DIMENSIONS, MAX_INDEX_NAME_SIZE
from syncd.emulator.routing import Call, Endpoint
from syncd.emulator.vectorize.mutations import current_index, forget
from syncd.emulator.vectorize.places import DUPLICATE_NAME, INDEX, ROOT, find_index, misfit, read_object, refused

METRICS = ("cosine", "euclidean", "dot-product")
PRESETS = {
    "@cf/baai/bge-small-en-v1.5": (384, "cosine"),
    "@cf/baai/bge-base-en-v1.5": (768, "cosine"),
    "@cf/baai/bge-large-en-v1.5": (1024, "cosine"),
    "openai/text-embedding-ada-002": (1536, "cosine"),
    "cohere/embed-multilingual-v2.0": (768, "dot-product"),
}
"""What an index for a model's vectors is like."""

_NAME = re.compile(r"[a-z][a-z0-9_-]*[a-z0-9]")


class _Config(NamedTuple):
    dimensions: int
    metric: str
    preset: str | None


async def _create(call: Call) -> Response:
    body = await read_object(call)
    name, description, config = _name(body), _description(body), _config(body.get("config"))
    account, store = call.path["account_id"], call.backend.store
    if store.one("SELECT 1 FROM vz_indexes WHERE account = ? AND name = ? AND deleted_at IS NULL", (account, name)):
        raise refused(DUPLICATE_NAME, f'vectorize.index.duplicate_name - Index name "{name}"')
    with store.transaction():
        store.run("DELETE FROM vz_indexes WHERE account = ? AND name = ?", (account, name))
        store.run(
            "INSERT INTO vz_indexes (account, name, description, dimensions, metric, preset, created_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (account, name, description, *config, call.backend.clock()),
        )
    return ok(_read_row(call, name))


async def _list(call: Call) -> Response:
    sql = "SELECT * FROM vz_indexes WHERE account = ? AND deleted_at IS NULL ORDER BY name"
    return ok([_render(dict(row)) for row in call.backend.store.all(sql, (call.path["account_id"],))])


async def _read(call: Call) -> Response:
    return ok(_read_row(call, find_index(call).name))


async def _delete(call: Call) -> Response:
    index = find_index(call)
    with call.backend.store.transaction():
        forget(call.backend, index)
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
            "vectorCount": store.remembered(counting, {"index": index.number}),
            "processedUpToMutation": mutation,
            "processedUpToDatetime": None if moment is None else timestamp(moment),
        }
    )


def _name(body: dict[str, Any]) -> str:
    name = body.get("name")
    if not isinstance(name, str) or len(name) > MAX_INDEX_NAME_SIZE or _NAME.fullmatch(name) is None:
        raise misfit(f"name must be 2 to {MAX_INDEX_NAME_SIZE} characters of {_NAME.pattern}")
    return name


def _description(body: dict[str, Any]) -> str | None:
    description = body.get("description")
    if description is not None and not isinstance(description, str):
        raise misfit("description must be a text")
    return description


def _config(config: Any) -> _Config:
    if not isinstance(config, dict):
        raise _bad_config("Config must be provided")
    preset = config.get("preset")
    if preset is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            raise _bad_config(f"Preset must be one of {', '.join(PRESETS)}")
        return _Config(*PRESETS[preset], preset)
    dimensions, metric = config.get("dimensions"), config.get("metric")
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= MAX_DIMENSIONS:
        raise _bad_config(f"Dimensions must be in range: [1, {MAX_DIMENSIONS}]")
    if metric not in METRICS:
        raise _bad_config(f"Metric must be one of {', '.join(METRICS)}")
    return _Config(dimensions, metric, None)


def _bad_config(message: str) -> ApiError:
    return misfit(f"vectorize.index.invalid_config - {message}")


def _read_row(call: Call, name: str) -> dict[str, Any]:
    row = call.backend.store.one(
        "SELECT * FROM vz_indexes WHERE account = ? AND name = ?", (call.path["account_id"], name)
    )
    return _render(dict(row or {}))


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


ENDPOINTS = [
    Endpoint("POST", ROOT, _create),
    Endpoint("GET", ROOT, _list),
    Endpoint("GET", INDEX, _read),
    Endpoint("DELETE", INDEX, _delete),
    Endpoint("GET", f"{INDEX}/info", _info),
]
