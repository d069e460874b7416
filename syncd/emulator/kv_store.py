"""The tables of KV, the endpoints for namespaces, and the functions that single and bulk writes of entries share.

A reader does not see an entry whose expiration has passed. The next write removes its row.

Source of the limits: "Workers KV: limits" and the API reference.
"""

import re
import secrets
import sqlite3
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from pydantic import BaseModel, Field
from starlette.responses import Response

from syncd.emulator.requests import ApiError, Call, Endpoint, compact_json, ok, page_rows
from syncd.emulator.store import VALID_AT, Backend

MAX_KV_NAMESPACES = 1000
"""Maximum namespaces of an account."""

MAX_KV_PER_PAGE = 1000
"""Maximum namespaces on a page of their listing."""

MAX_KV_TITLE_SIZE = 512
MAX_KV_KEY_SIZE = 512
"""Maximum bytes of a title and of a key in UTF-8."""

MAX_KV_METADATA_SIZE = 1024
"""Maximum bytes of metadata as compact JSON."""

MAX_KV_VALUE_SIZE = 25 * 1024 * 1024
"""Maximum bytes of a value."""

MIN_KV_TTL = 60
"""Minimum seconds from a write to the expiration of the entry."""

KV_WRITE_INTERVAL = 1.0
"""Minimum number of seconds between two writes to one key."""

# Times are seconds since 1970.
SCHEMA = """
CREATE TABLE IF NOT EXISTS kv_namespaces (
    number INTEGER PRIMARY KEY, account TEXT NOT NULL, id TEXT NOT NULL, title TEXT NOT NULL, jurisdiction TEXT,
    UNIQUE (account, id), UNIQUE (account, title)
);
-- One row for each state of a key. The present state has no valid_to. Past states have no data, and only a lagging
-- listing reads them. Keys are UTF-8 blobs, so that they sort as in the API, and a NUL is like any other byte.
CREATE TABLE IF NOT EXISTS kv_entries (
    version INTEGER PRIMARY KEY, namespace INTEGER NOT NULL, key BLOB NOT NULL, metadata TEXT, expiration INTEGER,
    valid_from REAL NOT NULL, valid_to REAL, data BLOB
);
CREATE INDEX IF NOT EXISTS kv_entries_key ON kv_entries (namespace, key, valid_to);
CREATE INDEX IF NOT EXISTS kv_entries_past ON kv_entries (valid_to) WHERE valid_to IS NOT NULL;
CREATE INDEX IF NOT EXISTS kv_entries_expiring ON kv_entries (expiration) WHERE expiration IS NOT NULL;
"""

ROOT = "/accounts/{account_id}/storage/kv/namespaces"
NAMESPACE = f"{ROOT}/{{namespace_id}}"

_ID = re.compile(r"[0-9a-fA-F]{32}")
_JURISDICTIONS = (None, "eu", "fedramp", "us")


def refused(message: str, status: int = 400) -> ApiError:
    """Return the error of an invalid request. Its code is 10001 for every status."""
    return ApiError(status, 10001, message)


def find_namespace(call: Call) -> dict[str, Any]:
    """Return the row of the namespace in the path.

    Raises ApiError 400/10011 if the id is malformed, 404/10013 if the namespace does not exist.
    """
    given = call.path["namespace_id"]
    if _ID.fullmatch(given) is None:
        raise ApiError(400, 10011, f"could not parse UUID from request's namespace_id: '{given}'")
    sql = "SELECT * FROM kv_namespaces WHERE account = ? AND id = ?"
    row = call.backend.store.one(sql, (call.path["account_id"], given.lower()))
    if row is None:
        raise ApiError(404, 10013, "namespace not found")
    return dict(row)


def namespace_of(call: Call) -> int:
    """Return the row number of the namespace in the path. Raises the errors of find_namespace()."""
    number: int = find_namespace(call)["number"]
    return number


class KVPair(NamedTuple):
    """A key and its value. metadata: JSON text or None. expiration: seconds since 1970 or None.

    data: the value; empty in a listing.
    """

    key: bytes
    metadata: str | None
    expiration: int | None
    data: bytes = b""


def find_pair(backend: Backend, namespace: int, key: bytes) -> KVPair | None:
    """Return the present entry of a key, or None. The lag of the listing does not apply."""
    sql = (
        "SELECT key, metadata, expiration, data FROM kv_entries WHERE valid_to IS NULL"
        " AND namespace = :namespace AND key = :key AND (expiration IS NULL OR expiration > :at)"
    )
    row = backend.store.one(sql, {"namespace": namespace, "key": key, "at": backend.clock()})
    return None if row is None else KVPair(*row)


def list_pairs(backend: Backend, namespace: int, bounds: tuple[bytes, bytes], limit: int) -> list[KVPair]:
    """Return the first `limit` entries with bounds[0] <= key < bounds[1], as they were `list_lag` seconds ago."""
    lag = backend.options.list_lag
    valid = VALID_AT if lag else "valid_to IS NULL"
    sql = (
        "SELECT key, metadata, expiration FROM kv_entries"  # noqa: S608 - constants only
        f" WHERE namespace = :namespace AND key >= :start AND key < :end AND {valid}"
        " AND (expiration IS NULL OR expiration > :at) ORDER BY key LIMIT :limit"
    )
    values = {"namespace": namespace, "start": bounds[0], "end": bounds[1], "limit": limit}
    return [KVPair(*row) for row in backend.store.all(sql, values | {"at": backend.clock() - lag})]


def write_pairs(backend: Backend, namespace: int, pairs: Collection[KVPair]) -> None:
    """Replace the entries of the keys of `pairs`. The caller holds the transaction.

    Raises ApiError 429 if kv_write_limit is set and a key was written within the last second.
    """
    now = backend.clock()
    if backend.options.kv_write_limit:
        _check_interval(backend, namespace, pairs, now)
    remove_keys(backend, namespace, [pair.key for pair in pairs])
    sql = "INSERT INTO kv_entries (namespace, valid_from, key, metadata, expiration, data) VALUES (?, ?, ?, ?, ?, ?)"
    backend.store.executemany(sql, ((namespace, now, *pair) for pair in pairs))


def remove_keys(backend: Backend, namespace: int, keys: Iterable[bytes]) -> None:
    """Remove the entries of the keys. Unknown keys are ignored. The caller holds the transaction.

    A lagging listing still shows a removed entry for list_lag seconds.
    """
    now, lag = backend.clock(), backend.options.list_lag
    backend.store.executemany(
        "UPDATE kv_entries SET valid_to = ?, data = NULL WHERE namespace = ? AND key = ? AND valid_to IS NULL",
        ((now, namespace, key) for key in keys),
    )
    for column in ("valid_to", "expiration"):
        backend.store.execute(f"DELETE FROM kv_entries WHERE {column} <= ?", (now - lag,))  # noqa: S608 - constant names


def _check_interval(backend: Backend, namespace: int, pairs: Iterable[KVPair], now: float) -> None:
    sql = "SELECT 1 FROM kv_entries WHERE namespace = ? AND key = ? AND valid_to IS NULL AND valid_from > ?"
    for pair in pairs:
        if backend.store.one(sql, (namespace, pair.key, now - KV_WRITE_INTERVAL)):
            raise ApiError(429, 10429, f"Too many writes to one key within a second: {pair.key.decode()}")


def key_of(key: Any) -> bytes:
    """Return the key as it is stored. Raises ApiError 400 or 414 if it is not valid.

    Any text except "", "." and ".." is valid. The API reference requires printable characters, but the service accepts
    others.
    """
    if not isinstance(key, str):
        raise refused("a key must be a text")
    if not key:
        raise refused("Key names must not be empty")
    if key in {".", ".."}:
        raise refused(f'Illegal key name "{key}". Please use a different name.')
    return prefix_of(key)


def prefix_of(text: str) -> bytes:
    """Return a key or prefix as UTF-8. Raises ApiError 414 if it is too long, 400 if it has no UTF-8 form."""
    try:
        key = text.encode()
    except UnicodeEncodeError:
        raise refused("the key is not UTF-8") from None
    if len(key) > MAX_KV_KEY_SIZE:
        raise refused(f"UTF-8 encoded length of {len(key)} exceeds key length limit of {MAX_KV_KEY_SIZE}.", 414)
    return key


def check_value_size(value: bytes) -> None:
    """Raise ApiError 413 if the value is too long."""
    if len(value) > MAX_KV_VALUE_SIZE:
        raise refused(f"Value length of {len(value)} exceeds limit of {MAX_KV_VALUE_SIZE}.", 413)


def stored_metadata(metadata: Any) -> str | None:
    """Return metadata as it is stored. None: the value is null. Raises ApiError 413 for too many bytes, 400 for NaN."""
    if metadata is None:
        return None
    try:
        text = compact_json(metadata)
        size = len(text.encode())
    except ValueError:
        raise refused("metadata is not JSON") from None
    if size > MAX_KV_METADATA_SIZE:
        raise refused(f"Metadata length of {size} exceeds limit of {MAX_KV_METADATA_SIZE}.", 413)
    return text


class Expiration(BaseModel):
    """The fields of a request that set the expiration of an entry, in seconds. With a TTL, `expiration` is ignored."""

    expiration: int | None = Field(default=None, le=2**53)
    expiration_ttl: int | None = Field(default=None, le=2**53)

    def time(self, now: float) -> int | None:
        """Return the expiration in seconds since 1970. Raises ApiError 400 unless it is at least 60 s after `now`."""
        ttl, end = self.expiration_ttl, self.expiration
        if ttl is not None:
            if ttl < MIN_KV_TTL:
                raise refused(f"Invalid expiration_ttl of {ttl}. Expiration TTL must be at least {MIN_KV_TTL}.")
            return int(now) + ttl
        if end is not None and end < int(now) + MIN_KV_TTL:
            ahead = f"Expiration times must be at least {MIN_KV_TTL} seconds in the future."
            raise refused(f"Invalid expiration of {end}. {ahead}")
        return end


async def _list(call: Call) -> Response:
    order = call.choice("order", ("id", "title"), refuse=refused)
    direction = call.choice("direction", ("asc", "desc"), refuse=refused)
    sql = f"SELECT * FROM kv_namespaces WHERE account = ? ORDER BY {order} {direction}"  # noqa: S608 - constants only
    rows = call.backend.store.all(sql, (call.path["account_id"],))
    return page_rows(call, [_render(dict(row)) for row in rows], MAX_KV_PER_PAGE, refuse=refused)


async def _create(call: Call) -> Response:
    body = await call.body(refuse=refused)
    row = {"id": secrets.token_hex(16), "title": _title(body), "jurisdiction": body.get("jurisdiction")}
    if row["jurisdiction"] not in _JURISDICTIONS:
        raise refused("jurisdiction must be eu, fedramp or us")
    account = {"account": call.path["account_id"]}
    counting = "SELECT count(*) FROM kv_namespaces WHERE account = :account"
    if call.backend.store.value(counting, account) >= MAX_KV_NAMESPACES:
        raise refused(f"An account has at most {MAX_KV_NAMESPACES} namespaces")
    sql = "INSERT INTO kv_namespaces (account, id, title, jurisdiction) VALUES (:account, :id, :title, :jurisdiction)"
    _write_title(call, sql, account | row)
    return ok(_render(row))


async def _get(call: Call) -> Response:
    return ok(_render(find_namespace(call)))


async def _rename(call: Call) -> Response:
    row = {"title": _title(await call.body(refuse=refused)), "number": namespace_of(call)}
    _write_title(call, "UPDATE kv_namespaces SET title = :title WHERE number = :number", row)
    return await _get(call)


async def _delete(call: Call) -> Response:
    namespace = namespace_of(call)
    with call.backend.store.transaction():
        call.backend.store.execute("DELETE FROM kv_entries WHERE namespace = ?", (namespace,))
        call.backend.store.execute("DELETE FROM kv_namespaces WHERE number = ?", (namespace,))
    return ok({})


def _title(body: dict[str, Any]) -> str:
    title = body.get("title")
    if not isinstance(title, str) or not 0 < len(title.encode()) <= MAX_KV_TITLE_SIZE:
        raise refused(f"title must be a text of 1 to {MAX_KV_TITLE_SIZE} bytes")
    return title


def _write_title(call: Call, sql: str, row: dict[str, Any]) -> None:
    try:
        call.backend.store.execute(sql, row)
    except sqlite3.IntegrityError:
        raise ApiError(400, 10014, "a namespace with this account ID and title already exists") from None


def _render(row: dict[str, Any]) -> dict[str, Any]:
    shown = {"id": row["id"], "title": row["title"], "supports_url_encoding": True}
    if row["jurisdiction"] is not None:
        shown["jurisdiction"] = row["jurisdiction"]
    return shown


ENDPOINTS = [
    Endpoint("GET", ROOT, _list),
    Endpoint("POST", ROOT, _create),
    Endpoint("GET", NAMESPACE, _get),
    Endpoint("PUT", NAMESPACE, _rename),
    Endpoint("DELETE", NAMESPACE, _delete),
]
