"""Opens the state file for writing, and replaces a damaged one."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import structlog

from syncd.errors import StateDamaged, SyncdError
from syncd.state.db import open_state, set_aside, transaction
from syncd.state.trouble import no_database, writable

OnDamage = Literal["refuse", "rebuild", "discard"]

log = structlog.get_logger()


async def open_to_write(state_dir: Path, on_damage: OnDamage) -> sqlite3.Connection:
    """Open the state file.

    on_damage: "refuse" raises StateDamaged for a damaged file, "rebuild" moves it aside and makes a new one, "discard"
    does so without a check, for a file that is known to be damaged.
    """
    if on_damage == "discard":
        return _rebuilt(state_dir, "found while it was at work")
    try:
        db = open_state(state_dir)
    except StateDamaged as error:
        if on_damage == "refuse":
            raise
        return _rebuilt(state_dir, str(error))
    try:
        # Wait for a lock of another process here, before any other preparation.
        with transaction(db):
            return db
    except BaseException:
        db.close()
        raise


def _rebuilt(state_dir: Path, why: str) -> sqlite3.Connection:
    aside = set_aside(state_dir)
    log.error("state.damaged", why=why, kept=str(aside), consequence="a new state file is built")
    return open_state(state_dir)


@contextmanager
def detect_damage(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Raise StateDamaged in place of an unexpected error if the state file is damaged.

    A damaged page can yield any value, which can cause any error. So the file is checked after one.
    """
    try:
        with writable(path):
            yield
    except SyncdError:
        raise
    except Exception as error:
        found = no_database(db, path)
        if found:
            raise found from error
        raise
