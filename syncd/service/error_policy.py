"""The reaction of a mirror's worker to errors: its state, its next try, and the keys that it still serves."""

from dataclasses import dataclass
from typing import Literal

from syncd.core.errors import Brake, Halt, PausedHalt, QuotaHalt, Retry, RootHalt, StateHalt, SyncdError, retry_delay_s

RETRY_LONGEST_S = 300.0
"""Maximum seconds between two tries of a degraded mirror."""
PAUSED_PAUSE_S = 300.0
"""Seconds between two tries of a mirror whose instance is paused. Each try is one request."""
QUOTA_PAUSE_S = 60.0
"""Minimum seconds after 00:00 UTC until a mirror without quota tries again, because clocks differ. A random
wait of at most the same length is added."""
REFUSED_PAUSE_S = 60.0
"""Minimum seconds between two tries of a mirror that its target refused. SIGHUP makes a try at once."""


@dataclass(frozen=True, slots=True)
class Response:
    """The reaction of a mirror to an error. full_at: the time of its next full pass. log: whether to log the error."""

    state: Literal["halted", "degraded"]
    full_at: float
    log: bool = True


class ErrorPolicy:
    """The errors of one mirror and their consequences. All times are times of the event loop.

    interval: seconds between full passes. refused: whether the last halt, of this or an earlier process, is a refusal
    of deletes, which a person may approve.

    compared_all: whether a full pass of this process has compared everything. Until then an earlier halt may apply,
    so no single key is served. retry_at: the time of the next try. hints_at: the earliest time at which a hint for the
    whole root starts a full pass. state_fault: why the state file could not be used, until a pass succeeds.
    """

    def __init__(self, interval: float, *, refused: bool) -> None:
        self.refused = refused
        self.compared_all = False
        self.retry_at = 0.0
        self.hints_at = 0.0
        self.state_fault: str | None = None
        self._interval = interval
        self._halt: Halt | Brake | None = None
        self._failures = 0

    @property
    def serves_keys(self) -> bool:
        """Whether single keys are served between full passes. A refusal of deletes does not stop uploads."""
        return self.compared_all and (self._halt is None or isinstance(self._halt, Brake))

    @property
    def halted_by_folder(self) -> bool:
        """Whether a change in the folder may end the halt."""
        return isinstance(self._halt, (Brake, RootHalt))

    @property
    def halted_by_target(self) -> bool:
        """Whether the mirror is halted, and no change in the folder ends the halt."""
        return self._halt is not None and not self.halted_by_folder

    def hides_progress(self, *, halted: bool, acted: bool) -> bool:
        """Return whether the state of an earlier error is still shown, in place of the progress of a pass.

        The refusal of deletes is shown until a full pass has succeeded. Any other error is shown until an action has
        ended. halted: whether a halt is shown at present. acted: whether the pass has ended an action.
        """
        return (halted and self.refused) or ((halted or self._failures > 0) and not acted)

    def on_success(self, *, everything: bool) -> str | None:
        """Note that a pass has succeeded. Return why the mirror is still halted, None if it is not halted.

        everything: whether the pass was a full pass.
        """
        self.compared_all = self.compared_all or everything
        self._failures = 0
        self.state_fault = None
        # A pass over single keys does not show whether the deletes of a full pass are allowed now.
        if isinstance(self._halt, Brake) and not everything:
            return str(self._halt)
        self._halt = None
        return None

    def on_error(self, error: SyncdError, now: float, chance: float) -> Response:
        """Note an error that ended a pass. Return the reaction. chance: a random number in [0, 1)."""
        if isinstance(error, (Halt, Brake)) and not isinstance(error, StateHalt):
            return self._on_halt(error, now, chance)
        if isinstance(error, StateHalt):
            self.state_fault = str(error)
        self._failures += 1
        asked_s = error.after_s if isinstance(error, Retry) else None
        self.retry_at = now + retry_delay_s(self._failures, chance, asked_s=asked_s, longest_s=RETRY_LONGEST_S)
        return Response("degraded", self.retry_at)

    def _on_halt(self, error: Halt | Brake, now: float, chance: float) -> Response:
        refused = isinstance(error, Brake)
        paused = isinstance(error, PausedHalt)
        repeated = (refused and isinstance(self._halt, Brake)) or (paused and isinstance(self._halt, PausedHalt))
        # Deletes are refused only in a full pass, or after one.
        self.compared_all = self.compared_all or refused
        self._halt, self.refused = error, refused
        # The pause applies also if the folder keeps changing, or if the interval is short.
        pause = 0.0 if self.halted_by_folder else REFUSED_PAUSE_S
        self.hints_at = now + pause
        interval = min(self._interval, PAUSED_PAUSE_S) if paused else self._interval
        if isinstance(error, QuotaHalt):
            interval = min(interval, error.again_s + QUOTA_PAUSE_S * (1.0 + chance))
        return Response("halted", now + max(interval, pause), log=not repeated)
