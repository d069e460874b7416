"""ls: the items of a mirror with their state, read from the state file alone, whole or page by page."""

import heapq
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Any

from syncd.config.schema import Config
from syncd.core.keys import LAST, keys_below
from syncd.core.model import STORED_NOT_INDEXED, Problem, Record
from syncd.state.db import open_state_to_read
from syncd.state.journal import Journal
from syncd.state.queue import Queue

_BATCH = 1000
"""Records read from the journal at a time."""


def local_rows(config: Config, name: str) -> Iterator[dict[str, Any]]:
    """Yield the records of the journal, then the problems of files without a record; nothing without a state file."""
    db = open_state_to_read(config.state_dir)
    if db is None:
        return
    with closing(db):
        rows = _Rows(db, name)
        yield from rows.of_records("", LAST)
        yield from rows.of_problems()


def page(config: Config, name: str, begin: str, after: str, most: int) -> list[dict[str, Any]] | None:
    """Return the first rows whose key begins with `begin` and comes after the key `after`, by key.

    The list has at most `most` + 1 rows: one more than asked for tells that there are more. None: no state file.
    """
    db = open_state_to_read(config.state_dir)
    if db is None:
        return None
    with closing(db):
        rows = _Rows(db, name)
        first, upto = keys_below(begin)
        records = rows.of_records(max(first, after), upto)
        problems = (row for row in rows.of_problems(all_of_them=True) if first <= row["key"] < upto)
        merged = heapq.merge(records, (row for row in problems if row["key"] > after), key=lambda row: str(row["key"]))
        return list(islice(rows.once(merged), most + 1))


class _Rows:
    """The rows of one mirror."""

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        self._journal = Journal(db, name)
        self._queued = {row.key for row in Queue(db, name, 0, 0).every()}
        self._problems = {problem.key: problem for problem in self._journal.problems.all()}
        self._recorded: set[str] = set()

    def of_records(self, after: str, upto: str) -> Iterator[dict[str, Any]]:
        """Yield a row for each record with after < key < upto."""
        while records := self._journal.after(after, upto, _BATCH):
            for record in records:
                self._recorded.add(record.key)
                yield self._row(record)
            after = records[-1].key

    def of_problems(self, *, all_of_them: bool = False) -> Iterator[dict[str, Any]]:
        """Yield a row for each problem, by key, unless the row of its record was yielded before."""
        for key, problem in sorted(self._problems.items()):
            if all_of_them or key not in self._recorded:
                yield _row_of(problem)

    def once(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the first of the rows that have the same key. Of a record and its problem, the record comes first."""
        last = None
        for row in rows:
            if row["key"] != last:
                yield row
            last = row["key"]

    def _row(self, record: Record) -> dict[str, Any]:
        problem = self._problems.get(record.key)
        return {
            "key": record.key,
            "size": record.size,
            "state": _state_of(problem.kind if problem else None, queued=record.key in self._queued),
            "index": record.status,
            "searchable_s": record.searchable_s,
        }


def _row_of(problem: Problem) -> dict[str, Any]:
    # An item with an index problem counts as in step only while it is stored, and this one has no record.
    kind = problem.kind
    state = f"rejected: {kind}" if kind in STORED_NOT_INDEXED else _state_of(kind, queued=False)
    return {"key": problem.key, "size": None, "state": state, "index": None, "searchable_s": None}


def _state_of(problem_kind: str | None, *, queued: bool) -> str:
    """Return the state of an item in one word, as `status` counts it."""
    if problem_kind == "failed":
        return "failed"
    if problem_kind is not None and problem_kind not in STORED_NOT_INDEXED:
        return f"rejected: {problem_kind}"
    return "pending" if queued else "synced"
