"""One SQLite file (or memory) that all the emulated APIs share. Each API brings its own schema and queries."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Parameters = Sequence[Any] | Mapping[str, Any]

_PRAGMAS = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = OFF;
PRAGMA busy_timeout = 5000;
"""


class Store:
    """An open database. Used from one thread at a time; opened in one and served from another."""

    def __init__(self, path: Path | None, schemas: Iterable[str]) -> None:
        """Opens or makes the file at `path` (None: in memory) and runs the schemas, which must be repeatable."""
        name = ":memory:" if path is None else str(path)
        self._connection = sqlite3.connect(name, isolation_level=None, check_same_thread=False)
        self._connection.row_factory = sqlite3.Row
        try:
            self._connection.executescript(_PRAGMAS + "".join(schemas))
        except BaseException:
            self._connection.close()
            raise
        self.function = self._connection.create_function
        self._remembered: dict[tuple[Any, ...], Any] = {}
        self._written = self._connection.total_changes

    def all(self, sql: str, parameters: Parameters = ()) -> list[sqlite3.Row]:
        """Every row of the query."""
        return self._connection.execute(sql, parameters).fetchall()

    def one(self, sql: str, parameters: Parameters = ()) -> sqlite3.Row | None:
        """The first row of the query, or None."""
        row: sqlite3.Row | None = self._connection.execute(sql, parameters).fetchone()
        return row

    def value(self, sql: str, parameters: Parameters = ()) -> Any:
        """The first column of the first row. IndexError-free only for queries that always have a row."""
        return self._connection.execute(sql, parameters).fetchone()[0]

    def remembered(self, sql: str, parameters: Mapping[str, Any]) -> Any:
        """Like value(), and quick until the next write: for counting, which reads every row. Only for queries whose
        result follows from the data and the parameters, so for none with a clock in it.
        """
        if self._written != self._connection.total_changes:
            self._remembered.clear()
            self._written = self._connection.total_changes
        question = (sql, *sorted(parameters.items()))
        if question not in self._remembered:
            self._remembered[question] = self.value(sql, parameters)
        return self._remembered[question]

    def run(self, sql: str, parameters: Parameters = ()) -> int:
        """Runs a statement and gives the number of rows it changed."""
        return self._connection.execute(sql, parameters).rowcount

    def many(self, sql: str, rows: Iterable[Parameters]) -> None:
        """Runs a statement once for each of `rows`."""
        self._connection.executemany(sql, rows)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing: commits at the end of the block, rolls back on any exception."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        self._connection.close()
