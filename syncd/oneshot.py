"""One full pass of one mirror, to its end: files that change meanwhile are taken again, indexing is waited for."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from syncd import follow
from syncd.db import writable
from syncd.errors import EXIT_OK, EXIT_PROBLEMS, StateHalt, SyncdError
from syncd.mirror import Mirror
from syncd.model import HARMLESS, Problem
from syncd.observe import Wide
from syncd.queue import Dirty
from syncd.reconcile import Hooks, Options, Result, Scope, Watch, reconcile
from syncd.resolve import Resolved
from syncd.status import set_state


@dataclass(slots=True)
class Report:
    """How it went. results: one for the full pass, and one for every time that changing files were taken again.

    kinds: problems by kind, as they stand at the end. error: what stopped the mirror. not_indexed: entries that were
    still not searchable when the wait was over.
    """

    results: list[Result] = field(default_factory=list)
    error: SyncdError | None = None
    kinds: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    elapsed_s: float = 0.0
    not_indexed: int = 0

    @property
    def exit_code(self) -> int:
        """The contract's code for this mirror."""
        if self.error:
            return self.error.exit_code
        clean = not self.not_indexed and HARMLESS.issuperset(self.kinds)
        return EXIT_OK if clean else EXIT_PROBLEMS

    def close(self, mirror: Mirror) -> None:
        """Count what stands in the way now that all is done."""
        if self.results:
            self.kinds = mirror.journal.problem_counts(self.results[0].pass_id)

    def problems(self, mirror: Mirror) -> list[Problem]:
        """Everything that stands in the way after this pass."""
        return list(mirror.journal.problems(self.results[0].pass_id)) if self.results else []


async def run(
    mirror: Mirror,
    options: Options,
    watch: Watch,
    report: Report,
    every: Callable[[Sequence[Resolved]], None] | None = None,
) -> None:
    """Bring one mirror in step and fill in `report`; SyncdErrors that stop the mirror end up in it, too.

    every: is told what the full pass found of each key before it acted.
    """

    def keep(result: Result) -> None:
        if not report.results or report.results[-1] is not result:
            report.results.append(result)
        watch(result)

    hooks = Hooks(watch=keep)
    try:
        with writable():
            await reconcile(mirror, Scope(), options, replace(hooks, every=every))
            if not options.dry_run:
                await _take_again(mirror, options, hooks)
                if report.results[0].held_back:
                    # Orphans among what was held back are seen by a full pass only.
                    await reconcile(mirror, Scope(), options, hooks)
                await follow.reindex_wanted(mirror)
    except SyncdError as error:
        report.error = error
    report.close(mirror)
    if not options.dry_run:
        _say_state(mirror, report.error)


async def due_only(mirror: Mirror) -> Report:
    """Look at what is due and re-index what a person wants indexed again; without a listing, if it can be."""
    report = Report()
    hooks = Hooks(watch=lambda result: report.results.append(result) if result not in report.results else None)
    try:
        rows = mirror.queue.settled(mirror.now())
        if rows:
            await _rows_or_all(mirror, rows, Options(), hooks)
        await follow.reindex_wanted(mirror)
    except SyncdError as error:
        report.error = error
    report.close(mirror)
    _say_state(mirror, report.error)
    return report


async def wait_until_indexed(mirror: Mirror, report: Report, seconds: float) -> None:
    """Look at the index until everything is searchable, failed or `seconds` have passed."""
    if report.error:
        return
    try:
        report.not_indexed = await _wait(mirror, seconds)
    except SyncdError as error:
        report.error = error
    report.close(mirror)


async def _wait(mirror: Mirror, seconds: float) -> int:
    """Return how many entries are still not searchable in the end."""
    end = asyncio.get_running_loop().time() + seconds
    looks = 0
    while left := await follow.look(mirror):
        pause = min(follow.pause_s(looks) / 4, end - asyncio.get_running_loop().time())
        if pause <= 0:
            return left
        await asyncio.sleep(pause)
        looks += 1
    return 0


async def _take_again(mirror: Mirror, options: Options, hooks: Hooks) -> None:
    """Files that changed while they were read are taken again when they have settled; it is no error."""
    while True:
        wait = mirror.queue.next_fresh(mirror.now())
        if wait is None:
            return
        await asyncio.sleep(wait)
        rows = [row for row in mirror.queue.settled(mirror.now()) if row.attempts == 0]
        await _rows_or_all(mirror, rows, options, hooks)


async def _rows_or_all(mirror: Mirror, rows: Sequence[Dirty], options: Options, hooks: Hooks) -> None:
    try:
        await reconcile(mirror, Scope(rows), options, hooks)
    except Wide:
        await reconcile(mirror, Scope(), options, hooks)


def _say_state(mirror: Mirror, error: SyncdError | None) -> None:
    # A state file that cannot be written tells nobody so; the report does.
    with contextlib.suppress(StateHalt), writable():
        if error is None:
            set_state(mirror.meta, "idle")
        else:
            set_state(mirror.meta, "halted" if error.needs_person else "degraded", str(error))
