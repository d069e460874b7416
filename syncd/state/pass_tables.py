"""Temporary tables of one pass: its observation and its plan. Both can be too long for memory."""

import marshal
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from syncd.core.model import Action, ActionKind, Adopt, Delete, Forget, Put
from syncd.state.db import Meta, transaction
from syncd.state.observed import ChangeQuery, KeyRow, LocalTable, RemoteTable, changed_keys

_ACTION_TYPES: dict[str, type[Any]] = {kind.kind: kind for kind in (Put, Delete, Adopt, Forget)}
# For flat dataclasses this returns the same as dataclasses.astuple, ten times as fast.
_values: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    kind: attrgetter(*(field.name for field in fields(kind))) for kind in _ACTION_TYPES.values()
}
_BATCH = 256


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
    """The local files, the remote entries and the plan of one pass. They end with `drop`, or with the process."""

    def __init__(self, db: sqlite3.Connection, pass_id: int) -> None:
        self._db = db
        self.pass_id = pass_id
        self.local = LocalTable(db, pass_id)
        self.remote = RemoteTable(db, pass_id)
        self.plan = PlanTable(db, pass_id)

    def changed(self, query: ChangeQuery) -> Iterator[list[KeyRow]]:
        """Yield the keys that are not in step, see `changed_keys`."""
        return changed_keys(self._db, self.pass_id, query)

    def drop(self) -> None:
        """Delete the rows of the pass."""
        self.local.drop()
        self.remote.drop()
        self.plan.drop()

    def reset(self) -> None:
        """Delete the rows and the numbers of the pass, to observe and plan anew."""
        self.drop()
        self.local, self.remote = LocalTable(self._db, self.pass_id), RemoteTable(self._db, self.pass_id)
        self.plan = PlanTable(self._db, self.pass_id)


def next_pass_id(db: sqlite3.Connection) -> int:
    """Return the number of a new pass. The mirrors of a state file share one sequence."""
    meta = Meta(db, "")
    last = meta.get("pass")
    pass_id = (last if isinstance(last, int) else 0) + 1
    meta.set("pass", pass_id)
    return pass_id


def _action(kind: ActionKind, body: bytes) -> Any:
    return _ACTION_TYPES[kind](*marshal.loads(body))  # noqa: S302 - we wrote it
