"""The keys of one file: its own, and those of its parts, now and before. Where none is split, its own."""

import sqlite3

from syncd.model import Item
from syncd.parts import Naming
from syncd.state.journal import Journal


def known(db: sqlite3.Connection, mirror: str, names: Naming, key: str) -> list[str]:
    """The key of the file that a key belongs to, and those of its parts of which a record or a problem is known."""
    file = names.file(key)
    if not names.split:
        return [file]
    rows = db.execute(
        "SELECT key FROM record WHERE mirror = ?1 AND key > ?2 AND key < ?3"
        " UNION SELECT key FROM problem WHERE mirror = ?1 AND key > ?2 AND key < ?3",
        (mirror, *names.span(file)),
    )
    return [file, *(each for (each,) in rows if names.file(each) == file)]


def further_parts(db: sqlite3.Connection, mirror: str, names: Naming) -> int:
    """How many records are of parts that are not the first of their file: what is counted is files."""
    if not names.split:
        return 0
    rows = db.execute("SELECT key FROM record WHERE mirror = ? AND key GLOB '*~[0-9][0-9][0-9]*'", (mirror,))
    return sum(names.of(key)[1] > 1 for (key,) in rows)


def is_up(journal: Journal, item: Item) -> bool:
    """Whether the target holds this file or part as it is now, as far as the journal knows."""
    record = journal.get(item.key)
    return record is not None and item.checksum in (None, record.checksum)


def out_of_step(db: sqlite3.Connection, mirror: str, names: Naming) -> int:
    """How many files with a record have a change waiting or a problem that kept them from the target."""
    rows = db.execute(
        "SELECT key FROM dirty WHERE mirror = ?1"
        " UNION SELECT key FROM problem WHERE mirror = ?1 AND kind NOT IN ('index_error', 'skipped')",
        (mirror,),
    )
    journal = Journal(db, mirror)
    files = {names.file(key) for (key,) in rows}
    return sum(any(journal.get(key) for key in (file, names.part(file, 1))) for file in files)
