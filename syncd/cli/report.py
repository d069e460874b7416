"""How a `reconcile` is told: to people in a few lines, to scripts as one JSON object."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import chain, islice
from typing import Any

from syncd.cli.out import line, of_shard, table
from syncd.core.keys import shown
from syncd.core.model import Action, Put
from syncd.core.redact import printable
from syncd.queries.forecast import per_second, span
from syncd.service.build import Session
from syncd.service.once import Report
from syncd.sync.mirror import Mirror
from syncd.sync.passes import Result
from syncd.targets.base import megabytes

SHOWN = 20
"""Problems listed for people; scripts get all of them."""


def show(session: Session, reports: Mapping[str, Report]) -> None:
    """Print what was done, or would be, and what stands in the way."""
    for name, report in reports.items():
        section = session.config.mirrors[name]
        line(f"{name} → {section.target.spec}{of_shard(section.shard)}: {_summary(report)}")
        if report.results and report.results[0].dry_run:
            _show_plan(session, session.mirrors[name], report)
        mirror = session.mirrors[name]
        problems = report.problems(mirror)
        if problems:
            table(("", "", ""), [(f"  {p.kind}", p.key, p.message) for p in problems[:SHOWN]])
        if len(problems) > SHOWN:
            line(f"  … and {len(problems) - SHOWN} more: syncd status")
        if report.not_indexed:
            named = ", ".join(shown(key) for key in report.waiting)
            more = ", …" if report.not_indexed > len(report.waiting) else ""
            line(f"  {report.not_indexed} not searchable yet: {named}{more}")
        if report.put_off:
            line(f"  {counted(report.put_off, 'delete')} put off until what replaces it is searchable: syncd status")
        if report.error:
            print(f"syncd: {printable(str(report.error))}", file=sys.stderr)  # noqa: T201


def _summary(report: Report) -> str:
    if not report.results:
        return "not begun"
    dry = report.results[0].dry_run
    planned, done = _planned(report), _done(report)
    counts = planned if dry else done
    words = [f"{counts[kind]} {kind}" for kind in ("put", "delete", "adopt", "forget") if counts.get(kind)]
    if done.get("failed"):
        words.append(f"{done['failed']} failed")
    tail = "" if dry else f" ({counted(report.requests, 'request')}, {report.elapsed_s:.1f} s)"
    if report.error and not words:
        return f"stopped, nothing done{tail}"
    words.append(f"{planned['unchanged']} unchanged")
    begun = "stopped after " if report.error else "would be " if dry and len(words) > 1 else ""
    return begun + ", ".join(words) + tail


def counted(number: int, what: str) -> str:
    """Number and noun: "1 request", "2 requests"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _show_plan(session: Session, mirror: Mirror, report: Report) -> None:
    rows = [
        (f"  {action.kind}", action.reason, action.key, megabytes(action.size) if isinstance(action, Put) else "")
        for result in report.results
        for action, _ in result.tables.plan.actions()
    ]
    if rows:
        table(("", "", "", "size"), rows)
        seen = forecast(session, mirror, report)
        requests = counted(int(seen["requests"]), "request")
        line(f"  about {requests}, {span(seen['seconds'])} at the present rate limit")
    for result in report.results:
        if result.refusal:
            line(f"  refused when run: {result.refusal}")


def forecast(session: Session, mirror: Mirror, report: Report) -> dict[str, float]:
    """How many requests the plan takes, and how long they take at the configured rate."""
    planned = _planned(report)
    size = sum(result.tables.plan.put_bytes for result in report.results)
    requests = mirror.target.requests(planned["put"], planned["delete"], size)
    section = session.config.cloudflare
    return {"requests": requests, "seconds": round(requests / per_second(section.tpslimit, section.transfers), 1)}


def to_json(session: Session, reports: Mapping[str, Report], exit_code: int) -> None:
    """Write the contract's object, action by action, so that a plan of a million is never held."""
    out = sys.stdout
    out.write('{"mirrors": {')
    for number, (name, report) in enumerate(reports.items()):
        out.write(f"{', ' if number else ''}{json.dumps(name)}: ")
        _mirror_json(session, session.mirrors[name], report)
    out.write(f'}}, "exit_code": {exit_code}}}\n')


def _mirror_json(session: Session, mirror: Mirror, report: Report) -> None:
    dry = any(result.dry_run for result in report.results)
    complete = bool(report.results) and not report.error and all(result.complete for result in report.results)
    head: dict[str, Any] = {"dry_run": dry, "complete": complete, "plan": _planned(report)}
    if shard := session.config.mirrors[mirror.name].shard:
        head["shard"] = shard
    if report.error:
        head["error"] = shown(str(report.error))
    refusals = [result.refusal for result in report.results if result.refusal]
    if refusals:
        head["refused"] = refusals[0]
    sys.stdout.write(json.dumps(head)[:-1] + ', "actions": [')
    _write_list(
        _action_json(action, outcome) for result in report.results for action, outcome in result.tables.plan.actions()
    )
    sys.stdout.write('], "problems": [')
    _write_list(asdict(problem) for problem in report.problems(mirror))
    done = _done(report)
    tail: dict[str, Any] = {"result": {kind: done.get(kind, 0) for kind in ("put", "delete", "failed")}}
    if report.not_indexed:
        tail["not_searchable"] = {"count": report.not_indexed, "keys": [shown(key) for key in report.waiting]}
    if dry:
        tail["forecast"] = forecast(session, mirror, report)
    tail |= {"requests": report.requests, "elapsed_s": round(report.elapsed_s, 3)}
    sys.stdout.write("], " + json.dumps(tail)[1:])


def _write_list(items: Iterator[dict[str, Any]]) -> None:
    for item in chain((json.dumps(first) for first in islice(items, 1)), (", " + json.dumps(item) for item in items)):
        sys.stdout.write(item)


def _action_json(action: Action, outcome: str | None) -> dict[str, Any]:
    told: dict[str, Any] = {"action": action.kind, "key": action.key, "reason": action.reason}
    size = getattr(action, "size", None)
    if size is not None:
        told["bytes"] = size
    if outcome is not None:
        told["outcome"] = outcome
    return told


def _planned(report: Report) -> dict[str, int]:
    results: list[Result] = report.results
    counts = {kind: sum(r.tables.plan.counts[kind] for r in results) for kind in ("put", "delete", "adopt", "forget")}
    # A delete that waited was taken out of the plan of every pass but the last.
    counts["delete"] += report.put_off
    # A file taken again was counted by the full pass already.
    return {**counts, "unchanged": results[0].unchanged if results else 0}


def _done(report: Report) -> dict[str, int]:
    kinds = ("put", "delete", "adopt", "forget", "failed")
    return {kind: sum(result.done[kind] for result in report.results) for kind in kinds}
