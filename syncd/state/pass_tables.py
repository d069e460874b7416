"""Temporary tables of one pass: the remote listing and the plan. Both can be too long for memory."""

import marshal
import sqlite3
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple

from syncd.core.model import Action, ActionKind, Adopt, Delete, Entry, Forget, Put
from syncd.state.db import Meta, transaction

_ACTION_TYPES: dict[str, type[Any]] = {kind.kind: kind for kind in (Put, Delete, Adopt, Forget)}
# For flat dataclasses this returns the same as dataclasses.astuple, ten times as fast.
_values: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    kind: attrgetter(*(field.name for field in fields(kind))) for kind in _ACTION_TYPES.values()
}
_BATCH = 256
_COLUMNS = Entry._fields[: Entry._fields.index("metadata")]
"""The fields of an entry that decisions use."""
_NUMBERS = {None: None, False: 0, True: 1}

_SAME_CONTENT = """
    (entry.checksum IS NULL OR entry.checksum = record.checksum)
    AND (entry.owner IS NULL OR entry.owner = :owner)
    AND (entry.version IS NULL OR entry.version IS record.version)
    AND (entry.size IS NULL OR entry.size IS record.remote_size)
    AND (entry.marked IS NULL OR entry.marked IS record.marked)
"""

# SQLite keeps the order of a cross join: it walks the listing and finds the other rows by primary key.
_IN_STEP = f"""
    SELECT file.key, file.size, file.mtime_ns, file.ctime_ns, file.inode
    FROM temp.listing AS entry
    CROSS JOIN record ON record.mirror = :mirror AND record.key = entry.key
    CROSS JOIN file ON file.mirror = :mirror AND file.key = entry.key
    WHERE entry.pass = :pass AND entry.key > :after AND entry.key <= :upto AND entry.strange IS NULL
      AND record.checksum = file.checksum AND abs(:now - record.written_at) > :lag_s
      AND abs(:clock - record.written_at) < :renew_s
      AND entry.ref = record.ref AND {_SAME_CONTENT}
      AND (entry.status IS NULL OR entry.status IS record.status AND entry.status NOT IN ('error', 'skipped'))
      AND entry.error IS record.error
"""  # noqa: S608 - constants only

_REPEATED = """
    SELECT key FROM temp.listing WHERE pass = :pass AND key > :after AND key <= :upto GROUP BY key HAVING count(*) > 1
"""

_COUNT = """
    SELECT (SELECT count(*) FROM temp.listing WHERE pass = :pass AND key > :after AND key <= :upto),
           (SELECT count(*) FROM record WHERE mirror = :mirror AND key > :after AND key <= :upto)
"""

_SUMMARY = f"""
    SELECT coalesce(sum(known), 0), coalesce(sum(known AND (fresh OR agrees)), 0), coalesce(sum(known AND fresh), 0),
           coalesce(sum(NOT known AND deleted), 0), coalesce(sum(NOT known AND NOT deleted AND ours), 0)
    FROM (
        SELECT record.ref IS entry.ref AS known,
               coalesce(record.written_at BETWEEN :started AND :now, 0) AS fresh,
               coalesce({_SAME_CONTENT}, 0) AS agrees,
               EXISTS (SELECT 1 FROM tombstone WHERE mirror = :mirror AND ref = entry.ref) AS deleted,
               entry.strange IS NOT NULL
                 OR (entry.owner IS :owner AND coalesce(entry.prefix, :prefix) = :prefix) AS ours
        FROM temp.listing AS entry
        LEFT JOIN record ON record.mirror = :mirror AND record.key = entry.key
        WHERE entry.pass = :pass)
"""  # noqa: S608 - constants only


class Terms(NamedTuple):
    """When an entry can be in step: `now` and `clock` are times, the others durations in seconds."""

    owner: str
    now: float
    lag_s: float
    clock: float
    renew_s: float


class Summary(NamedTuple):
    """Numbers of listed entries.

    known: with the recorded ref. right: known, and written in this pass or as recorded. fresh: known, and written in
    this pass. deleted: not known, with a tombstone. ours: not known, without a tombstone, and possibly ours.
    """

    known: int
    right: int
    fresh: int
    deleted: int
    ours: int


class ListingTable:
    """The remote listing of one pass."""

    def __init__(self, db: sqlite3.Connection, pass_id: int) -> None:
        self._db = db
        self._pass_id = pass_id
        self.hidden = 0
        """The number of listed entries that were left out because this mirror has deleted them."""

    def add(self, entries: Iterable[Entry]) -> None:
        """Add entries in any order. An entry with the key and ref of an earlier one replaces it."""
        entries = list(entries)
        if not entries:
            return
        columns = dict(zip(_COLUMNS, zip(*entries, strict=True), strict=False))
        # Binding None or a bool takes as long as three texts, and most targets leave out whole columns.
        columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
        if "marked" in columns:
            columns["marked"] = tuple(map(_NUMBERS.get, columns["marked"]))
        with transaction(self._db):
            try:
                self._insert(columns)
            except (UnicodeEncodeError, OverflowError):
                self._insert(_serialized(entries))

    def _insert(self, columns: Mapping[str, Sequence[object]]) -> None:
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        self._db.executemany(
            f"INSERT OR REPLACE INTO temp.listing (pass, {names}) VALUES ({self._pass_id}, {marks})",  # noqa: S608
            zip(*columns.values(), strict=True),
        )

    def add_records(self, mirror: str, owner: str) -> None:
        """Fill the listing from the journal."""
        self._db.execute(
            "INSERT INTO temp.listing"
            " SELECT ?, key, ref, checksum, version, remote_size, ?, marked, status, error, NULL, NULL FROM record"
            " WHERE mirror = ?",
            (self._pass_id, owner, mirror),
        )

    def entries(self, after: str, upto: str | None, but: Container[str] = ()) -> dict[str, list[Entry]]:
        """Return key -> entries for after < key <= upto (None: to the end), without the keys in `but`."""
        found: dict[str, list[Entry]] = {}
        # SQLite sorts a blob after all text. An `OR` for "to the end" would make it read all the rest every time.
        for _, key, ref, *values, strange in self._db.execute(
            "SELECT * FROM temp.listing WHERE pass = ? AND key > ? AND key <= ?",
            (self._pass_id, after, b"" if upto is None else upto),
        ):
            if key in but:
                continue
            checksum, version, size, owner, marked, status, error, prefix = (
                marshal.loads(strange) if strange else values  # noqa: S302 - we wrote it
            )
            marked = None if marked is None else bool(marked)
            found.setdefault(key, []).append(
                Entry(key, ref, checksum, version, size, owner, marked, status, error, prefix)
            )
        return found

    def key_after(self, after: str, number: int) -> str | None:
        """Return the key of the `number`-th listed entry after a key, None if there are fewer."""
        row = self._db.execute(
            "SELECT key FROM temp.listing WHERE pass = ? AND key > ? ORDER BY key LIMIT 1 OFFSET ?",
            (self._pass_id, after, number - 1),
        ).fetchone()
        return row[0] if row else None

    def in_step(self, mirror: str, after: str, upto: str | None, terms: Terms) -> set[tuple[object, ...]]:
        """Return key, size, times and inode of cached files that record and entry agree with, for after < key <= upto.

        A key with a second entry is among them, see `repeated`.
        """
        return set(self._db.execute(_IN_STEP, self._block(mirror, after, upto) | terms._asdict()))

    def counts(self, mirror: str, after: str, upto: str | None) -> tuple[int, int]:
        """Return the number of listed entries and the number of records with after < key <= upto."""
        entries, records = self._db.execute(_COUNT, self._block(mirror, after, upto)).fetchone()
        return entries, records

    def repeated(self, mirror: str, after: str, upto: str | None) -> set[str]:
        """Return the keys with after < key <= upto that have more than one entry."""
        return {key for (key,) in self._db.execute(_REPEATED, self._block(mirror, after, upto))}

    def _block(self, mirror: str, after: str, upto: str | None) -> dict[str, object]:
        # SQLite sorts a blob after all text.
        return {"mirror": mirror, "pass": self._pass_id, "after": after, "upto": b"" if upto is None else upto}

    def summary(self, mirror: str, owner: str, prefix: str, started: float, now: float) -> Summary:
        """Compare all listed entries with the journal. started: when this pass began."""
        terms = {"mirror": mirror, "pass": self._pass_id, "owner": owner, "prefix": prefix}
        return Summary(*self._db.execute(_SUMMARY, terms | {"started": started, "now": now}).fetchone())

    def drop(self) -> None:
        """Delete the rows of the pass."""
        self._db.execute("DELETE FROM temp.listing WHERE pass = ?", (self._pass_id,))


class PlanTable:
    """The plan of one pass. counts: the number of planned actions by kind. put_bytes: the size of all puts."""

    def __init__(self, db: sqlite3.Connection, pass_id: int) -> None:
        self._db = db
        self._pass_id = pass_id
        self._seq = 0
        self.counts: Counter[ActionKind] = Counter()
        self.put_bytes = 0

    def add(self, actions: Iterable[Action]) -> None:
        """Append actions to the plan."""
        rows = []
        for action in actions:
            self._seq += 1
            self.counts[action.kind] += 1
            if type(action) is Put:
                self.put_bytes += action.size
            # JSON takes five times as long as marshal.
            rows.append((self._pass_id, self._seq, action.kind, marshal.dumps(_values[type(action)](action))))
        with transaction(self._db):
            self._db.executemany("INSERT INTO temp.plan VALUES (?, ?, ?, ?, NULL)", rows)

    def remove(self, kind: ActionKind, seqs: Sequence[int]) -> None:
        """Remove actions from the plan. A later pass plans them again."""
        rows = [(self._pass_id, kind, seq) for seq in seqs]
        with transaction(self._db):
            self._db.executemany("DELETE FROM temp.plan WHERE pass = ? AND kind = ? AND seq = ?", rows)
        self.counts[kind] -= len(rows)

    def remove_deletes(self) -> None:
        """Remove every delete from the plan."""
        self._db.execute("DELETE FROM temp.plan WHERE pass = ? AND kind = 'delete'", (self._pass_id,))
        del self.counts["delete"]

    def batches(self, kind: ActionKind, size: int = _BATCH) -> Iterator[list[tuple[int, Any]]]:
        """Yield the numbers and actions of one kind, at most `size` at a time."""
        last = 0
        while True:
            rows = self._db.execute(
                "SELECT seq, body FROM temp.plan WHERE pass = ? AND kind = ? AND seq > ? ORDER BY seq LIMIT ?",
                (self._pass_id, kind, last, size),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [(seq, _action(kind, body)) for seq, body in rows]

    def first(self, kind: ActionKind, number: int) -> list[Action]:
        """Return the first planned actions of a kind."""
        return [action for _, action in next(self.batches(kind, number), [])]

    def actions(self) -> Iterator[tuple[Action, str | None]]:
        """Yield all actions with their outcomes, kind by kind in the order of their execution."""
        for kind in ("adopt", "forget", "put", "delete"):
            rows = self._db.execute(
                "SELECT body, outcome FROM temp.plan WHERE pass = ? AND kind = ? ORDER BY seq", (self._pass_id, kind)
            )
            for body, outcome in rows:
                yield _action(kind, body), outcome

    def set_outcome(self, seq: int, kind: ActionKind, outcome: str) -> None:
        """Store the outcome of a planned action."""
        self._db.execute(
            "UPDATE temp.plan SET outcome = ? WHERE pass = ? AND kind = ? AND seq = ?",
            (outcome, self._pass_id, kind, seq),
        )

    def refuse(self, kind: ActionKind) -> None:
        """Store that no planned action of a kind may be executed."""
        self._db.execute("UPDATE temp.plan SET outcome = 'refused' WHERE pass = ? AND kind = ?", (self._pass_id, kind))

    def unfinished_puts(self) -> Iterator[tuple[str, int]]:
        """Yield key and size of the puts of this pass that did not succeed, and of the pending puts of other passes."""
        rows = self._db.execute(
            "SELECT body FROM temp.plan WHERE kind = 'put'"
            " AND (outcome IS NULL OR pass = ? AND outcome IN ('again', 'failed'))",
            (self._pass_id,),
        )
        for (body,) in rows:
            put: Put = _action("put", body)
            yield put.key, put.size

    def drop(self) -> None:
        """Delete the rows of the pass."""
        self._db.execute("DELETE FROM temp.plan WHERE pass = ?", (self._pass_id,))


class PassTables:
    """The listing and the plan of one pass. They end with `drop`, or with the process."""

    def __init__(self, db: sqlite3.Connection, pass_id: int) -> None:
        self._db = db
        self.pass_id = pass_id
        self.listing = ListingTable(db, pass_id)
        self.plan = PlanTable(db, pass_id)

    def drop(self) -> None:
        """Delete the rows of the pass."""
        self.listing.drop()
        self.plan.drop()

    def reset(self) -> None:
        """Delete the rows and the numbers of the pass, to list and plan anew."""
        self.drop()
        self.listing, self.plan = ListingTable(self._db, self.pass_id), PlanTable(self._db, self.pass_id)


def _action(kind: ActionKind, body: bytes) -> Any:
    return _ACTION_TYPES[kind](*marshal.loads(body))  # noqa: S302 - we wrote it


def _serialized(entries: Sequence[Entry]) -> dict[str, Sequence[object]]:
    """Return rows for values that SQLite cannot store as text or number, such as half a surrogate pair."""
    columns = dict(zip(Entry._fields, zip(*entries, strict=True), strict=True))
    rows = zip(*(columns[name] for name in _COLUMNS[2:]), strict=True)
    return {"key": columns["key"], "ref": columns["ref"], "strange": [marshal.dumps(row) for row in rows]}


def next_pass_id(db: sqlite3.Connection) -> int:
    """Return a new pass number. The mirrors of a state file share one sequence."""
    meta = Meta(db, "")
    last = meta.get("pass")
    pass_id = (last if isinstance(last, int) else 0) + 1
    meta.set("pass", pass_id)
    return pass_id
