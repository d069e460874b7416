"""What `status` shows, read from the state file alone, so that it works beside a running daemon and without one."""

import sqlite3
import time
from datetime import UTC, datetime
from typing import Any, get_args

from syncd.config.schema import Config, MirrorConfig
from syncd.core.keys import shown_path
from syncd.core.model import IndexStatus
from syncd.state import identity
from syncd.state.db import Meta, open_state_to_read
from syncd.state.directory import holder
from syncd.state.history import State, stored_state
from syncd.state.journal import Journal
from syncd.state.journal_index import STUCK_S
from syncd.state.queue import Queue

_INDEX = get_args(IndexStatus)
STUCK_SHOWN = 20
"""So many of the entries that are stuck on their way into the index are named."""


def snapshot(config: Config, problems: int = -1) -> dict[str, Any]:
    """Return the object of `status --json`; with at most so many problems of each mirror, if not negative."""
    held = holder(config.state_dir)
    db = open_state_to_read(config.state_dir)
    try:
        mirrors = {name: _mirror(config, name, db, problems, running=held is not None) for name in config.mirrors}
    finally:
        if db:
            db.close()
    daemon = held if held and held.daemon else None
    return {"mirrors": mirrors, "daemon": {"running": daemon is not None, "pid": daemon.pid if daemon else None}}


def _mirror(
    config: Config, name: str, db: sqlite3.Connection | None, problems: int, *, running: bool
) -> dict[str, Any]:
    section = config.mirrors[name]
    shown: dict[str, Any] = {
        "state": "idle",
        "path": shown_path(section.path),
        "target": section.target.spec,
        "owner": owner_mark(config, name, db),
        "items": {"synced": 0, "pending": 0, "failed": 0, "rejected": 0},
        "searchable": _searchable(section, 0),
        "index": dict.fromkeys(_INDEX, 0),
        "last_reconcile": None,
        "oldest_pending_s": None,
        "watch": None,
        "problems": [],
    }
    if section.shard:
        shown["shard"] = section.shard
    if db is None:
        return shown
    journal, queue, meta = Journal(db, name), Queue(db, name, 0, 0), Meta(db, name)
    said = stored_state(meta)
    remaining = int(said.get("remaining") or 0)
    shown["state"] = _state(said.get("state"), running=running)
    if detail := _detail(said, shown["state"], remaining):
        shown["detail"] = detail
    if shown["state"] == "syncing":
        shown["remaining"] = remaining
        until = said.get("until")
        shown["eta_s"] = None if until is None else max(0.0, round(until - time.time(), 1))
    shown["items"] = _items(journal, queue, remaining)
    shown["items"] |= _without_expired(journal, shown["items"], getattr(section.target, "expiration_ttl", None))
    shown["index"] |= journal.index.index_counts()
    shown["searchable"] = _searchable(section, shown["index"]["completed"])
    if stuck := _stuck(journal):
        shown["stuck"] = stuck
    shown["last_reconcile"] = _iso(meta.get("last_reconcile"))
    oldest = queue.oldest()
    shown["oldest_pending_s"] = None if oldest is None else round(max(0.0, time.time() - oldest), 1)
    watch = meta.get("watch")
    if running and isinstance(watch, dict):
        shown["watch"] = watch.get("mode")
        if watch.get("detail"):
            shown["watch_detail"] = watch["detail"]
    shown["problems"] = [
        {"key": p.key, "kind": p.kind, "message": p.message} for p in journal.problems.all(limit=problems)
    ]
    return shown


def owner_mark(config: Config, name: str, db: sqlite3.Connection | None) -> str | None:
    """Return the owner mark of a mirror, None if the first pass has still to decide it."""
    section = config.mirrors[name]
    meta = Meta(db, name) if db else None
    return section.owner or identity.owner_of(name, section.path, meta, identity.machine(config.state_dir))


def foreign_keys(name: str, db: sqlite3.Connection | None) -> list[str]:
    """Return the keys at which the last passes met entries of others."""
    return [problem.key for problem in Journal(db, name).problems.all() if problem.kind == "foreign"] if db else []


def _state(said: object, *, running: bool) -> State:
    """A mirror that nobody works on is not syncing any more: what was to be done then is left."""
    if said == "syncing":
        return "syncing" if running else "degraded"
    return "degraded" if said == "degraded" else "halted" if said == "halted" else "idle"


def _searchable(section: MirrorConfig, completed: int) -> int | None:
    """How many entries can be found now. None of KV: nothing searches what a namespace holds."""
    return None if section.target.type == "kv" else completed


def _detail(said: dict[str, Any], state: State, remaining: int) -> str | None:
    """Why a mirror is not idle."""
    if said.get("state") == "syncing" and state == "degraded":
        left = f"{remaining} left" if remaining else "before all was compared"
        return f"the last pass was interrupted, {left}; run: syncd reconcile"
    return said.get("detail") or None if state != "idle" else None


def _items(journal: Journal, queue: Queue, remaining: int) -> dict[str, int]:
    waiting, _ = queue.counts()
    kinds = journal.problems.counts()
    failed = kinds.pop("failed", 0)
    # Rejected here is a file that is not stored; what is stored and cannot be found is told by `searchable`.
    kinds["index_error"] = journal.index.dropped()
    kinds.pop("skipped", None)
    return {
        "synced": journal.stored(),
        "pending": max(waiting, remaining),
        "failed": failed,
        "rejected": sum(kinds.values()),
    }


def _without_expired(journal: Journal, items: dict[str, int], ttl: float | None) -> dict[str, int]:
    """What of the items counts otherwise where entries expire: one that is not renewed in time is not in step."""
    gone = min(items["synced"], journal.expired(time.time(), ttl)) if ttl else 0
    return {"synced": items["synced"] - gone, "pending": items["pending"] + gone}


def _stuck(journal: Journal) -> dict[str, Any] | None:
    """What is on its way into the index for too long, if anything is: how many, and the keys of the longest."""
    before = time.time() - STUCK_S
    count = journal.index.stuck_count(before)
    return {"count": count, "keys": [each.key for each in journal.index.stuck(before, STUCK_SHOWN)]} if count else None


def _iso(moment: object) -> str | None:
    if not isinstance(moment, (int, float)):
        return None
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
