"""How long the pass under way has still to go, by what it did so far and by the rate limit."""

from collections.abc import Callable

from syncd.queries.forecast import left_s
from syncd.sync.passes import Result


class Pace:
    """Follows one pass after another. requests: forecasts those of puts and deletes. rate: how many may go a second."""

    def __init__(self, requests: Callable[[int, int], int], rate: float) -> None:
        self._requests = requests
        self._rate = rate
        self._result: Result | None = None
        self._since = 0.0

    def look(self, result: Result, now: float) -> float | None:
        """Return the seconds that the pass still needs, None until it has begun to change the remote. now: seconds."""
        done = result.done["put"] + result.done["delete"] + result.done["failed"]
        if result is not self._result or not done:
            self._result, self._since = result, now
        if not done:
            return None
        deletes = max(0, result.tables.plan.counts["delete"] - result.done["delete"])
        left = max(0, result.tables.plan.counts["put"] + result.tables.plan.counts["delete"] - done)
        puts = max(0, left - deletes)
        return left_s(left, done, now - self._since, self._requests(puts, min(deletes, left)) / self._rate)
