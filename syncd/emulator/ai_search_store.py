"""The tables of AI Search: namespaces, instances and items, and the indexing of items over time.

Nothing runs in the background. The times of an item are set when it is queued, and its status follows from the clock,
so a restart on the same file continues where it was.
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from syncd.emulator.ai_search_index import (
    SYSTEM_FIELDS,
    IndexedChunk,
    build_metadata,
    schema_of,
)
from syncd.emulator.filters import compile_filter
from syncd.emulator.options import matches
from syncd.emulator.requests import ApiError, Call, Endpoint, Handler, timestamp
from syncd.emulator.store import Backend

# Times are seconds since 1970.
SCHEMA = """
CREATE TABLE IF NOT EXISTS ai_namespaces (
    account TEXT NOT NULL, name TEXT NOT NULL, description TEXT, created_at REAL NOT NULL,
    PRIMARY KEY (account, name)
);
CREATE TABLE IF NOT EXISTS ai_instances (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, namespace TEXT NOT NULL, id TEXT NOT NULL,
    config TEXT NOT NULL, created_at REAL NOT NULL, modified_at REAL NOT NULL,
    UNIQUE (account, namespace, id)
);
-- One row for each past state of an item; the present state has no valid_to. Only a lagging listing reads older rows.
CREATE TABLE IF NOT EXISTS ai_items (
    version INTEGER PRIMARY KEY,
    id TEXT NOT NULL, instance INTEGER NOT NULL, key TEXT NOT NULL, source TEXT NOT NULL,
    checksum TEXT NOT NULL, size INTEGER, metadata TEXT NOT NULL, filterable TEXT NOT NULL,
    chunks INTEGER NOT NULL, error TEXT, created_at REAL NOT NULL, modified_at REAL NOT NULL,
    queued_at REAL NOT NULL, started_at REAL NOT NULL, done_at REAL NOT NULL, gone_at REAL,
    valid_from REAL NOT NULL, valid_to REAL
);
CREATE UNIQUE INDEX IF NOT EXISTS ai_items_key ON ai_items (instance, key, source) WHERE valid_to IS NULL;
CREATE UNIQUE INDEX IF NOT EXISTS ai_items_id ON ai_items (id) WHERE valid_to IS NULL;
CREATE INDEX IF NOT EXISTS ai_items_modified ON ai_items (instance, valid_to, modified_at DESC, id);
CREATE INDEX IF NOT EXISTS ai_items_source ON ai_items (instance, valid_to, source, modified_at DESC, id);
CREATE INDEX IF NOT EXISTS ai_items_past ON ai_items (valid_to) WHERE valid_to IS NOT NULL;

CREATE TABLE IF NOT EXISTS ai_contents (item TEXT PRIMARY KEY, data BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ai_chunks (
    number INTEGER PRIMARY KEY, item TEXT NOT NULL, position INTEGER NOT NULL,
    start_byte INTEGER NOT NULL, end_byte INTEGER NOT NULL, text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ai_chunks_item ON ai_chunks (item, position);
CREATE VIRTUAL TABLE IF NOT EXISTS ai_words USING fts5 (
    text, content = 'ai_chunks', content_rowid = 'number', tokenize = 'porter unicode61'
);
CREATE TRIGGER IF NOT EXISTS ai_chunks_in AFTER INSERT ON ai_chunks BEGIN
    INSERT INTO ai_words (rowid, text) VALUES (new.number, new.text);
END;
CREATE TRIGGER IF NOT EXISTS ai_chunks_out AFTER DELETE ON ai_chunks BEGIN
    INSERT INTO ai_words (ai_words, rowid, text) VALUES ('delete', old.number, old.text);
END;
-- The lines of an indexing are written at its start; each line is visible from its time on.
CREATE TABLE IF NOT EXISTS ai_logs (
    number INTEGER PRIMARY KEY, item TEXT NOT NULL, at REAL NOT NULL, action TEXT NOT NULL, message TEXT NOT NULL,
    chunks INTEGER, milliseconds INTEGER, error TEXT
);
CREATE INDEX IF NOT EXISTS ai_logs_item ON ai_logs (item, number);
"""

ROOT = "/accounts/{account_id}/ai-search"
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class InstanceRow:
    """A row of ai_instances. number: its key in the database; config: the fields that clients set."""

    number: int
    account: str
    namespace: str
    id: str
    config: dict[str, Any]
    created_at: float
    modified_at: float


def instance_endpoints(method: str, below: str, handler: Handler) -> list[Endpoint]:
    """Return an endpoint below /instances of a namespace, and the same below the plain /instances."""
    return [
        Endpoint(method, f"{ROOT}/namespaces/{{name}}/instances{below}", handler),
        Endpoint(method, f"{ROOT}/instances{below}", handler),
    ]


def namespace_of(call: Call) -> str:
    """Return the namespace in the path, "default" if the path has none. Raises ApiError 404 if it does not exist."""
    account, name = call.path["account_id"], call.path.get("name", DEFAULT_NAMESPACE)
    sql = "SELECT 1 FROM ai_namespaces WHERE account = ? AND name = ?"
    if name != DEFAULT_NAMESPACE and call.backend.store.one(sql, (account, name)) is None:
        raise ApiError(404, 7063, "namespace_not_found")
    return name


def instance_of(call: Call) -> InstanceRow:
    """Return the instance in the path. Raises ApiError 404 if it or its namespace does not exist."""
    place = (call.path["account_id"], namespace_of(call), call.path["id"])
    instance = find_instance(call.backend, place)
    if instance is None:
        raise ApiError(404, 7002, "ai_search_not_found")
    if call.backend.options.delete_delay:
        _remove_deleted(call.backend, instance)
    return instance


def find_instance(backend: Backend, place: tuple[str, str, str]) -> InstanceRow | None:
    """Return the instance at (account, namespace, id), or None."""
    sql = "SELECT * FROM ai_instances WHERE account = ? AND namespace = ? AND id = ?"
    row = backend.store.one(sql, place)
    return None if row is None else as_instance(row)


def define_filter(call: Call, expression: Any) -> None:
    """Define the SQL function accepted(metadata JSON) as this filter. The names of fields are case-insensitive."""
    if isinstance(expression, dict):
        expression = {field.lower(): condition for field, condition in expression.items()}
    try:
        call.backend.store.filter_by(compile_filter(expression))
    except ValueError as reason:
        raise bad_filter(str(reason)) from reason


def bad_filter(reason: str) -> ApiError:
    """Return the error of a filter that is not valid."""
    return ApiError(400, 7058, f"invalid_metadata_filter: {reason}")


def pause_instance(backend: Backend, instance: InstanceRow) -> None:
    """Pause an instance after an error that concerns all of it."""
    config = json.dumps(instance.config | {"paused": True})
    backend.store.execute("UPDATE ai_instances SET config = ? WHERE number = ?", (config, instance.number))


def as_instance(row: sqlite3.Row) -> InstanceRow:
    """Return a row of ai_instances as a value."""
    return InstanceRow(**(dict(row) | {"config": json.loads(row["config"])}))


SKIPPED = "skipped"
"""Stored in the column `error` for an item that the index skips. The item has no error then."""
STATUSES = ("queued", "running", "completed", "error", "skipped", "outdated")
BUILTIN = "builtin"
"""The source of uploaded items."""

STATUS_SQL = """CASE WHEN :at < started_at THEN 'queued' WHEN :at < done_at THEN 'running'
    WHEN error IS NULL THEN 'completed' WHEN error = 'skipped' THEN error ELSE 'error' END"""
"""The status at the time :at, like ItemRow.status()."""

LAST_SEEN_SQL = "CASE WHEN :at < started_at THEN queued_at WHEN :at < done_at THEN started_at ELSE done_at END"


@dataclass(frozen=True)
class ItemRow:
    """A row of ai_items. Times in seconds since 1970; size in bytes, None without content; metadata as JSON text.

    error: the result of the indexing, set at its start; None for success. queued_at, started_at, done_at: set by
    queue_item(). gone_at: the time at which a deleted item is removed; only set with the option `delete_delay`.
    """

    id: str
    instance: int
    key: str
    source: str
    metadata: str
    filterable: str
    chunks: int
    error: str | None
    created_at: float
    modified_at: float
    checksum: str = "0"
    size: int | None = None
    queued_at: float = 0.0
    started_at: float = 0.0
    done_at: float = 0.0
    gone_at: float | None = None

    def status(self, at: float) -> str:
        """Return queued, running, completed, error or skipped."""
        if at < self.started_at:
            return "queued"
        if at < self.done_at:
            return "running"
        if self.error == SKIPPED:
            return SKIPPED
        return "completed" if self.error is None else "error"


_FIELDS = [field.name for field in fields(ItemRow)]
COLUMNS = ", ".join(_FIELDS)
_INSERT = f"INSERT INTO ai_items ({COLUMNS}, valid_from) VALUES ({', '.join('?' * (len(_FIELDS) + 1))})"  # noqa: S608


def find_item(backend: Backend, instance: InstanceRow, **values: str) -> ItemRow | None:
    """Return the item with these values as it is now. `id` or `key` and `source` name at most one item."""
    wanted = " ".join(f"AND {column} = :{column}" for column in values)
    sql = f"SELECT {COLUMNS} FROM ai_items WHERE valid_to IS NULL AND instance = :instance {wanted}"  # noqa: S608
    row = backend.store.one(sql, {"instance": instance.number, **values})
    return None if row is None else ItemRow(*row)


def queue_item(backend: Backend, item: ItemRow, now: float) -> ItemRow:
    """Store the item at the start of a new indexing, with the log lines to come."""
    options = backend.options
    delay = options.slow_index_delay if matches(options.slow_index, item.key) else options.index_delay
    queued = replace(item, queued_at=now, started_at=now + delay / 2, done_at=now + delay, gone_at=None)
    _retire_item(backend, item.id, now)
    backend.store.execute(_INSERT, [*(getattr(queued, name) for name in _FIELDS), now])
    _write_logs(backend, queued)
    return queued


def store_content(backend: Backend, item: ItemRow, data: bytes, chunks: Iterable[IndexedChunk]) -> None:
    """Replace the bytes and the chunks of the item."""
    backend.store.execute("REPLACE INTO ai_contents VALUES (?, ?)", (item.id, data))
    backend.store.execute("DELETE FROM ai_chunks WHERE item = ?", (item.id,))
    backend.store.executemany(
        "INSERT INTO ai_chunks (item, position, start_byte, end_byte, text) VALUES (?, ?, ?, ?, ?)",
        [(item.id, position, *chunk) for position, chunk in enumerate(chunks)],
    )


def read_content(backend: Backend, item: ItemRow) -> bytes:
    """Return the uploaded bytes. The item must have the source "builtin"."""
    data: bytes = backend.store.value("SELECT data FROM ai_contents WHERE item = ?", (item.id,))
    return data


def reindex_all(backend: Backend, instance: InstanceRow) -> None:
    """Queue every item again after a change of the metadata schema, within a transaction of the caller."""
    schema = schema_of(instance.config)
    sql = f"SELECT {COLUMNS} FROM ai_items WHERE valid_to IS NULL AND instance = ?"  # noqa: S608
    for row in backend.store.all(sql, (instance.number,)):
        item = ItemRow(*row)
        custom = {name: value for name, value in json.loads(item.metadata).items() if name not in SYSTEM_FIELDS}
        filterable = build_metadata(item.key, item.modified_at, custom, schema).filterable
        queue_item(backend, replace(item, filterable=json.dumps(filterable)), backend.clock())


def remove_item(backend: Backend, item_id: str) -> None:
    """Remove the item, its content and chunks, within a transaction of the caller.

    A lagging listing still shows it for list_lag seconds.
    """
    _retire_item(backend, item_id, backend.clock())
    _remove_content(backend, item_id)


def _remove_deleted(backend: Backend, instance: InstanceRow) -> None:
    sql = "SELECT id FROM ai_items WHERE valid_to IS NULL AND instance = ? AND gone_at <= ?"
    with backend.store.transaction():
        for row in backend.store.all(sql, (instance.number, backend.clock())):
            remove_item(backend, row["id"])


def remove_instance(backend: Backend, instance: InstanceRow) -> None:
    """Remove an instance and all its items."""
    with backend.store.transaction():
        for row in backend.store.all("SELECT DISTINCT id FROM ai_items WHERE instance = ?", (instance.number,)):
            _remove_content(backend, row["id"])
        for table in ("ai_items", "ai_jobs"):
            backend.store.execute(f"DELETE FROM {table} WHERE instance = ?", (instance.number,))  # noqa: S608 - constants
        backend.store.execute("DELETE FROM ai_instances WHERE number = ?", (instance.number,))


def instance_statistics(backend: Backend, instance: InstanceRow) -> dict[str, Any]:
    """Return the counts over the items as they are now, as the API shows them."""
    if backend.options.degraded:
        return {"degraded": True}
    sql = (
        f"SELECT {STATUS_SQL} AS status, count(*) AS items, count(size) AS objects,"  # noqa: S608 - constants only
        " coalesce(sum(size), 0) AS payload, sum(length(metadata)) AS metadata, sum(chunks) AS chunks,"
        f" max({LAST_SEEN_SQL}) AS last"
        " FROM ai_items WHERE valid_to IS NULL AND instance = :instance GROUP BY 1"
    )
    rows = backend.store.all(sql, {"at": backend.clock(), "instance": instance.number})
    counts = dict.fromkeys(STATUSES, 0) | {row["status"]: row["items"] for row in rows}
    stored = {
        "objectCount": sum(row["objects"] for row in rows),
        "payloadSizeBytes": sum(row["payload"] for row in rows),
        "metadataSizeBytes": sum(row["metadata"] for row in rows),
    }
    vectors = sum(row["chunks"] for row in rows if row["status"] == "completed")
    return counts | {
        "last_activity": timestamp(max(row["last"] for row in rows)) if rows else None,
        "degraded": False,
        "engine": {"r2": stored, "vectorize": {"dimensions": 1024, "vectorsCount": vectors}},
    }


def instance_status(backend: Backend, instance: InstanceRow) -> str:
    """Return "waiting" for an instance that is empty, "indexing" while an item is in work, else "active".

    The documentation names the three values without defining them.
    """
    sql = "SELECT max(done_at) FROM ai_items WHERE valid_to IS NULL AND instance = :instance"
    last = backend.store.value(sql, {"instance": instance.number})
    if last is None:
        return "waiting"
    return "indexing" if last > backend.clock() else "active"


def _retire_item(backend: Backend, item_id: str, now: float) -> None:
    for key in [key for key, (_, items, _) in backend.searches.items() if item_id in items]:
        del backend.searches[key]
    backend.store.execute("UPDATE ai_items SET valid_to = ? WHERE valid_to IS NULL AND id = ?", (now, item_id))
    backend.store.execute("DELETE FROM ai_items WHERE valid_to <= ?", (now - backend.options.list_lag,))


def _remove_content(backend: Backend, item_id: str) -> None:
    for table in ("ai_contents", "ai_chunks", "ai_logs"):
        backend.store.execute(f"DELETE FROM {table} WHERE item = ?", (item_id,))  # noqa: S608 - constant names


def _write_logs(backend: Backend, item: ItemRow) -> None:
    # An indexing that is still under way ends here; its remaining lines must not appear.
    backend.store.execute("DELETE FROM ai_logs WHERE item = ? AND at > ?", (item.id, item.queued_at))
    milliseconds = round((item.done_at - item.queued_at) * 1000)
    end: tuple[Any, ...] = ("completed", "Indexing completed", item.chunks, milliseconds, None)
    if item.error == SKIPPED:
        end = ("skipped", "The file was skipped", None, milliseconds, None)
    elif item.error is not None:
        # The messages of the service are not documented.
        end = ("error", f"Indexing failed: {item.error}", None, milliseconds, item.error)
    backend.store.executemany(
        "INSERT INTO ai_logs (item, at, action, message, chunks, milliseconds, error) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (item.id, item.queued_at, "queued", "Waiting to be indexed", None, None, None),
            (item.id, item.started_at, "running", "Indexing started", None, None, None),
            (item.id, item.done_at, *end),
        ],
    )
