"""From decisions to the plan of a pass: stores actions, problems and absent keys, and counts what is in step."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from syncd.core.index_errors import not_indexed
from syncd.core.model import NOT_INDEXED, Action, Adopt, Delete, Forget, Item, Problem, Put
from syncd.core.plan import Source
from syncd.state.db import transaction
from syncd.sync import audit
from syncd.sync.deletes import GONE
from syncd.sync.index import learn_status, recorded_problem
from syncd.sync.mirror import Mirror
from syncd.sync.mount_guard import look, protect, uncover
from syncd.sync.observe import ROOT, Observed, fill_from_journal, observe, places
from syncd.sync.passes import PassOptions, Result, Scope
from syncd.sync.resolve import Resolved, Resolver


async def make_plan(
    mirror: Mirror, scope: Scope, options: PassOptions, result: Result, tick: Callable[[], None]
) -> None:
    """Decide every key of the scope that is not in step, and store the plan in `result`. tick: reports progress.

    Raises ScopeTooLarge if a listing would cost less than the questions about single keys.
    """
    mirror.tree.begin()
    where = ROOT
    seen: Source = "listing" if scope.everything and not result.audited else "journal"
    if scope.rows is not None:
        where = places(mirror, scope.rows)
        fill_from_journal(mirror, result.tables, where)
        with transaction(mirror.db):
            for row in scope.rows:
                mirror.journal.problems.clear(row.key, subtree=row.subtree)
    resolver = Resolver(mirror, delete_excluded=options.delete_excluded, everything=scope.everything)
    decided = 0
    async for block in observe(mirror, result.tables, where, seen, full=options.full):
        if block:
            _store(mirror, await resolver.block(block), result, everything=scope.everything)
            decided += sum(isinstance(observed.local, Item) for observed in block)
        tick()
    result.unchanged += result.tables.local.files - decided
    result.files_read = resolver.files_read
    _finish(mirror, scope, options, result)


def _store(mirror: Mirror, resolved: Sequence[Resolved], result: Result, *, everything: bool) -> None:
    """Store the decisions of one block in one transaction."""
    actions: list[Action] = []
    problems: list[tuple[Problem, Observed]] = []
    notes: list[Problem] = []
    for each in resolved:
        observed, decision = each.observed, each.decision
        if isinstance(decision, Problem):
            problems.append((decision, observed))
        elif decision is not None:
            actions.append(decision)
            result.reasons[decision.reason] += 1
            result.unrecorded += observed.record is None and not isinstance(decision, Put)
            if isinstance(decision, Adopt) and decision.status in NOT_INDEXED:
                notes.append(not_indexed(observed.key, decision.status, decision.error))
        elif isinstance(observed.local, Item) and not each.changed_during_read:
            result.unchanged += 1
            notes += _in_step(mirror, observed)
        actions += _extra_deletes(each)
    notes += [problem for problem, _ in problems]
    changed = [(each.observed.key, False) for each in resolved if each.changed_during_read]
    gone = [action for action in actions if isinstance(action, Delete) and action.evidence in GONE]
    with transaction(mirror.db):
        result.tables.plan.add(actions)
        mirror.absences.record(gone, mirror.age(), result.pass_id)
        if not everything:
            mirror.absences.remove([each.observed.key for each in resolved if _is_present(each)], result.pass_id)
        mirror.journal.problems.add(notes, result.pass_id)
        for problem, observed in problems:
            _forget_lost(mirror, problem, observed)
        if changed:
            mirror.queue.mark(changed, mirror.now())
    result.changed_during_read += len(changed)
    result.problems.update(problem.kind for problem in notes)


def _extra_deletes(resolved: Resolved) -> list[Delete]:
    """Return the deletes of further entries. They do not count against max_delete if the file keeps its first entry."""
    counted = not isinstance(resolved.observed.local, Item)
    return [delete if counted else replace(delete, counted=False) for delete in resolved.extra]


def _is_present(resolved: Resolved) -> bool:
    """Return whether a key is surely not one whose file is gone and whose entry is there."""
    returned = resolved.observed.local is not None or resolved.changed_during_read
    return returned or isinstance(resolved.decision, (Put, Adopt, Forget))


def _in_step(mirror: Mirror, observed: Observed) -> list[Problem]:
    """Store news about an entry that is in step. Return a problem if it could not be indexed."""
    problem = None
    if observed.record and observed.entry and observed.seen != "journal":
        problem = learn_status(mirror, observed.record, observed.entry, loud=False)
    elif observed.entry and observed.entry.status in NOT_INDEXED:
        problem = recorded_problem(mirror, observed.key)
    return [problem] if problem else []


def _forget_lost(mirror: Mirror, problem: Problem, observed: Observed) -> None:
    """Forget the record of an entry that another writer owns, or that the remote dropped since it cannot index it."""
    if observed.record is None:
        return
    dropped = problem.kind == "index_error" and observed.entry is None
    if dropped:
        mirror.journal.problems.park(problem, observed.record.checksum)
    if dropped or problem.kind == "foreign":
        # Without a record, the next hint asks who owns the key before it writes.
        mirror.journal.forget(observed.key)
        audit.invalidate(mirror)


def _finish(mirror: Mirror, scope: Scope, options: PassOptions, result: Result) -> None:
    """Drop the deletes that an incomplete walk or a missing mount does not prove."""
    result.complete = mirror.tree.complete
    if not result.complete:
        # A missing file proves nothing while a part of the tree cannot be read.
        result.tables.plan.remove_deletes()
        mirror.absences.discard_pass(result.pass_id)
    if scope.everything:
        mirror.absences.remove_before(result.pass_id)
    protect(mirror, look(mirror), force=options.force)
    for key in mirror.tree.retry_keys:
        mirror.try_later(key, None)
    unmounted = mirror.tree.protected.problems()
    mirror.journal.problems.add(unmounted, result.pass_id)
    result.problems.update(problem.kind for problem in unmounted)
    if scope.everything and result.complete:
        uncover(mirror)
