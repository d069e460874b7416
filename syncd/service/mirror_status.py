"""The state of a mirror that the daemon shows: the state of its loop, or the trouble of its present requests."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from syncd.cloudflare.gate import Gate
from syncd.core.errors import StateHalt
from syncd.core.keys import shown
from syncd.core.requests import Contact
from syncd.queries.forecast import Pace, span
from syncd.state.directory import writable
from syncd.state.history import State, keep_contact, set_state, stored_state
from syncd.sync.mirror import Mirror, Result

DEGRADED_LONG_S = 300.0
"""Seconds for which a mirror may be degraded before the daemon counts as unhealthy."""
PROGRESS_EVERY_S = 2.0
"""Seconds between two reports of a pass under way. Each report counts all records."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A state. until: the expected end of the pass. next_try: when a degraded mirror tries again.

    Both are seconds since the epoch, None if unknown. remaining: the number of planned actions that are not done yet.
    """

    state: State
    detail: str | None = None
    remaining: int = 0
    until: float | None = None
    next_try: float | None = None


class MirrorStatus:
    """The current state of a mirror, which is also stored in the state file.

    While requests fail, or get no answer, the mirror is shown as degraded, and as before when one succeeds (`look`).
    A halt of an earlier process is shown until a pass of this process replaces it.

    gate: estimates the time that is left. contact: receives the outcomes of the mirror's requests. clock: steady.
    shown: the state as it is shown. summary: the mirror's part of the status line.
    since: when the state began, seconds since the epoch.
    fault: why the state could not be stored.
    """

    def __init__(self, mirror: Mirror, gate: Gate, clock: Callable[[], float]) -> None:
        stored = stored_state(mirror.meta)
        halted = stored.get("state") == "halted"
        self.summary = f"{mirror.name}: starting"
        self.since = mirror.now()
        self.fault: str | None = None
        self.contact = Contact(clock, mirror.now)
        self.shown = self._own = Shown("halted", stored.get("detail")) if halted else Shown("idle")
        self._mirror = mirror
        self._clock = clock
        self._pace = Pace(mirror.target.requests, gate.seconds_for, gate.own_time)
        self._next_report_at = -math.inf

    @property
    def state(self) -> State:
        """The state that is shown."""
        return self.shown.state

    @property
    def detail(self) -> str | None:
        """Why the mirror is halted or degraded."""
        return self.shown.detail

    @property
    def at_rest(self) -> bool:
        """Whether the loop has nothing to do, so that no request shows whether the remote can be reached."""
        return self._own.state == "idle"

    def degraded_s(self) -> float:
        """Return for how many seconds the mirror has been degraded, 0 if it is not."""
        return max(0.0, self._mirror.now() - self.since) if self.state == "degraded" else 0.0

    def set(
        self,
        state: State,
        detail: str | None = None,
        *,
        remaining: int = 0,
        left_s: float | None = None,
        retry_at: float | None = None,
    ) -> None:
        """Change the state of the loop and store it.

        left_s: seconds until the pass under way is done. retry_at: the next try, by the steady clock.
        """
        until = None if left_s is None else round(self._mirror.now() + left_s)
        self._own = Shown(state, detail, remaining, until, self._epoch(retry_at))
        self._show(self._with_trouble(), left_s)

    def look(self) -> None:
        """Show a new trouble of requests, or the end of a trouble. Call it about every second."""
        shown_now = self._with_trouble()
        if shown_now != self.shown or self.fault:
            self._show(shown_now)

    def start_pass(self, now: float, *, hidden: bool) -> None:
        """Show that a pass begins, unless an error is still shown (hidden). now: seconds of the steady clock."""
        if not hidden:
            self._next_report_at = now + PROGRESS_EVERY_S
            self.set("syncing")

    def update_pass(self, result: Result, now: float, *, hidden: bool) -> None:
        """Show the rest of the pass every PROGRESS_EVERY_S seconds, unless an error is still shown (hidden)."""
        left_s = self._pace.look(result)
        if now >= self._next_report_at and not hidden:
            self._next_report_at = now + PROGRESS_EVERY_S
            remaining = result.tables.plan.counts.total() - result.done.total()
            self.set("syncing", remaining=remaining, left_s=left_s)

    def _with_trouble(self) -> Shown:
        """Return the state of the loop, or degraded if its requests do not succeed at present."""
        trouble = self.contact.trouble() if self._own.state in ("idle", "syncing") else None
        if trouble is None:
            return self._own
        return Shown("degraded", trouble.reason, self._own.remaining, None, self._epoch(trouble.next_at))

    def _show(self, now: Shown, left_s: float | None = None) -> None:
        turned = now.state != self.shown.state
        if turned:
            self.since = self._mirror.now()
        self.shown = now
        try:
            with writable():
                parts = [now.state, f"{self._mirror.journal.in_step()} in step"]
                parts += [f"{now.remaining} to go"] if now.remaining else []
                parts += [f"about {span(left_s)} left"] if left_s else []
                why = f" ({shown(now.detail)})" if now.detail else ""
                self.summary = f"{self._mirror.name}: {', '.join(parts)}{why}"
                set_state(
                    self._mirror.meta,
                    now.state,
                    now.detail,
                    remaining=now.remaining,
                    stored=self._mirror.journal.stored() if now.remaining else None,
                    until=now.until,
                    since=self.since,
                    next_try=now.next_try,
                    under_way=self._own.state == "syncing",
                )
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
