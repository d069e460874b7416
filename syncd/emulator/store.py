"""The SQLite database that all the emulated APIs share, and the other values that every handler needs.

Each API brings its own schema and queries.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
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


class EmulatorStore:
    """An open database. One thread may open it and another may use it, but only one at a time."""

    def __init__(self, path: Path | None, schemas: Iterable[str]) -> None:
        """Open or create the file at `path` (None: in memory) and run the schemas, which must be repeatable."""
        name = ":memory:" if path is None else str(path)
        self._connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.executescript(_PRAGMAS + "".join(schemas))
        except BaseException:
            self._connection.close()
            raise
        self.function = self._connection.create_function
        self._cached: dict[tuple[Any, ...], Any] = {}
        self._cached_at_change = self._connection.total_changes

    def all(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """Return every row of the query."""
        return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """Return the first row of the query, or None."""
        row: sqlite3.Row | None = self._connection.execute(sql, parameters).fetchone()
        return row

    def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """Return the first column of the first row. The query must always have a row."""
        return self._connection.execute(sql, parameters).fetchone()[0]

    def cached_value(self, sql: str, parameters: Mapping[str, Any]) -> Any:
        """Return the same as value(), from memory until the next write. Use it for counts, which read every row.

        The result must follow from the data and the parameters alone: the query must not depend on the time.
        """
        if self._cached_at_change != self._connection.total_changes:
            self._cached.clear()
            self._cached_at_change = self._connection.total_changes
        query = (sql, *sorted(parameters.items()))
        if query not in self._cached:
            self._cached[query] = self.value(sql, parameters)
        return self._cached[query]

    def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Run a statement and return the number of rows that it changed."""
        return self._connection.execute(sql, parameters).rowcount

    def many(self, sql: str, rows: Iterable[Parameters]) -> None:
        """Run a statement once for each row of parameters."""
        self._connection.executemany(sql, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end of the block; roll back on any exception."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Close the database. A second call does nothing."""
        self._connection.close()


@dataclass(frozen=True)
class Backend:
    """The values that every handler needs.

    clock: returns seconds since 1970; sleep: waits that many seconds. window: counts the requests against the option
    `quota`. searches: the kept answers of AI Search, of all instances.
    """

    options: EmulatorOptions
    store: EmulatorStore
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    window: QuotaWindow | None
    requests: RequestCounts = field(default_factory=RequestCounts)
    searches: dict[tuple[Any, ...], Any] = field(default_factory=dict)
