"""Collects the state of the running daemon for the page, /healthz and /metrics, and streams it to open pages.

This module sends no request to the remote. While a page is open, the daemon checks more often whether the remote of
idle mirrors can be reached.
"""

import asyncio
import contextlib
import json
import math
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import astuple
from datetime import datetime
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from syncd import __version__
from syncd.core.keys import shown
from syncd.core.plain_text import printable
from syncd.queries.log import read_log
from syncd.queries.status import snapshot
from syncd.service.jobs import Jobs
from syncd.service.runtime import Runtime
from syncd.web.history import RecentHistory
from syncd.web.problems import count_problems, plan_of, remedies

MIN_AGE_S = 1.0
"""Minimum seconds between two counts of the status."""
MAX_SHARE = 0.05
"""Maximum share of the time that is spent on counting a large state file."""
COUNTED_FIELDS = (
    *("path", "target", "items", "searchable", "index", "stuck"),
    *("last_reconcile", "oldest_at", "problems", "counts"),
)
"""The fields of `status --json` that the page shows."""
ENTRIES = 300
"""Maximum number of log entries on the page."""
LOG_S = 7 * 24 * 3600.0
"""Maximum age in seconds of a log entry on the page."""
LISTENERS = 16
"""Maximum number of listeners. The server answers 503 to further listeners."""
POLL_S = 1.0
"""Seconds between two checks of the state for a listener."""
SEND_TIMEOUT_S = 10.0
"""Maximum seconds for the transmission of a message. The stream ends after them, and the browser connects again."""


class StatusCache:
    """Caches the mirrors of `status --json` and the last log entries.

    After a change of the state, a thread reads them again, but not before MIN_AGE_S. The thread has its own connection,
    so the event loop of the daemon does not wait.

    runtime: the objects at work, None between two configurations, when the state file is closed. log: the last entries
    of `log --json`, oldest first.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.runtime: Runtime | None = None
        self._clock = clock
        self._lock = asyncio.Lock()
        self._version: tuple[object, ...] = ()
        self._mirrors: dict[str, Any] = {}
        self.log: list[dict[str, Any]] = []
        self._next = 0.0

    async def mirrors(self) -> dict[str, Any]:
        """Return name -> the mirror's part of `status --json`, and `oldest_at` (seconds since the epoch, or None)."""
        async with self._lock:
            if (runtime := self.runtime) is None:
                return self._mirrors
            version = runtime.version()
            reloaded = version[:1] != self._version[:1]
            if reloaded or (version != self._version and self._clock() >= self._next):
                started = self._clock()
                self._mirrors, self.log = await asyncio.to_thread(_read_status, runtime)
                ended = self._clock()
                self._version, self._next = version, ended + max(MIN_AGE_S, (ended - started) / MAX_SHARE)
            return self._mirrors


def _read_status(runtime: Runtime) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config = runtime.session.config
    mirrors: dict[str, Any] = snapshot(config, problems=0)["mirrors"]
    kinds = count_problems(config)
    for name, mirror in mirrors.items():
        mirror["problems"] = kinds.get(name, [])
        # An age would be out of date when the page is shown, so the cache holds a time.
        waiting_s = mirror.pop("oldest_pending_s")
        mirror["oldest_at"] = None if waiting_s is None else round(time.time() - waiting_s)
    entries, _ = read_log(config.state_dir, list(config.mirrors), time.time() - LOG_S, most=ENTRIES)
    return mirrors, [entry.as_json() for entry in entries]


def safe(value: Any) -> Any:
    """Return a JSON value with control, format, bidirectional and surrogate characters of its texts escaped."""
    if isinstance(value, str):
        return printable(shown(value))
    if isinstance(value, dict):
        return {key: safe(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [safe(inner) for inner in value]
    return value


def _last_contact(mirrors: dict[str, Any], runtime: Runtime) -> int | None:
    """Return when the remote last answered a request (seconds since the epoch), None if that is unknown."""
    live = [worker.status.contact.answered_at for worker in runtime.workers.values()]
    stored = [
        datetime.fromisoformat(mirror["last_contact"]).timestamp()
        for mirror in mirrors.values()
        if mirror["last_contact"]
    ]
    return max((round(at) for at in (*live, *stored) if at is not None), default=None)


class _Times:
    """Converts times of the event loop to seconds since the epoch. The same time always gives the same result."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}

    def wall(self, name: str, at: float) -> float | None:
        """Return a time in seconds since the epoch, None if it is infinite. name: the mirror."""
        if not math.isfinite(at):
            return None
        if self._known.get(name, (None, 0.0))[0] != at:
            self._known[name] = at, round(time.time() + at - asyncio.get_running_loop().time())
        return self._known[name][1]


def _identity(entry: dict[str, Any]) -> tuple[object, ...]:
    """Return a value that is different for each entry of the log."""
    return entry["mirror"], entry["pass"], entry["kind"], entry["time"], entry.get("key")


class EventFeed:
    """Makes the messages for all listeners, until `close`. It escapes every text, because file names are untrusted.

    poll_s: seconds between two checks of the state. jobs: the jobs that the buttons have started.
    """

    def __init__(self, history: RecentHistory, status: StatusCache, poll_s: float = POLL_S) -> None:
        self._history = history
        self._status = status
        self._poll_s = poll_s
        self.jobs = Jobs()
        self._times = _Times()
        self._closed = asyncio.Event()
        self.listeners = 0

    @property
    def full(self) -> bool:
        """Whether the number of listeners has reached the limit."""
        return self.listeners >= LISTENERS

    def close(self) -> None:
        """End all streams."""
        self._closed.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield the whole state first, then changes."""
        state: dict[str, Any] = {}
        log: list[dict[str, Any]] = []
        sent_entries: set[tuple[object, ...]] = set()
        sent_minutes: list[Any] = []
        minute_number = 0
        while not self._closed.is_set():
            events = []
            if (now := await self._state()) != state:
                state = now
                events.append(_event("state", {**state, "now": round(time.time(), 1)}))
            if self._status.log is not log:
                log = self._status.log
                added = [entry for entry in log if _identity(entry) not in sent_entries]
                sent_entries = {_identity(entry) for entry in log}
                if added:
                    events.append(_event("log", safe(added)))
            rows = [astuple(minute) for minute in self._history.minutes_from(minute_number)]
            spans = self._history.spans()
            # The end of the last span changes all the time, so it is not compared.
            minutes = [rows[-1:], spans[:-1], [first for first, _ in spans[-1:]]]
            if minutes != sent_minutes:
                minute_number, sent_minutes = rows[-1][0] if rows else 0, minutes
                events.append(_event("minutes", {"rows": rows, "spans": spans}))
            if events:
                yield b"".join(events)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), self._poll_s)

    async def _state(self) -> dict[str, Any]:
        """Return the state for the page, without the log and the chart."""
        head = {"version": __version__, "pid": os.getpid(), "began": round(self._history.started)}
        if (runtime := self._status.runtime) is None:
            return {**head, "reloading": True}
        runtime.idle_look.note_reader()
        mirrors = await self._status.mirrors()
        return {
            **head,
            "contact_at": _last_contact(mirrors, runtime),
            "mirrors": [
                self._mirror(name, mirror, runtime) for name, mirror in mirrors.items() if name in runtime.workers
            ],
            "gate": self._gate(runtime),
        }

    def _gate(self, runtime: Runtime) -> dict[str, Any]:
        gate = runtime.session.transport.gate
        held_s = gate.held_s()
        quota = gate.budget.quota if gate.budget else None
        return {
            "limit": gate.tpslimit,
            "rate": round(self._history.rate(), 1),
            "held_until": round(time.time() + held_s) if held_s > 0 else None,
            "in_flight": gate.in_flight,
            "left": gate.budget.left() if gate.budget else None,
            "quota": quota.requests if quota else None,
            "window_s": quota.window_s if quota else None,
        }

    def _mirror(self, name: str, mirror: dict[str, Any], runtime: Runtime) -> dict[str, Any]:
        # The state of the worker is newer than the state in the cache.
        worker = runtime.workers[name]
        now = worker.status.shown
        watch = runtime.watcher.status(name)
        status = {key: mirror[key] for key in COUNTED_FIELDS if key in mirror}
        if "shard" in mirror:
            status["target"] += f", shard {mirror['shard']}"
        error, job = self._history.errors.get(name), self.jobs.last(name)
        full_at = self._times.wall(name, max(worker.full_at, worker.policy.retry_at))
        return {
            "name": name,
            "state": now.state,
            "detail": safe(now.detail),
            "remedies": safe(remedies(now.detail or "")),
            "plan_id": plan_of(now.detail or ""),
            # The cached value fits the other cached numbers.
            "remaining": mirror.get("remaining", now.remaining) if now.remaining else 0,
            "until": now.until,
            "full_at": full_at,
            "next_at": now.next_try or full_at,
            **safe(status),
            "watch": watch.mode,
            "watch_detail": safe(watch.detail),
            "last_error": {"at": round(error.at), "text": safe(error.text)} if error else None,
            "job": safe(job.view()) if job else None,
        }


class EventStream(EventSourceResponse):
    """The stream to one listener. The library sends a comment every 15 s, so both ends notice a lost connection."""

    def __init__(self, feed: EventFeed, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        super().__init__(feed.messages(), sep="\n")
        self._feed = feed
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the listener leaves or is too slow, or the feed is closed."""

        # The library's own time limit leaves out the first and the last message.
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._send_timeout_s):
                await send(message)

        self._feed.listeners += 1
        try:
            with contextlib.suppress(TimeoutError):
                await super().__call__(scope, receive, send_in_time)
        finally:
            self._feed.listeners -= 1


def _event(name: str, value: Any) -> bytes:
    # The data is ASCII on one line, so that no character of a file name can end the event or begin another one.
    data = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return ServerSentEvent(data, event=name, sep="\n").encode()
