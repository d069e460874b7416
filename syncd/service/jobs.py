"""The jobs that the buttons of the page start: at most one at a time for each mirror. The last result is kept."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Literal

import structlog

from syncd.config.schema import Config
from syncd.core.errors import SyncdError
from syncd.core.keys import shown
from syncd.core.plain_text import counted
from syncd.service.build import open_session
from syncd.service.runtime import Runtime
from syncd.service.worker import MirrorWorker, is_cancelled
from syncd.sync import once
from syncd.sync.mirror import PassOptions, Result

_log = structlog.get_logger()

JobKind = Literal["plan", "approve"]
LISTED_DELETES = 500
"""Maximum number of deletes that a preview lists."""


@dataclass(slots=True)
class Job:
    """One job. number: counts up from 1. text: the result for people, "" while it runs. good: False after an error.

    plan: the result of a preview. ended_at: seconds since the epoch, None while it runs.
    """

    number: int
    kind: JobKind
    good: bool = True
    text: str = ""
    plan: dict[str, Any] = field(default_factory=dict)
    ended_at: float | None = None

    @property
    def running(self) -> bool:
        """Whether the job has not ended."""
        return self.ended_at is None

    def view(self) -> dict[str, Any]:
        """Return the job as the page shows it, without the list of its plan."""
        return {
            "number": self.number,
            "kind": self.kind,
            "running": self.running,
            "good": self.good,
            "text": self.text,
            "ended_at": self.ended_at,
        }


class Jobs:
    """The jobs of all mirrors. Use it from the event loop only."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._numbers = count(1)

    def last(self, name: str) -> Job | None:
        """Return the last job of a mirror, None if there was none."""
        return self._jobs.get(name)

    def preview(self, runtime: Runtime, name: str) -> bool:
        """Start a preview of the deletes of the next pass. Return False if a job of this mirror runs already."""

        async def work(job: Job) -> None:
            job.plan = await preview(runtime.session.config, name)
            job.text = f"The next pass would delete {counted(job.plan['deletes'], 'entry')}."

        return self._start(name, "plan", work)

    def approve(self, runtime: Runtime, name: str, plan_id: str) -> bool:
        """Start a pass with an approved plan, see `approve`. Return False if a job of this mirror runs already."""

        async def work(job: Job) -> None:
            try:
                deleted = await approve(runtime.workers[name], plan_id)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                job.good, job.text = (
                    False,
                    "The daemon has read its config again before the pass. Approve the plan once more.",
                )
                return
            job.text = f"{deleted} {'entry was' if deleted == 1 else 'entries were'} deleted, as approved."

        return self._start(name, "approve", work)

    def _start(self, name: str, kind: JobKind, work: Callable[[Job], Awaitable[None]]) -> bool:
        if (last := self._jobs.get(name)) and last.running:
            return False
        job = self._jobs[name] = Job(next(self._numbers), kind)
        task = asyncio.create_task(_run(job, name, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def close(self) -> None:
        """Stop all jobs. The rest of an approved plan needs a new approval."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _run(job: Job, name: str, work: Callable[[Job], Awaitable[None]]) -> None:
    try:
        await work(job)
    except SyncdError as error:
        job.good, job.text = False, str(error)
    except Exception as error:  # noqa: BLE001 - a bug in a job must not end the daemon
        _log.exception("web.job_failed", mirror=name, job=job.kind)
        job.good, job.text = False, f"unexpected {type(error).__name__}; the log has the traceback: report it"
    finally:
        job.ended_at = round(time.time())


# -- the passes of the jobs


async def preview(config: Config, name: str) -> dict[str, Any]:
    """Return the deletes of the next full pass of a mirror as the page shows them. Changes nothing.

    The dry run uses a copy of the state, so the worker of the mirror is not blocked. Raises the SyncdError that stops
    the pass.
    """
    async with open_session(config, [name], read_only=True) as session:
        report = once.Report()
        await once.run(session.mirrors[name], PassOptions(dry_run=True), _ignore, report)
        if report.error:
            raise report.error
        (result,) = report.results
        plan = result.tables.plan
        return {
            "plan_id": result.plan_id,
            "refused": result.refusal is not None,
            "deletes": plan.counts["delete"],
            "puts": plan.counts["put"],
            "first": [
                {"key": shown(delete.key), "reason": delete.reason} for delete in plan.first_deletes(LISTED_DELETES)
            ],
        }


async def approve(worker: MirrorWorker, plan_id: str) -> int:
    """Make a pass in which the delete guard accepts exactly this plan. Return the number of deleted entries.

    Raises the SyncdError that stops the pass, and CancelledError if the worker ends before the pass.
    """

    async def work() -> once.Report:
        report = once.Report()
        await once.run(worker.mirror, PassOptions(approved=plan_id), _ignore, report)
        return report

    report = await worker.run_requested(work)
    report.drop_tables()
    if report.error:
        raise report.error
    return report.done["delete"]


def _ignore(_: Result) -> None:
    """Ignore the progress, which the state of the mirror shows."""
