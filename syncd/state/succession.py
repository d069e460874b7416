"""Succession: the journal of a rebuild becomes the journal of its mirror.

`syncd rebuild` fills a second target with a state file of its own, in a directory below the state directory. The config
alone names the target of a mirror. When a process opens the state with a config that names the second target, the
journal of the rebuild replaces the journal of the mirror in one transaction. No file is uploaded again.
"""

import os
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import structlog

from syncd.core.errors import ConfigError, StateHalt, SyncdError
from syncd.state.db import Age, Meta, open_copy, open_state_to_read, transaction
from syncd.state.directory import FILE_NAME, find_damage, lock
from syncd.state.ownership import BINDING, LISTED, OWNERS
from syncd.state.pass_tables import keep_pass_id, last_pass_id

# All statements consist of constants.
# ruff: noqa: S608

DIRECTORY = "rebuild"
REBUILD = "rebuild"
"""The name of a stored value: the description of the rebuild that wrote a journal."""
_REPLACED = ("record", "tombstone", "claim", "superseded", "parked", "problem", "reindex", "index_try", "file")
"""Tables whose rows of the mirror are replaced. Its history stays."""
_EMPTIED = ("dirty", "absence")
"""Tables about changes of the folder. The next full pass fills them again."""
_SHIFTED: Mapping[str, Mapping[str, str]] = {
    "record": {"pass_id": "pass"},
    "problem": {"pass": "pass"},
    "tombstone": {"age": "age"},
    "claim": {"at": "age"},
}
"""Table -> column -> what it holds: the number of a pass, or an age of the state file.

`_replace` adds the last pass of the mirror to the first, and the difference of the ages of both files to the second.
"""

log = structlog.get_logger()

Binding = Sequence[str]
"""The location (account and target) of a mirror, and its key prefix."""


def rebuild_directory(state_dir: Path, mirror: str) -> Path:
    """Return the state directory of the rebuild of a mirror."""
    return state_dir / DIRECTORY / mirror


def rebuild_description(directory: Path, mirror: str) -> dict[str, Any] | None:
    """Return the description of the rebuild in a state directory, None if there is none or it cannot be read."""
    try:
        found = _value(directory, mirror, REBUILD)
    except SyncdError:
        # The process that opens the file to write reports the fault.
        return None
    return found if isinstance(found, dict) else None


def stored_binding(state_dir: Path, mirror: str) -> object:
    """Return the binding that a state file has for a mirror, None if there is none."""
    return _value(state_dir, mirror, BINDING)


def _value(directory: Path, mirror: str, name: str) -> object:
    db = open_state_to_read(directory)
    if db is None:
        return None
    with closing(db):
        return Meta(db, mirror).get(name)


def adopt_rebuild(db: sqlite3.Connection, state_dir: Path, mirror: str, binding: Binding, *, keep: bool) -> bool:
    """Replace the journal of a mirror by the journal of its rebuild, if the rebuild filled the target of `binding`.

    binding: the binding by the config. keep: leave the files of the rebuild alone, because `db` is a copy. Return
    whether the journal was replaced. Raises Locked if the rebuild is still at work. A rebuild that cannot be read has
    no effect. The next full pass then recognizes the entries by their marks.
    """
    directory, now = rebuild_directory(state_dir, mirror), list(binding)
    aside = directory.with_name(f"{directory.name}.done")
    if not keep:
        # These files belong to a rebuild that was adopted before. If one cannot be removed, the next start tries again.
        shutil.rmtree(aside, ignore_errors=True)
    if not os.path.exists(directory / FILE_NAME):  # noqa: PTH110 - without permission this returns False
        return False
    before = Meta(db, mirror).get(BINDING)
    try:
        if stored_binding(directory, mirror) != now:
            return False
        with ExitStack() as stack:
            if not keep:
                stack.enter_context(lock(directory))
            # A mirror without a binding has lost its state. Its next pass takes the precautions of a new mirror.
            replaced = before not in (None, now)
            if replaced:
                with closing(_sound_copy(directory)) as source:
                    _replace(db, source, mirror)
                log.info("rebuild.in_effect", mirror=mirror, target=now[0])
            if not keep and before is not None:
                # A rename is atomic, so a kill leaves either all files of the rebuild or none.
                directory.rename(aside)
    except (StateHalt, ConfigError, OSError) as error:
        log.warning(
            "rebuild.unusable", mirror=mirror, why=str(error), consequence="the next full pass lists the target"
        )
        return False
    if not keep:
        shutil.rmtree(aside, ignore_errors=True)
    return replaced


def _sound_copy(directory: Path) -> sqlite3.Connection:
    """Return a copy of the state file of a rebuild. Raises StateDamaged if a page is damaged."""
    copy = open_copy(directory)
    if damage := find_damage(copy, directory / FILE_NAME):
        copy.close()
        raise damage
    return copy


def _replace(db: sqlite3.Connection, source: sqlite3.Connection, mirror: str) -> None:
    """Replace the rows of a mirror by the rows of another state file."""
    passes = last_pass_id(db)
    older_s = Age(db).now() - Age(source).now()
    shifts = {"pass": passes, "age": older_s}
    with transaction(db):
        for table in (*_REPLACED, *_EMPTIED):
            db.execute(f"DELETE FROM {table} WHERE mirror = ?", (mirror,))
        for table in _REPLACED:
            _copy(db, source, table, mirror, {name: shifts[kind] for name, kind in _SHIFTED.get(table, {}).items()})
        db.executemany("INSERT OR IGNORE INTO embedding VALUES (?, ?, ?, ?)", source.execute("SELECT * FROM embedding"))
        _replace_values(db, source, mirror, older_s)
        keep_pass_id(db, passes + last_pass_id(source))


def _copy(
    db: sqlite3.Connection, source: sqlite3.Connection, table: str, mirror: str, shifts: Mapping[str, float]
) -> None:
    cursor = source.execute(f"SELECT * FROM {table} WHERE mirror = ?", (mirror,))
    names = [column[0] for column in cursor.description]
    values = ", ".join(f"? + {shifts[name]!r}" if name in shifts else "?" for name in names)
    db.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})", cursor)


def _replace_values(db: sqlite3.Connection, source: sqlite3.Connection, mirror: str, older_s: float) -> None:
    """Replace the named values of a mirror, except the owner of its folder."""
    db.execute("DELETE FROM meta WHERE mirror = ? AND name != ?", (mirror, OWNERS))
    db.executemany(
        "INSERT OR IGNORE INTO meta VALUES (?, ?, ?)",
        source.execute("SELECT mirror, name, value FROM meta WHERE mirror = ?", (mirror,)),
    )
    if listed := Meta(db, mirror).values(LISTED):
        Meta(db, mirror).set(LISTED, {**listed, "at": listed["at"] + older_s})
