"""The SQLite database that all the emulated APIs share, and the other values that every handler needs.

Each API brings its own schema and queries.
"""

import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.quota import QuotaWindow, RequestCounts

Parameters = Sequence[Any] | Mapping[str, Any]

VALID_AT = "valid_from <= :at AND (valid_to IS NULL OR valid_to > :at)"
"""The condition of a row that was valid at the time :at, in a table that keeps the past states of its objects."""

_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
PRAGMA busy_timeout = 5000;
"""


class EmulatorStore(sqlite3.Connection):
    """An open database. One thread may open it and another may use it, but only one at a time."""

    def __init__(self, path: Path | None, schemas: Iterable[str]) -> None:
        """Open or create the file at `path` (None: in memory) and run the schemas, which must be repeatable."""
        super().__init__(":memory:" if path is None else str(path), isolation_level=None, check_same_thread=False)
        self.row_factory = sqlite3.Row
        try:
            self.executescript(_PRAGMAS + "".join(schemas))
        except BaseException:
            self.close()
            raise

    def all(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """Return every row of the query."""
        return self.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """Return the first row of the query, or None."""
        row: sqlite3.Row | None = self.execute(sql, parameters).fetchone()
        return row

    def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """Return the first column of the first row. The query must always have a row."""
        return self.execute(sql, parameters).fetchone()[0]

    def filter_by(self, accepts: Callable[[Any], bool]) -> None:
        """Define the SQL function accepted(metadata as JSON) for the rest of the request."""
        self.create_function("accepted", 1, lambda text: accepts(json.loads(text)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end of the block; roll back on any exception."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")


@dataclass(frozen=True)
class Backend:
    """The values that every handler needs.

    clock: returns seconds since 1970; sleep: waits that many seconds. window: counts the requests against the option
    `quota`. chance: decides which keys of a KV bulk fail. searches: the kept answers of
    AI Search, with the end of their time and the ids of their items.
    """

    options: EmulatorOptions
    store: EmulatorStore
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    window: QuotaWindow | None
    requests: RequestCounts = field(default_factory=RequestCounts)
    chance: Random = field(default_factory=lambda: Random(0))  # noqa: S311 - a test repeats with the same numbers
    searches: dict[tuple[Any, ...], tuple[float, frozenset[str], Any]] = field(default_factory=dict)
