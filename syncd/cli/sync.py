"""run, reconcile, retry: the commands that change the remote."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from syncd.cli.app import Globals, app, await_
from syncd.service import signals

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.service.build import Grants, Session
    from syncd.service.once import Report
    from syncd.sync.passes import Options

SEVERITY = (3, 4, 5, 1, 0)
"""With several mirrors the most serious code wins (contract)."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a `reconcile` was asked for, beyond the mirrors."""

    options: "Options"
    grants: "Grants"
    wait: float | None


@app.command()
def run(ctx: typer.Context) -> int:
    """Watch the folders and keep them in step.

    Until SIGTERM or SIGINT.
    """
    from syncd.service.daemon import serve

    options: Globals = ctx.obj
    return serve(lambda: options.load(level="INFO"))


@app.command(name="reconcile")
def full_pass(  # noqa: PLR0913 - the contract's options
    ctx: typer.Context,
    mirrors: Annotated[list[str] | None, typer.Argument(metavar="MIRROR", show_default=False)] = None,
    *,
    dry_run: Annotated[bool, typer.Option("-n", "--dry-run", help="Show the plan, change nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    wait: Annotated[
        float | None,
        typer.Option("--wait", metavar="[SECONDS]", help="Wait until every item is indexed.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Pass the delete guard, once.")] = False,
    takeover: Annotated[bool, typer.Option("--takeover", help="Adopt entries of another owner.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Trust no cache: read every file, list every entry.")] = False,
    delete_excluded: Annotated[
        bool, typer.Option("--delete-excluded", help="Also remove what the rules now leave out.")
    ] = False,
) -> int:
    """Make one full pass and exit."""
    from syncd.service.build import Grants
    from syncd.sync.passes import Options

    options: Globals = ctx.obj
    asked = _Asked(
        Options(dry_run=dry_run, force=force, full=full, delete_excluded=delete_excluded),
        Grants(takeover=takeover, reembed=force),
        None if dry_run else wait,
    )

    def present(session: "Session", reports: dict[str, "Report"], code: int) -> None:
        from syncd.cli.report import show, to_json

        if as_json:
            to_json(session, reports, code)
        else:
            show(session, reports)

    return await_(_reconcile(options, mirrors or [], asked, present))


async def _reconcile(
    options: Globals,
    names: list[str],
    asked: _Asked,
    present: "Callable[[Session, dict[str, Report], int], None]",
) -> int:
    from syncd.cli.out import Watcher, progress
    from syncd.queries.forecast import per_second
    from syncd.queries.pace import Pace
    from syncd.service import once
    from syncd.service.build import open_session

    config = options.load()
    async with open_session(config, names, grants=asked.grants, read_only=asked.options.dry_run) as session:
        reports: dict[str, once.Report] = {}
        signals.tell(lambda: _so_far(reports, len(session.mirrors), dry_run=asked.options.dry_run))
        with progress(quiet=options.quiet) as shown:
            for name, mirror in session.mirrors.items():
                reports[name] = report = once.Report()
                began, before = time.monotonic(), session.transport.counters.requests
                pace = Pace(mirror.target.requests, per_second(config.cloudflare.tpslimit, config.cloudflare.transfers))
                watcher = Watcher(name, shown, quiet=options.quiet, pace=pace)
                await once.run(mirror, asked.options, watcher, report)
                if asked.wait is not None:
                    await once.wait_until_indexed(mirror, report, asked.wait)
                report.elapsed_s = time.monotonic() - began
                report.requests = session.transport.counters.requests - before
        code = next(code for code in SEVERITY if code in {report.exit_code for report in reports.values()})
        present(session, reports, code)
    return code


def _so_far(reports: "dict[str, Report]", mirrors: int, *, dry_run: bool) -> str:
    """What a pass has done when it is interrupted."""
    if dry_run:
        return "reconcile: nothing was changed"
    results = [result for report in reports.values() for result in report.results]
    done = {kind: sum(result.done[kind] for result in results) for kind in ("put", "delete")}
    left = sum(max(0, result.tables.plan.counts.total() - result.done.total()) for result in results)
    if not left and not sum(done.values()):
        return "reconcile: nothing was changed; what is to be done was not known yet"
    deleted = f", {done['delete']} deleted" if done["delete"] else ""
    # The plan of a mirror is known when all of it was compared, and not before.
    more = "" if len(reports) == mirrors and results else " of what was compared"
    return f"reconcile: {done['put']} uploaded{deleted}, {left} left{more}; the next pass goes on there"


@app.command()
def retry(
    ctx: typer.Context,
    keys: Annotated[list[str] | None, typer.Argument(metavar="[KEY]...", show_default=False)] = None,
) -> int:
    """Try failed and rejected items again now.

    What could not be indexed is indexed again, without an upload.
    """
    options: Globals = ctx.obj
    return await_(_retry(options.load(), keys))


async def _retry(config: "Config", keys: list[str] | None) -> int:
    from syncd.core.redact import printable
    from syncd.service import once
    from syncd.service.build import open_session
    from syncd.service.retry import try_again
    from syncd.state.db import open_state
    from syncd.state.directory import FILE_NAME, holder, when_free
    from syncd.state.journal import Journal
    from syncd.state.queue import Queue

    async def mark() -> dict[str, int]:
        with closing(open_state(config.state_dir)) as db:
            return {
                name: try_again(Journal(db, name), Queue(db, name, 0, 0), keys, time.time()) for name in config.mirrors
            }

    marked = await when_free(mark, config.state_dir / FILE_NAME)
    total = sum(marked.values())
    typer.echo(f"{total} item{'' if total == 1 else 's'} to try again")
    if not total or holder(config.state_dir) is not None:
        # The daemon sees the marks by itself.
        return 0
    code = 0
    async with open_session(config, [name for name, count in marked.items() if count]) as session:
        for name, mirror in session.mirrors.items():
            report = await once.due_only(mirror)
            for problem in report.problems(mirror):
                typer.echo(printable(f"{name}: {problem.key}: {problem.kind}: {problem.message}"), err=True)
            code = max(code, report.exit_code)
    return code
