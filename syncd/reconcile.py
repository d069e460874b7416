"""The one verb: make the target match the folder. Observe, plan, brake, apply, record.

The daemon and the one-shot command run this same function; a scope says where to look.
"""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import structlog

from syncd import observe
from syncd.db import Meta, transaction
from syncd.errors import Brake, RootHalt, TargetMissing
from syncd.evidence import Backing
from syncd.guard import guard, hold_back, refusal, weigh
from syncd.history import KEEP_S as HISTORY_S
from syncd.instep import InStep
from syncd.journal import HOUR_S
from syncd.mirror import Mirror
from syncd.model import HARMLESS, Adopt, Item, Problem, Put
from syncd.observe import Triple
from syncd.queue import Dirty
from syncd.resolve import Resolved, Resolver
from syncd.spill import Spill
from syncd.turn import Breath, Ledger, Turn, index_problem

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Scope:
    """Where to look: everything (with a remote listing), or only the given dirty rows."""

    rows: Sequence[Dirty] | None = None

    @property
    def everything(self) -> bool:
        """True for a full pass."""
        return self.rows is None


@dataclass(frozen=True, slots=True)
class Options:
    """What a person asked for this once."""

    dry_run: bool = False
    force: bool = False
    full: bool = False
    delete_excluded: bool = False


@dataclass(slots=True)
class Result:
    """How a pass ended. The plan with its outcomes stays in `spill` until it is dropped.

    unrecorded: entries of ours that the journal does not know. refusal: in a dry run, why the delete guard would
    refuse the plan. held_back: deletes were put off, until the folder is quiet.
    """

    spill: Spill
    pass_id: int
    dry_run: bool
    complete: bool = True
    unchanged: int = 0
    again: int = 0
    unrecorded: int = 0
    files_read: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    refusal: str | None = None
    held_back: bool = False

    @property
    def clean(self) -> bool:
        """True if nothing stands in the way but what the contract calls harmless."""
        return not any(count for kind, count in self.problems.items() if kind not in HARMLESS)


Watch = Callable[[Result], None]


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who is to be heard while a pass is under way.

    breath: lets settled hints be served during a long full pass. watch: called with the
    growing result after every step; whoever watches drops the result's plan, also after an error. every: is told what
    was found of each key, also of those in step, for which no shorter way may be taken then.
    """

    breath: Breath = field(default_factory=Breath)
    watch: Watch | None = None
    every: Callable[[Sequence[Resolved]], None] | None = None

    def tick(self, result: Result) -> None:
        """Tell whoever watches."""
        if self.watch:
            self.watch(result)


async def reconcile(mirror: Mirror, scope: Scope, options: Options = Options(), hooks: Hooks = Hooks()) -> Result:
    """Bring the target in step with the folder within `scope`.

    Raises Halt, Brake (nothing was changed remotely), Unreachable (what is left is kept for the next pass), or
    observe.Wide (nothing was done; make a full pass).
    """
    guard(mirror, force=options.force)
    pass_id = next_pass(mirror.db)
    rows = mirror.queue.every() if scope.rows is None else scope.rows
    result = Result(Spill(mirror.db, pass_id), pass_id, options.dry_run)
    hooks.tick(result)
    log.debug("pass.start", mirror=mirror.name, scope="all" if scope.everything else len(rows))
    try:
        started = mirror.now()
        if scope.everything:
            await _list_or_make(mirror, options, result, hooks)
        await _plan(mirror, scope, options, result, hooks)
        backing = _brake(mirror, options, result, rows)
        if not options.dry_run:
            await _apply(mirror, backing, result, hooks)
            _record(mirror, scope, result, rows, started)
    except BaseException:
        if not hooks.watch:
            result.spill.drop()
        raise
    return result


async def _list_or_make(mirror: Mirror, options: Options, result: Result, hooks: Hooks) -> None:
    def tick() -> None:
        hooks.tick(result)

    try:
        await observe.listing(mirror, result.spill, tick)
    except TargetMissing:
        if not mirror.settings.create:
            raise
        # A dry run plans against what a target just made would hold: nothing.
        if not options.dry_run:
            await mirror.target.create()
            await observe.listing(mirror, result.spill, tick)


async def _plan(mirror: Mirror, scope: Scope, options: Options, result: Result, hooks: Hooks) -> None:
    resolver = Resolver(mirror, full=options.full, delete_excluded=options.delete_excluded, everything=scope.everything)
    mirror.tree.complete = True
    lane = None if options.full or hooks.every else InStep(mirror, result.spill)
    if scope.rows is None:
        blocks = observe.whole(mirror, result.spill, lane)
    else:
        blocks = observe.parts(mirror, scope.rows)
        _clear_problems(mirror, scope.rows)
    async for block in blocks:
        resolved = await resolver.block(block)
        _plan_block(mirror, resolved, result)
        if hooks.every:
            hooks.every(resolved)
        result.unchanged += lane.counted() if lane else 0
        hooks.tick(result)
    result.files_read = resolver.files_read
    result.complete = mirror.tree.complete
    if not result.complete:
        # Absence proves nothing while a part of the tree could not be read.
        result.spill.unplan_deletes()


def _plan_block(mirror: Mirror, resolved: Sequence[Resolved], result: Result) -> None:
    actions, problems, again, lost = [], [], [], []
    for each in resolved:
        triple = each.triple
        if isinstance(each.decision, Problem):
            problems.append(each.decision)
            if each.decision.kind == "foreign" and triple.record:
                lost.append(triple.key)
        elif each.decision is not None:
            actions.append(each.decision)
            result.reasons[each.decision.reason] += 1
            result.unrecorded += triple.record is None and not isinstance(each.decision, Put)
            if isinstance(each.decision, Adopt) and each.decision.status == "error":
                problems.append(index_problem(triple.key, each.decision.error))
        elif each.again:
            again.append((triple.key, False))
        elif isinstance(triple.local, Item):
            result.unchanged += 1
            problems += _in_step(mirror, triple)
        actions += each.extra
        result.spill.doubles += len(each.extra) if isinstance(triple.local, Item) else 0
    with transaction(mirror.db):
        result.spill.plan(actions)
        mirror.journal.note(problems, result.pass_id)
        # Another's mark beats our record; without one a hint asks again whose the key is before it writes.
        for key in lost:
            mirror.journal.forget(key)
        if again:
            mirror.queue.mark(again, mirror.now())
    result.again += len(again)
    result.problems.update(problem.kind for problem in problems)


def _in_step(mirror: Mirror, triple: Triple) -> list[Problem]:
    """Take over what the remote says of an entry in step; say so if it could not be indexed."""
    if triple.record and triple.entry and triple.seen != "journal":
        mirror.journal.learn(triple.record, triple.entry)
    if triple.entry and triple.entry.status == "error":
        return [index_problem(triple.key, triple.entry.error)]
    return []


def _clear_problems(mirror: Mirror, rows: Sequence[Dirty]) -> None:
    with transaction(mirror.db):
        for row in rows:
            mirror.journal.clear_problem(row.key, subtree=row.subtree)


def _brake(mirror: Mirror, options: Options, result: Result, rows: Sequence[Dirty]) -> Backing:
    load = weigh(mirror, result.spill, result.unrecorded)
    backing = Backing(
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
    if not options.force:
        result.refusal = refusal(mirror, result.spill, load)
    if result.refusal and not options.dry_run:
        mirror.queue.put_off(rows, mirror.now() + mirror.settings.settle_max)
        raise Brake(result.refusal)
    if not (options.force or options.dry_run):
        result.held_back = hold_back(mirror, result.spill)
    return backing


async def _apply(mirror: Mirror, backing: Backing, result: Result, hooks: Hooks) -> None:
    spill = result.spill

    turn = Turn(
        mirror,
        Ledger(spill, result.pass_id, result.done, result.problems, lambda: hooks.tick(result)),
        backing,
        hooks.breath,
    )
    identity = mirror.root_seen
    for adopts in spill.turns("adopt"):
        turn.adopts(adopts)
    for forgets in spill.turns("forget"):
        turn.forgets(forgets)
    for puts in spill.turns("put", mirror.target.limits.turn):
        await turn.puts(puts)
    for deletes in spill.turns("delete", mirror.target.limits.delete_turn):
        if mirror.tree.identity() != identity:
            raise RootHalt(f"path {mirror.tree.root} was replaced during the pass; the rest was not deleted")
        await turn.deletes(deletes)


def _record(mirror: Mirror, scope: Scope, result: Result, rows: Sequence[Dirty], started: float) -> None:
    with transaction(mirror.db):
        if result.complete:
            mirror.queue.done(rows)
        else:
            mirror.queue.put_off(rows, mirror.now() + mirror.settings.settle_max)
        if scope.everything:
            mirror.journal.clear_problems_before(result.pass_id)
            if result.complete:
                mirror.journal.drop_leftovers()
            mirror.journal.drop_tombstones(started, max(mirror.target.limits.lag_s, HOUR_S))
            mirror.history.drop_before(started - HISTORY_S)
            mirror.meta.set("last_reconcile", mirror.now())
    level = log.info if scope.everything or result.spill.planned.total() else log.debug
    level(
        "pass.done",
        mirror=mirror.name,
        scope="all" if scope.everything else len(rows),
        planned=dict(result.spill.planned),
        unchanged=result.unchanged,
        files_read=result.files_read,
        problems=dict(result.problems),
        complete=result.complete,
    )


def next_pass(db: sqlite3.Connection) -> int:
    """Number a pass; the numbers of all mirrors of a state file grow together."""
    meta = Meta(db, "")
    last = meta.get("pass")
    pass_id = (last if isinstance(last, int) else 0) + 1
    meta.set("pass", pass_id)
    return pass_id
