"""search: calls the search of a target, and checks whether the file of a hit has changed since it was indexed."""

import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Literal

from syncd.config.schema import Config, MirrorConfig
from syncd.core.errors import FileChanged, SyncdError
from syncd.core.keys import shown
from syncd.core.model import Excluded, Item, Record
from syncd.core.names import same_source
from syncd.local.walk import Tree
from syncd.queries.lookup import state_of
from syncd.state.caches import StatCache
from syncd.state.journal import Journal
from syncd.targets.base import Store, searchable

Freshness = Literal["current", "indexing", "changed", "missing", "unknown"]
"""current: the file has not changed since it was indexed. indexing: the present content was sent, but not yet indexed.
changed: the file has changed since it was sent. missing: the file was sent, and does not exist any more. unknown: the
state file has no record of the file, or the file cannot be read.
"""


async def search(
    target: Store,
    section: MirrorConfig,
    query: str,
    limit: int,
    begin: str = "",
    filters: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Return the hits of a target's own search, best first.

    begin: the beginning of their keys: a folder with "/" at its end, a key prefix, or "". filters: conditions on
    metadata, in the syntax of the target. Raises ConfigError if the target has no search.
    """
    hits = await searchable(target).search(query, limit, begin, filters)
    return [{**asdict(hit), "path": str(section.path / hit.key.removeprefix(section.key_prefix))} for hit in hits]


def freshness(config: Config, name: str, keys: Iterable[str], tree: Tree) -> dict[str, Freshness]:
    """Return {key: freshness} for the files of some keys. Sends no request.

    The result has no key that is not part of the mirror. Its rules may exclude the file, or the mirror may neither have
    such a file nor have sent one, because another mirror has written to the same target.

    tree: the folder of the mirror. A file with an unchanged fingerprint is not read again.
    """
    with state_of(config, name, tree) as db:
        found = {key: _freshness(db, name, key, tree) for key in dict.fromkeys(keys)}
    return {key: fresh for key, fresh in found.items() if fresh}


def _freshness(db: sqlite3.Connection | None, name: str, key: str, tree: Tree) -> Freshness | None:
    """Return the freshness of a file, None if the key is not part of the mirror."""
    if not key.startswith(tree.prefix):
        return None
    local = tree.look(key)
    if isinstance(local, Excluded):
        return None
    journal = Journal(db, name) if db else None
    record = journal.get(key) if journal else None
    if local is None:
        return "missing" if record and not tree.is_excluded(key.removeprefix(tree.prefix)) else None
    if db is None or journal is None:
        return "unknown"
    if record is None:
        problem = journal.problems.get(shown(key))
        return None if problem and problem.kind == "foreign" else "unknown"
    if not isinstance(local, Item):
        # The target no longer accepts this content, so it holds an earlier one.
        return "changed" if local.kind in ("too_large", "empty") else "unknown"
    return _compared(record, local, StatCache(db, name), tree)


def _compared(record: Record, item: Item, cache: StatCache, tree: Tree) -> Freshness:
    """Return the freshness of a file by the checksum of its content and the index status of its record."""
    known = cache.fill([item]).get(item.key)
    try:
        checksum = known.checksum if known else tree.read(item.path)[0].checksum
    except FileChanged:
        return "changed"
    except (SyncdError, OSError):
        return "unknown"
    if not same_source(checksum, record.checksum):
        return "changed"
    return "current" if record.status in (None, "completed") else "indexing"
