"""The tables of Vectorize, the endpoints for indexes and for their metadata indexes, and the mutations of an index.

A mutation is accepted at once, and each row that it writes or removes carries the time at which the change is visible:
`mutation_lag` seconds later. Mutations become visible in the order of acceptance.
"""

import uuid
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.filters import MAX_PROPERTY_LENGTH, PROPERTY_NAME
from syncd.emulator.requests import ApiError, Call, Endpoint, ok, timestamp, validate
from syncd.emulator.store import VALID_AT, Backend

MAX_INDEX_NAME_SIZE = 64
MAX_DIMENSIONS = 1536
"""Users report that the service also refuses fewer than 32 dimensions. Its documentation has no lower bound, and small
vectors make readable tests.
"""

MAX_METADATA_INDEXES = 10
"""Metadata indexes of one index of Vectorize."""

VECTOR_CURSOR_LIFE = 300.0
"""Seconds until a cursor of the listing expires. The documentation says only "cursors have an expiration timestamp"."""

# Times are seconds since 1970; vectors are the bytes of little-endian float32.
SCHEMA = """
-- A deleted index keeps its row until its name is used again, because the service has another answer for new names.
CREATE TABLE IF NOT EXISTS vz_indexes (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, description TEXT,
    dimensions INTEGER NOT NULL, metric TEXT NOT NULL, preset TEXT, created_at REAL NOT NULL, deleted_at REAL,
    UNIQUE (account, name)
);
-- One row for each state of a vector, also for past states that a listing may show, and for states that are not visible
-- yet. The last accepted state has no valid_to.
-- indexed: {property: value} for the metadata indexes that existed when the vector was written.
CREATE TABLE IF NOT EXISTS vz_vectors (
    number INTEGER PRIMARY KEY, of_index INTEGER NOT NULL, id TEXT NOT NULL, namespace TEXT, metadata TEXT,
    indexed TEXT NOT NULL, data BLOB NOT NULL, valid_from REAL NOT NULL, valid_to REAL
);
CREATE INDEX IF NOT EXISTS vz_vectors_id ON vz_vectors (of_index, id, valid_to);
CREATE INDEX IF NOT EXISTS vz_vectors_number ON vz_vectors (of_index, number);
CREATE INDEX IF NOT EXISTS vz_vectors_past ON vz_vectors (valid_to) WHERE valid_to IS NOT NULL;
CREATE TABLE IF NOT EXISTS vz_properties (
    of_index INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, valid_from REAL NOT NULL, valid_to REAL
);
-- due: the time at which the mutation is visible.
CREATE TABLE IF NOT EXISTS vz_mutations (
    number INTEGER PRIMARY KEY, of_index INTEGER NOT NULL, id TEXT NOT NULL, due REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS vz_mutations_due ON vz_mutations (of_index, due);
"""

ROOT = "/accounts/{account_id}/vectorize/v2/indexes"
INDEX = f"{ROOT}/{{index_name}}"
PRESETS: dict[str, tuple[int, Literal["cosine", "dot-product"]]] = {
    "@cf/baai/bge-small-en-v1.5": (384, "cosine"),
    "@cf/baai/bge-base-en-v1.5": (768, "cosine"),
    "@cf/baai/bge-large-en-v1.5": (1024, "cosine"),
    "openai/text-embedding-ada-002": (1536, "cosine"),
    "cohere/embed-multilingual-v2.0": (768, "dot-product"),
}
"""The dimensions and the metric of an index for the vectors of a model."""

_END = "SET valid_to = :due WHERE of_index = :index AND valid_to IS NULL"
_END_VECTOR = f"UPDATE vz_vectors {_END} AND id = :id"
_ADD_VECTOR = """
INSERT INTO vz_vectors (of_index, id, namespace, metadata, indexed, data, valid_from)
SELECT :index, :id, :namespace, :metadata, :indexed, :data, :due
"""
_IF_ABSENT = "WHERE NOT EXISTS (SELECT 1 FROM vz_vectors WHERE of_index = :index AND id = :id AND valid_to IS NULL)"
_END_PROPERTY = f"UPDATE vz_properties {_END} AND name = :name"
_ADD_PROPERTY = "INSERT INTO vz_properties (of_index, name, type, valid_from) VALUES (:index, :name, :type, :due)"

MutationKind = Literal["upsert", "insert", "delete", "index", "unindex"]
_STATEMENTS: dict[MutationKind, tuple[str, ...]] = {
    "upsert": (_END_VECTOR, _ADD_VECTOR),
    "insert": (_ADD_VECTOR + _IF_ABSENT,),
    "delete": (_END_VECTOR,),
    "index": (_END_PROPERTY, _ADD_PROPERTY),
    "unindex": (_END_PROPERTY,),
}


def refused(code: int, message: str) -> ApiError:
    """Return the error of a request that is not valid, with status 400.

    The codes of this API are not documented. Users of the service reported them; 40009 was reported only once.
    """
    return ApiError(400, code, message)


def not_valid(message: str) -> ApiError:
    """Return the error of a request that is not valid, if no code of the service is known.

    10400, 10403, 10405 and 10413 are the stand-in's own. 7001 would mean an internal error in this API.
    """
    return refused(10400, message)


def unparsable(reason: str) -> ApiError:
    """Return the error of a JSON body that is not valid."""
    return refused(40026, f"Failed to parse the request body as JSON: {reason}")


class IndexRow(NamedTuple):
    """A row of vz_indexes. number: its key in the database."""

    number: int
    name: str
    description: str | None
    dimensions: int
    metric: str
    preset: str | None
    created_at: float
    deleted_at: float | None


_COLUMNS = ", ".join(IndexRow._fields)


def find_index(call: Call) -> IndexRow:
    """Return the index in the path. ApiError 404/3000 if its name was never used, 410/3005 if it was deleted."""
    name = call.path["index_name"]
    sql = f"SELECT {_COLUMNS} FROM vz_indexes WHERE account = ? AND name = ?"  # noqa: S608 - constants only
    row = call.backend.store.one(sql, (call.path["account_id"], name))
    if row is None:
        raise ApiError(404, 3000, f'vectorize.index.not_found - Index name "{name}"')
    if row["deleted_at"] is not None:
        raise ApiError(410, 3005, f'vectorize.index.deleted - Index name "{name}" was deleted')
    return IndexRow(*row)


def change_index(backend: Backend, index: IndexRow, kind: MutationKind, rows: list[dict[str, Any]]) -> Response:
    """Accept a mutation and return the answer that carries its id.

    rows: the vectors of an upsert or an insert, the ids of a delete, or the metadata index that "index" creates or
    "unindex" removes; named like the columns. An upsert has each id once.
    """
    identifier, now, store = str(uuid.uuid4()), backend.clock(), backend.store
    with store.transaction():
        # After a restart with a shorter lag, an earlier mutation still becomes visible first.
        last = store.value("SELECT max(due) FROM vz_mutations WHERE of_index = ?", (index.number,))
        due = max(now + backend.options.mutation_lag, last or 0)
        for sql in _STATEMENTS[kind]:
            store.executemany(sql, ({"index": index.number, "due": due, **row} for row in rows))
        store.execute("INSERT INTO vz_mutations (of_index, id, due) VALUES (?, ?, ?)", (index.number, identifier, due))
        for table in ("vz_vectors", "vz_properties"):
            store.execute(f"DELETE FROM {table} WHERE valid_to <= ?", (now - VECTOR_CURSOR_LIFE,))  # noqa: S608 - constants
    return ok({"mutationId": identifier})


def property_types(backend: Backend, index: IndexRow, *, accepted: bool) -> dict[str, str]:
    """Return the metadata indexes as property -> type: after every accepted mutation, or as they are visible now."""
    valid = "valid_to IS NULL" if accepted else VALID_AT
    sql = f"SELECT name, type FROM vz_properties WHERE of_index = :index AND {valid} ORDER BY name"  # noqa: S608
    return {row["name"]: row["type"] for row in backend.store.all(sql, {"index": index.number, "at": backend.clock()})}


class _Config(BaseModel):
    preset: str | None = None
    dimensions: int | None = Field(default=None, ge=1, le=MAX_DIMENSIONS)
    metric: Literal["cosine", "euclidean", "dot-product"] | None = None


class _NewIndex(BaseModel):
    name: str = Field(max_length=MAX_INDEX_NAME_SIZE, pattern="^[a-z][a-z0-9_-]*[a-z0-9]$")
    description: str | None = None
    config: _Config


async def _create(call: Call) -> Response:
    new = validate(_NewIndex, await call.body(refuse=unparsable), refuse=not_valid)
    dimensions, metric = new.config.dimensions, new.config.metric
    if new.config.preset is not None:
        dimensions, metric = PRESETS.get(new.config.preset, (None, None))
    if dimensions is None or metric is None:
        message = f"config needs dimensions and metric, or one of the presets {', '.join(PRESETS)}"
        raise not_valid(f"vectorize.index.invalid_config - {message}")
    account, name, store = call.path["account_id"], new.name, call.backend.store
    if store.one("SELECT 1 FROM vz_indexes WHERE account = ? AND name = ? AND deleted_at IS NULL", (account, name)):
        raise refused(3002, f'vectorize.index.duplicate_name - Index name "{name}"')
    config = {"dimensions": dimensions, "metric": metric, "preset": new.config.preset}
    row = config | {"name": name, "description": new.description, "created_at": call.backend.clock()}
    with store.transaction():
        store.execute("DELETE FROM vz_indexes WHERE account = ? AND name = ?", (account, name))
        sql = (
            "INSERT INTO vz_indexes (account, name, description, dimensions, metric, preset, created_at)"
            " VALUES (:account, :name, :description, :dimensions, :metric, :preset, :created_at)"
        )
        store.execute(sql, row | {"account": account})
    return ok(_render(row))


async def _list(call: Call) -> Response:
    sql = "SELECT * FROM vz_indexes WHERE account = ? AND deleted_at IS NULL ORDER BY name"
    return ok([_render(dict(row)) for row in call.backend.store.all(sql, (call.path["account_id"],))])


async def _get(call: Call) -> Response:
    return ok(_render(find_index(call)._asdict()))


async def _delete(call: Call) -> Response:
    index, store = find_index(call), call.backend.store
    with store.transaction():
        for table in ("vz_vectors", "vz_properties", "vz_mutations"):
            store.execute(f"DELETE FROM {table} WHERE of_index = ?", (index.number,))  # noqa: S608 - constant names
        store.execute("UPDATE vz_indexes SET deleted_at = ? WHERE number = ?", (call.backend.clock(), index.number))
    return ok(None)


async def _info(call: Call) -> Response:
    index, store = find_index(call), call.backend.store
    values = {"index": index.number, "at": call.backend.clock()}
    last = "SELECT id, due FROM vz_mutations WHERE of_index = :index AND due <= :at ORDER BY number DESC LIMIT 1"
    mutation, moment = store.one(last, values) or (None, None)
    counting = f"SELECT count(*) FROM vz_vectors WHERE of_index = :index AND {VALID_AT}"  # noqa: S608 - a constant
    return ok(
        {
            "dimensions": index.dimensions,
            "vectorCount": store.value(counting, values),
            "processedUpToMutation": mutation,
            "processedUpToDatetime": None if moment is None else timestamp(moment),
        }
    )


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


class _Property(BaseModel):
    propertyName: str = Field(max_length=MAX_PROPERTY_LENGTH, pattern=PROPERTY_NAME)  # noqa: N815 - the name in the API


class _NewProperty(_Property):
    indexType: Literal["string", "number", "boolean"]  # noqa: N815


async def _create_metadata_index(call: Call) -> Response:
    """Accept a metadata index. The request is also accepted if the property has one already."""
    new = validate(_NewProperty, await call.body(refuse=unparsable), refuse=not_valid)
    index = find_index(call)
    others = property_types(call.backend, index, accepted=True).keys() - {new.propertyName}
    if len(others) >= MAX_METADATA_INDEXES:
        raise not_valid(f"an index has at most {MAX_METADATA_INDEXES} metadata indexes")
    return change_index(call.backend, index, "index", [{"name": new.propertyName, "type": new.indexType}])


async def _list_metadata_indexes(call: Call) -> Response:
    types = property_types(call.backend, find_index(call), accepted=False)
    shown = [{"propertyName": name, "indexType": value_type} for name, value_type in types.items()]
    return ok({"metadataIndexes": shown})


async def _delete_metadata_index(call: Call) -> Response:
    name = validate(_Property, await call.body(refuse=unparsable), refuse=not_valid).propertyName
    index = find_index(call)
    if name not in property_types(call.backend, index, accepted=True):
        raise refused(40005, f"there is no metadata index for property {name}")
    return change_index(call.backend, index, "unindex", [{"name": name}])


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
