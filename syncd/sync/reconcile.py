"""Make the target match the folder: observe, plan, brake, apply, record.

The daemon and the one-shot commands call `reconcile`. Its scope names the keys to look at.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain

import structlog

from syncd.core.errors import Brake, PlanChanged, RootHalt, StateDamaged, StateHalt, SyncdError
from syncd.core.model import NOT_INDEXED, Action, Adopt, Delete, Forget, Item, Problem, Put
from syncd.core.plan import DeleteContext, Source
from syncd.core.problems import not_indexed
from syncd.core.requests import Priority, requests_at
from syncd.state.db import transaction
from syncd.state.deletions import HOUR_S
from syncd.state.directory import writable
from syncd.state.history import KEEP_S, PastPass
from syncd.state.ownership import Listing
from syncd.state.pass_tables import PassTables, next_pass_id
from syncd.sync import audit
from syncd.sync.apply import Applier, Outcomes, claim_previous
from syncd.sync.deletes import GONE, coming_contents, count_losses, postpone_deletes
from syncd.sync.guard import (
    brake_input,
    guard,
    halt_if_emptied,
    hold_back,
    is_fresh,
    is_other_folder,
    plan_id,
    protect_mounts,
    refusal,
    uncover_mounts,
)
from syncd.sync.index import halt_if_full, halt_if_paused, noting_pause, store_status
from syncd.sync.mirror import DEFAULT_OPTIONS, NO_HOOKS, Hooks, Mirror, Pass, PassOptions, Result, Scope
from syncd.sync.observe import ROOT, Observed, ScopeTooLarge, fill_from_journal, observe, places
from syncd.sync.resolve import Resolved, Resolver
from syncd.targets.base import Done, Ordered, Probed

log = structlog.get_logger()


async def reconcile(
    mirror: Mirror, scope: Scope, options: PassOptions = DEFAULT_OPTIONS, hooks: Hooks = NO_HOOKS
) -> Result:
    """Bring the target in step with the folder within `scope`.

    Raises Halt, Brake (nothing was deleted, all uploads were made), Unreachable (the next pass continues), or
    ScopeTooLarge (nothing was done; make a full pass).
    """
    pass_id = next_pass_id(mirror.db)
    result = Result(PassTables(mirror.db, pass_id), pass_id, options.dry_run, mirror.age())
    with _logged(mirror, scope, options, result):
        guard(mirror, force=options.force)
        with requests_at(Priority(bulk=hooks.bulk, longest_wait_s=hooks.longest_wait_s)), noting_pause(mirror):
            if not options.dry_run:
                await halt_if_paused(mirror)
            rows = mirror.queue.every() if scope.rows is None else scope.rows
            current = Pass(mirror, scope, options, hooks, result, rows, mirror.now(), mirror.root_seen)
            current.tick()
            log.debug("pass.start", mirror=mirror.name, scope="all" if scope.everything else len(rows))
            return await _make_pass(current)


async def _make_pass(current: Pass) -> Result:
    mirror, options, result = current.mirror, current.options, current.result
    try:
        await _plan(current)
        _look_at_deletes(current)
        if options.dry_run:
            await _forecast_brake(current)
            return result
        applier = await _apply_uploads(current)
        context = await _brake(current)
        if not result.refusal:
            await _apply_deletes(current, applier, context)
        if current.scope.everything and isinstance(current.mirror.target, Probed):
            await current.mirror.target.remove_leftovers(current.mirror.now())
        _record(current)
        halt_if_full(mirror)
    except BaseException:
        if not current.hooks.on_progress:
            result.tables.drop()
        raise
    return result


# -- observe and plan


async def _plan(current: Pass) -> None:
    """Plan a pass. A full pass without a listing that meets too many unknown keys lists the target and plans anew."""
    mirror, scope, options, result = current.mirror, current.scope, current.options, current.result
    if scope.everything:
        await audit.fill_remote(current, listing=options.full or options.list_all or options.delete_excluded)
    try:
        await _make_plan(current)
    except ScopeTooLarge:
        if not result.audited:
            mirror.queue.reschedule(current.rows, mirror.now() + mirror.settings.settle_max)
            raise
        result.start_over()
        await audit.fill_remote(current, listing=True)
        await _make_plan(current)


async def _make_plan(current: Pass) -> None:
    """Decide every key of the scope that is not in step, and store the plan in the result.

    Raises ScopeTooLarge if a listing would cost less than the questions about single keys.
    """
    mirror, scope, options, result = current.mirror, current.scope, current.options, current.result
    mirror.tree.begin()
    where = ROOT
    seen: Source = "listing" if current.scope.everything and not result.audited else "journal"
    if scope.rows is not None:
        where = places(mirror, scope.rows)
        fill_from_journal(mirror, result.tables, where)
        with transaction(mirror.db):
            for row in scope.rows:
                mirror.journal.problems.clear(row.key, subtree=row.subtree)
            for key in set(where.keys).difference(row.key for row in scope.rows):
                mirror.journal.problems.clear(key, subtree=False)
    resolver = Resolver(current)
    decided = 0
    async for block in observe(mirror, result.tables, where, seen, full=options.full):
        if block:
            _store(mirror, await resolver.block(block), result, everything=scope.everything)
            decided += sum(isinstance(observed.local, Item) for observed in block)
        current.tick()
    result.unchanged += result.tables.local.files - decided
    _drop_unproved(current)


def _store(mirror: Mirror, block: Sequence[Resolved], result: Result, *, everything: bool) -> None:
    """Store the decisions of one block in one transaction."""
    actions: list[Action] = []
    problems: list[tuple[Problem, Observed]] = []
    notes: list[Problem] = []
    for resolved in block:
        observed, decision = resolved.observed, resolved.decision
        if isinstance(decision, Problem):
            problems.append((decision, observed))
        elif decision is not None:
            actions.append(decision)
            result.unrecorded += observed.record is None and not isinstance(decision, Put)
            if isinstance(decision, Adopt) and decision.status in NOT_INDEXED:
                notes.append(not_indexed(observed.key, decision.status, decision.error))
        elif isinstance(observed.local, Item) and not resolved.changed_during_read:
            result.unchanged += 1
            notes += _in_step(mirror, observed)
        actions += resolved.extra
    notes += [problem for problem, _ in problems]
    changed = [(resolved.observed.key, False) for resolved in block if resolved.changed_during_read]
    gone = [action for action in actions if isinstance(action, Delete) and action.evidence in GONE]
    with transaction(mirror.db):
        result.tables.plan.add(actions)
        mirror.absences.record(gone, mirror.age(), result.pass_id)
        if not everything:
            mirror.absences.remove(
                [resolved.observed.key for resolved in block if _is_present(resolved)], result.pass_id
            )
        mirror.note(notes, result.pass_id)
        for problem, observed in problems:
            _forget_lost(mirror, problem, observed)
        if changed:
            mirror.queue.mark(changed, mirror.now())
    result.changed_during_read += len(changed)
    result.problems.update(problem.kind for problem in notes)


def _is_present(resolved: Resolved) -> bool:
    """Return False if the file of a key may be gone while its entry exists."""
    returned = resolved.observed.local is not None or resolved.changed_during_read
    return returned or isinstance(resolved.decision, (Put, Adopt, Forget))


def _in_step(mirror: Mirror, observed: Observed) -> list[Problem]:
    """Store news about an entry that is in step. Return a problem if it could not be indexed."""
    if observed.record is None or observed.entry is None:
        return []
    problem = store_status(mirror, observed.record, observed.entry, loud=False)
    return [problem] if problem else []


def _forget_lost(mirror: Mirror, problem: Problem, observed: Observed) -> None:
    """Forget the record of an entry that another writer owns, or that the remote dropped since it cannot index it."""
    if observed.record is None:
        return
    dropped = problem.kind == "index_error" and observed.entry is None
    if dropped:
        mirror.journal.problems.park(problem, observed.record.checksum)
    if dropped or problem.kind == "foreign":
        # Without a record, the next hint asks who owns the key before it writes. The claim counts if the owner in the
        # config changes back.
        claim_previous(mirror, observed.key, None)
        mirror.journal.forget(observed.key)
        audit.invalidate(mirror)


def _drop_unproved(current: Pass) -> None:
    """Drop the deletes that an incomplete walk or a missing mount does not prove."""
    mirror, result = current.mirror, current.result
    result.complete = mirror.tree.complete
    if not result.complete:
        # A missing file proves nothing while a part of the tree cannot be read.
        result.tables.plan.remove_deletes()
        mirror.absences.discard_pass(result.pass_id)
    if current.scope.everything:
        mirror.absences.remove_before(result.pass_id)
    protect_mounts(mirror, force=current.options.force)
    for key in mirror.tree.retry_keys:
        mirror.try_later(key, None)
    unmounted = mirror.tree.protected.problems()
    mirror.note(unmounted, result.pass_id)
    result.problems.update(problem.kind for problem in unmounted)
    if current.scope.everything and result.complete:
        uncover_mounts(mirror)


# -- brake


def _look_at_deletes(current: Pass) -> None:
    """Raise RootHalt if an emptied folder would delete everything. Note the facts that the brake needs."""
    mirror, result = current.mirror, current.result
    if not current.options.force:
        halt_if_emptied(mirror, result.tables)
    # A pass over single keys does not see the unrecorded entries whose deletes an earlier full pass planned.
    result.known = mirror.journal.count() + max(result.unrecorded, mirror.absences.count_unrecorded())
    other_folder = current.scope.everything and is_other_folder(mirror, result.tables, result.known)
    result.fresh = is_fresh(mirror) or other_folder
    approved = current.options.approved
    if result.tables.plan.counts["delete"]:
        result.plan_id = plan_id(mirror.name, result.tables)
    if approved and approved != result.plan_id:
        now = f"its id is {result.plan_id} now" if result.plan_id else "it deletes nothing now"
        raise PlanChanged(
            f"the plan has changed since {approved}: {now}. Nothing was changed; see it: syncd plan {mirror.name}"
        )


async def _forecast_brake(current: Pass) -> None:
    """Find out whether the brake would refuse the deletes of a dry run."""
    mirror, result = current.mirror, current.result
    if current.options.force or not result.tables.plan.counts["delete"]:
        return

    def forecast(coming: Mapping[str, int]) -> str | None:
        lost = count_losses(mirror, result.tables, coming)
        return refusal(mirror, result, brake_input(mirror, result, lost))

    result.refusal = forecast({})
    if result.refusal:
        # A moved file is recognized by its content, so this reads the files that would be put.
        result.refusal = forecast(await coming_contents(mirror, result.tables))


async def _brake(current: Pass) -> DeleteContext:
    """Remove from the plan the deletes that must not be made, or not yet. Return the context of the others."""
    mirror, options, result = current.mirror, current.options, current.result
    figures = brake_input(mirror, result, await postpone_deletes(current))
    consent = options.force or options.approved is not None
    if not consent and result.tables.plan.counts["delete"]:
        result.refusal = refusal(mirror, result, figures)
        if result.refusal:
            result.tables.plan.refuse("delete")
        else:
            result.held_back |= hold_back(mirror, result.tables, figures)
    return DeleteContext(
        result.pass_id,
        figures,
        mirror.name,
        mirror.settings.spec,
        mirror.policy,
        force=consent,
        delete_excluded=options.delete_excluded,
    )


# -- apply


async def _apply_uploads(current: Pass) -> Applier:
    """Apply everything but the deletes."""
    mirror, result = current.mirror, current.result
    plan = result.tables.plan
    if plan.counts["adopt"] or plan.counts["forget"]:
        # An adopt or a forget changes the owner of an entry without a write, so the number of entries of other owners
        # is no longer known.
        audit.invalidate(mirror)
    if plan.counts["put"]:
        # A pass that only deletes continues, because it makes room.
        halt_if_full(mirror)
    applier = Applier(current)
    for batch in chain(plan.batches("adopt"), plan.batches("forget")):
        Outcomes(current, batch).record({action: Done() for _, action in batch})
    for puts in plan.batches("put", mirror.target.limits.turn):
        await applier.put(puts)
    for deletes in plan.batches("delete"):
        applier.not_deleted_since(deletes)
    return applier


async def _apply_deletes(current: Pass, applier: Applier, context: DeleteContext) -> None:
    """Apply the deletes. Raises RootHalt if the root was replaced since the pass began."""
    mirror = current.mirror
    for deletes in current.result.tables.plan.batches("delete", mirror.target.limits.delete_turn):
        if mirror.tree.identity() != current.root:
            raise RootHalt(f"path {mirror.tree.label} was replaced during the pass; the rest was not deleted")
        protect_mounts(mirror, force=current.options.force)
        await applier.delete(deletes, context)


# -- record


def _record(current: Pass) -> None:
    """Store the findings of the pass, and log its result. Raises Brake if its deletes were refused."""
    mirror, result = current.mirror, current.result
    with transaction(mirror.db):
        if result.complete:
            mirror.queue.done(current.rows)
        else:
            mirror.queue.reschedule(current.rows, mirror.now() + mirror.settings.settle_max)
        if current.scope.everything:
            _record_full(mirror, result, current.started)
    level = log.info if current.scope.everything or result.tables.plan.counts.total() else log.debug
    level(
        "pass.done",
        mirror=mirror.name,
        scope="all" if current.scope.everything else len(current.rows),
        planned=dict(result.tables.plan.counts),
        unchanged=result.unchanged,
        files_read=result.files_read,
        problems=dict(result.problems),
        complete=result.complete,
        audited=result.audited,
        **({"waiting": result.waiting} if result.waiting else {}),
        **({"refused": result.refusal} if result.refusal else {}),
    )
    if result.refusal:
        raise Brake(result.refusal)


def _record_full(mirror: Mirror, result: Result, started: float) -> None:
    """Store the results of a full pass."""
    keep_s = max(mirror.target.limits.lag_s, HOUR_S)
    mirror.journal.problems.clear_before(result.pass_id)
    if result.complete:
        mirror.journal.problems.drop_leftovers()
        if not result.audited:
            audit.remember(mirror, result.tables, started)
    if not result.audited:
        mirror.claims.apply_listing(_listing(mirror, result), mirror.age(), keep_s)
    mirror.journal.tombstones.drop_old(started, keep_s, mirror.age())
    mirror.history.prune(started - KEEP_S)
    mirror.passes.prune(started - KEEP_S)
    if result.fresh and (result.refusal or mirror.absences.count()):
        # The mirror stays fresh: otherwise deletes that were refused together, or that wait, would pass later in groups
        # of ten.
        mirror.meta.set("last_reconcile", None)
    elif not result.refusal:
        mirror.meta.set("last_reconcile", mirror.now())
    mirror.meta.set("files", result.tables.local.files)
    mirror.meta.set("root_replaced", value=False)


def _listing(mirror: Mirror, result: Result) -> Listing:
    target, policy = mirror.target, mirror.policy
    whole = not isinstance(target, Ordered) or target.landmark is not None
    return Listing(result.pass_id, policy.owner, policy.prefix, result.began, whole, target.limits.lag_s)


# -- the log of passes


@contextmanager
def _logged(mirror: Mirror, scope: Scope, options: PassOptions, result: Result) -> Iterator[None]:
    """Store the pass that the block makes for `syncd log`, also if it raises a SyncdError or is cancelled.

    A dry run and a pass over single keys that found nothing to do are not stored.
    """
    began = mirror.now()

    def store(outcome: str, detail: str) -> None:
        counts = {kind: result.done[kind] for kind in ("put", "delete", "adopt", "forget", "failed")}
        counts |= {"unchanged": result.unchanged, "waiting": result.waiting, "problems": result.problems.total()}
        counts = {name: count for name, count in counts.items() if count}
        keys = None if scope.rows is None else len(scope.rows)
        mirror.passes.add(PastPass(result.pass_id, began, mirror.now(), keys, outcome, detail, counts))

    try:
        yield
    except (SyncdError, asyncio.CancelledError) as error:
        if not options.dry_run and not isinstance(error, (StateHalt, StateDamaged)):
            # If the state file cannot be written, its next use raises the error.
            with suppress(StateHalt), writable():
                detail = str(error) if isinstance(error, SyncdError) else "interrupted"
                store("refused" if isinstance(error, Brake) else "stopped", detail)
        raise
    if not options.dry_run and (scope.everything or result.tables.plan.counts.total()):
        consent = "with --force" if options.force else ""
        store("done", consent if options.approved is None else f"plan {options.approved}, as approved")
