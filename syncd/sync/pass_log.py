"""Stores each pass with its counts when it ends, for `syncd log`."""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from syncd.core.errors import Brake, StateDamaged, StateHalt, SyncdError
from syncd.state.activity import PastPass
from syncd.state.directory import writable
from syncd.state.pass_tables import next_pass_id
from syncd.sync.mirror import Mirror, Result, Scope

KINDS = ("put", "delete", "adopt", "forget", "failed")


@dataclass(slots=True)
class PassEntry:
    """The pass under way. result: None until it has begun."""

    result: Result | None = None


@contextmanager
def logged_pass(mirror: Mirror, scope: Scope, *, dry_run: bool) -> Iterator[PassEntry]:
    """Store the pass that the block makes, also if the block raises a SyncdError or is cancelled.

    A dry run and a pass over single keys that found nothing to do are not stored.
    """
    entry, began = PassEntry(), mirror.now()
    try:
        yield entry
    except (SyncdError, asyncio.CancelledError) as error:
        if not dry_run and not isinstance(error, (StateHalt, StateDamaged)):
            # If the state file cannot be written, the next use of it tells the error.
            with contextlib.suppress(StateHalt), writable():
                _store(mirror, scope, entry.result, began, error)
        raise
    if not dry_run and entry.result and (scope.everything or entry.result.tables.plan.counts.total()):
        _store(mirror, scope, entry.result, began, None)


def _store(mirror: Mirror, scope: Scope, result: Result | None, began: float, error: BaseException | None) -> None:
    outcome, detail = "done", ""
    if error:
        outcome = "refused" if isinstance(error, Brake) else "stopped"
        detail = str(error) if isinstance(error, SyncdError) else "interrupted"
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
