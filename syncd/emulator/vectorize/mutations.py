"""Changes of an index on their way: accepted now, seen `mutation_lag` seconds later, in the order in which they came.

What is due is done by the next request that looks at the index; only such a request could tell the difference.
"""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

from syncd.emulator.routing import Backend, Call
from syncd.emulator.vectorize.elements import Vector
from syncd.emulator.vectorize.places import Index, find_index
from syncd.emulator.vectorize.properties import indexed_part

Kind = Literal["upsert", "insert", "delete", "index", "unindex"]

_WRITE = {
    "upsert": "INSERT OR REPLACE INTO vz_vectors",
    "insert": "INSERT OR IGNORE INTO vz_vectors",
}
_OWN_TABLES = ("vz_vectors", "vz_properties", "vz_mutations", "vz_snapshots")


class Property(NamedTuple):
    """A metadata index: the property's name and its type, of string, number, boolean."""

    name: str
    type: str


def current_index(call: Call) -> Index:
    """The index in the path, with all that is due done to it. ApiError as find_index."""
    index = find_index(call)
    store, now = call.backend.store, call.backend.clock()
    waiting = store.all("SELECT * FROM vz_mutations WHERE of_index = ? ORDER BY number", (index.number,))
    # One that is not due holds up what came after it, though a restart with less lag could have made that due.
    ready = next((place for place, row in enumerate(waiting) if row["due"] > now), len(waiting))
    if ready:
        with store.transaction():
            for row in waiting[:ready]:
                _apply(call.backend, index, dict(row))
    return index


def change_vectors(backend: Backend, index: Index, kind: Kind, vectors: Iterable[Vector]) -> str:
    """Accepts an upsert, insert or delete (which looks at the ids only), and gives the mutation's id."""
    with backend.store.transaction():
        identifier, number = _accept(backend, index, kind, None)
        rows = ((number, place, *vector) for place, vector in enumerate(vectors))
        backend.store.many(
            "INSERT INTO vz_pending (mutation, place, id, data, metadata, namespace) VALUES (?, ?, ?, ?, ?, ?)", rows
        )
    return identifier


def change_property(backend: Backend, index: Index, kind: Kind, changed: Property) -> str:
    """Accepts the making ("index") or the removal ("unindex") of a metadata index, and gives the mutation's id."""
    with backend.store.transaction():
        return _accept(backend, index, kind, changed)[0]


def properties(backend: Backend, index: Index) -> dict[str, str]:
    """The metadata indexes that anyone sees, as property -> type."""
    sql = "SELECT name, type FROM vz_properties WHERE of_index = ? ORDER BY name"
    return {row["name"]: row["type"] for row in backend.store.all(sql, (index.number,))}


def coming_properties(backend: Backend, index: Index) -> dict[str, str]:
    """The metadata indexes that there will be when all that is accepted is done."""
    found = properties(backend, index)
    sql = "SELECT kind, property, type FROM vz_mutations WHERE of_index = ? AND property IS NOT NULL ORDER BY number"
    for row in backend.store.all(sql, (index.number,)):
        if row["kind"] == "index":
            found[row["property"]] = row["type"]
        else:
            found.pop(row["property"], None)
    return found


def forget(backend: Backend, index: Index) -> None:
    """Takes away all that belongs to an index; within a transaction of the caller."""
    for table, column, owner in (
        ("vz_pending", "mutation", "vz_mutations"),
        ("vz_snapshot_ids", "snapshot", "vz_snapshots"),
    ):
        backend.store.run(
            f"DELETE FROM {table} WHERE {column} IN (SELECT number FROM {owner} WHERE of_index = ?)",  # noqa: S608
            (index.number,),
        )
    for table in _OWN_TABLES:
        backend.store.run(f"DELETE FROM {table} WHERE of_index = ?", (index.number,))  # noqa: S608 - names from above


def _accept(backend: Backend, index: Index, kind: Kind, changed: Property | None) -> tuple[str, int]:
    identifier = str(uuid.uuid4())
    name, kind_of_value = changed or (None, None)
    due = backend.clock() + backend.options.mutation_lag
    backend.store.run(
        "INSERT INTO vz_mutations (of_index, id, kind, due, property, type) VALUES (?, ?, ?, ?, ?, ?)",
        (index.number, identifier, kind, due, name, kind_of_value),
    )
    return identifier, backend.store.value("SELECT last_insert_rowid()")


def _apply(backend: Backend, index: Index, mutation: dict[str, Any]) -> None:
    store, number, kind = backend.store, mutation["number"], mutation["kind"]
    if kind in _WRITE:
        store.many(
            f"{_WRITE[kind]} (of_index, id, namespace, metadata, indexed, data) VALUES (?, ?, ?, ?, ?, ?)",
            _rows(backend, index, number),
        )
    elif kind == "delete":
        store.run(
            "DELETE FROM vz_vectors WHERE of_index = ? AND id IN (SELECT id FROM vz_pending WHERE mutation = ?)",
            (index.number, number),
        )
    elif kind == "index":
        made = (index.number, mutation["property"], mutation["type"])
        store.run("INSERT OR REPLACE INTO vz_properties (of_index, name, type) VALUES (?, ?, ?)", made)
    else:
        gone = (index.number, mutation["property"])
        store.run("DELETE FROM vz_properties WHERE of_index = ? AND name = ?", gone)
    store.run("DELETE FROM vz_pending WHERE mutation = ?", (number,))
    store.run("DELETE FROM vz_mutations WHERE number = ?", (number,))
    store.run(
        "UPDATE vz_indexes SET processed_mutation = ?, processed_at = ? WHERE number = ?",
        (mutation["id"], mutation["due"], index.number),
    )


def _rows(backend: Backend, index: Index, mutation: int) -> Iterator[tuple[Any, ...]]:
    kept = properties(backend, index)
    for row in backend.store.all("SELECT * FROM vz_pending WHERE mutation = ? ORDER BY place", (mutation,)):
        indexed = indexed_part(row["metadata"], kept)
        yield index.number, row["id"], row["namespace"], row["metadata"], indexed, row["data"]
