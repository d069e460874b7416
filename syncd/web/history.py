"""Keeps recent actions and a day of minutes in memory, for the page. Both survive a reload of the config."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile

from syncd.core.model import ActionEvent
from syncd.service.runtime import Runtime
from syncd.web.metrics import Metrics

MINUTE_S = 60
MINUTES = 24 * 60
"""Number of minutes in the chart."""
ACTIONS = 200
"""The number of recent actions that are kept."""
RATE_S = 10
"""The request rate is the mean of this many seconds."""


@dataclass(slots=True)
class Minute:
    """Counts of one minute. number: minutes since the epoch."""

    number: int
    changes: int = 0
    failed: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True)
class RecentAction:
    """An action that ended. number: counts up from 1. at: seconds since the epoch."""

    number: int
    at: float
    mirror: str
    event: ActionEvent


class RecentHistory:
    """Records actions and samples counters, for the page and for `metrics`. Use it from the event loop only.

    now: returns seconds since the epoch. started: when the daemon started.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.started = now()
        self.metrics = Metrics(self.started)
        self._minutes: deque[Minute] = deque(maxlen=MINUTES)
        self._actions: deque[RecentAction] = deque(maxlen=ACTIONS)
        self._number = 0
        self._requests: deque[tuple[float, int]] = deque(maxlen=RATE_S)

    def listener(self, mirror: str) -> Callable[[ActionEvent], None]:
        """Return a function that records the actions of one mirror."""

        def on_action(event: ActionEvent) -> None:
            self.metrics.on_action(mirror, event)
            if event.kind == "index" and event.outcome == "done":
                return  # The list shows the put of this key already.
            self._number += 1
            self._actions.append(RecentAction(self._number, self._now(), mirror, event))
            if event.kind in ("put", "delete"):
                minute = self._minute()
                minute.changes += event.outcome == "done"
                minute.failed += event.outcome == "failed"

        return on_action

    def sample(self, runtime: Runtime) -> None:
        """Add the counts since the last call. The counters of a new object begin at 0."""
        count = self.metrics.sample(runtime)
        self._requests.append((self._now(), count))
        if count:
            self._minute().requests += count

    def rate(self) -> float:
        """Return the recent number of requests per second."""
        since = self._now() - RATE_S
        return sum(count for at, count in self._requests if at > since) / RATE_S

    def actions_after(self, number: int) -> list[RecentAction]:
        """Return the actions with a higher number, oldest first."""
        newer = min(max(self._number - number, 0), len(self._actions))
        return list(islice(self._actions, len(self._actions) - newer, None))

    def minutes_from(self, number: int) -> Iterator[Minute]:
        """Return the minutes from that number on in which something happened, oldest first."""
        oldest = max(number, int(self._now() // MINUTE_S) - MINUTES + 1)
        return reversed(list(takewhile(lambda minute: minute.number >= oldest, reversed(self._minutes))))

    def _minute(self) -> Minute:
        number = int(self._now() // MINUTE_S)
        # After the clock is set back, the latest minute goes on.
        if not self._minutes or self._minutes[-1].number < number:
            self._minutes.append(Minute(number))
        return self._minutes[-1]
