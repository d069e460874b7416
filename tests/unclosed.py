"""Warnings about unclosed SQLite connections on every Python. By itself, Python warns only from 3.13 on."""

import sqlite3
import warnings
import weakref
from functools import partial
from typing import Any

unclosed: "weakref.WeakSet[Watched]" = weakref.WeakSet()
"""The open connections."""


class Watched(sqlite3.Connection):
    """A connection that warns if it is not closed, as open files do."""

    _open = False

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.place = str(arguments[0])
        super().__init__(*arguments, **options)
        self._open = True
        unclosed.add(self)

    def close(self) -> None:
        super().close()
        self._open = False
        unclosed.discard(self)

    def __del__(self) -> None:
        if self._open:
            self.close()
            warnings.warn(f"unclosed database {self.place}", ResourceWarning, source=self, stacklevel=1)


def watch() -> None:
    """Watch every connection of this process from now on."""
    sqlite3.connect = partial(sqlite3.connect, factory=Watched)  # type: ignore[assignment]
