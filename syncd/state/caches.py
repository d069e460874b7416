"""Caches: checksums of files, vectors of texts, answers of `syncd check --probe`, and credentials that worked."""

import json
import math
import os
import sqlite3
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from syncd.core.model import Item, int64
from syncd.core.probe_answers import NO_ANSWERS, VALID_S, ProbeAnswers, answers_of
from syncd.state.db import Meta, MirrorRows, in_parts, placeholders, transaction

_SECOND_NS = 1_000_000_000
YOUNG_NS = 2 * _SECOND_NS
"""A file changed less than 2 s ago may change again within one tick of its file system's clock (FAT: 2 s)."""

_NO_TIME = -1
"""A change time that no file has. A row with it stores the inode of a file, and its checksum is not used."""
MOST = 20_000
"""Maximum number of vectors: 80 MB with 1,024 dimensions. A folder with more chunks embeds some of them again."""
_CHANGE = "vector_change"
CREDENTIALS_WORKED = "credentials_worked"
"""The name of a stored value: the fingerprint of the credentials, and the kinds of request that accepted them."""


def _is_young(seen: os.stat_result, now_ns: int) -> bool:
    """Return whether a file may change again without another time.

    A copy can keep its modification time. Then only the change time shows a second change, unless the file system
    counts whole seconds.
    """
    times = [seen.st_mtime_ns] if seen.st_ctime_ns % _SECOND_NS else [seen.st_mtime_ns, seen.st_ctime_ns]
    return any(abs(now_ns - time_ns) < YOUNG_NS for time_ns in times)


class StatCache(MirrorRows):
    """The checksums of one mirror's files. Without it every file is read again."""

    def fill(self, items: Iterable[Item]) -> dict[str, Item]:
        """Return key -> item with checksum, for the items whose checksum is known."""
        wanted = {item.key: item for item in items}
        if not wanted:
            return {}
        rows = self._run(
            "SELECT key, size, mtime_ns, ctime_ns, inode, checksum FROM file WHERE mirror = ? AND key BETWEEN ? AND ?",
            *(min(wanted), max(wanted)),
        )
        return {
            key: Item(key, item.path, item.size, item.mtime_ns, item.ctime_ns, item.inode, checksum)
            for key, *seen, checksum in rows
            if (item := wanted.get(key)) and seen == [item.size, item.mtime_ns, item.ctime_ns, item.inode]
        }

    def store(self, files: Iterable[tuple[str, os.stat_result, str]], now_ns: int) -> None:
        """Store (key, fstat after reading, checksum), except for files that changed just now.

        The inode of a file with several names is always stored; see `twins`.
        """
        self._run_each(
            "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    *(key, seen.st_size, int64(seen.st_mtime_ns)),
                    *(_NO_TIME if young else int64(seen.st_ctime_ns), int64(seen.st_ino), checksum),
                )
                for key, seen, checksum in files
                if not (young := _is_young(seen, now_ns)) or seen.st_nlink > 1
            ),
        )

    def twins(self, inodes: Iterable[int]) -> list[tuple[str, int]]:
        """Return (key, inode) of all names under which files with these inodes were read."""
        return self._run(
            "SELECT key, inode FROM file WHERE mirror = ? AND inode IN (SELECT value FROM json_each(?))",
            json.dumps([*inodes]),
        ).fetchall()

    def invalidate(self) -> None:
        """Delete all rows, because the root is another folder or the user requests a read of every file."""
        self._run("DELETE FROM file WHERE mirror = ?")


@dataclass(frozen=True, slots=True)
class IndexChange:
    """Our last change to a Vectorize index. The index processes it after all earlier changes.

    mutation: the id of the change, if it has one. probe: the id of a vector that the change wrote; once the index shows
    it, the change is processed. removes: whether a change since `since` deletes vectors.
    at: the time of the change. since: the time of the first change that may still be unprocessed. Both are seconds
    since the epoch by our clock. theirs: `at` by the clock of the remote, if known.
    """

    mutation: str | None
    probe: str | None
    at: float
    since: float
    theirs: float | None = None
    removes: bool = False


class Embeddings:
    """The vectors of all mirrors, which depend on model and text only, and the last change of one mirror."""

    def __init__(self, db: sqlite3.Connection, mirror: str, most: int = MOST) -> None:
        self._db = db
        self._meta = Meta(db, mirror)
        self._most = most

    def vectors(self, model: str, digests: Sequence[bytes]) -> Mapping[bytes, "array[float]"]:
        """Return the stored vectors, by the SHA-256 of their text, and mark them as used. model: name and pooling."""
        vectors: dict[bytes, array[float]] = {}
        with transaction(self._db):
            now = self._next()
            for part in in_parts(digests):
                rows = self._db.execute(
                    f"UPDATE embedding SET used = ? WHERE model = ? AND digest IN ({placeholders(part)})"  # noqa: S608
                    " RETURNING digest, vector",
                    (now, model, *part),
                )
                vectors |= {digest: vector for digest, kept in rows if (vector := _vector(kept)) is not None}
        return vectors

    def keep(self, model: str, vectors: Mapping[bytes, "array[float]"]) -> None:
        """Store vectors, and remove the vectors that were unused for longest if there are too many."""
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

    def last_change(self) -> IndexChange | None:
        """Return the change to wait for, or None."""
        return _change(self._meta.values(_CHANGE))

    def changed(self, change: IndexChange | None) -> None:
        """Store our last change. None: the index has processed it."""
        self._meta.set(_CHANGE, asdict(change) if change else None)

    def _next(self) -> int:
        row = self._db.execute("SELECT max(used) FROM embedding").fetchone()
        return int(row[0] or 0) + 1


def _vector(kept: object) -> "array[float] | None":
    """Return a stored vector, or None if the bytes are damaged."""
    if not isinstance(kept, bytes) or not kept or len(kept) % array("f").itemsize:
        return None
    vector = array("f", kept)
    return vector if math.isfinite(sum(vector)) and any(vector) else None


def _change(value: dict[str, Any]) -> IndexChange | None:
    """Return a stored change, or None if it is damaged. Then the target does not wait for the index."""
    try:
        change = IndexChange(**value)
    except TypeError:
        return None
    texts, times = (change.mutation, change.probe), (change.at, change.since)
    sound = all(isinstance(text, str | None) for text in texts) and all(isinstance(at, int | float) for at in times)
    return change if sound else None


log = structlog.get_logger()


class StoredAnswers:
    """The answers of `syncd check --probe` for one place. Another process may write them at any time.

    place: the account and the instance, with the base URL if it is not Cloudflare's own.
    """

    def __init__(self, db: sqlite3.Connection, place: str, clock: Callable[[], float] = time.time) -> None:
        self._db = db
        self._meta = Meta(db, "")
        self._place = place
        self._name = f"answers {place}"
        self._clock = clock

    def get(self) -> ProbeAnswers:
        """Return the answers that still count. An answer is too old after VALID_S."""
        at = self.at()
        if at is None or not 0 <= self._clock() - at < VALID_S:
            return NO_ANSWERS
        return answers_of(self._meta.values(self._name).get("answers"))

    def at(self) -> float | None:
        """Return when the answers were learned, seconds since the epoch; None if there are none."""
        at = self._meta.values(self._name).get("at")
        return float(at) if isinstance(at, int | float) and not isinstance(at, bool) else None

    def set(self, answers: ProbeAnswers) -> None:
        """Store answers, and the time."""
        self._meta.set(self._name, {"at": self._clock(), "answers": answers.as_json()})

    def drop(self, answer: str, why: str) -> None:
        """Forget an answer that turned out to be wrong. The target then works as without a probe."""
        with transaction(self._db):
            stored = self._meta.values(self._name)
            answers = answers_of(stored.get("answers"))
            was = getattr(answers, answer)
            if was is None:
                return
            self._meta.set(self._name, stored | {"answers": answers.without(answer).as_json()})
        remedy = "nothing; to learn it anew: syncd check --probe"
        log.warning("probe.answer_wrong", target=self._place, answer=answer, was=was, why=why, remedy=remedy)


def kinds_that_worked(db: sqlite3.Connection, fingerprint: str) -> list[str]:
    """Return the kinds of request that accepted these credentials in earlier processes."""
    stored = Meta(db, "").values(CREDENTIALS_WORKED)
    return [str(kind) for kind in stored.get("kinds") or ()] if stored.get("fingerprint") == fingerprint else []


def keep_kinds_that_worked(db: sqlite3.Connection, fingerprint: str, kinds: Sequence[str]) -> None:
    """Store the kinds of request that have accepted these credentials, if that is news and can be written."""
    meta, found = Meta(db, ""), {"fingerprint": fingerprint, "kinds": kinds}
    # Without the stored value, the next process halts at the first refusal.
    with suppress(sqlite3.Error):
        if found != meta.get(CREDENTIALS_WORKED):
            meta.set(CREDENTIALS_WORKED, found)
