"""What outlives the process for the Vectorize target: vectors by text, bounded, and the change to wait for."""

import math
import sqlite3
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from syncd.cloudflare.workers_ai import Vector
from syncd.state.db import Meta, transaction
from syncd.targets.vectorize.memory import Change

MOST = 20_000
"""Vectors remembered: at most 80 MB with 1,024 dimensions. A folder of more pieces embeds some of them again."""
_AT_ONCE = 500
_CHANGE = "vector_change"


class Embeddings:
    """The memory of one mirror's target. Vectors are shared by all mirrors: they depend on model and text only."""

    def __init__(self, db: sqlite3.Connection, mirror: str, most: int = MOST) -> None:
        self._db = db
        self._meta = Meta(db, mirror)
        self._most = most

    def vectors(self, model: str, digests: Sequence[bytes]) -> Mapping[bytes, Vector]:
        """The vectors that are remembered, by the SHA-256 of their text; they count as used now."""
        found: dict[bytes, Vector] = {}
        with transaction(self._db):
            now = self._next()
            for start in range(0, len(digests), _AT_ONCE):
                part = digests[start : start + _AT_ONCE]
                rows = self._db.execute(
                    "UPDATE embedding SET used = ? WHERE model = ?"  # noqa: S608 - marks only
                    f" AND digest IN ({', '.join('?' * len(part))}) RETURNING digest, vector",
                    (now, model, *part),
                )
                found |= {digest: vector for digest, kept in rows if (vector := _vector(kept)) is not None}
        return found

    def keep(self, model: str, vectors: Mapping[bytes, Vector]) -> None:
        """Remember vectors, and forget the ones unused for longest if they are too many."""
        with transaction(self._db):
            now = self._next()
            self._db.executemany(
                "INSERT OR REPLACE INTO embedding VALUES (?, ?, ?, ?)",
                [(model, digest, now, vector.tobytes()) for digest, vector in vectors.items()],
            )
            count: int = self._db.execute("SELECT count(*) FROM embedding").fetchone()[0]
            if count > self._most:
                self._db.execute(
                    "DELETE FROM embedding WHERE (model, digest) IN"
                    " (SELECT model, digest FROM embedding ORDER BY used LIMIT ?)",
                    (count - self._most,),
                )

    def last_change(self) -> Change | None:
        """The change to wait for, or None."""
        return _change(self._meta.get(_CHANGE))

    def changed(self, change: Change | None) -> None:
        """Note our last change; None: the index has processed it."""
        self._meta.set(_CHANGE, asdict(change) if change else None)

    def _next(self) -> int:
        row = self._db.execute("SELECT max(used) FROM embedding").fetchone()
        return int(row[0] or 0) + 1


def _vector(kept: object) -> "Vector | None":
    """A remembered vector; None for what is none, such as half of one in a damaged file."""
    if not isinstance(kept, bytes) or not kept or len(kept) % array("f").itemsize:
        return None
    vector = array("f", kept)
    return vector if math.isfinite(sum(vector)) and any(vector) else None


def _change(value: object) -> Change | None:
    """A remembered change; None for one of an older state or a damaged one: then the index is not waited for."""
    if not isinstance(value, dict):
        return None
    try:
        change = Change(**value)
    except TypeError:
        return None
    texts, times = (change.mutation, change.probe), (change.at, change.since)
    sound = all(isinstance(text, str | None) for text in texts) and all(isinstance(at, int | float) for at in times)
    return change if sound else None
