"""The result of a reconcile: a few lines for people, one JSON object for scripts."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain, islice
from typing import Any, Literal

from syncd.cli.output import counted, print_error, print_line, print_table, shard_suffix
from syncd.core.keys import shown
from syncd.core.model import Action, Put
from syncd.core.plain_text import megabytes
from syncd.queries.forecast import per_second, span
from syncd.service.build import Session
from syncd.sync.mirror import Mirror
from syncd.sync.once import Report

_PROBLEMS_SHOWN = 20
_KINDS: tuple[Literal["put", "delete", "adopt", "forget"], ...] = ("put", "delete", "adopt", "forget")


# -- for people


def print_reports(session: Session, reports: Mapping[str, Report]) -> None:
    """Print what each mirror did, or would do, and its problems."""
    for name, report in reports.items():
        section, mirror = session.config.mirrors[name], session.mirrors[name]
        print_line(f"{name} → {section.target.spec}{shard_suffix(section.shard)}: {_summary(report)}")
        if report.results and report.results[0].dry_run:
            _print_plan(session, mirror, report)
        _print_problems(mirror, report)
        if report.not_indexed:
            keys = ", ".join(shown(key) for key in report.waiting)
            more = ", …" if report.not_indexed > len(report.waiting) else ""
            print_line(f"  {report.not_indexed} not searchable yet: {keys}{more}")
        if report.postponed_deletes:
            deletes = counted(report.postponed_deletes, "delete")
            print_line(f"  {deletes} postponed until the replacement is searchable: syncd status")
        if report.error:
            print_error(str(report.error))


def _summary(report: Report) -> str:
    if not report.results:
        return "not begun"
    dry_run = report.results[0].dry_run
    planned, done = _planned(report), _done(report)
    counts = planned if dry_run else done
    parts = [f"{counts[kind]} {kind}" for kind in _KINDS if counts.get(kind)]
    if done.get("failed"):
        parts.append(f"{done['failed']} failed")
    tail = "" if dry_run else f" ({counted(report.requests, 'request')}, {report.elapsed_s:.1f} s)"
    if report.error and not parts:
        return f"stopped, nothing done{tail}"
    parts.append(f"{planned['unchanged']} unchanged")
    begin = "stopped after " if report.error else "would be " if dry_run and len(parts) > 1 else ""
    return begin + ", ".join(parts) + tail


def _print_plan(session: Session, mirror: Mirror, report: Report) -> None:
    rows = [
        (f"  {action.kind}", action.reason, action.key, megabytes(action.size) if isinstance(action, Put) else "")
        for result in report.results
        for action, _ in result.tables.plan.actions()
    ]
    if rows:
        print_table(("", "", "", "size"), rows)
        forecast = _forecast(session, mirror, report)
        requests = counted(int(forecast["requests"]), "request")
        print_line(f"  about {requests}, {span(forecast['seconds'])} at the present rate limit")
    for result in report.results:
        if result.refusal:
            print_line(f"  refused when run: {result.refusal}")


def _print_problems(mirror: Mirror, report: Report) -> None:
    problems = report.problems(mirror)
    if problems:
        print_table(("", "", ""), [(f"  {p.kind}", p.key, p.message) for p in problems[:_PROBLEMS_SHOWN]])
    if len(problems) > _PROBLEMS_SHOWN:
        print_line(f"  … and {len(problems) - _PROBLEMS_SHOWN} more: syncd status")


# -- for scripts


def write_json(session: Session, reports: Mapping[str, Report], exit_code: int) -> None:
    """Write one JSON object action by action, so that a plan of a million actions is never in memory."""
    out = sys.stdout
    out.write('{"mirrors": {')
    for number, (name, report) in enumerate(reports.items()):
        out.write(f"{', ' if number else ''}{json.dumps(name)}: ")
        _write_mirror(session, session.mirrors[name], report)
    out.write(f'}}, "exit_code": {exit_code}}}\n')


def _write_mirror(session: Session, mirror: Mirror, report: Report) -> None:
    dry_run = any(result.dry_run for result in report.results)
    complete = bool(report.results) and not report.error and all(result.complete for result in report.results)
    head: dict[str, Any] = {"dry_run": dry_run, "complete": complete, "plan": _planned(report)}
    if shard := session.config.mirrors[mirror.name].shard:
        head["shard"] = shard
    if report.error:
        head["error"] = shown(str(report.error))
    refusals = [result.refusal for result in report.results if result.refusal]
    if refusals:
        head["refused"] = refusals[0]
    sys.stdout.write(json.dumps(head)[:-1] + ', "actions": [')
    _write_list(
        _action_object(action, outcome) for result in report.results for action, outcome in result.tables.plan.actions()
    )
    sys.stdout.write('], "problems": [')
    _write_list(asdict(problem) for problem in report.problems(mirror))
    done = _done(report)
    tail: dict[str, Any] = {"result": {kind: done.get(kind, 0) for kind in ("put", "delete", "failed")}}
    if report.not_indexed:
        tail["not_searchable"] = {"count": report.not_indexed, "keys": [shown(key) for key in report.waiting]}
    if dry_run:
        tail["forecast"] = _forecast(session, mirror, report)
    tail |= {"requests": report.requests, "elapsed_s": round(report.elapsed_s, 3)}
    sys.stdout.write("], " + json.dumps(tail)[1:])


def _write_list(objects: Iterator[dict[str, Any]]) -> None:
    first = (json.dumps(item) for item in islice(objects, 1))
    for text in chain(first, (", " + json.dumps(item) for item in objects)):
        sys.stdout.write(text)


def _action_object(action: Action, outcome: str | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"action": action.kind, "key": action.key, "reason": action.reason}
    size = getattr(action, "size", None)
    if size is not None:
        fields["bytes"] = size
    if outcome is not None:
        fields["outcome"] = outcome
    return fields


# -- counts


def _forecast(session: Session, mirror: Mirror, report: Report) -> dict[str, float]:
    """Return how many requests the plan takes, and how many seconds at the configured rate."""
    planned = _planned(report)
    size = sum(result.tables.plan.put_bytes for result in report.results)
    requests = mirror.target.requests(planned["put"], planned["delete"], size)
    section = session.config.cloudflare
    return {"requests": requests, "seconds": round(requests / per_second(section.tpslimit, section.transfers), 1)}


def _planned(report: Report) -> dict[str, int]:
    results = report.results
    counts: dict[str, int] = {kind: sum(result.tables.plan.counts[kind] for result in results) for kind in _KINDS}
    # Only the last pass still has the postponed deletes in its plan.
    counts["delete"] += report.postponed_deletes
    # Files that a later pass takes again were counted by the full pass.
    return {**counts, "unchanged": results[0].unchanged if results else 0}


def _done(report: Report) -> dict[str, int]:
    return {kind: sum(result.done[kind] for result in report.results) for kind in (*_KINDS, "failed")}
