"""The state of a mirror that people see: the state of its passes, or the trouble of its present requests.

The module also estimates the remaining time of the pass under way.
"""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from syncd.core.errors import StateHalt
from syncd.core.requests import Contact, is_watched, reporting_to
from syncd.state.directory import writable
from syncd.state.history import MirrorState, State, keep_contact, keep_state, stored_state
from syncd.sync.mirror import Mirror, Result

PROGRESS_EVERY_S = 2.0
"""Seconds between two reports of a pass under way. Each report counts all records."""
LOOK_EVERY_S = 1.0
"""Seconds between two looks at the requests of a command. The daemon looks as often."""


class MirrorStatus:
    """The current state of a mirror, which is also stored in the state file.

    While requests fail, or get no answer, `look` shows the mirror as degraded. When a request succeeds, `look` shows
    the state of the passes again. A halt of an earlier process is shown until a pass of this process replaces it. The
    steady clock is the clock of the event loop.

    contact: receives the outcomes of the mirror's requests. shown: the state as it is shown. since: when it began,
    seconds since the epoch. fault: why the state could not be stored.
    """

    def __init__(self, mirror: Mirror) -> None:
        stored = stored_state(mirror.meta)
        halted = stored.get("state") == "halted"
        self._mirror = mirror
        self._clock = asyncio.get_running_loop().time
        self._next_report_at = -math.inf
        self._remaining = 0
        self.contact = Contact(self._clock, mirror.now)
        self.shown = self._own = MirrorState("halted", stored.get("detail")) if halted else MirrorState("idle")
        self.since = mirror.now()
        self.fault: str | None = None

    @property
    def at_rest(self) -> bool:
        """Whether the loop has nothing to do, so that no request shows whether the remote can be reached."""
        return self._own.state == "idle"

    def degraded_s(self) -> float:
        """Return for how many seconds the mirror has been degraded, 0 if it is not."""
        return max(0.0, self._mirror.now() - self.since) if self.shown.state == "degraded" else 0.0

    def set(
        self,
        state: State,
        detail: str | None = None,
        *,
        remaining: int = 0,
        left_s: float | None = None,
        retry_at: float | None = None,
    ) -> None:
        """Change the state of the passes and store it.

        left_s: seconds until the pass under way is done. retry_at: the next try, by the steady clock.
        """
        until = None if left_s is None else round(self._mirror.now() + left_s)
        self._own = MirrorState(state, detail, remaining, until, self._epoch(retry_at))
        self._show(self._with_trouble())

    def look(self) -> None:
        """Show a new trouble of requests, or the end of a trouble. Call it about every second."""
        shown_now = self._with_trouble()
        if shown_now != self.shown or self.fault:
            self._show(shown_now)

    def start_pass(self, *, hidden: bool = False) -> None:
        """Show that a pass begins, unless an error is still shown (hidden)."""
        self._remaining = 0
        if not hidden:
            self._next_report_at = self._clock() + PROGRESS_EVERY_S
            self.set("syncing")

    def update_pass(self, result: Result, left_s: float | None = None, *, hidden: bool = False) -> None:
        """Show the remaining work every PROGRESS_EVERY_S seconds, unless an error is still shown (hidden)."""
        self._remaining = max(0, result.remaining)
        if self._clock() >= self._next_report_at and not hidden:
            self._next_report_at = self._clock() + PROGRESS_EVERY_S
            self.set("syncing", remaining=self._remaining, left_s=left_s)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Show that a command makes a pass in this block, and the trouble that its requests meet.

        In the daemon, the status of its loop shows the trouble.
        """
        self.start_pass()
        try:
            if is_watched():
                yield
                return
            with reporting_to(self.contact):
                looking = asyncio.create_task(self._keep_looking())
                try:
                    yield
                finally:
                    looking.cancel()
                    with contextlib.suppress(StateHalt), writable():
                        keep_contact(self._mirror.meta, self.contact.answered_at)
        except asyncio.CancelledError:
            self.set("syncing", remaining=self._remaining)
            raise

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def _with_trouble(self) -> MirrorState:
        """Return the state of the passes, or degraded if their requests do not succeed at present."""
        trouble = self.contact.trouble() if self._own.state in ("idle", "syncing") else None
        if trouble is None:
            return self._own
        return MirrorState("degraded", trouble.reason, self._own.remaining, None, self._epoch(trouble.next_at))

    def _show(self, now: MirrorState) -> None:
        turned = now.state != self.shown.state
        if turned:
            self.since = self._mirror.now()
        self.shown = now
        try:
            with writable():
                stored = self._mirror.journal.stored() if now.remaining else None
                under_way = self._own.state == "syncing"
                keep_state(self._mirror.meta, replace(now, stored=stored, since=self.since, under_way=under_way))
                if turned:
                    keep_contact(self._mirror.meta, self.contact.answered_at)
        except StateHalt as error:
            # The log, the page and the status line still show the state, and /healthz names the fault.
            self.fault = str(error)
        else:
            self.fault = None

    def _epoch(self, at: float | None) -> float | None:
        """Convert a time of the steady clock to seconds since the epoch."""
        return None if at is None else round(self._mirror.now() + at - self._clock())


# -- the remaining time


def left_s(left: int, done: int, elapsed_s: float, floor_s: float) -> float | None:
    """Return the seconds that the remaining actions take, None while that is unknown.

    done: actions made in the last elapsed_s seconds. floor_s: the shortest time that the rate limit allows. The larger
    estimate counts: the speed of one bulk request says little about the next one, and the rate limit says little about
    large files.
    """
    if left <= 0:
        return 0.0
    if done <= 0:
        return floor_s or None
    return max(left * elapsed_s / done, floor_s)


class Pace:
    """Estimates the remaining time of one pass after another.

    requests: returns the number of requests that puts and deletes take. seconds_for: returns how long a number of
    requests takes by the rate limits. clock: counts seconds, but stands still while requests wait for the rate limits.
    """

    def __init__(
        self, requests: Callable[[int, int], int], seconds_for: Callable[[int], float], clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._requests = requests
        self._seconds_for = seconds_for
        self._result: Result | None = None
        self._since = 0.0

    def look(self, result: Result) -> float | None:
        """Return the seconds that a pass still takes, None until it has changed the remote."""
        now = self._clock()
        done = result.done["put"] + result.done["delete"] + result.done["failed"]
        if result is not self._result or not done:
            self._result, self._since = result, now
        if not done:
            return None
        deletes = max(0, result.tables.plan.counts["delete"] - result.done["delete"])
        left = max(0, result.tables.plan.counts["put"] + result.tables.plan.counts["delete"] - done)
        puts = max(0, left - deletes)
        return left_s(left, done, now - self._since, self._seconds_for(self._requests(puts, min(deletes, left))))
