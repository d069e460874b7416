"""What `check` says of the time that passes take, from the folder and the state file alone."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from syncd.core.model import Item
from syncd.core.sharding import Shard
from syncd.local.walk import Tree
from syncd.queries.forecast import per_second, span
from syncd.state.caches import StatCache
from syncd.state.journal import Journal
from syncd.targets.base import Target
from syncd.text.endings import HTML, ending

_BLOCK = 1000


@dataclass(slots=True)
class Survey:
    """What a walk found.

    unsent: files that are new or look changed, with their bytes. html: HTML files by their names. known: entries of
    the journal. found: journal entries that have a file. complete: whether every directory could be read. protected:
    whether a mount is missing; the number of deleted files is then unknown.
    """

    files: int = 0
    problems: int = 0
    unsent: int = 0
    unsent_bytes: int = 0
    html: int = 0
    known: int = 0
    found: int = 0
    complete: bool = True
    protected: bool = False


def survey(tree: Tree, shard: Shard, db: sqlite3.Connection | None, name: str) -> Survey:
    """Walk a folder without reading any file, and compare it with what was sent from it. db: None if there is none.

    shard: what of it counts.
    """
    seen = Survey(known=Journal(db, name).count() if db else 0)
    walk = (each for each in tree.walk() if shard.holds(each.key))
    while block := list(islice(walk, _BLOCK)):
        items = [each for each in block if isinstance(each, Item)]
        seen.files += len(items)
        seen.problems += len(block) - len(items)
        seen.html += sum(ending(item.key) in HTML for item in items)
        _compare(items, db, name, seen)
    seen.complete = tree.complete
    seen.protected = bool(tree.protected.closed or tree.protected.covered)
    return seen


def _compare(items: Sequence[Item], db: sqlite3.Connection | None, name: str, seen: Survey) -> None:
    journal, looks_same = (Journal(db, name), StatCache(db, name).fill(items)) if db else (None, {})
    for item in items:
        record = journal.get(item.key) if journal else None
        seen.found += record is not None
        cached = looks_same.get(item.key)
        if record is None or cached is None or cached.checksum != record.checksum:
            seen.unsent += 1
            seen.unsent_bytes += item.size


def outlook(seen: Survey, target: Target, tpslimit: float, transfers: int) -> str:
    """Return how many requests the next pass takes and how long, and how many one that has nothing to do."""
    rate = per_second(tpslimit, transfers)

    def cost(entries: int, more: int = 0) -> str:
        requests = max(1, -(-entries // target.limits.listed)) + more
        return f"{requests:,} request{'' if requests == 1 else 's'}, {span(requests / rate)}"

    gone = seen.known - seen.found if seen.complete and not seen.protected else 0
    work = target.requests(seen.unsent, gone, seen.unsent_bytes)
    at = f"at {rate:.3g} requests/s"
    idle = f"one with nothing to do: {cost(seen.files)}"
    if not seen.known:
        return f"first pass about {cost(0, work)} {at}; {idle}"
    if not (seen.unsent or gone):
        return f"nothing looks changed; a pass takes about {cost(seen.known)} {at}"
    words = [f"{seen.unsent:,} to look at" if seen.unsent else "", f"{gone:,} to delete" if gone else ""]
    return f"{', '.join(word for word in words if word)}: about {cost(seen.known, work)} {at}; {idle}"
