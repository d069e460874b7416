"""The log of a pass: its entry for `syncd log`, and how many of its actions have a line of their own."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from syncd.core.errors import Brake, StateDamaged, StateHalt, SyncdError
from syncd.state.directory import writable
from syncd.state.history import PastPass
from syncd.state.pass_tables import next_pass_id
from syncd.sync.mirror import Mirror, PassOptions, Result, Scope

log = structlog.get_logger()

KINDS = ("put", "delete", "adopt", "forget", "failed")
LINES = 20
"""Actions of one batch that are logged one by one at level info. The other actions are counted."""
MORE = 100
"""Actions that one line of the log counts."""

# Complete names, so that a search for an event name finds it in the source.
_MORE = {"put": "put.more", "delete": "delete.more"}


@dataclass(slots=True)
class PassEntry:
    """The pass under way. result: None until it has begun."""

    result: Result | None = None


@contextmanager
def logged_pass(mirror: Mirror, scope: Scope, options: PassOptions) -> Iterator[PassEntry]:
    """Store the pass that the block makes, also if the block raises a SyncdError or is cancelled.

    A dry run and a pass over single keys that found nothing to do are not stored.
    """
    entry, began = PassEntry(), mirror.now()
    try:
        yield entry
    except (SyncdError, asyncio.CancelledError) as error:
        if not options.dry_run and not isinstance(error, (StateHalt, StateDamaged)):
            # If the state file cannot be written, the next use of it tells the error.
            with contextlib.suppress(StateHalt), writable():
                _store(mirror, scope, entry.result, began, error)
        raise
    if not options.dry_run and entry.result and (scope.everything or entry.result.tables.plan.counts.total()):
        _store(mirror, scope, entry.result, began, consent(options))


def consent(options: PassOptions) -> str:
    """Return the consent of a person to the deletes of a pass, for people; "" without one."""
    if options.approved is not None:
        return f"plan {options.approved}, as approved"
    return "with --force" if options.force else ""


def _store(mirror: Mirror, scope: Scope, result: Result | None, began: float, ending: str | BaseException) -> None:
    """Store a pass. ending: the error that ended it, or the consent of a person to its deletes."""
    if isinstance(ending, str):
        outcome, detail = "done", ending
    else:
        outcome = "refused" if isinstance(ending, Brake) else "stopped"
        detail = str(ending) if isinstance(ending, SyncdError) else "interrupted"
    keys = None if scope.rows is None else len(scope.rows)
    number = result.pass_id if result else next_pass_id(mirror.db)
    counts = _counts(result) if result else {}
    mirror.passes.add(PastPass(number, began, mirror.now(), keys, outcome, detail, counts))


def _counts(result: Result) -> dict[str, int]:
    counts = {kind: result.done[kind] for kind in KINDS} | {
        "unchanged": result.unchanged,
        "waiting": result.waiting,
        "problems": result.problems.total(),
    }
    return {name: count for name, count in counts.items() if count}


class LogThrottle:
    """Chooses the log level of each action of one batch, so that a first upload of 100,000 files logs few lines."""

    def __init__(self, mirror: str) -> None:
        self._mirror = mirror
        self._lines = 0
        self._more: Counter[str] = Counter()

    def level(self, kind: str) -> int:
        """Return the level of the next line: info for the first LINES actions, debug for the others."""
        self._lines += 1
        if self._lines <= LINES:
            return logging.INFO
        self._more[kind] += 1
        if self._more.total() >= MORE:
            self.flush()
        return logging.DEBUG

    def flush(self) -> None:
        """Log how many actions were not logged one by one since the last call."""
        for kind, count in self._more.items():
            log.info(_MORE[kind], mirror=self._mirror, count=count)
        self._more.clear()
