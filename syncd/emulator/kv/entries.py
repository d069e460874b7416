"""The entries of a namespace in the database.

An entry whose expiration has passed is as good as gone; its row goes with the next write.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from syncd.emulator.envelope import ApiError
from syncd.emulator.kv.pairs import Pair
from syncd.emulator.limits import KV_WRITE_INTERVAL
from syncd.emulator.routing import Backend

_ALIVE = "valid_to IS NULL AND namespace = :namespace AND key = :key AND (expiration IS NULL OR expiration > :at)"
_INSERT = """INSERT INTO kv_entries (namespace, key, metadata, expiration, valid_from, data)
    VALUES (:namespace, :key, :metadata, :expiration, :at, :data)"""


class Row(NamedTuple):
    """What the listing shows of an entry. metadata: JSON text; expiration: seconds since 1970; None is none."""

    key: bytes
    metadata: str | None
    expiration: int | None


class Value(NamedTuple):
    """What is stored under a key; metadata and expiration as in `Row`."""

    data: bytes
    metadata: str | None
    expiration: int | None


def find(backend: Backend, namespace: int, key: str) -> Value | None:
    """What is stored now, whatever the listing's lag; None if there is nothing."""
    sql = f"SELECT data, metadata, expiration FROM kv_entries WHERE {_ALIVE}"  # noqa: S608 - a constant
    row = backend.store.one(sql, {"namespace": namespace, "key": key.encode(), "at": backend.clock()})
    return None if row is None else Value(*row)


def page(backend: Backend, namespace: int, bounds: tuple[bytes, bytes], limit: int) -> list[Row]:
    """Up to `limit` entries with bounds[0] <= key < bounds[1], in the order of the keys, `list_lag` seconds ago."""
    lag = backend.options.list_lag
    valid = "valid_from <= :at AND (valid_to IS NULL OR valid_to > :at)" if lag else "valid_to IS NULL"
    sql = (
        "SELECT key, metadata, expiration FROM kv_entries"  # noqa: S608 - constants only
        f" WHERE namespace = :namespace AND key >= :start AND key < :end AND {valid}"
        " AND (expiration IS NULL OR expiration > :at) ORDER BY key LIMIT :limit"
    )
    values = {"namespace": namespace, "start": bounds[0], "end": bounds[1], "limit": limit}
    return [Row(*row) for row in backend.store.all(sql, values | {"at": backend.clock() - lag})]


def write(backend: Backend, namespace: int, pairs: Collection[Pair]) -> None:
    """Stores the pairs in place of all that was under their keys; within a transaction of the caller. ApiError 429 if
    one was written within the last second, and that is forbidden.
    """
    now = backend.clock()
    if backend.options.kv_write_limit:
        _check_interval(backend, namespace, pairs, now)
    remove(backend, namespace, [pair.key for pair in pairs])
    backend.store.many(
        _INSERT,
        (
            {
                "namespace": namespace,
                "key": pair.key.encode(),
                "metadata": pair.metadata,
                "expiration": pair.expiration,
                "at": now,
                "data": pair.value,
            }
            for pair in pairs
        ),
    )


def remove(backend: Backend, namespace: int, keys: Iterable[str]) -> None:
    """Takes away what is under the keys, if anything; within a transaction of the caller. A lagging listing still
    shows it for a while.
    """
    now, lag = backend.clock(), backend.options.list_lag
    change = "UPDATE kv_entries SET valid_to = :at, data = NULL" if lag else "DELETE FROM kv_entries"
    backend.store.many(
        f"{change} WHERE namespace = :namespace AND key = :key AND valid_to IS NULL",
        ({"namespace": namespace, "key": key.encode(), "at": now} for key in keys),
    )
    for column in ("valid_to", "expiration"):
        backend.store.run(f"DELETE FROM kv_entries WHERE {column} <= ?", (now - lag,))  # noqa: S608 - names from above


def failing(backend: Backend, namespace: int, keys: Sequence[str]) -> set[str]:
    """Which of these keys fail this time, by the option `unsuccessful`; within a transaction of the caller."""
    share = backend.options.unsuccessful
    if not share:
        return set()
    places = [(namespace, key.encode()) for key in keys]
    backend.store.many(
        "INSERT INTO kv_attempts VALUES (?, ?, 1) ON CONFLICT (namespace, key) DO UPDATE SET count = count + 1", places
    )
    sql = "SELECT count FROM kv_attempts WHERE namespace = ? AND key = ?"
    return {
        key for key, place in zip(keys, places, strict=True) if _draw(backend.store.value(sql, place), place[1]) < share
    }


def _draw(attempt: int, key: bytes) -> float:
    """A number in [0, 1) that is the same in every run."""
    digest = hashlib.sha256(b"%d:%s" % (attempt, key)).digest()
    return int.from_bytes(digest[:6]) / 2**48


def _check_interval(backend: Backend, namespace: int, pairs: Iterable[Pair], now: float) -> None:
    sql = "SELECT 1 FROM kv_entries WHERE namespace = ? AND key = ? AND valid_to IS NULL AND valid_from > ?"
    for pair in pairs:
        if backend.store.one(sql, (namespace, pair.key.encode(), now - KV_WRITE_INTERVAL)):
            raise ApiError(429, 10429, f"Too many writes to one key within a second: {pair.key}")
