"""The state of a mirror as `status`, the page and systemd show it."""

import contextlib
import math

from syncd.core.errors import StateHalt
from syncd.core.keys import shown
from syncd.queries.forecast import Pace, span
from syncd.state.directory import writable
from syncd.state.history import State, set_state, stored_detail, was_halted
from syncd.sync.mirror import Mirror, Result

PROGRESS_EVERY_S = 2.0
"""Seconds between two reports of a pass under way. Each report counts all records."""


class MirrorStatus:
    """The current state of a mirror, which is also stored in the state file.

    rate: the requests per second that the rate limit allows. detail: why the mirror is halted or degraded.
    remaining: the number of planned actions that are not done yet. until: the expected end of the pass (seconds since
    the epoch), None if it is unknown. summary: the mirror's part of the status line.

    A halt of an earlier process is shown until a pass of this process replaces it.
    """

    def __init__(self, mirror: Mirror, rate: float) -> None:
        self.state: State = "halted" if was_halted(mirror.meta) else "idle"
        self.detail = stored_detail(mirror.meta) if self.state == "halted" else None
        self.remaining = 0
        self.until: float | None = None
        self.summary = f"{mirror.name}: starting"
        self._mirror = mirror
        self._pace = Pace(mirror.target.requests, rate)
        self._next_report_at = -math.inf

    def set(self, state: State, detail: str | None = None, *, remaining: int = 0, left_s: float | None = None) -> None:
        """Change the state and store it. left_s: seconds until the pass under way is done."""
        until = None if left_s is None else round(self._mirror.now() + left_s)
        self.state, self.detail, self.remaining, self.until = state, detail, remaining, until
        # If the state file cannot be written, the log and the status line still show the state.
        with contextlib.suppress(StateHalt), writable():
            parts = [state, f"{self._mirror.journal.in_step()} in step"]
            parts += [f"{remaining} to go"] if remaining else []
            parts += [f"about {span(left_s)} left"] if left_s else []
            self.summary = f"{self._mirror.name}: {', '.join(parts)}" + (f" ({shown(detail)})" if detail else "")
            set_state(self._mirror.meta, state, detail, remaining=remaining, until=until)

    def start_pass(self, now: float, *, hidden: bool) -> None:
        """Show that a pass begins, unless an error is still shown (hidden). now: seconds of a steady clock."""
        if not hidden:
            self._next_report_at = now + PROGRESS_EVERY_S
            self.set("syncing")

    def update_pass(self, result: Result, now: float, *, hidden: bool) -> None:
        """Show the rest of the pass every PROGRESS_EVERY_S seconds, unless an error is still shown (hidden)."""
        left_s = self._pace.look(result, now)
        if now >= self._next_report_at and not hidden:
            self._next_report_at = now + PROGRESS_EVERY_S
            remaining = result.tables.plan.counts.total() - result.done.total()
            self.set("syncing", remaining=remaining, left_s=left_s)
