"""run, reconcile: the commands that bring the target in step with the folder."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.context import AsJson, GlobalOptions, MirrorNames, run_async
from syncd.service import signals

if TYPE_CHECKING:
    from syncd.service.build import Grants
    from syncd.service.daemon import StatusPage
    from syncd.sync.mirror import PassOptions
    from syncd.sync.once import Report

SEVERITY = (3, 4, 5, 1, 0)
"""Exit codes, the most serious first. With several mirrors the most serious one is returned."""


def run(ctx: typer.Context) -> int:
    """Watch the folders and keep the targets in step.

    It runs until SIGTERM or SIGINT.
    """
    from syncd.service.daemon import serve

    options: GlobalOptions = ctx.obj
    return serve(lambda: options.load(level="INFO"), make_page)


def make_page() -> "StatusPage":
    """Return the status page. Only a daemon that shows it imports it."""
    from syncd.web.server import WebServer

    return WebServer()


@dataclass(frozen=True, slots=True)
class _Request:
    """The options of one `reconcile`. wait_s: how long to wait for the index, None: not at all."""

    options: "PassOptions"
    grants: "Grants"
    wait_s: float | None
    as_json: bool


def full_pass(  # noqa: PLR0913 - the options of the command
    ctx: typer.Context,
    mirrors: MirrorNames = None,
    *,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Show the plan, change nothing.")] = False,
    as_json: AsJson = False,
    wait: Annotated[
        float | None,
        typer.Option("--wait", metavar="[SECONDS]", help="Wait until every item is indexed.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Pass the delete guard, once.")] = False,
    takeover: Annotated[bool, typer.Option("--takeover", help="Adopt entries of another owner.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Trust no cache: read every file, list every entry.")] = False,
    delete_excluded: Annotated[
        bool, typer.Option("--delete-excluded", help="Also remove entries that the rules now exclude.")
    ] = False,
) -> int:
    """Make one full pass and exit."""
    from syncd.service.build import Grants
    from syncd.sync.mirror import PassOptions

    options: GlobalOptions = ctx.obj
    request = _Request(
        PassOptions(dry_run=dry_run, force=force, full=full, delete_excluded=delete_excluded),
        Grants(takeover=takeover, reembed=force),
        None if dry_run else wait,
        as_json,
    )
    return run_async(_reconcile(options, mirrors or [], request))


async def _reconcile(options: GlobalOptions, names: list[str], request: _Request) -> int:
    from syncd.cli.output import ProgressDisplay, progress
    from syncd.cli.report import print_reports, write_json
    from syncd.queries.forecast import Pace, per_second
    from syncd.service.build import open_session
    from syncd.sync import once

    config = options.load()
    dry_run = request.options.dry_run
    rate = per_second(config.cloudflare.tpslimit, config.cloudflare.transfers)
    async with open_session(config, names, grants=request.grants, read_only=dry_run) as session:
        reports: dict[str, Report] = {}
        signals.describe_with(lambda: _interruption(reports, len(session.mirrors), dry_run=dry_run))
        with progress(quiet=options.quiet) as bar:
            for name, mirror in session.mirrors.items():
                reports[name] = report = once.Report()
                began, before = time.monotonic(), session.transport.counters.requests
                pace = Pace(mirror.target.requests, rate)
                display = ProgressDisplay(name, bar, quiet=options.quiet, pace=pace)
                await once.run(mirror, request.options, display, report)
                if request.wait_s is not None:
                    await once.wait_until_indexed(mirror, report, request.wait_s)
                report.elapsed_s = time.monotonic() - began
                report.requests = session.transport.counters.requests - before
        code = next(code for code in SEVERITY if code in {report.exit_code for report in reports.values()})
        if request.as_json:
            write_json(session, reports, code)
        else:
            print_reports(session, reports)
    return code


def _interruption(reports: "dict[str, Report]", mirrors: int, *, dry_run: bool) -> str:
    """Return how far an interrupted pass came. mirrors: the number of mirrors that the command has."""
    if dry_run:
        return "reconcile: nothing was changed"
    results = [result for report in reports.values() for result in report.results]
    done = {kind: sum(result.done[kind] for result in results) for kind in ("put", "delete")}
    left = sum(max(0, result.tables.plan.counts.total() - result.done.total()) for result in results)
    if not left and not sum(done.values()):
        return "reconcile: nothing was changed; the comparison was not finished"
    deleted = f", {done['delete']} deleted" if done["delete"] else ""
    # The plan of a mirror is complete only when everything was compared.
    scope = "" if len(reports) == mirrors and results else " of the compared part"
    return f"reconcile: {done['put']} uploaded{deleted}, {left} left{scope}; the next pass goes on there"
