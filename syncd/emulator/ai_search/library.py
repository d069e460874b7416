"""The items of an instance in the database, and how they age from queued to completed.

Nothing runs in the background: an item's times are fixed when it is queued, and its status follows from the clock.
So a restart on the same file goes on where it was.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from syncd.emulator.ai_search.indexing import REASONS, Chunk, Outcome
from syncd.emulator.ai_search.metadata import build, read_schema
from syncd.emulator.ai_search.places import Instance
from syncd.emulator.bounded import found
from syncd.emulator.routing import Backend

SKIPPED = "skipped"
"""In the place of an error: the index leaves the item out, which is none."""
STATUSES = ("queued", "running", "completed", "error", "skipped", "outdated")
BUILTIN = "builtin"

STATUS_SQL = """CASE WHEN :at < started_at THEN 'queued' WHEN :at < done_at THEN 'running'
    WHEN error IS NULL THEN 'completed' WHEN error = 'skipped' THEN error ELSE 'error' END"""
"""The status at the time :at, like `Item.status`."""


@dataclass(frozen=True)
class Item:
    """A row of ai_items. Times in seconds since 1970; size in bytes, None without content; metadata as JSON text.

    error is how the indexing ends, whether or not it has; None means well.
    """

    id: str
    instance: int
    key: str
    source: str
    checksum: str
    size: int | None
    metadata: str
    filterable: str
    chunks: int
    error: str | None
    created_at: float
    modified_at: float
    queued_at: float
    started_at: float
    done_at: float

    def status(self, at: float) -> str:
        """queued, running, completed or error."""
        if at < self.started_at:
            return "queued"
        if at < self.done_at:
            return "running"
        if self.error == SKIPPED:
            return SKIPPED
        return "completed" if self.error is None else "error"


_FIELDS = [field.name for field in fields(Item)]
COLUMNS = ", ".join(_FIELDS)
_INSERT = f"INSERT INTO ai_items ({COLUMNS}, valid_from) VALUES ({', '.join('?' * (len(_FIELDS) + 1))})"  # noqa: S608


class Statistics(NamedTuple):
    """An instance in numbers. last_activity: seconds since 1970, None if it is empty."""

    by_status: dict[str, int]
    objects: int
    payload_bytes: int
    metadata_bytes: int
    chunks: int
    last_activity: float | None


def find(backend: Backend, instance: Instance, item_id: str) -> Item | None:
    """The item as it is now, by id."""
    return _first(backend, instance, "id = ?", (item_id,))


def find_key(backend: Backend, instance: Instance, key: str, source: str) -> Item | None:
    """The item as it is now, by key within one source."""
    return _first(backend, instance, "key = ? AND source = ?", (key, source))


def _first(backend: Backend, instance: Instance, condition: str, values: tuple[str, ...]) -> Item | None:
    sql = f"SELECT {COLUMNS} FROM ai_items WHERE valid_to IS NULL AND instance = ? AND {condition}"  # noqa: S608
    row = backend.store.one(sql, (instance.number, *values))
    return None if row is None else Item(*row)


def queue(backend: Backend, item: Item, now: float) -> Item:
    """The item at the start of a new indexing; stored together with the log lines to come."""
    options = backend.options
    delay = options.slow_index_delay if matches(options.slow_index, item.key) else options.index_delay
    queued = replace(item, queued_at=now, started_at=now + delay / 2, done_at=now + delay)
    _retire(backend, item.id, now)
    backend.store.run(_INSERT, [*(getattr(queued, name) for name in _FIELDS), now])
    _write_logs(backend, queued)
    return queued


def matches(expression: str | None, key: str) -> bool:
    """Whether an option's regular expression, if it is given, is found in the key."""
    return expression is not None and found(expression, key)


def indexings(backend: Backend, item: Item) -> int:
    """How often the item was queued so far."""
    sql = "SELECT count(*) FROM ai_logs WHERE item = ? AND action = 'queued'"
    count: int = backend.store.value(sql, (item.id,))
    return count


def store_content(backend: Backend, item: Item, data: bytes, chunks: Iterable[Chunk]) -> None:
    """Replaces the item's bytes and chunks."""
    backend.store.run("REPLACE INTO ai_contents VALUES (?, ?)", (item.id, data))
    backend.store.run("DELETE FROM ai_chunks WHERE item = ?", (item.id,))
    backend.store.many(
        "INSERT INTO ai_chunks (item, position, start_byte, end_byte, text) VALUES (?, ?, ?, ?, ?)",
        [(item.id, position, *chunk) for position, chunk in enumerate(chunks)],
    )


def reindex(backend: Backend, item: Item, outcome: Outcome) -> Item:
    """Queues what is stored once more."""
    with backend.store.transaction():
        if item.size is not None:
            store_content(backend, item, content(backend, item), outcome.chunks)
        return queue(backend, replace(item, chunks=len(outcome.chunks), error=outcome.error), backend.clock())


def content(backend: Backend, item: Item) -> bytes:
    """The uploaded bytes; only items of the source "builtin" have any."""
    data: bytes = backend.store.value("SELECT data FROM ai_contents WHERE item = ?", (item.id,))
    return data


def remove(backend: Backend, item: Item) -> None:
    """The item, its content and chunks. A lagging listing still shows it for a while."""
    with backend.store.transaction():
        _retire(backend, item.id, backend.clock())
        _drop_content(backend, item.id)


def remove_all(backend: Backend, instance: Instance) -> None:
    """Everything an instance has; within a transaction of the caller."""
    for row in backend.store.all("SELECT DISTINCT id FROM ai_items WHERE instance = ?", (instance.number,)):
        _drop_content(backend, row["id"])
    backend.store.run("DELETE FROM ai_items WHERE instance = ?", (instance.number,))


def requeue_all(backend: Backend, instance: Instance) -> None:
    """Every item once more, because the schema of the metadata changed; within a transaction of the caller."""
    schema = read_schema(instance.config.get("custom_metadata") or [])
    sql = f"SELECT {COLUMNS} FROM ai_items WHERE valid_to IS NULL AND instance = ?"  # noqa: S608
    for row in backend.store.all(sql, (instance.number,)):
        item = Item(*row)
        shown = json.loads(item.metadata)
        custom = {name: value for name, value in shown.items() if name not in {"filename", "folder", "timestamp"}}
        filterable = build(item.key, item.modified_at, custom, schema).filterable
        queue(backend, replace(item, filterable=json.dumps(filterable)), backend.clock())


def statistics(backend: Backend, instance: Instance) -> Statistics:
    """Counts the items as they are now."""
    sql = (
        f"SELECT {STATUS_SQL} AS status, count(*) AS items, count(size) AS objects,"  # noqa: S608 - constants only
        " coalesce(sum(size), 0) AS payload, sum(length(metadata)) AS metadata, sum(chunks) AS chunks,"
        " max(CASE WHEN :at < started_at THEN queued_at WHEN :at < done_at THEN started_at ELSE done_at END) AS last"
        " FROM ai_items WHERE valid_to IS NULL AND instance = :instance GROUP BY 1"
    )
    rows = backend.store.all(sql, {"at": backend.clock(), "instance": instance.number})
    return Statistics(
        by_status={row["status"]: row["items"] for row in rows},
        objects=sum(row["objects"] for row in rows),
        payload_bytes=sum(row["payload"] for row in rows),
        metadata_bytes=sum(row["metadata"] for row in rows),
        chunks=sum(row["chunks"] for row in rows if row["status"] == "completed"),
        last_activity=max((row["last"] for row in rows), default=None),
    )


def _retire(backend: Backend, item_id: str, now: float) -> None:
    lag = backend.options.list_lag
    if lag:
        backend.store.run("UPDATE ai_items SET valid_to = ? WHERE valid_to IS NULL AND id = ?", (now, item_id))
        backend.store.run("DELETE FROM ai_items WHERE valid_to IS NOT NULL AND valid_to <= ?", (now - lag,))
    else:
        backend.store.run("DELETE FROM ai_items WHERE valid_to IS NULL AND id = ?", (item_id,))


def _drop_content(backend: Backend, item_id: str) -> None:
    for table in ("ai_contents", "ai_chunks", "ai_logs"):
        backend.store.run(f"DELETE FROM {table} WHERE item = ?", (item_id,))  # noqa: S608 - names from above


def _write_logs(backend: Backend, item: Item) -> None:
    # What the interrupted indexing would have said is no longer going to happen.
    backend.store.run("DELETE FROM ai_logs WHERE item = ? AND at > ?", (item.id, item.queued_at))
    milliseconds = round((item.done_at - item.queued_at) * 1000)
    end: tuple[Any, ...] = ("completed", "Indexing completed", item.chunks, milliseconds, None)
    if item.error is not None:
        end = ("error", REASONS.get(item.error, "Indexing failed"), None, milliseconds, item.error)
    backend.store.many(
        "INSERT INTO ai_logs (item, at, action, message, chunks, milliseconds, error) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (item.id, item.queued_at, "queued", "Waiting to be indexed", None, None, None),
            (item.id, item.started_at, "running", "Indexing started", None, None, None),
            (item.id, item.done_at, *end),
        ],
    )
