"""Temporary tables for what is too long to hold: the remote listing of a pass, and its plan."""

import marshal
import sqlite3
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from syncd.model import Action, ActionKind, Adopt, Delete, Entry, Forget, Put
from syncd.state.db import transaction

_KINDS: dict[str, type[Any]] = {kind.kind: kind for kind in (Put, Delete, Adopt, Forget)}
# What dataclasses.astuple does for flat ones, at a tenth of its price.
_values: dict[type[Any], Callable[[Any], tuple[Any, ...]]] = {
    kind: attrgetter(*(field.name for field in fields(kind))) for kind in _KINDS.values()
}
_PAGE = 256
_SAID = Entry._fields[: Entry._fields.index("metadata")]  # what decisions stand on
_NUMBERS = {None: None, False: 0, True: 1}


class PassTables:
    """The listing and the plan of one pass. `drop` them when it ends; the process's end does so too."""

    def __init__(self, db: sqlite3.Connection, pass_id: int) -> None:
        self._db = db
        self.pass_id = pass_id
        self._seq = 0
        self.planned: Counter[ActionKind] = Counter()
        self.put_bytes = 0
        self.hidden = 0
        """How many listed entries were left out, because we have deleted them."""

    # -- listing

    def list_entries(self, entries: Iterable[Entry]) -> None:
        """Add entries in any order; one that is listed again under the same ref replaces itself."""
        entries = list(entries)
        if not entries:
            return
        columns = dict(zip(_SAID, zip(*entries, strict=True), strict=False))
        # To hand over None, or a truth, takes as long as three texts, and most targets leave out whole columns.
        columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
        if "marked" in columns:
            columns["marked"] = tuple(map(_NUMBERS.get, columns["marked"]))
        with transaction(self._db):
            try:
                self._list(columns)
            except (UnicodeEncodeError, OverflowError):
                self._list(_sealed(entries))

    def _list(self, columns: Mapping[str, Sequence[object]]) -> None:
        """Add rows to the listing, given by column."""
        names, marks = ", ".join(columns), ", ".join("?" * len(columns))
        self._db.executemany(
            f"INSERT OR REPLACE INTO temp.listing (pass, {names}) VALUES ({self.pass_id}, {marks})",  # noqa: S608
            zip(*columns.values(), strict=True),
        )

    def list_records(self, mirror: str, owner: str) -> None:
        """Take what the journal says for the listing."""
        self._db.execute(
            "INSERT INTO temp.listing"
            " SELECT ?, key, ref, checksum, version, remote_size, ?, marked, status, error, NULL, NULL FROM record"
            " WHERE mirror = ?",
            (self.pass_id, owner, mirror),
        )

    def entries(self, after: str, upto: str | None, but: Container[str] = ()) -> dict[str, list[Entry]]:
        """Return key -> entries for after < key <= upto (None: to the end), without the keys of `but`."""
        found: dict[str, list[Entry]] = {}
        # SQLite sorts a blob after all text. An `OR` for "to the end" would make it read all the rest every time.
        for _, key, ref, *said, strange in self._db.execute(
            "SELECT * FROM temp.listing WHERE pass = ? AND key > ? AND key <= ?",
            (self.pass_id, after, b"" if upto is None else upto),
        ):
            if key in but:
                continue
            checksum, version, size, owner, marked, status, error, prefix = marshal.loads(strange) if strange else said  # noqa: S302 - we wrote it
            marked = None if marked is None else bool(marked)
            found.setdefault(key, []).append(
                Entry(key, ref, checksum, version, size, owner, marked, status, error, prefix)
            )
        return found

    def entry_key(self, after: str, number: int) -> str | None:
        """Return the key of the `number`-th listed entry after a key, None if there are fewer."""
        row = self._db.execute(
            "SELECT key FROM temp.listing WHERE pass = ? AND key > ? ORDER BY key LIMIT 1 OFFSET ?",
            (self.pass_id, after, number - 1),
        ).fetchone()
        return row[0] if row else None

    # -- plan

    def plan(self, actions: Iterable[Action]) -> None:
        """Append actions to the plan."""
        rows = []
        for action in actions:
            self._seq += 1
            self.planned[action.kind] += 1
            if type(action) is Put:
                self.put_bytes += action.size
            rows.append((self.pass_id, self._seq, action.kind, _body(action)))
        with transaction(self._db):
            self._db.executemany("INSERT INTO temp.plan VALUES (?, ?, ?, ?, NULL)", rows)

    def unplan_deletes(self) -> None:
        """Take every delete out of the plan."""
        self._db.execute("DELETE FROM temp.plan WHERE pass = ? AND kind = 'delete'", (self.pass_id,))
        del self.planned["delete"]

    def unplan(self, kind: ActionKind, seqs: Sequence[int]) -> None:
        """Take actions out of the plan that a later pass is to plan again."""
        rows = [(self.pass_id, kind, seq) for seq in seqs]
        with transaction(self._db):
            self._db.executemany("DELETE FROM temp.plan WHERE pass = ? AND kind = ? AND seq = ?", rows)
        self.planned[kind] -= len(rows)

    def batches(self, kind: ActionKind, size: int = _PAGE) -> Iterator[list[tuple[int, Any]]]:
        """Yield the plan's actions of one kind with their numbers, in turns of at most `size`."""
        last = 0
        while True:
            rows = self._db.execute(
                "SELECT seq, body FROM temp.plan WHERE pass = ? AND kind = ? AND seq > ? ORDER BY seq LIMIT ?",
                (self.pass_id, kind, last, size),
            ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [(seq, _action(kind, body)) for seq, body in rows]

    def outcome(self, seq: int, kind: ActionKind, outcome: str) -> None:
        """Note how a planned action ended."""
        self._db.execute(
            "UPDATE temp.plan SET outcome = ? WHERE pass = ? AND kind = ? AND seq = ?",
            (outcome, self.pass_id, kind, seq),
        )

    def actions(self) -> Iterator[tuple[Action, str | None]]:
        """Yield the whole plan, by kind in the order of its carrying out, each action with its outcome."""
        for kind in ("adopt", "forget", "put", "delete"):
            rows = self._db.execute(
                "SELECT body, outcome FROM temp.plan WHERE pass = ? AND kind = ? ORDER BY seq", (self.pass_id, kind)
            )
            for body, outcome in rows:
                yield _action(kind, body), outcome

    def refuse(self, kind: ActionKind) -> None:
        """Note that no planned action of a kind may be carried out."""
        self._db.execute("UPDATE temp.plan SET outcome = 'refused' WHERE pass = ? AND kind = ?", (self.pass_id, kind))

    def unfinished_puts(self) -> Iterator[tuple[str, int]]:
        """Yield key and size of the puts that did not end well, and of those that another pass has yet to make."""
        rows = self._db.execute(
            "SELECT body FROM temp.plan WHERE kind = 'put'"
            " AND (outcome IS NULL OR pass = ? AND outcome IN ('again', 'failed'))",
            (self.pass_id,),
        )
        for (body,) in rows:
            put: Put = _action("put", body)
            yield put.key, put.size

    def first(self, kind: ActionKind, number: int) -> list[Action]:
        """Return the first few planned actions of a kind, to name them."""
        rows = self._db.execute(
            "SELECT body FROM temp.plan WHERE pass = ? AND kind = ? ORDER BY seq LIMIT ?", (self.pass_id, kind, number)
        )
        return [_action(kind, body) for (body,) in rows]

    def start_over(self) -> None:
        """Let go of the listing and the plan, to make them anew."""
        self.drop()
        self.planned.clear()
        self.hidden = self.put_bytes = 0

    def drop(self) -> None:
        """Let go of the pass's rows."""
        self._db.execute("DELETE FROM temp.listing WHERE pass = ?", (self.pass_id,))
        self._db.execute("DELETE FROM temp.plan WHERE pass = ?", (self.pass_id,))


def _body(action: Action) -> bytes:
    # Not as JSON, which takes five times as long.
    return marshal.dumps(_values[type(action)](action))


def _action(kind: ActionKind, body: bytes) -> Any:
    return _KINDS[kind](*marshal.loads(body))  # noqa: S302 - we wrote it


def _sealed(entries: Sequence[Entry]) -> dict[str, Sequence[object]]:
    """Rows whose values are no text or number of SQLite's, such as half a surrogate pair that a stranger wrote."""
    columns = dict(zip(Entry._fields, zip(*entries, strict=True), strict=True))
    said = zip(*(columns[name] for name in _SAID[2:]), strict=True)
    return {"key": columns["key"], "ref": columns["ref"], "strange": [marshal.dumps(each) for each in said]}
