"""Collects the state of the running daemon for the page, /healthz and /metrics, without a request to the remote."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from syncd import __version__
from syncd.core.keys import shown
from syncd.core.plain_text import printable
from syncd.queries.status import snapshot
from syncd.service.runtime import Runtime
from syncd.web.history import Minute, RecentAction, RecentHistory

MIN_AGE_S = 1.0
"""The status is counted again only after this many seconds."""
MAX_SHARE = 0.05
"""Counting a large state file takes at most this share of the time."""
PROBLEMS = 50
"""The page shows at most this many problems of a mirror."""


class StatusCache:
    """Counts the object of `status --json` again after a change, but not too often.

    A thread counts with its own connection, so the daemon's event loop does not wait.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = asyncio.Lock()
        self._version: tuple[object, ...] = ()
        self._mirrors: dict[str, Any] = {}
        self._next = 0.0

    async def mirrors(self, runtime: Runtime) -> dict[str, Any]:
        """Return name -> the mirror's part of `status --json`, and `oldest_at` (seconds since the epoch, or None)."""
        async with self._lock:
            if runtime.closed:
                return self._mirrors
            version = runtime.version()
            reloaded = version[:1] != self._version[:1]
            if reloaded or (version != self._version and self._clock() >= self._next):
                started = self._clock()
                self._mirrors = await asyncio.to_thread(_count, runtime)
                ended = self._clock()
                self._version, self._next = version, ended + max(MIN_AGE_S, (ended - started) / MAX_SHARE)
            return self._mirrors


def _count(runtime: Runtime) -> dict[str, Any]:
    mirrors: dict[str, Any] = snapshot(runtime.session.config, PROBLEMS)["mirrors"]
    for mirror in mirrors.values():
        # The cache shows this later, so it holds a time. An age would be out of date.
        waiting_s = mirror.pop("oldest_pending_s")
        mirror["oldest_at"] = None if waiting_s is None else round(time.time() - waiting_s)
    return mirrors


class PageView:
    """Builds the JSON values for the page. All listeners share one status cache.

    Names of files are untrusted: every text is printable.
    """

    def __init__(self, history: RecentHistory, status: StatusCache) -> None:
        self._history = history
        self._status = status

    async def state(self, runtime: Runtime | None) -> dict[str, Any]:
        """Return everything but the actions and the chart. runtime: None while the config is read again."""
        head = {"version": __version__, "pid": os.getpid(), "began": round(self._history.started)}
        if runtime is None:
            return {**head, "reloading": True}
        mirrors = await self._status.mirrors(runtime)
        gate = runtime.session.transport.gate
        held_s = gate.held_s()
        return {
            **head,
            "mirrors": [_mirror(name, mirror, runtime) for name, mirror in mirrors.items() if name in runtime.workers],
            "gate": {
                "limit": gate.tpslimit,
                "rate": round(self._history.rate(), 1),
                "held_until": round(time.time() + held_s) if held_s > 0 else None,
                "in_flight": gate.in_flight,
            },
        }

    def actions(self, after: int) -> list[dict[str, Any]]:
        """Return the actions with a number above `after`, oldest first."""
        return [_action(action) for action in self._history.actions_after(after)]

    def minutes(self, number: int) -> list[list[int]]:
        """Return [number, changes, failed, requests] of each minute from `number` on in which something happened."""
        return [_minute(minute) for minute in self._history.minutes_from(number)]


def safe(value: Any) -> Any:
    """Return a JSON value with control, format, bidirectional and surrogate characters of its texts escaped."""
    if isinstance(value, str):
        return printable(shown(value))
    if isinstance(value, dict):
        return {key: safe(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [safe(inner) for inner in value]
    return value


def _mirror(name: str, mirror: dict[str, Any], runtime: Runtime) -> dict[str, Any]:
    # The state of the worker is newer than the counted one.
    worker = runtime.workers[name]
    shown = worker.status
    watch = runtime.watcher.status(name)
    problems = mirror["items"]["failed"] + mirror["items"]["rejected"] + mirror["index"]["error"]
    status = {key: mirror[key] for key in ("path", "target", "items", "index", "last_reconcile", "oldest_at")}
    if "shard" in mirror:
        status["target"] += f", shard {mirror['shard']}"
    return {
        "name": name,
        "state": shown.state,
        "detail": safe(shown.detail),
        "remaining": shown.remaining,
        "until": shown.until,
        **safe(status),
        "watch": watch.mode,
        "watch_detail": safe(watch.detail),
        "problems": safe(mirror["problems"]),
        "more_problems": max(0, problems - len(mirror["problems"])),
    }


def _action(action: RecentAction) -> dict[str, Any]:
    event = action.event
    return {
        "number": action.number,
        "at": round(action.at, 1),
        "mirror": action.mirror,
        "kind": event.kind,
        "key": safe(event.key),
        "reason": event.reason,
        "outcome": event.outcome,
        "size": event.size if event.kind == "put" else None,
    }


def _minute(minute: Minute) -> list[int]:
    return [minute.number, minute.changes, minute.failed, minute.requests]
