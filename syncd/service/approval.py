"""The preview and the approval of a plan in the running daemon, for deletes that the guard refuses."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from syncd.config.schema import Config
from syncd.core.errors import SyncdError
from syncd.core.model import Delete
from syncd.service.build import open_session
from syncd.service.worker import MirrorWorker
from syncd.sync import once
from syncd.sync.mirror import PassOptions, Result

SHOWN = 500
"""The largest number of deletes that a preview lists."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The plan of the next full pass of one mirror.

    plan_id: "" if it deletes nothing. refused: whether the delete guard refuses it. deletes, puts: their numbers.
    first: the first deletes.
    """

    plan_id: str = ""
    refused: bool = False
    deletes: int = 0
    puts: int = 0
    first: Sequence[Delete] = field(default_factory=tuple)


async def preview(config: Config, name: str) -> Preview:
    """Return the deletes of the next full pass of a mirror. It changes nothing.

    It works on a copy of the state, so the loop of the mirror goes on meanwhile. Raises the SyncdError that stops the
    pass.
    """
    async with open_session(config, [name], read_only=True) as session:
        report = once.Report()
        await once.run(session.mirrors[name], PassOptions(dry_run=True), _ignore, report)
        if report.error:
            raise report.error
        (result,) = report.results
        plan = result.tables.plan
        return Preview(
            result.plan_id,
            result.refusal is not None,
            plan.counts["delete"],
            plan.counts["put"],
            plan.first_deletes(SHOWN),
        )


async def approve(worker: MirrorWorker, plan_id: str) -> tuple[int, SyncdError | None]:
    """Let the loop of a mirror make exactly this plan, past the delete guard.

    Return the number of deletes, and the error that stopped the pass. Raises CancelledError if the loop ends before.
    """

    async def work() -> once.Report:
        report = once.Report()
        await once.run(worker.mirror, PassOptions(approved=plan_id), _ignore, report)
        return report

    report = await worker.run_job(work)
    for result in report.results:
        result.tables.drop()
    return sum(result.done["delete"] for result in report.results), report.error


def _ignore(_: Result) -> None:
    """Show no progress: the state of the mirror shows it."""
