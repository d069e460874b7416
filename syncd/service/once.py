"""One full pass of one mirror, to its end: files that change meanwhile are taken again, indexing is waited for."""

import asyncio
import contextlib
import math
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field

from syncd.core.errors import EXIT_OK, EXIT_PROBLEMS, Brake, DiskRetry, RootHalt, StateHalt, SyncdError
from syncd.core.model import HARMLESS, Problem
from syncd.state.db import directory_of
from syncd.state.directory import FILE_NAME, when_free, writable
from syncd.state.history import set_state
from syncd.state.queue import Dirty
from syncd.sync import follow
from syncd.sync.mirror import Mirror
from syncd.sync.observe import Wide
from syncd.sync.passes import Hooks, Options, Result, Scope, Watch
from syncd.sync.reconcile import reconcile

DISK_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""How long the disk is waited for before each new try, where an error may pass."""

SAY_S = 1.0
"""How often a pass says how much of it is left."""


@dataclass(slots=True)
class Report:
    """How it went. results: one for the full pass, and one for every time that changing files were taken again.

    kinds: problems by kind, as they stand at the end. error: what stopped the mirror. not_indexed: entries that were
    still not searchable when the wait was over, waiting: keys of the longest on their way.
    """

    results: list[Result] = field(default_factory=list)
    error: SyncdError | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    elapsed_s: float = 0.0
    not_indexed: int = 0
    waiting: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """The contract's code for this mirror."""
        if self.error:
            return self.error.exit_code
        clean = not self.not_indexed and HARMLESS.issuperset(self.kinds)
        return EXIT_OK if clean else EXIT_PROBLEMS

    @property
    def put_off(self) -> int:
        """Deletes that still wait until what takes the place of the entries is searchable."""
        return self.results[-1].waiting if self.results else 0

    def keep(self, result: Result) -> None:
        """Note a pass, however often it is heard of."""
        if not self.results or self.results[-1] is not result:
            self.results.append(result)

    def close(self, mirror: Mirror) -> None:
        """Count what stands in the way now that all is done."""
        if self.results:
            self.kinds = mirror.journal.problems.counts(self.results[0].pass_id)

    def problems(self, mirror: Mirror) -> list[Problem]:
        """Everything that stands in the way after this pass."""
        return list(mirror.journal.problems.all(self.results[0].pass_id)) if self.results else []


async def run(mirror: Mirror, options: Options, watch: Watch, report: Report) -> None:
    """Bring one mirror in step and fill in `report`; SyncdErrors that stop the mirror end up in it, too."""
    progress = _Progress(mirror, dry_run=options.dry_run)

    def keep(result: Result) -> None:
        report.keep(result)
        progress.look(result)
        watch(result)

    progress.say(0)
    hooks = Hooks(watch=keep)

    async def whole() -> None:
        report.results.clear()
        refused = await _unless_refused(_first(mirror, options, hooks))
        if not options.dry_run:
            await _outlast(mirror, options, hooks)
            refused = await _unless_refused(_take_again(mirror, options, hooks, report)) or refused
            if refused:
                raise refused
            if report.results[0].held_back:
                # Orphans among what was held back are seen by a full pass only.
                await reconcile(mirror, Scope(), options, hooks)
            await _index_again(mirror)
            if report.results[0].audited and report.results[0].unsettled:
                # A listing would have told.
                await follow.look(mirror)

    try:
        await when_free(whole, directory_of(mirror.db) / FILE_NAME)
    except SyncdError as error:
        report.error = error
    except asyncio.CancelledError:
        progress.interrupted(report)
        raise
    report.close(mirror)
    if not options.dry_run:
        _say_state(mirror, report.error)


async def _first(mirror: Mirror, options: Options, hooks: Hooks) -> None:
    """Make the full pass, as soon as the root can be looked at."""
    for pause in DISK_PAUSES_S:
        try:
            await reconcile(mirror, Scope(), options, hooks)
        except DiskRetry:
            await asyncio.sleep(pause)
        else:
            return
    try:
        await reconcile(mirror, Scope(), options, hooks)
    except DiskRetry as error:
        raise RootHalt(str(error).replace("It is tried again", "Bring the folder back")) from error


async def _outlast(mirror: Mirror, options: Options, hooks: Hooks) -> None:
    """Try again what the disk would not give in passing, for a while."""
    for pause in DISK_PAUSES_S:
        missed = frozenset(mirror.tree.retry_keys)
        if not missed:
            return
        await asyncio.sleep(pause)
        if mirror.policy.prefix in missed:
            await reconcile(mirror, Scope(), options, hooks)
        else:
            await _rows_or_all(mirror, [row for row in mirror.queue.every() if row.key in missed], options, hooks)


class _Progress:
    """Says in the state file that a pass is under way, for `status` meanwhile, and afterwards if it is interrupted."""

    def __init__(self, mirror: Mirror, *, dry_run: bool) -> None:
        self._mirror = mirror
        self._dry_run = dry_run
        self._said_at = -SAY_S

    def look(self, result: Result) -> None:
        """Say how much is left, now and then."""
        if time.monotonic() - self._said_at >= SAY_S:
            self.say(result.tables.plan.counts.total() - result.done.total())

    def interrupted(self, report: Report) -> None:
        """Say how much is left as it stands now."""
        result = report.results[-1] if report.results else None
        self.say(result.tables.plan.counts.total() - result.done.total() if result else 0)

    def say(self, remaining: int) -> None:
        """Say that so much is left."""
        if self._dry_run:
            return
        self._said_at = time.monotonic()
        # A state file that cannot be written tells nobody so; the report does.
        with contextlib.suppress(StateHalt), writable():
            set_state(self._mirror.meta, "syncing", remaining=max(0, remaining))


async def due_only(mirror: Mirror) -> Report:
    """Look at what is due and re-index what a person wants indexed again; without a listing, if it can be."""
    report = Report()
    hooks = Hooks(watch=report.keep)

    async def due() -> None:
        rows = mirror.queue.settled(mirror.now())
        if rows:
            await _rows_or_all(mirror, rows, Options(), hooks)
        await _index_again(mirror)

    try:
        await when_free(due, directory_of(mirror.db) / FILE_NAME)
    except SyncdError as error:
        report.error = error
    report.close(mirror)
    _say_state(mirror, report.error)
    return report


async def wait_until_indexed(mirror: Mirror, report: Report, seconds: float) -> None:
    """Look at the index until everything is searchable, failed for good or `seconds` have passed."""
    if report.error:
        return
    try:
        with writable():
            await _wait(mirror, seconds)
    except SyncdError as error:
        report.error = error
    report.not_indexed = mirror.journal.index.unfinished()
    report.waiting = [record.key for record in mirror.journal.index.stuck(math.inf, follow.NAMED)]
    report.close(mirror)


async def _wait(mirror: Mirror, seconds: float) -> None:
    end = asyncio.get_running_loop().time() + seconds
    looks = 0
    while True:
        pause = await follow.go_on(mirror, follow.pause_s(looks) / 4)
        left = mirror.journal.index.unfinished()
        again_s = follow.next_s(mirror)
        over_s = end - asyncio.get_running_loop().time()
        # What failed in passing is waited for only if it can be tried again in time.
        if pause is None or over_s <= 0 or not (left or (again_s is not None and again_s < over_s)):
            return
        await asyncio.sleep(min(over_s, pause))
        looks += 1


async def _index_again(mirror: Mirror) -> None:
    await follow.index_again(mirror)
    await follow.ask_why(mirror)


async def _take_again(mirror: Mirror, options: Options, hooks: Hooks, report: Report) -> None:
    """Files that changed while they were read are taken again when they have settled; it is no error.

    So are deletes that wait until what takes the place of the entries is searchable.
    """
    while True:
        wait = mirror.queue.next_fresh(mirror.now())
        if wait is None:
            return
        if report.put_off:
            hooks.tick(report.results[-1])
        await asyncio.sleep(wait)
        if report.put_off:
            await follow.look(mirror)
        rows = [row for row in mirror.queue.settled(mirror.now()) if row.attempts == 0]
        # A short look at a few keys: what is shown meanwhile is what is waited for.
        await _rows_or_all(mirror, rows, options, Hooks(watch=report.keep) if report.put_off else hooks)


async def _rows_or_all(mirror: Mirror, rows: Sequence[Dirty], options: Options, hooks: Hooks) -> None:
    try:
        await reconcile(mirror, Scope(rows), options, hooks)
    except Wide:
        await reconcile(mirror, Scope(), options, hooks)


async def _unless_refused(passes: Awaitable[object]) -> Brake | None:
    """Make passes; return why their deletes were refused, if they were. Uploads go on after that."""
    try:
        await passes
    except Brake as error:
        return error
    return None


def _say_state(mirror: Mirror, error: SyncdError | None) -> None:
    # A state file that cannot be written tells nobody so; the report does.
    with contextlib.suppress(StateHalt), writable():
        if error is None:
            set_state(mirror.meta, "idle")
        else:
            set_state(mirror.meta, "halted" if error.needs_person else "degraded", str(error))
