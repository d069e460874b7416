"""Runs one full pass of a mirror and the short passes that it needs afterwards, and can wait for the index."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial

from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS, Brake, DiskRetry, Halt, PlanChanged, RootHalt, SyncdError
from syncd.core.model import HARMLESS, Action, Problem
from syncd.state.directory import FILE_NAME, directory_of, when_free, writable
from syncd.state.queue import Dirty
from syncd.sync import index
from syncd.sync.mirror import Hooks, Mirror, OnProgress, PassOptions, Result, Scope
from syncd.sync.mirror_status import MirrorStatus
from syncd.sync.observe import ScopeTooLarge
from syncd.sync.reconcile import reconcile
from syncd.targets.base import Usage

DISK_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Pauses between the tries after a temporary failure of the disk."""


@dataclass(slots=True)
class Report:
    """The result of a command for one mirror.

    results: one for the full pass, and one for each later pass over files that changed. kinds: the number of problems
    by kind, at the end. error: the error that stopped the mirror. not_indexed: the entries that were not searchable
    when the wait ended. waiting: the keys of the entries that have waited longest. usages: the target's use of the
    ceilings of the account's plan, for a dry run.
    """

    results: list[Result] = field(default_factory=list)
    error: SyncdError | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    elapsed_s: float = 0.0
    not_indexed: int = 0
    waiting: list[str] = field(default_factory=list)
    usages: Sequence[Usage] = ()

    @property
    def exit_code(self) -> int:
        """The exit code of the command for this mirror."""
        if self.error:
            return self.error.exit_code
        clean = not self.not_indexed and HARMLESS.issuperset(self.kinds)
        return EXIT_OK if clean else EXIT_PROBLEMS

    @property
    def dry_run(self) -> bool:
        """Whether the pass only made a plan."""
        return any(result.dry_run for result in self.results)

    @property
    def planned(self) -> Counter[str]:
        """The number of planned actions of all passes, by kind."""
        return sum((Counter[str](result.tables.plan.counts) for result in self.results), Counter[str]())

    @property
    def done(self) -> Counter[str]:
        """The number of finished actions of all passes, by kind, and "failed"."""
        return sum((result.done for result in self.results), Counter[str]())

    @property
    def postponed_deletes(self) -> int:
        """The deletes that wait until the replacements of their entries are searchable."""
        return self.results[-1].waiting if self.results else 0

    def add(self, result: Result) -> None:
        """Add the result of a pass. Later calls with the same result change nothing."""
        if not self.results or self.results[-1] is not result:
            self.results.append(result)

    def actions(self) -> Iterator[tuple[Action, str | None]]:
        """Yield the planned actions of all passes with their outcomes."""
        for result in self.results:
            yield from result.tables.plan.actions()

    def drop_tables(self) -> None:
        """Drop the tables of the passes. A command does not have to, because its tables end with its process."""
        for result in self.results:
            result.tables.drop()

    def count_problems(self, mirror: Mirror) -> None:
        """Count the problems that are left at the end."""
        if self.results:
            self.kinds = mirror.journal.problems.counts(self.results[0].pass_id)

    def problems(self, mirror: Mirror) -> list[Problem]:
        """Return the problems of the mirror after this pass."""
        return list(mirror.journal.problems.all(self.results[0].pass_id)) if self.results else []


async def run(
    mirror: Mirror, options: PassOptions, on_progress: OnProgress, report: Report, *, bulk: bool = False
) -> None:
    """Bring a mirror in step and fill in the report. A SyncdError that stops the mirror is stored in the report.

    bulk: whether the requests leave a part of the budget to the edits of a daemon.
    """
    status = MirrorStatus(mirror)
    # The pass of an approved plan does nothing if the plan has changed, so its progress is not shown.
    is_shown = not options.dry_run and options.approved is None

    def report_progress(result: Result) -> None:
        report.add(result)
        if is_shown:
            status.update_pass(result)
        on_progress(result)

    hooks = Hooks(on_progress=report_progress, bulk=bulk)
    async with status.watched() if is_shown else nullcontext():
        await _run_steps(mirror, partial(_make_passes, mirror, options, hooks, report), report)
    if not options.dry_run and not isinstance(report.error, PlanChanged):
        _show_result(status, report.error)


async def serve_due(mirror: Mirror) -> Report:
    """Serve the keys that are due, without a listing if possible, and reindex the entries that a person chose."""
    report = Report()
    hooks = Hooks(on_progress=report.add)

    async def serve() -> None:
        rows = mirror.queue.settled(mirror.now())
        if rows:
            await _serve_keys(mirror, rows, PassOptions(), hooks)
        await _reindex(mirror)

    await _run_steps(mirror, serve, report)
    _show_result(MirrorStatus(mirror), report.error)
    return report


async def wait_until_indexed(mirror: Mirror, report: Report, seconds: float) -> None:
    """Wait until each entry is searchable or has failed, but not longer than `seconds`."""
    if report.error:
        return
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    looks = 0
    try:
        with writable():
            while pause := await index.follow_up(mirror, index.pause_s(looks) / 4):
                left_s = end - clock()
                if not _is_worth_waiting(mirror, left_s):
                    break
                await asyncio.sleep(min(left_s, pause))
                looks += 1
    except SyncdError as error:
        report.error = error
    note_unindexed(mirror, report)


async def wait_for_followup(mirror: Mirror, report: Report, seconds: float, status: MirrorStatus) -> None:
    """Wait as `wait_until_indexed` does while the daemon polls the index.

    A halt of the mirror ends the wait and is stored in the report.
    """
    clock = asyncio.get_running_loop().time
    end = clock() + seconds
    while True:
        if report.error or not _is_worth_waiting(mirror, end - clock()):
            break
        if status.shown.state == "halted":
            report.error = Halt(f"{status.shown.detail or 'the mirror is halted'}; not all is searchable yet")
            break
        await asyncio.sleep(index.FIRST_POLL_S / 2)
    note_unindexed(mirror, report)


def note_unindexed(mirror: Mirror, report: Report) -> None:
    """Store the entries that are not searchable, and the problems that are left, in the report."""
    report.not_indexed = mirror.journal.index.unfinished()
    report.waiting = [record.key for record in mirror.journal.index.stuck(math.inf, index.NAMED)]
    report.count_problems(mirror)


# -- the steps of a command


async def _run_steps(mirror: Mirror, steps: Callable[[], Awaitable[None]], report: Report) -> None:
    """Run steps while the state file can be written. Store their error and the problems that are left in the report."""
    try:
        await when_free(steps, directory_of(mirror.db) / FILE_NAME)
    except SyncdError as error:
        report.error = error
    report.count_problems(mirror)


async def _make_passes(mirror: Mirror, options: PassOptions, hooks: Hooks, report: Report) -> None:
    """Make a full pass, and passes over the keys that had to wait."""
    report.results.clear()
    refusal = await _catch_refusal(_full_pass(mirror, options, hooks))
    if options.dry_run:
        return
    later = replace(options, approved=None)
    await _retry_disk(mirror, later, hooks)
    refusal = await _catch_refusal(_serve_pending(mirror, later, hooks, report)) or refusal
    if refusal:
        raise refusal
    if report.results[0].held_back:
        # Only a full pass finds the orphans among the deletes that were held back.
        await reconcile(mirror, Scope(), later, hooks)
    await _reindex(mirror)
    if report.results[0].audited and report.results[0].unsettled:
        # This pass made no listing, which would have shown the state of the index.
        await index.poll(mirror)
        index.halt_if_full(mirror)
    await index.halt_if_standing(mirror)


async def _full_pass(mirror: Mirror, options: PassOptions, hooks: Hooks) -> None:
    """Make a full pass. Wait for a while if the root cannot be read."""
    for pause in (*DISK_PAUSES_S, None):
        try:
            await reconcile(mirror, Scope(), options, hooks)
        except DiskRetry as error:
            if pause is None:
                raise RootHalt(str(error).replace("It is tried again", "Bring the folder back")) from error
            await asyncio.sleep(pause)
        else:
            return


async def _retry_disk(mirror: Mirror, options: PassOptions, hooks: Hooks) -> None:
    """Retry for a while the files that could not be read because of a temporary failure of the disk."""
    for pause in DISK_PAUSES_S:
        failed = frozenset(mirror.tree.retry_keys)
        if not failed:
            return
        await asyncio.sleep(pause)
        if mirror.policy.prefix in failed:
            await reconcile(mirror, Scope(), options, hooks)
        else:
            rows = [row for row in mirror.queue.every() if row.key in failed]
            await _serve_keys(mirror, rows, options, hooks)


async def _serve_pending(mirror: Mirror, options: PassOptions, hooks: Hooks, report: Report) -> None:
    """Serve keys that had to wait: files that changed while they were read, and postponed deletes.

    A postponed delete waits until the replacement of its entry is searchable.
    """
    while True:
        wait = mirror.queue.next_due(mirror.now(), fresh=True)
        if wait is None:
            return
        if report.postponed_deletes:
            hooks.tick(report.results[-1])
        await asyncio.sleep(wait)
        if report.postponed_deletes:
            await index.poll(mirror)
        rows = [row for row in mirror.queue.settled(mirror.now()) if row.attempts == 0]
        # The progress display continues to show the postponed deletes, and not this short pass.
        await _serve_keys(mirror, rows, options, Hooks(on_progress=report.add) if report.postponed_deletes else hooks)


async def _serve_keys(mirror: Mirror, rows: Sequence[Dirty], options: PassOptions, hooks: Hooks) -> None:
    """Make a pass over some keys, or a full pass if that takes fewer requests."""
    try:
        await reconcile(mirror, Scope(rows), options, hooks)
    except ScopeTooLarge:
        await reconcile(mirror, Scope(), options, hooks)


async def _catch_refusal(passes: Awaitable[object]) -> Brake | None:
    """Make passes. Return why their deletes were refused, None if they were not. A refusal stops no upload."""
    try:
        await passes
    except Brake as error:
        return error
    return None


async def _reindex(mirror: Mirror) -> None:
    await index.reindex_due(mirror)
    await index.fetch_reasons(mirror)


def _is_worth_waiting(mirror: Mirror, left_s: float) -> bool:
    """Return whether an entry may become searchable in left_s seconds."""
    reindex_s = index.next_reindex_s(mirror)
    # A temporary error is worth the wait only if it can be retried in time.
    may_succeed = mirror.journal.index.unfinished() or (reindex_s is not None and reindex_s < left_s)
    return left_s > 0 and bool(may_succeed)


def _show_result(status: MirrorStatus, error: SyncdError | None) -> None:
    if error is None:
        status.set("idle")
    else:
        status.set("halted" if isinstance(error, (Halt, Brake)) else "degraded", str(error))
