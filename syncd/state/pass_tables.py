"""Temporary tables of one pass: its observation and its plan, and the query for changed keys.

The observation and the plan can be too large for the memory.
"""

import marshal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, NamedTuple

from syncd.core.keys import shown
from syncd.core.model import (
    Action,
    ActionKind,
    Adopt,
    Delete,
    Entry,
    Excluded,
    Forget,
    Item,
    Local,
    Problem,
    Put,
    Record,
)
from syncd.state.db import REPORTED, Meta, transaction
from syncd.state.journal import FIELDS, record_of

PAGE = 512
"""Maximum changed keys of one query."""
WINDOW = 1024
"""Maximum keys that one query examines. It bounds the time for which the event loop is blocked."""
_ENTRY_COLUMNS = Entry._fields[: Entry._fields.index("metadata")]
"""The fields of an entry that decisions use."""
_NUMBERS = {None: None, False: 0, True: 1}
_EXCLUDED = "excluded"
_ACTION_TYPES: dict[str, type[Any]] = {kind.kind: kind for kind in (Put, Delete, Adopt, Forget)}
# For flat dataclasses this returns the same as dataclasses.astuple, ten times as fast.
_values: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    kind: attrgetter(*(field.name for field in fields(kind))) for kind in _ACTION_TYPES.values()
}
_BATCH = 256

# The statements consist of constants only.
# ruff: noqa: S608

_SAME_CONTENT = """
    (entry.checksum IS NULL OR entry.checksum = record.checksum)
    AND (entry.owner IS NULL OR entry.owner = :owner)
""" + "".join(
    f"    AND (entry.{name} IS NULL OR entry.{name} IS record.{column})\n" for name, column in REPORTED.items()
)

_WITHIN = "key > :after AND key <= :upto"

_SAME_FILE = """
    file.mirror = :mirror AND file.key = local.key AND :cached AND file.size = local.size
    AND file.mtime_ns = local.mtime_ns AND file.ctime_ns = local.ctime_ns AND file.inode = local.inode
"""
_IN_STEP = f"""
    record.checksum = file.checksum
    AND abs(:now - record.written_at) > :lag_s AND abs(:now - record.written_at) < :renew_s
    AND entry.ref = record.ref AND entry.serialized IS NULL AND {_SAME_CONTENT}
    AND (entry.status IS NULL OR entry.status IS record.status AND entry.status NOT IN ('error', 'skipped'))
    AND entry.error IS record.error
    AND NOT EXISTS (SELECT 1 FROM absence WHERE absence.mirror = :mirror AND absence.key = local.key)
"""

# Keys without a file, and files that are not in step. A key with two entries has one that is not in step. SQLite reads
# each part in the order of a primary key, so it merges the parts without sorting.
_CHANGED = f"""
    SELECT key FROM temp.remote WHERE pass = :pass AND {_WITHIN}
    UNION SELECT key FROM record WHERE :listed AND mirror = :mirror AND {_WITHIN}
    EXCEPT SELECT key FROM temp.local WHERE pass = :pass AND {_WITHIN}
    UNION SELECT local.key FROM temp.local AS local
        LEFT JOIN file ON {_SAME_FILE}
        LEFT JOIN record ON record.mirror = :mirror AND record.key = local.key
        LEFT JOIN temp.remote AS entry ON entry.pass = :pass AND entry.key = local.key
        WHERE local.pass = :pass AND local.key > :after AND local.key <= :upto AND ({_IN_STEP}) IS NOT TRUE
    ORDER BY key LIMIT :page
"""
_OBSERVED = f"""
    WITH changed AS ({_CHANGED})
    SELECT changed.key, local.path, local.size, local.mtime_ns, local.ctime_ns, local.inode, file.checksum,
           local.kind, local.message, {", ".join(f"record.{field}" for field in FIELDS)}
    FROM changed
    LEFT JOIN temp.local AS local ON local.pass = :pass AND local.key = changed.key
    LEFT JOIN file ON {_SAME_FILE}
    LEFT JOIN record ON record.mirror = :mirror AND record.key = changed.key
    ORDER BY changed.key
"""
_WINDOW_END = """
    SELECT min(
        coalesce((SELECT key FROM temp.local WHERE pass = :pass AND key > :after
                  ORDER BY key LIMIT 1 OFFSET :window - 1), :last),
        coalesce((SELECT key FROM temp.remote WHERE pass = :pass AND key > :after
                  ORDER BY key LIMIT 1 OFFSET :window - 1), :last),
        coalesce((SELECT key FROM record WHERE :listed AND mirror = :mirror AND key > :after
                  ORDER BY key LIMIT 1 OFFSET :window - 1), :last))
"""

_RECORDS = f"""
    INSERT INTO temp.remote (pass, key, ref, checksum, owner, status, error, {", ".join(REPORTED)})
    SELECT ?1, key, ref, checksum, ?2, status, error, {", ".join(REPORTED.values())} FROM record
    WHERE mirror = ?3 AND key BETWEEN ?4 AND ?5
"""
# If the superseded entry is the recorded one again, its row exists already.
_SUPERSEDED = """
    INSERT OR IGNORE INTO temp.remote (pass, key, ref, checksum, owner, marked)
    SELECT ?1, key, ref, checksum, ?2, 1 FROM superseded WHERE mirror = ?3 AND key BETWEEN ?4 AND ?5
"""

_SUMMARY = f"""
    SELECT coalesce(sum(known), 0), coalesce(sum(known AND (fresh OR agrees)), 0), coalesce(sum(known AND fresh), 0),
           coalesce(sum(NOT known AND deleted), 0), coalesce(sum(NOT known AND NOT deleted AND ours), 0)
    FROM (
        SELECT record.ref IS entry.ref AS known,
               coalesce(record.written_at BETWEEN :started AND :now, 0) AS fresh,
               coalesce({_SAME_CONTENT}, 0) AS agrees,
               EXISTS (SELECT 1 FROM tombstone WHERE mirror = :mirror AND ref = entry.ref) AS deleted,
               entry.serialized IS NOT NULL
                 OR (entry.owner IS :owner AND coalesce(entry.prefix, :prefix) = :prefix) AS ours
        FROM temp.remote AS entry
        LEFT JOIN record ON record.mirror = :mirror AND record.key = entry.key
        WHERE entry.pass = :pass)
"""


class ChangeQuery(NamedTuple):
    """The parameters of the query for changed keys.

    first, last: the keys are in first < key <= last. listed: whether the remote table holds a listing, so that a record
    without an entry is a change; if not, the journal filled the table. cached: whether the file cache is valid.
    A record that was written less than lag_s or more than renew_s ago is never in step.
    """

    mirror: str
    owner: str
    first: str
    last: str
    listed: bool
    cached: bool
    now: float
    lag_s: float
    renew_s: float


class KeyRow(NamedTuple):
    """A changed key with its local file and its record."""

    key: str
    local: Local
    record: Record | None


class Summary(NamedTuple):
    """Numbers of listed entries.

    known: entries with the recorded ref. right: known entries with the recorded values, or written in this pass. fresh:
    known entries that were written in this pass. deleted: other entries with a tombstone. ours: other entries without a
    tombstone that may belong to the mirror.
    """

    known: int
    right: int
    fresh: int
    deleted: int
    ours: int


class _Table:
    def __init__(self, db: sqlite3.Connection, pass_id: int) -> None:
        self._db = db
        self._pass_id = pass_id


class LocalTable(_Table):
    """The local files of one pass. files: the number of files."""

    files = 0

    def add(self, items: Sequence[Item]) -> None:
        """Add files without their checksums."""
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO temp.local (pass, key, path, size, mtime_ns, ctime_ns, inode)"
                f" VALUES ({self._pass_id}, ?, ?, ?, ?, ?, ?)",
                [item[:-1] for item in items],
            )
        self.files += len(items)

    def add_unusable(self, found: Iterable[tuple[str, Problem | Excluded]]) -> None:
        """Add keys that have no usable file, each with its problem or with the rule that excludes it."""
        with transaction(self._db):
            self._db.executemany(
                "INSERT OR REPLACE INTO temp.local (pass, key, path, kind, message) VALUES (?, ?, ?, ?, ?)",
                [
                    (self._pass_id, key, local.key, local.kind, local.message)
                    if isinstance(local, Problem)
                    else (self._pass_id, key, local.key, _EXCLUDED, shown(local.rule))
                    for key, local in found
                ],
            )


class RemoteTable(_Table):
    """The remote entries of one pass, from the listing of the target or from the journal.

    hidden: the number of listed entries that were left out because this mirror has deleted them. recorded: the number
    of entries that come from records.
    """

    hidden = 0
    recorded = 0

    def add(self, entries: Sequence[Entry]) -> None:
        """Add entries in any order. An entry with the key and ref of an earlier one replaces it."""
        if not entries:
            return
        columns = dict(zip(_ENTRY_COLUMNS, zip(*entries, strict=True), strict=False))
        # Binding None or a bool takes as long as three texts, and most targets leave out whole columns.
        columns = {name: values for name, values in columns.items() if values.count(None) < len(values)}
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
            f"INSERT OR REPLACE INTO temp.remote (pass, {names}) VALUES ({self._pass_id}, {marks})",
            zip(*columns.values(), strict=True),
        )

    def add_records(self, mirror: str, owner: str, ranges: Iterable[tuple[str, str]]) -> None:
        """Add the records and superseded entries with first <= key <= last, for each range (first, last)."""
        rows = [(self._pass_id, owner, mirror, *bounds) for bounds in ranges]
        with transaction(self._db):
            self.recorded = self._db.executemany(_RECORDS, rows).rowcount
            self._db.executemany(_SUPERSEDED, rows)

    def entries(self, keys: Sequence[str]) -> dict[str, list[Entry]]:
        """Return key -> entries, for some hundred keys at most."""
        found: dict[str, list[Entry]] = {}
        marks = ", ".join("?" * len(keys))
        for key, ref, *values, serialized in self._db.execute(
            f"SELECT {', '.join(_ENTRY_COLUMNS)}, serialized FROM temp.remote WHERE pass = ? AND key IN ({marks})",
            (self._pass_id, *keys),
        ):
            entry = Entry(key, ref, *(marshal.loads(serialized) if serialized else values))  # noqa: S302 - we wrote it
            found.setdefault(key, []).append(
                entry if entry.marked is None else entry._replace(marked=bool(entry.marked))
            )
        return found

    def summary(self, mirror: str, owner: str, prefix: str, started: float, now: float) -> Summary:
        """Compare all listed entries with the journal. started: when this pass began."""
        terms = {"mirror": mirror, "pass": self._pass_id, "owner": owner, "prefix": prefix}
        return Summary(*self._db.execute(_SUMMARY, terms | {"started": started, "now": now}).fetchone())


class PlanTable(_Table):
    """The plan of one pass. counts: the number of planned actions by kind. put_bytes: the size of all puts."""

    def __init__(self, db: sqlite3.Connection, pass_id: int) -> None:
        super().__init__(db, pass_id)
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

    def first_deletes(self, number: int) -> list[Delete]:
        """Return the first planned deletes."""
        return [action for _, action in next(self.batches("delete", number), [])]

    def all(self, kind: ActionKind) -> Iterator[Any]:
        """Yield the actions of one kind."""
        return (action for batch in self.batches(kind) for _, action in batch)

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


class PassTables:
    """The local files, the remote entries and the plan of one pass. They end with `drop`, or with the process."""

    def __init__(self, db: sqlite3.Connection, pass_id: int) -> None:
        self._db = db
        self.pass_id = pass_id
        self._make_empty()

    def _make_empty(self) -> None:
        self.local = LocalTable(self._db, self.pass_id)
        self.remote = RemoteTable(self._db, self.pass_id)
        self.plan = PlanTable(self._db, self.pass_id)

    def changed(self, query: ChangeQuery) -> Iterator[list[KeyRow]]:
        """Yield the keys that are not in step, in order. A page can be empty, so that the caller can yield control.

        A key that is left out is in step: `core.plan.decide` returns None for it. The file is as the file cache knows
        it, the record has the cached checksum, and the only entry is the recorded one without a new value.
        """
        terms = query._asdict() | {"pass": self.pass_id, "page": PAGE, "window": WINDOW}
        after = query.first
        while after < query.last:
            terms["after"] = after
            (terms["upto"],) = self._db.execute(_WINDOW_END, terms).fetchone()
            page = [_key_row(row) for row in self._db.execute(_OBSERVED, terms)]
            after = page[-1].key if len(page) == PAGE else terms["upto"]
            yield page

    def drop(self) -> None:
        """Delete the rows of the pass."""
        for table in ("local", "remote", "plan"):
            self._db.execute(f"DELETE FROM temp.{table} WHERE pass = ?", (self.pass_id,))

    def reset(self) -> None:
        """Delete the rows and the numbers of the pass, to observe and plan anew."""
        self.drop()
        self._make_empty()


def next_pass_id(db: sqlite3.Connection) -> int:
    """Return the number of a new pass. The mirrors of a state file share one sequence."""
    pass_id = last_pass_id(db) + 1
    keep_pass_id(db, pass_id)
    return pass_id


def last_pass_id(db: sqlite3.Connection) -> int:
    """Return the number of the last pass, 0 if there was none."""
    last = Meta(db, "").get("pass")
    return last if isinstance(last, int) else 0


def keep_pass_id(db: sqlite3.Connection, pass_id: int) -> None:
    """Store the number of the last pass."""
    Meta(db, "").set("pass", pass_id)


def _key_row(row: Sequence[Any]) -> KeyRow:
    key, path, size, mtime_ns, ctime_ns, inode, checksum, kind, message, *record = row
    local: Local
    if path is None:
        local = None
    elif kind is None:
        local = Item(key, path, size, mtime_ns, ctime_ns, inode, checksum)
    else:
        local = Excluded(path, message) if kind == _EXCLUDED else Problem(path, kind, message)
    return KeyRow(key, local, None if record[0] is None else record_of(record))


def _serialized(entries: Sequence[Entry]) -> dict[str, Sequence[object]]:
    """Return rows for values that SQLite cannot store as text or number, such as a lone surrogate."""
    columns = dict(zip(Entry._fields, zip(*entries, strict=True), strict=True))
    rows = zip(*(columns[name] for name in _ENTRY_COLUMNS[2:]), strict=True)
    return {"key": columns["key"], "ref": columns["ref"], "serialized": [marshal.dumps(row) for row in rows]}


def _action(kind: ActionKind, body: bytes) -> Any:
    return _ACTION_TYPES[kind](*marshal.loads(body))  # noqa: S302 - we wrote it
