"""SQLite connections that say so when nobody closed them, on every Python: by itself only 3.13 warns."""

import sqlite3
import warnings
import weakref
from functools import partial
from typing import Any

unclosed: "weakref.WeakSet[Watched]" = weakref.WeakSet()
"""Those that are open at this moment."""


class Watched(sqlite3.Connection):
    """Warns when it goes unclosed, as open files do."""

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
    """Have every connection of this process watched from now on."""
    sqlite3.connect = partial(sqlite3.connect, factory=Watched)  # type: ignore[assignment]
