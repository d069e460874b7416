"""The one verb: make the target match the folder. Observe, plan, brake, apply, record.

The daemon and the one-shot command run this same function; a scope says where to look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from syncd.core.errors import Brake, RootHalt
from syncd.core.evidence import DeleteContext
from syncd.core.index_errors import not_indexed
from syncd.core.model import NOT_INDEXED, Action, Adopt, Delete, Forget, Item, Problem, Put
from syncd.state.db import transaction
from syncd.state.history import KEEP_S as HISTORY_S
from syncd.state.journal import HOUR_S
from syncd.state.ownership import Listing
from syncd.state.pass_tables import PassTables, next_pass_id
from syncd.state.queue import Dirty
from syncd.sync import audit, observe
from syncd.sync.apply import Applier
from syncd.sync.deletes import GONE, coming_contents, count_losses, postpone_deletes
from syncd.sync.guard import guard, halt_if_emptied, hold_back, is_fresh, is_replaced, known, refusal, weigh
from syncd.sync.index import learn_status, recorded_problem
from syncd.sync.instep import InStep
from syncd.sync.mirror import Mirror
from syncd.sync.mount_guard import look, protect, uncover
from syncd.sync.observe import Triple, Wide
from syncd.sync.passes import DEFAULT_OPTIONS, NO_HOOKS, Hooks, PassOptions, PassStats, Result, Scope
from syncd.sync.resolve import Resolved, Resolver
from syncd.targets.base import Ordered

log = structlog.get_logger()


async def reconcile(
    mirror: Mirror, scope: Scope, options: PassOptions = DEFAULT_OPTIONS, hooks: Hooks = NO_HOOKS
) -> Result:
    """Bring the target in step with the folder within `scope`.

    Raises Halt, Brake (nothing was deleted, all else was done), Unreachable (what is left is kept for the next pass),
    or observe.Wide (nothing was done; make a full pass).
    """
    guard(mirror, force=options.force)
    pass_id = next_pass_id(mirror.db)
    rows = mirror.queue.every() if scope.rows is None else scope.rows
    result = Result(PassTables(mirror.db, pass_id), pass_id, options.dry_run, mirror.age())
    hooks.tick(result)
    log.debug("pass.start", mirror=mirror.name, scope="all" if scope.everything else len(rows))
    try:
        started = mirror.now()
        if scope.everything:
            asked = options.full or options.whole or options.delete_excluded
            await _see(mirror, options, result, hooks, whole=asked)
        try:
            await _plan(mirror, scope, options, result, hooks)
        except Wide:
            if not result.audited:
                mirror.queue.reschedule(rows, mirror.now() + mirror.settings.settle_max)
                raise
            result.start_over()
            await _see(mirror, options, result, hooks, whole=True)
            await _plan(mirror, scope, options, result, hooks)
        if not options.force:
            halt_if_emptied(mirror, result.tables)
        result.known = known(mirror, result.unrecorded)
        result.fresh = is_fresh(mirror) or (scope.everything and is_replaced(mirror, result.tables, result.known))
        if options.dry_run:
            await _forecast(mirror, options, result)
        else:
            await _apply(mirror, options, result, hooks, rows)
            _record(mirror, scope, result, rows, started)
            _heed(result)
    except BaseException:
        if not hooks.watch:
            result.tables.drop()
        raise
    return result


async def _see(mirror: Mirror, options: PassOptions, result: Result, hooks: Hooks, *, whole: bool) -> None:
    result.audited = await audit.fill_listing(
        mirror, result.tables, lambda: hooks.tick(result), whole=whole, may_create=not options.dry_run
    )
    result.unsettled = mirror.journal.index.unfinished() if result.audited else 0


async def _plan(mirror: Mirror, scope: Scope, options: PassOptions, result: Result, hooks: Hooks) -> None:
    resolver = Resolver(mirror, full=options.full, delete_excluded=options.delete_excluded, everything=scope.everything)
    mirror.tree.begin()
    lane = None if options.full else InStep(mirror, result.tables)
    if scope.rows is None:
        blocks = observe.whole(mirror, result.tables, lane, "journal" if result.audited else "listing")
    else:
        blocks = observe.dirty(mirror, scope.rows)
        _clear_problems(mirror, scope.rows)
    async for block in blocks:
        resolved = await resolver.block(block)
        _plan_block(mirror, resolved, result, everything=scope.everything)
        result.unchanged += lane.counted() if lane else 0
        hooks.tick(result)
    result.complete = mirror.tree.complete
    result.files_read = resolver.files_read
    if not result.complete:
        # Absence proves nothing while a part of the tree could not be read.
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


def _plan_block(mirror: Mirror, resolved: Sequence[Resolved], result: Result, *, everything: bool) -> None:
    actions, problems, again, lost = [], [], [], []
    for each in resolved:
        triple = each.triple
        if isinstance(each.decision, Problem):
            problems.append(each.decision)
            lost.append((each.decision, triple))
        elif each.decision is not None:
            actions.append(_counted(each.decision, each))
            result.reasons[each.decision.reason] += 1
            result.unrecorded += triple.record is None and not isinstance(each.decision, Put)
            if isinstance(each.decision, Adopt) and each.decision.status in NOT_INDEXED:
                problems.append(not_indexed(triple.key, each.decision.status, each.decision.error))
        elif each.again:
            again.append((triple.key, False))
        elif isinstance(triple.local, Item):
            result.unchanged += 1
            problems += _in_step(mirror, triple)
        actions += [_counted(extra, each) for extra in each.extra]
    gone = [action for action in actions if isinstance(action, Delete) and action.evidence in GONE]
    with transaction(mirror.db):
        result.tables.plan.add(actions)
        mirror.absences.record(gone, mirror.age(), result.pass_id)
        if not everything:
            mirror.absences.remove([each.triple.key for each in resolved if _back(each)], result.pass_id)
        mirror.journal.problems.add(problems, result.pass_id)
        for problem, triple in lost:
            _let_go(mirror, problem, triple)
        if again:
            mirror.queue.mark(again, mirror.now())
    result.again += len(again)
    result.problems.update(problem.kind for problem in problems)


def _counted(action: Action, found: Resolved) -> Action:
    """Mark the delete of a second entry as not counted against max_delete: the file keeps its first entry."""
    if not isinstance(action, Delete):
        return action
    second = action is not found.decision and isinstance(found.triple.local, Item)
    return replace(action, counted=False) if second else action


def _back(found: Resolved) -> bool:
    """Whether a key is surely not one whose file is gone and whose entry is there."""
    return found.triple.local is not None or found.again or isinstance(found.decision, (Put, Adopt, Forget))


def _in_step(mirror: Mirror, triple: Triple) -> list[Problem]:
    """Take over what the remote says of an entry in step; say so if it could not be indexed."""
    problem = None
    if triple.record and triple.entry and triple.seen != "journal":
        problem = learn_status(mirror, triple.record, triple.entry, loud=False)
    elif triple.entry and triple.entry.status in NOT_INDEXED:
        problem = recorded_problem(mirror, triple.key)
    return [problem] if problem else []


def _let_go(mirror: Mirror, problem: Problem, triple: Triple) -> None:
    """Forget the record of an entry that is another's by now, or that the remote could not index and has dropped."""
    if triple.record is None:
        return
    dropped = problem.kind == "index_error" and triple.entry is None
    if dropped:
        mirror.journal.problems.park(problem, triple.record.checksum)
    if dropped or problem.kind == "foreign":
        # Another's mark beats our record; without one a hint asks again whose the key is before it writes.
        mirror.journal.forget(triple.key)
        audit.invalidate(mirror)


def _clear_problems(mirror: Mirror, rows: Sequence[Dirty]) -> None:
    with transaction(mirror.db):
        for row in rows:
            mirror.journal.problems.clear(row.key, subtree=row.subtree)


async def _forecast(mirror: Mirror, options: PassOptions, result: Result) -> None:
    """Say of a dry run whether its deletes would be refused."""
    if options.force or not result.tables.plan.counts["delete"]:
        return
    load = weigh(mirror, count_losses(mirror, result.tables, {}), result.known)
    result.refusal = refusal(mirror, result.tables, load, None, fresh=result.fresh)
    if result.refusal:
        # The bytes tell which files were moved.
        coming = await coming_contents(mirror, result.tables)
        load = weigh(mirror, count_losses(mirror, result.tables, coming), result.known)
        result.refusal = refusal(mirror, result.tables, load, None, fresh=result.fresh)


async def _brake(
    mirror: Mirror, options: PassOptions, result: Result, rows: Sequence[Dirty], unsent: Mapping[str, str]
) -> DeleteContext:
    """Take out of the plan what may not go, or not yet; return what stands behind the deletes that are left."""
    tables = result.tables
    decision = await postpone_deletes(mirror, tables, rows, options.delete_after, unsent)
    result.waiting = decision.waiting
    result.held_back = decision.needs_full_pass
    load = weigh(mirror, decision.lost, result.known)
    if not options.force and decision.due:
        result.refusal = refusal(mirror, tables, load, result.done["put"], fresh=result.fresh)
        if result.refusal:
            tables.plan.refuse("delete")
        else:
            result.held_back |= hold_back(mirror, tables, load)
    return DeleteContext(
        result.pass_id,
        load,
        mirror.name,
        mirror.settings.spec,
        mirror.policy.owner,
        force=options.force,
        delete_excluded=options.delete_excluded,
        takeover=mirror.policy.takeover,
        prune=mirror.policy.prune,
    )


async def _apply(mirror: Mirror, options: PassOptions, result: Result, hooks: Hooks, rows: Sequence[Dirty]) -> None:
    tables = result.tables
    if tables.plan.counts["adopt"] or tables.plan.counts["forget"]:
        # Entries change sides without being written: how many are others' is no longer known.
        audit.invalidate(mirror)
    stats = PassStats(tables, result.pass_id, result.done, result.problems, lambda: hooks.tick(result))
    applier = Applier(mirror, stats, hooks.preemption)
    identity = mirror.root_seen
    for adopts in tables.plan.batches("adopt"):
        applier.adopt(adopts)
    for forgets in tables.plan.batches("forget"):
        applier.forget(forgets)
    for puts in tables.plan.batches("put", mirror.target.limits.turn):
        await applier.put(puts)
    context = await _brake(mirror, options, result, rows, stats.unsent)
    if result.refusal:
        return
    waiting = result.waiting
    for deletes in tables.plan.batches("delete", mirror.target.limits.delete_turn):
        if mirror.tree.identity() != identity:
            raise RootHalt(f"path {mirror.tree.label} was replaced during the pass; the rest was not deleted")
        protect(mirror, look(mirror), force=context.force)
        await applier.delete(deletes, context)
        result.waiting = waiting + applier.replacements.waiting


def _heed(result: Result) -> None:
    if result.refusal:
        raise Brake(result.refusal)


def _record(mirror: Mirror, scope: Scope, result: Result, rows: Sequence[Dirty], started: float) -> None:
    with transaction(mirror.db):
        if result.complete:
            mirror.queue.done(rows)
        else:
            mirror.queue.reschedule(rows, mirror.now() + mirror.settings.settle_max)
        if scope.everything:
            mirror.journal.problems.clear_before(result.pass_id)
            if result.complete:
                mirror.journal.problems.drop_leftovers()
                if not result.audited:
                    audit.remember(mirror, result.tables, started)
            if not result.audited:
                _learn_listing(mirror, result)
            mirror.journal.tombstones.drop_old(started, max(mirror.target.limits.lag_s, HOUR_S), mirror.age())
            mirror.history.drop_before(started - HISTORY_S)
            if result.fresh and (result.refusal or mirror.absences.count()):
                # As fresh as before: what was refused as a whole, or waits, must not pass by tens.
                mirror.meta.set("last_reconcile", None)
            elif not result.refusal:
                mirror.meta.set("last_reconcile", mirror.now())
            mirror.meta.set("root_replaced", value=False)
    level = log.info if scope.everything or result.tables.plan.counts.total() else log.debug
    level(
        "pass.done",
        mirror=mirror.name,
        scope="all" if scope.everything else len(rows),
        planned=dict(result.tables.plan.counts),
        unchanged=result.unchanged,
        files_read=result.files_read,
        problems=dict(result.problems),
        complete=result.complete,
        audited=result.audited,
        **({"waiting": result.waiting} if result.waiting else {}),
        **({"refused": result.refusal} if result.refusal else {}),
    )


def _learn_listing(mirror: Mirror, result: Result) -> None:
    target = mirror.target
    whole = not isinstance(target, Ordered) or target.landmark is not None
    listing = Listing(
        result.pass_id, mirror.policy.owner, mirror.policy.prefix, result.began, whole, target.limits.lag_s
    )
    mirror.claims.apply_listing(listing, mirror.age(), max(target.limits.lag_s, HOUR_S))
