"""The keys of one file: its own, and those of its parts, now and before. Where none is split, its own."""

from syncd.mirror import Mirror
from syncd.model import Item


def known(mirror: Mirror, key: str) -> list[str]:
    """The key of the file that a key belongs to, and those of its parts of which a record or a problem is known."""
    names = mirror.tree.names
    if not names.split:
        return [key]
    file = names.file(key)
    after, upto = names.span(file)
    rows = mirror.db.execute(
        "SELECT key FROM record WHERE mirror = ?1 AND key > ?2 AND key < ?3"
        " UNION SELECT key FROM problem WHERE mirror = ?1 AND key > ?2 AND key < ?3",
        (mirror.name, after, upto),
    )
    return [file, *(each for (each,) in rows if names.file(each) == file)]


def further_parts(mirror: Mirror) -> int:
    """How many records are of parts that are not the first of their file. The brake counts files."""
    if not mirror.tree.names.split:
        return 0
    rows = mirror.db.execute(
        "SELECT key FROM record WHERE mirror = ? AND key GLOB '*~[0-9][0-9][0-9]*'", (mirror.name,)
    )
    return sum(mirror.tree.names.of(key)[1] > 1 for (key,) in rows)


def is_up(mirror: Mirror, item: Item) -> bool:
    """Whether the target holds this file or part as it is now, as far as the journal knows."""
    record = mirror.journal.get(item.key)
    return record is not None and item.checksum in (None, record.checksum)
