"""What has happened since the daemon began: in memory, bounded, kept over reloads."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, Protocol

from syncd.model import Ending

MINUTE_S = 60
MINUTES = 24 * 60
"""How far back the chart reaches."""
ACTIONS = 200
"""So many of the latest actions are kept."""
RATE_S = 10
"""The request rate is that of so many seconds."""
BUCKETS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
"""Upper ends of the buckets of the seconds from written to searchable."""


class Wire(Protocol):
    """What is counted of the way to the remote: the transport's counters."""

    requests: int
    retries: int
    by: Counter[tuple[str, str]]


class Queueing(Protocol):
    """What is counted of the rate gate: waits, and their seconds."""

    waits: int
    wait_s: float


@dataclass(slots=True)
class Minute:
    """What happened in one minute. number: minutes since the epoch."""

    number: int
    changes: int = 0
    failed: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """An action that ended. number: counts up from 1. at: seconds since the epoch."""

    number: int
    at: float
    mirror: str
    ending: Ending


@dataclass(slots=True)
class Waits:
    """A histogram of seconds; counts are by bucket, the last one is for what is longer than all."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    total_s: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one wait."""
        place = next((place for place, end in enumerate(BUCKETS_S) if seconds <= end), len(BUCKETS_S))
        self.counts[place] += 1
        self.total_s += seconds


@dataclass(slots=True)
class Totals:
    """Counts since the daemon began, whatever was reloaded in between."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    retries: int = 0
    waits: int = 0
    wait_s: float = 0.0
    overflows: int = 0
    actions: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    put_bytes: Counter[str] = field(default_factory=Counter)
    searchable: dict[str, Waits] = field(default_factory=dict)


class History:
    """Hears how actions end and samples counters. now: seconds since the epoch. Belongs to the event loop.

    totals: for /metrics. began: when the daemon did.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.began = now()
        self.totals = Totals()
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._actions: deque[Seen] = deque(maxlen=ACTIONS)
        self._number = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=RATE_S)
        # One owner for each counter that begins at 0 again with a reload, and what it said last.
        self._last: dict[str, tuple[object, Mapping[Any, float]]] = {}

    def hears(self, mirror: str) -> Callable[[Ending], None]:
        """Return the ear for one mirror."""

        def heard(ending: Ending) -> None:
            self._count(mirror, ending)
            if ending.kind == "index" and ending.outcome == "done":
                return  # already seen as a put; a list of twice as many lines says no more
            self._number += 1
            self._actions.append(Seen(self._number, self._now(), mirror, ending))
            if ending.kind in ("put", "delete"):
                minute = self._minute()
                minute.changes += ending.outcome == "done"
                minute.failed += ending.outcome == "failed"

        return heard

    def sample(self, wire: Wire, queueing: Queueing, watcher: object, overflows: int) -> None:
        """Take over what was counted since the last call; a new counter object begins at 0."""
        by = self._since("requests", wire, wire.by)
        self.totals.requests.update({key: round(count) for key, count in by.items()})
        requests = round(sum(by.values()))
        self.totals.retries += round(self._since("retries", wire, {0: wire.retries})[0])
        waited = self._since("waits", queueing, {"waits": queueing.waits, "s": queueing.wait_s})
        self.totals.waits += round(waited["waits"])
        self.totals.wait_s += waited["s"]
        self.totals.overflows += round(self._since("overflows", watcher, {0: overflows})[0])
        self._recent.append((self._now(), requests))
        if requests:
            self._minute().requests += requests

    def rate(self) -> float:
        """Requests per second of late."""
        since = self._now() - RATE_S
        return sum(count for at, count in self._recent if at > since) / RATE_S

    def actions_after(self, number: int) -> list[Seen]:
        """Actions with a higher number, oldest first."""
        newer = min(max(self._number - number, 0), len(self._actions))
        return list(islice(self._actions, len(self._actions) - newer, None))

    def minutes_from(self, number: int) -> Iterator[Minute]:
        """The minutes from that number on in which something happened, oldest first."""
        oldest = max(number, int(self._now() // MINUTE_S) - MINUTES + 1)
        return reversed(list(takewhile(lambda minute: minute.number >= oldest, reversed(self._minutes))))

    def _count(self, mirror: str, ending: Ending) -> None:
        self.totals.actions[mirror, ending.kind, ending.outcome] += 1
        self.totals.put_bytes[mirror] += ending.size
        if ending.waited_s is not None:
            self.totals.searchable.setdefault(mirror, Waits()).add(ending.waited_s)

    def _minute(self) -> Minute:
        number = int(self._now() // MINUTE_S)
        # A clock that was set back goes on with the minute it had reached.
        if not self._minutes or self._minutes[-1].number < number:
            self._minutes.append(Minute(number))
        return self._minutes[-1]

    def _since(self, name: str, owner: object, counts: Mapping[Any, float]) -> dict[Any, float]:
        before_owner, before = self._last.get(name, (None, {}))
        if before_owner is not owner:
            before = {}
        self._last[name] = owner, dict(counts)
        return {key: count - before.get(key, 0) for key, count in counts.items()}
