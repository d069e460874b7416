"""The tables of Vectorize, the index and errors that every endpoint needs, and the mutations of an index.

A mutation is accepted at once and applied `mutation_lag` seconds later, in the order of acceptance. The next request
that reads the index applies the mutations that are due, because only such a request can see the difference.
"""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from starlette.responses import Response

from syncd.emulator.filters import indexed_properties
from syncd.emulator.requests import ApiError, Backend, Call, ok

# Times are seconds since 1970; vectors are the bytes of little-endian float32.
SCHEMA = """
-- A deleted index keeps its row until its name is used again, because the service has another answer for new names.
CREATE TABLE IF NOT EXISTS vz_indexes (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, description TEXT,
    dimensions INTEGER NOT NULL, metric TEXT NOT NULL, preset TEXT, created_at REAL NOT NULL, deleted_at REAL,
    processed_mutation TEXT, processed_at REAL,
    UNIQUE (account, name)
);
-- indexed: {property: value} for the metadata indexes that existed when the vector was written.
CREATE TABLE IF NOT EXISTS vz_vectors (
    number INTEGER PRIMARY KEY, of_index INTEGER NOT NULL, id TEXT NOT NULL, namespace TEXT, metadata TEXT,
    indexed TEXT NOT NULL, data BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS vz_vectors_id ON vz_vectors (of_index, id);
CREATE INDEX IF NOT EXISTS vz_vectors_number ON vz_vectors (of_index, number);
CREATE TABLE IF NOT EXISTS vz_properties (
    of_index INTEGER NOT NULL, name TEXT NOT NULL, type TEXT NOT NULL, PRIMARY KEY (of_index, name)
) WITHOUT ROWID;

-- Accepted mutations that are not applied yet, in the order of acceptance.
CREATE TABLE IF NOT EXISTS vz_mutations (
    number INTEGER PRIMARY KEY AUTOINCREMENT, of_index INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    due REAL NOT NULL, property TEXT, type TEXT
);
CREATE INDEX IF NOT EXISTS vz_mutations_index ON vz_mutations (of_index, number);
CREATE TABLE IF NOT EXISTS vz_pending (
    mutation INTEGER NOT NULL, place INTEGER NOT NULL, id TEXT NOT NULL, namespace TEXT, metadata TEXT, data BLOB,
    PRIMARY KEY (mutation, place)
);

-- The ids of a listing with more than one page as JSON, stored with the answer to its first page.
CREATE TABLE IF NOT EXISTS vz_listings (
    token TEXT PRIMARY KEY, of_index INTEGER NOT NULL, ids TEXT NOT NULL, expires_at REAL NOT NULL
);
"""

ROOT = "/accounts/{account_id}/vectorize/v2/indexes"
INDEX = f"{ROOT}/{{index_name}}"


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


def too_large(message: str) -> ApiError:
    """Return the error of a body that is too large."""
    return ApiError(413, 10413, message)


def unparsable(reason: str) -> ApiError:
    """Return the error of a JSON body that is not valid."""
    return refused(40026, f"Failed to parse the request body as JSON: {reason}")


class IndexRow(NamedTuple):
    """An index that exists. number: its key in the database."""

    number: int
    name: str
    dimensions: int
    metric: str


class VectorRow(NamedTuple):
    """A vector as stored. data: its float32 values, None in a delete; metadata: JSON text."""

    id: str
    data: bytes | None
    metadata: str | None = None
    namespace: str | None = None


class PropertyIndex(NamedTuple):
    """A metadata index: the name of the property and its type: string, number or boolean."""

    name: str
    type: str


MutationKind = Literal["upsert", "insert", "delete", "index", "unindex"]

_WRITE = {
    "upsert": "INSERT OR REPLACE INTO vz_vectors",
    "insert": "INSERT OR IGNORE INTO vz_vectors",
}


def find_index(call: Call) -> IndexRow:
    """Return the index in the path. ApiError 404/3000 if its name was never used, 410/3005 if it was deleted."""
    name = call.path["index_name"]
    sql = "SELECT number, name, dimensions, metric, deleted_at FROM vz_indexes WHERE account = ? AND name = ?"
    row = call.backend.store.one(sql, (call.path["account_id"], name))
    if row is None:
        raise ApiError(404, 3000, f'vectorize.index.not_found - Index name "{name}"')
    if row["deleted_at"] is not None:
        raise ApiError(410, 3005, f'vectorize.index.deleted - Index name "{name}" was deleted')
    return IndexRow(row["number"], row["name"], row["dimensions"], row["metric"])


def current_index(call: Call) -> IndexRow:
    """Return the index in the path after applying every mutation that is due. Errors as find_index."""
    index = find_index(call)
    store, now = call.backend.store, call.backend.clock()
    waiting = store.all("SELECT * FROM vz_mutations WHERE of_index = ? ORDER BY number", (index.number,))
    # A mutation that is not due delays the later ones, even if a restart with a shorter lag made them due earlier.
    ready = next((place for place, row in enumerate(waiting) if row["due"] > now), len(waiting))
    if ready:
        with store.transaction():
            for row in waiting[:ready]:
                _apply(call.backend, index, dict(row))
    return index


def change_index(
    backend: Backend,
    index: IndexRow,
    kind: MutationKind,
    *,
    vectors: Iterable[VectorRow] = (),
    changed: PropertyIndex | None = None,
) -> Response:
    """Accept a mutation and return the answer that carries its id.

    vectors: the vectors of an upsert, an insert or a delete (by id). changed: the metadata index that "index" creates
    or "unindex" removes.
    """
    identifier = str(uuid.uuid4())
    due = backend.clock() + backend.options.mutation_lag
    with backend.store.transaction():
        backend.store.run(
            "INSERT INTO vz_mutations (of_index, id, kind, due, property, type) VALUES (?, ?, ?, ?, ?, ?)",
            (index.number, identifier, kind, due, *(changed or (None, None))),
        )
        number = backend.store.value("SELECT last_insert_rowid()")
        backend.store.many(
            "INSERT INTO vz_pending (mutation, place, id, data, metadata, namespace) VALUES (?, ?, ?, ?, ?, ?)",
            ((number, place, *vector) for place, vector in enumerate(vectors)),
        )
    return ok({"mutationId": identifier})


def property_types(backend: Backend, index: IndexRow) -> dict[str, str]:
    """Return the visible metadata indexes as property -> type."""
    sql = "SELECT name, type FROM vz_properties WHERE of_index = ? ORDER BY name"
    return {row["name"]: row["type"] for row in backend.store.all(sql, (index.number,))}


def accepted_property_types(backend: Backend, index: IndexRow) -> dict[str, str]:
    """Return the metadata indexes as they will be after every accepted mutation."""
    types = property_types(backend, index)
    sql = "SELECT kind, property, type FROM vz_mutations WHERE of_index = ? AND property IS NOT NULL ORDER BY number"
    for row in backend.store.all(sql, (index.number,)):
        if row["kind"] == "index":
            types[row["property"]] = row["type"]
        else:
            types.pop(row["property"], None)
    return types


def remove_rows(backend: Backend, index: IndexRow) -> None:
    """Remove every row that belongs to an index, within a transaction of the caller."""
    pending = "DELETE FROM vz_pending WHERE mutation IN (SELECT number FROM vz_mutations WHERE of_index = ?)"
    backend.store.run(pending, (index.number,))
    for table in ("vz_vectors", "vz_properties", "vz_mutations", "vz_listings"):
        backend.store.run(f"DELETE FROM {table} WHERE of_index = ?", (index.number,))  # noqa: S608 - constant names


def _apply(backend: Backend, index: IndexRow, mutation: dict[str, Any]) -> None:
    store, number, kind = backend.store, mutation["number"], mutation["kind"]
    if kind in _WRITE:
        store.many(
            f"{_WRITE[kind]} (of_index, id, namespace, metadata, indexed, data) VALUES (?, ?, ?, ?, ?, ?)",
            _pending_rows(backend, index, number),
        )
    elif kind == "delete":
        store.run(
            "DELETE FROM vz_vectors WHERE of_index = ? AND id IN (SELECT id FROM vz_pending WHERE mutation = ?)",
            (index.number, number),
        )
    elif kind == "index":
        created = (index.number, mutation["property"], mutation["type"])
        store.run("INSERT OR REPLACE INTO vz_properties (of_index, name, type) VALUES (?, ?, ?)", created)
    else:
        sql = "DELETE FROM vz_properties WHERE of_index = ? AND name = ?"
        store.run(sql, (index.number, mutation["property"]))
    store.run("DELETE FROM vz_pending WHERE mutation = ?", (number,))
    store.run("DELETE FROM vz_mutations WHERE number = ?", (number,))
    store.run(
        "UPDATE vz_indexes SET processed_mutation = ?, processed_at = ? WHERE number = ?",
        (mutation["id"], mutation["due"], index.number),
    )


def _pending_rows(backend: Backend, index: IndexRow, mutation: int) -> Iterator[tuple[Any, ...]]:
    types = property_types(backend, index)
    for row in backend.store.all("SELECT * FROM vz_pending WHERE mutation = ? ORDER BY place", (mutation,)):
        indexed = indexed_properties(row["metadata"], types)
        yield index.number, row["id"], row["namespace"], row["metadata"], indexed, row["data"]
