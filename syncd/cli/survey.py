"""Counts the files of a folder and compares them with the state file, without reading any of them."""

import sqlite3
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from syncd.config.schema import location
from syncd.core.model import Item
from syncd.core.names import Shard, same_source
from syncd.local.walk import Tree
from syncd.queries.forecast import FolderSurvey
from syncd.queries.lookup import state_of
from syncd.state.caches import StatCache
from syncd.state.journal import Journal
from syncd.state.ownership import is_bound
from syncd.text.documents import HTML, ending

if TYPE_CHECKING:
    from syncd.config.schema import Config

_BATCH = 1000
"""Files that are looked up in the state file at a time."""


def survey_of(config: "Config", name: str, tree: Tree) -> FolderSurvey:
    """Walk the folder of a mirror and compare it with the state file."""
    section = config.mirrors[name]
    with state_of(config, name, tree) as db:
        # The journal of a former target does not help to forecast the next pass.
        ours = db and is_bound(db, name, location(config.cloudflare, section), section.key_prefix)
        return survey(tree, Shard.parse(section.shard), db if ours else None, name)


def survey(tree: Tree, shard: Shard, db: sqlite3.Connection | None, name: str) -> FolderSurvey:
    """Walk a folder without reading any file and compare it with the state file.

    shard: only its keys count. db: None if there is no state file.
    """
    result = FolderSurvey(known=Journal(db, name).count() if db else 0)
    walk = (local for local in tree.walk() if shard.holds(local.key))
    while batch := list(islice(walk, _BATCH)):
        items = [local for local in batch if isinstance(local, Item)]
        result.files += len(items)
        result.html += sum(ending(item.key) in HTML for item in items)
        result.problems += len(batch) - len(items)
        result.forms.update(form for item in items if (form := tree.limits.forms.of(item.key)))
        _compare(items, db, name, result)
    result.complete, result.protected = tree.complete, bool(tree.protected.closed or tree.protected.covered)
    return result


def _compare(items: Sequence[Item], db: sqlite3.Connection | None, name: str, result: FolderSurvey) -> None:
    """Count the items that have no record, or that seem to have changed since their upload."""
    journal, unchanged = (Journal(db, name), StatCache(db, name).fill(items)) if db else (None, {})
    for item in items:
        record = journal.get(item.key) if journal else None
        result.found += record is not None
        cached = unchanged.get(item.key)
        if record is None or cached is None or not same_source(cached.checksum, record.checksum):
            result.unsent += 1
            result.unsent_bytes += item.size
