"""reconcile, plan, approve: bring the target in step with the folder, or show how, and print the result."""

import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import completion
from syncd.cli.context import (
    Command,
    Duration,
    GlobalOptions,
    as_json_option,
    command,
    mirrors_argument,
    run_async,
    shard_field,
)
from syncd.cli.daemon import ask_daemon
from syncd.cli.output import Bar, ProgressDisplay, progress
from syncd.cli.reports import capacity_object, forecast, plan_counts, print_reports
from syncd.core.errors import ConfigError, most_serious
from syncd.core.keys import shown
from syncd.core.plain_text import redact_text
from syncd.service import signals

if TYPE_CHECKING:
    from syncd.config.schema import Config
    from syncd.core.model import Action
    from syncd.service.build import Grants, Session
    from syncd.sync.mirror import Mirror, PassOptions
    from syncd.sync.once import Report

_FOREVER = "36500d"
"""The value of `--wait` without one: a hundred years."""


@dataclass(frozen=True, slots=True)
class ReconcileRequest:
    """The options of one `reconcile`. wait_s: how long to wait for the index, None: not at all."""

    options: "PassOptions"
    grants: "Grants"
    wait_s: float | None
    as_json: bool

    def for_daemon(self, config: "Config", names: Sequence[str]) -> dict[str, Any]:
        """Return the JSON object of the request. config: of this command. names: the mirrors; empty: all."""
        from syncd.config.schema import settings_digest

        return {
            "command": "reconcile",
            "mirrors": list(names),
            "settings": settings_digest(config, names),
            "options": asdict(self.options),
            "grants": asdict(self.grants),
            "wait_s": self.wait_s,
            "json": self.as_json,
        }


class _ReconcileCommand(Command):
    """A command whose option `--wait` takes the next argument only if that is a duration."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _with_wait_value(args))


def _with_wait_value(arguments: Sequence[str]) -> list[str]:
    """Add a value to a `--wait` without one. Otherwise click would take the next argument as the value."""
    given = list(arguments)
    for place, argument in enumerate(given):
        if argument == "--":
            break
        if argument == "--wait":
            follower = given[place + 1] if place + 1 < len(given) else ""
            given[place] = "--wait" if _is_duration(follower) else f"--wait={_FOREVER}"
    return given


def _is_duration(text: str) -> bool:
    from syncd.config.values import parse_duration

    try:
        parse_duration(text)
    except ValueError:
        return False
    return True


@click.command(cls=_ReconcileCommand)
@mirrors_argument
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan and change nothing.")
@as_json_option
@click.option("--wait", type=Duration(), metavar="[TIME]", help="Wait until every item is indexed, at most for TIME.")
@click.option("--force", is_flag=True, help="Make the deletes that the delete guard refuses, once.")
@click.option("--takeover", is_flag=True, help="Adopt entries of another owner.")
@click.option("--full", is_flag=True, help="Trust no cache: read every file and list every entry.")
@click.option("--delete-excluded", is_flag=True, help="Also remove entries that the rules now exclude.")
@click.pass_obj
def reconcile(  # noqa: PLR0913 - the options of the command
    options: GlobalOptions,
    mirrors: tuple[str, ...],
    *,
    dry_run: bool,
    as_json: bool,
    wait: float | None,
    force: bool,
    takeover: bool,
    full: bool,
    delete_excluded: bool,
) -> int:
    """Make one full pass and exit."""
    from syncd.service.build import Grants
    from syncd.sync.mirror import PassOptions

    request = ReconcileRequest(
        PassOptions(dry_run=dry_run, force=force, full=full, delete_excluded=delete_excluded),
        Grants(takeover=takeover, reembed=force),
        None if dry_run else wait,
        as_json,
    )
    return run_async(_reconcile(options, mirrors, request))


@command()
@mirrors_argument
@as_json_option
@click.pass_obj
def plan(options: GlobalOptions, mirrors: tuple[str, ...], *, as_json: bool) -> int:
    """Show what the next pass would do, and the id of the plan.

    `syncd approve ID` lets the deletes of exactly this plan pass the delete guard.
    """
    from syncd.service.build import NO_GRANTS
    from syncd.sync.mirror import PassOptions

    return run_async(
        _reconcile(options, mirrors, ReconcileRequest(PassOptions(dry_run=True), NO_GRANTS, None, as_json))
    )


@command()
@click.argument(
    "plan_id", metavar="ID", help="The id of the plan, as `syncd plan` prints it.", shell_complete=completion.plans
)
@as_json_option
@click.pass_obj
def approve(options: GlobalOptions, plan_id: str, *, as_json: bool) -> int:
    """Make the pass of a plan, with the deletes that the delete guard refuses.

    A plan whose deletes have changed since is refused.
    """
    from syncd.service.build import NO_GRANTS
    from syncd.sync.mirror import PassOptions

    name, _, digest = plan_id.rpartition("-")
    if not name or not digest:
        raise ConfigError(f"{plan_id} is no plan id; `syncd plan` shows the id")
    return run_async(
        _reconcile(options, [name], ReconcileRequest(PassOptions(approved=plan_id), NO_GRANTS, None, as_json))
    )


async def _reconcile(options: GlobalOptions, names: Sequence[str], request: ReconcileRequest) -> int:
    from syncd.service.build import open_session
    from syncd.sync.once import Report

    config = options.load()
    dry_run = request.options.dry_run
    if not dry_run:
        code = await ask_daemon(config.state_dir, request.for_daemon(config, names), quiet=options.quiet)
        if code is not None:
            return code

    async with open_session(config, names, grants=request.grants, read_only=dry_run) as session:
        reports: dict[str, Report] = {}
        signals.describe_with(lambda: _interruption(reports, len(session.mirrors), dry_run=dry_run))
        with progress(quiet=options.quiet) as bar:
            for name, mirror in session.mirrors.items():
                reports[name] = Report()
                await make_report(session, mirror, request, reports[name], bar)
        return print_result(session, request, reports)


async def make_report(
    session: "Session", mirror: "Mirror", request: ReconcileRequest, report: "Report", bar: "Bar"
) -> "Report":
    """Make the pass of a mirror. Fill in the report, which grows during the pass, and return it."""
    from syncd.sync import once
    from syncd.sync.mirror_status import Pace

    gate, counters = session.transport.gate, session.transport.counters
    began, before = time.monotonic(), counters.requests
    pace = Pace(mirror.target.requests, gate.seconds_for, gate.own_time)
    async with ProgressDisplay(mirror.name, bar, gate, pace=pace).refreshed() as display:
        await once.run(mirror, request.options, display, report)
        if request.wait_s is not None:
            await once.wait_until_indexed(mirror, report, request.wait_s)
        if request.options.dry_run and not report.error:
            from syncd.queries.forecast import usages

            report.usages = await usages(mirror)
    report.elapsed_s = time.monotonic() - began
    report.requests = counters.requests - before
    return report


def print_result(session: "Session", request: ReconcileRequest, reports: "dict[str, Report]") -> int:
    """Print the reports, for people or as JSON. Return the exit code."""
    code = most_serious(report.exit_code for report in reports.values())
    if request.as_json:
        _write_json(session, reports, code)
    else:
        print_reports(session, reports)
    return code


def _interruption(reports: "dict[str, Report]", mirrors: int, *, dry_run: bool) -> str:
    """Return a text with the progress of an interrupted pass. mirrors: the number of mirrors of the command."""
    if dry_run:
        return "reconcile: nothing was changed"
    results = [result for report in reports.values() for result in report.results]
    uploaded, deleted = (sum(report.done[kind] for report in reports.values()) for kind in ("put", "delete"))
    left = sum(max(0, result.remaining) for result in results)
    if not (left or uploaded or deleted):
        return "reconcile: nothing was changed; the comparison was not finished"
    deletes = f", {deleted} deleted" if deleted else ""
    # The plan of a mirror is complete only when everything was compared.
    scope = "" if len(reports) == mirrors and results else " of the compared part"
    return f"reconcile: {uploaded} uploaded{deletes}, {left} left{scope}; the next pass continues"


# -- the result for scripts


def _write_json(session: "Session", reports: "Mapping[str, Report]", exit_code: int) -> None:
    """Write one JSON object action by action, so that a plan of a million actions is never in memory."""
    _write('{"mirrors": {')
    for number, (name, report) in enumerate(reports.items()):
        _write(f"{', ' if number else ''}{json.dumps(name)}: ")
        _write_mirror(session, session.mirrors[name], report)
    _write(f'}}, "exit_code": {exit_code}}}\n')


def _write_mirror(session: "Session", mirror: "Mirror", report: "Report") -> None:
    complete = bool(report.results) and not report.error and all(result.complete for result in report.results)
    head: dict[str, Any] = {"dry_run": report.dry_run, "complete": complete, "plan": plan_counts(report)}
    head |= shard_field(session.config, mirror.name)
    if report.error:
        head["error"] = shown(str(report.error))
    if refusal := next((result.refusal for result in report.results if result.refusal), None):
        head["refused"] = refusal
    if plan := next((result.plan_id for result in report.results if result.plan_id), None):
        head["plan_id"] = plan
    _write(json.dumps(head)[:-1] + ', "actions": [')
    _write_list(_action_object(action, outcome) for action, outcome in report.actions())
    _write('], "problems": [')
    _write_list(map(asdict, report.problems(mirror)))
    done = report.done
    tail: dict[str, Any] = {"result": {kind: done[kind] for kind in ("put", "delete", "failed")}}
    if report.not_indexed:
        tail["not_searchable"] = {"count": report.not_indexed, "keys": [shown(key) for key in report.waiting]}
    if report.dry_run:
        tail["forecast"] = forecast(session, mirror, report)
        tail |= capacity_object(report)
    tail |= {"requests": report.requests, "elapsed_s": round(report.elapsed_s, 3)}
    _write("], " + json.dumps(tail)[1:])


def _write_list(objects: Iterable[dict[str, Any]]) -> None:
    for number, fields in enumerate(objects):
        _write(f"{', ' if number else ''}{json.dumps(fields)}")


def _write(text: str) -> None:
    """Write a part of the JSON without secrets."""
    sys.stdout.write(redact_text(text))


def _action_object(action: "Action", outcome: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"action": action.kind, "key": action.key, "reason": action.reason}
    size = getattr(action, "size", None)
    if size is not None:
        fields["bytes"] = size
    if outcome is not None:
        fields["outcome"] = outcome
    return fields
