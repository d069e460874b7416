"""The counts of each minute of the last day, and the last errors, which the page shows beside the log.

A reload of the config keeps them. The state file keeps them over a restart.
"""

import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import astuple, dataclass
from itertools import takewhile
from typing import Any

from syncd.core.errors import StateHalt
from syncd.core.model import ActionEvent
from syncd.service.runtime import Runtime
from syncd.state.db import Meta
from syncd.state.directory import writable
from syncd.web.metrics import Metrics

MINUTE_S = 60
MINUTES = 24 * 60
"""Number of minutes in the chart."""
RATE_S = 10
"""The shown request rate is the mean of this many seconds."""
SAVE_EVERY_S = 60.0
"""Minimum seconds between two saves. A crash loses the counts since the last save."""
STORED = "page_history"
"""The name of the stored value for all mirrors."""
SPANS = 200
"""Maximum stored spans. A daemon that restarts often has more."""


@dataclass(slots=True)
class Minute:
    """Counts of one minute. number: minutes since the epoch."""

    number: int
    changes: int = 0
    failed: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class LastError:
    """Why a mirror was degraded or halted last. at: seconds since the epoch."""

    at: float
    text: str


class RecentHistory:
    """Counts actions and samples counters, for the page and for `metrics`. Use it from the event loop only.

    now: returns seconds since the epoch. started: when the daemon started. errors: the last error of each mirror.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.started = now()
        self.metrics = Metrics(self.started)
        self.errors: dict[str, LastError] = {}
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._spans: deque[list[int]] = deque(maxlen=SPANS)
        self._requests: deque[tuple[float, int]] = deque(maxlen=RATE_S)
        self._in_trouble: dict[str, str | None] = {}
        self._loaded = False
        self._stored_at = 0.0

    def listener(self, mirror: str) -> Callable[[ActionEvent], None]:
        """Return a function that counts the actions of one mirror."""

        def on_action(event: ActionEvent) -> None:
            self.metrics.on_action(mirror, event)
            if event.kind in ("put", "delete"):
                minute = self._minute()
                minute.changes += event.outcome == "done"
                minute.failed += event.outcome == "failed"

        return on_action

    def sample(self, runtime: Runtime) -> None:
        """Add the counts since the last call. The counters of a new runtime begin at 0."""
        count = self.metrics.sample(runtime)
        self._requests.append((self._now(), count))
        if count:
            self._minute().requests += count
        self._extend_span()

    def note_states(self, runtime: Runtime) -> None:
        """Note the time and the error of each mirror that has become degraded or halted."""
        for name, worker in runtime.workers.items():
            status = worker.status.shown
            error = status.detail if status.state in ("degraded", "halted") else None
            last = self.errors.get(name)
            # A halt that an earlier process noted keeps its time.
            known = self._in_trouble.get(name, last.text if last else None)
            if error and error != known:
                self.errors[name] = LastError(self._now(), error)
            self._in_trouble[name] = error

    def rate(self) -> float:
        """Return the recent number of requests per second."""
        since = self._now() - RATE_S
        return sum(count for at, count in self._requests if at > since) / RATE_S

    def minutes_from(self, number: int) -> Iterator[Minute]:
        """Yield the minutes with counts, from the minute `number` on, oldest first."""
        oldest = max(number, self._oldest())
        return reversed(list(takewhile(lambda minute: minute.number >= oldest, reversed(self._minutes))))

    def spans(self) -> list[list[int]]:
        """Return the spans in which a daemon worked as [first minute, last minute], oldest first."""
        oldest = self._oldest()
        return [[max(first, oldest), last] for first, last in self._spans if last >= oldest]

    def load(self, db: sqlite3.Connection) -> None:
        """Take over the counts of earlier processes, once, before the first sample."""
        if self._loaded:
            return
        self._loaded = True
        stored = Meta(db, "").get(STORED)
        if isinstance(stored, dict):
            self._minutes.extend(Minute(*row) for row in stored["minutes"])
            self._spans.extend(stored["spans"])
            self.errors = {name: LastError(*error) for name, error in stored["errors"].items()}

    def save(self, db: sqlite3.Connection, *, now: bool = False) -> None:
        """Store the counts every SAVE_EVERY_S, or now. On a full disk they are stored when there is room again."""
        if not now and self._now() < self._stored_at + SAVE_EVERY_S:
            return
        values: dict[str, Any] = {
            "minutes": [astuple(minute) for minute in self.minutes_from(0)],
            "spans": self.spans(),
            "errors": {name: astuple(error) for name, error in self.errors.items()},
        }
        self._stored_at = self._now()
        with suppress(StateHalt), writable():
            Meta(db, "").set(STORED, values)

    def _oldest(self) -> int:
        return int(self._now() // MINUTE_S) - MINUTES + 1

    def _extend_span(self) -> None:
        number = int(self._now() // MINUTE_S)
        if not self._spans or number > self._spans[-1][1] + 1:
            self._spans.append([number, number])
        self._spans[-1][1] = max(number, self._spans[-1][1])

    def _minute(self) -> Minute:
        number = int(self._now() // MINUTE_S)
        # After the clock was set back, the counts go to the latest minute.
        if not self._minutes or self._minutes[-1].number < number:
            self._minutes.append(Minute(number))
        return self._minutes[-1]
