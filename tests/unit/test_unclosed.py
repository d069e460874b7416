"""What holds a connection lets go of it, also when it fails half-way."""

import gc
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from syncd.emulator.store import EmulatorStore
from syncd.state import db
from tests.unclosed import Watched, unclosed


def make_and_forget(path: Path) -> None:
    sqlite3.connect(path)
    gc.collect(1)  # The connection is young. A full collection takes half a second in a process of all tests.


def test_a_connection_that_nobody_closes_is_told_of(tmp_path: Path) -> None:
    with pytest.warns(ResourceWarning, match=r"unclosed database .*a\.db"):
        make_and_forget(tmp_path / "a.db")


def test_a_store_that_cannot_be_opened_is_closed(tmp_path: Path) -> None:
    before = set(unclosed)
    with pytest.raises(sqlite3.Error) as _held:
        EmulatorStore(tmp_path / "a.db", ["no SQL;"])
    assert set(unclosed) == before


class Unreadable(Watched):
    def backup(self, *_: Any, **__: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")


def test_a_state_file_that_cannot_be_copied_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(unclosed)
    original = sqlite3.connect(tmp_path / "state.db", factory=Unreadable)
    monkeypatch.setattr(db, "open_state_to_read", lambda _: original)
    with pytest.raises(sqlite3.Error) as _held:
        db.open_copy(tmp_path)
    assert set(unclosed) == before
