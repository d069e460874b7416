"""status and ls: the state of each mirror and of its items, from the state file alone, with and without a daemon."""

import heapq
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, get_args

from syncd.config.schema import Config, location
from syncd.core.keys import keys_below, shown_path
from syncd.core.model import HARMLESS, STORED_NOT_INDEXED, IndexStatus, Problem, Record
from syncd.core.plain_text import utc_time
from syncd.state import ownership
from syncd.state.db import Meta, open_copy, open_state_to_read
from syncd.state.directory import Holder, holder
from syncd.state.history import State, last_contact, last_presence, stored_state
from syncd.state.journal import STUCK_S, Journal
from syncd.state.queue import Queue

_INDEX = get_args(IndexStatus)
STUCK_SHOWN = 20
"""The largest number of stuck entries that are named."""


def snapshot(config: Config, problems: int = -1) -> dict[str, Any]:
    """Return the object of `status --json`. problems: the largest number of problems of a mirror; negative: all."""
    held = holder(config.state_dir)
    with closing(open_state_to_read(config.state_dir) or open_copy(config.state_dir)) as db:
        mirrors = {name: _mirror(config, name, db, problems, held) for name in config.mirrors}
        presence = last_presence(db)
    daemon = held if held and held.daemon else None
    return {
        "mirrors": mirrors,
        "daemon": {"running": daemon is not None, "pid": daemon.pid if daemon else None},
        "last_seen": None if presence is None else utc_time(presence.at),
        "ended": presence.ended if presence else None,
        "command": {"pid": held.pid} if held and not held.daemon else None,
    }


def _mirror(config: Config, name: str, db: sqlite3.Connection, problems: int, held: Holder | None) -> dict[str, Any]:
    section = config.mirrors[name]
    journal, queue, meta = Journal(db, name), Queue(db, name, 0, 0), Meta(db, name)
    stored, watch, oldest = stored_state(meta), meta.values("watch") if held else {}, queue.oldest()
    remaining, interrupted = _remaining(stored, journal), _is_interrupted(stored, held)
    state = "degraded" if interrupted else _state(stored.get("state"))
    detail = _detail(stored, state, remaining, interrupted=interrupted)
    has_next_try = state == "degraded" and not interrupted
    # A process at work may have another config than this command.
    place = location(config.cloudflare, section)
    if held is None and state == "idle" and not ownership.is_bound(db, name, place, section.key_prefix):
        state = "degraded"
        detail = "the numbers are of the target that the config named before; run: syncd reconcile"
    items = _items(journal, queue, remaining, getattr(section.target, "expiration_ttl", None))
    index = dict.fromkeys(_INDEX, 0) | journal.index.index_counts()
    # KV has no search.
    searchable = None if section.target.type == "kv" else index["completed"]
    shown = {
        "state": state,
        "path": shown_path(section.path),
        "target": section.target.spec,
        "owner": owner_mark(config, name, db),
        "items": items,
        "searchable": searchable,
        "index": index,
        "last_reconcile": _time(meta.get("last_reconcile")),
        "oldest_pending_s": None if oldest is None else round(max(0.0, time.time() - oldest), 1),
        "watch": watch.get("mode"),
        "problems": [asdict(problem) for problem in journal.problems.all(limit=problems)],
        "counts": _counts(items, index, searchable, journal, 0 if interrupted else remaining),
        "files": meta.get("files"),
        "since": _time(stored.get("since")),
        "last_contact": _time(last_contact(meta)),
    }
    if section.shard:
        shown["shard"] = section.shard
    if detail:
        shown["detail"] = detail
    if has_next_try:
        shown["next_try"] = _time(stored.get("next_try"))
    if state == "syncing":
        shown["remaining"] = remaining
        until = stored.get("until")
        shown["eta_s"] = None if until is None else max(0.0, round(until - time.time(), 1))
    if stuck := _stuck(journal):
        shown["stuck"] = stuck
    if watch.get("detail"):
        shown["watch_detail"] = watch["detail"]
    return shown


def owner_mark(config: Config, name: str, db: sqlite3.Connection) -> str | None:
    """Return the owner mark of a mirror, None if the first pass has not decided it yet."""
    section = config.mirrors[name]
    return section.owner or ownership.owner_of(name, section.path, Meta(db, name), ownership.machine(config.state_dir))


def foreign_keys(name: str, db: sqlite3.Connection) -> list[str]:
    """Return the keys at which the last passes found entries of other owners."""
    return [problem.key for problem in Journal(db, name).problems.all() if problem.kind == "foreign"]


def _state(stored: object) -> State:
    """Return the state of a mirror, idle if none is stored."""
    return next((state for state in get_args(State) if state == stored), "idle")


def _is_interrupted(stored: dict[str, Any], held: Holder | None) -> bool:
    """Return whether the stored pass was under way when its process ended."""
    if not stored.get("under_way", stored.get("state") == "syncing"):
        return False
    return held is None or stored.get("pid", held.pid) != held.pid


def _remaining(stored: dict[str, Any], journal: Journal) -> int:
    """Return how many actions of the pass under way are left.

    The number is stored every few seconds. Entries that are in step since then are subtracted, so that the numbers of
    one answer fit together.
    """
    remaining, then = int(stored.get("remaining") or 0), stored.get("stored")
    return remaining if then is None else max(0, remaining - max(0, journal.stored() - then))


def _time(stored: object) -> str | None:
    """Return a stored time for people and programs, None if there is none."""
    return utc_time(stored) if isinstance(stored, (int, float)) else None


def _detail(stored: dict[str, Any], state: State, remaining: int, *, interrupted: bool) -> str | None:
    """Return why a mirror is not idle."""
    if interrupted:
        left = f"{remaining} left" if remaining else "before all was compared"
        return f"the last pass was interrupted, {left}; run: syncd reconcile"
    return stored.get("detail") or None if state != "idle" else None


def _counts(
    items: dict[str, int], index: dict[str, int], searchable: int | None, journal: Journal, uploading: int
) -> dict[str, int | None]:
    """Return the items by their meaning for a person. An item that is in step may be searchable, indexing or neither.

    uploading: the actions of the pass under way that are left. ignored: files that are left out on purpose, because
    the target takes no such type, or no empty file.
    """
    ignored = sum(count for kind, count in journal.problems.counts().items() if kind in HARMLESS)
    uploading = min(uploading, items["pending"])
    return {
        "searchable": searchable,
        "in_step": items["synced"],
        "indexing": index["queued"] + index["running"] + index["outdated"],
        "uploading": uploading,
        "waiting": items["pending"] - uploading,
        "failed": items["failed"] + items["rejected"] - ignored + index["error"] + index["skipped"],
        "ignored": ignored,
    }


def _items(journal: Journal, queue: Queue, remaining: int, ttl: float | None) -> dict[str, int]:
    waiting, _ = queue.counts()
    kinds = journal.problems.counts()
    failed = kinds.pop("failed", 0)
    # A rejected item is not stored. `searchable` counts items that are stored and indexed.
    rejected = sum(count for kind, count in kinds.items() if kind not in STORED_NOT_INDEXED)
    stored = journal.stored()
    # An entry that was not renewed in time is not in step.
    expired = min(stored, journal.expired(time.time(), ttl)) if ttl else 0
    return {
        "synced": stored - expired,
        "pending": max(waiting, remaining) + expired,
        "failed": failed,
        "rejected": rejected + journal.problems.count_dropped(),
    }


def _stuck(journal: Journal) -> dict[str, Any] | None:
    """Return the number of entries whose indexing takes too long and the oldest keys, None if there are none."""
    before = time.time() - STUCK_S
    count = journal.index.stuck_count(before)
    return (
        {"count": count, "keys": [record.key for record in journal.index.stuck(before, STUCK_SHOWN)]} if count else None
    )


# -- ls

_BATCH = 1000
"""Records read from the journal at a time."""


def local_rows(config: Config, name: str, begin: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each item whose key begins with `begin`, by key."""
    with closing(open_state_to_read(config.state_dir) or open_copy(config.state_dir)) as db:
        yield from _rows(db, name, begin, "")


def page(config: Config, name: str, begin: str, after: str, most: int) -> list[dict[str, Any]] | None:
    """Return the first rows whose key begins with `begin` and comes after the key `after`, by key.

    The list has at most `most` + 1 rows: one more than asked for shows that there are more. None: no state file.
    """
    db = open_state_to_read(config.state_dir)
    if db is None:
        return None
    with closing(db):
        return list(islice(_rows(db, name, begin, after), most + 1))


def _rows(db: sqlite3.Connection, name: str, begin: str, after: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each record, and for each problem of a file without a record, by key."""
    journal = Journal(db, name)
    queued = {row.key for row in Queue(db, name, 0, 0).every()}
    problems = {problem.key: problem for problem in journal.problems.all()}
    first, upto = keys_below(begin)
    records = (
        _row(record, problems.get(record.key), queued=record.key in queued)
        for record in _records(journal, max(first, after), upto)
    )
    others = (_problem_row(problem) for key, problem in problems.items() if first <= key < upto and key > after)
    by_key = itemgetter("key")
    for _, same in groupby(heapq.merge(records, others, key=by_key), by_key):
        # The record of a key comes before its problem.
        yield next(same)


def _records(journal: Journal, after: str, upto: str) -> Iterator[Record]:
    """Yield the records with after < key < upto, by key."""
    while records := journal.after(after, upto, _BATCH):
        yield from records
        after = records[-1].key


def _row(record: Record, problem: Problem | None, *, queued: bool) -> dict[str, Any]:
    return {
        "key": record.key,
        "size": record.size,
        "state": _state_of(problem.kind if problem else None, queued=queued),
        "index": record.status,
        "searchable_s": record.searchable_s,
    }


def _problem_row(problem: Problem) -> dict[str, Any]:
    """Return the row of a problem without a record."""
    # An item with an index problem counts as in step only while it is stored, and this one is not.
    kind = problem.kind
    state = f"rejected: {kind}" if kind in STORED_NOT_INDEXED else _state_of(kind, queued=False)
    return {"key": problem.key, "size": None, "state": state, "index": None, "searchable_s": None}


def _state_of(problem_kind: str | None, *, queued: bool) -> str:
    """Return the state of an item in one word, as `status` counts it."""
    if problem_kind == "failed":
        return "failed"
    if problem_kind is not None and problem_kind not in STORED_NOT_INDEXED:
        return f"rejected: {problem_kind}"
    return "pending" if queued else "synced"
