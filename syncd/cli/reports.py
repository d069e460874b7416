"""Prints the reports of passes for people: actions (done or planned), problems, and the numbers of both."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from syncd.cli.output import print_error, print_line, print_problems, print_table, shard_suffix
from syncd.core.keys import shown
from syncd.core.plain_text import counted, shown_size, span

if TYPE_CHECKING:
    from syncd.queries.forecast import Growth
    from syncd.service.build import Session
    from syncd.sync.mirror import Mirror
    from syncd.sync.once import Report

KINDS: tuple[Literal["put", "delete", "adopt", "forget"], ...] = ("put", "delete", "adopt", "forget")
_ACTIONS_SHOWN = 200
"""The largest number of actions that a dry run prints one by one. More have one line for each directory."""
_Row = tuple[str, str, str, str]


def print_reports(session: "Session", reports: "Mapping[str, Report]") -> None:
    """Print the actions of each mirror, done or planned, and its problems. A dry run ends with its summary."""
    for name, report in reports.items():
        section, mirror = session.config.mirrors[name], session.mirrors[name]
        title = f"{name} → {section.target.spec}{shard_suffix(section.shard)}"
        if report.dry_run:
            _print_plan(session, mirror, report, title)
        else:
            _print_pass(mirror, report, title)
        if report.error:
            print_error(str(report.error))


def _print_pass(mirror: "Mirror", report: "Report", title: str) -> None:
    print_line(f"{title}: {_summary(report)}")
    print_problems(report.problems(mirror), f"syncd status {mirror.name} --all")
    if report.not_indexed:
        keys = ", ".join(shown(key) for key in report.waiting)
        left = report.not_indexed - len(report.waiting)
        more = f" and {left} more: syncd ls {mirror.name}" if left > 0 else ""
        print_line(f"  {report.not_indexed} not searchable yet: {keys}{more}")
    if report.postponed_deletes:
        deletes = counted(report.postponed_deletes, "delete")
        print_line(f"  {deletes} postponed until the replacement is searchable: syncd status")


def _summary(report: "Report") -> str:
    if not report.results:
        return "not begun"
    dry_run, plan = report.dry_run, plan_counts(report)
    counts = plan if dry_run else report.done
    parts = [f"{counts[kind]} {kind}" for kind in KINDS if counts[kind]]
    if dry_run and counts["put"]:
        parts[0] += f" ({shown_size(_put_bytes(report))})"
    if failed := report.done["failed"]:
        parts.append(f"{failed} failed")
    tail = "" if dry_run else f" ({counted(report.requests, 'request')}, {report.elapsed_s:.1f} s)"
    if report.error and not parts:
        return f"stopped, nothing done{tail}"
    parts.append(f"{plan['unchanged']} unchanged")
    begin = "stopped after " if report.error else "would be " if dry_run and len(parts) > 1 else ""
    return begin + ", ".join(parts) + tail


# -- dry runs


def _print_plan(session: "Session", mirror: "Mirror", report: "Report", title: str) -> None:
    problems = report.problems(mirror)
    if report.planned or problems:
        print_line(f"{title}:")
    if report.planned:
        print_table(("", "", "", "size"), _plan_rows(report))
        if report.planned.total() > _ACTIONS_SHOWN:
            print_line(f"  each file: syncd plan {mirror.name} --json")
    print_problems(problems, f"syncd plan {mirror.name} --json")
    _print_capacity(report)
    for result in report.results:
        if result.plan_id:
            print_line(f"  plan {result.plan_id}")
        if result.refusal:
            print_line(f"  a run would refuse the deletes: {result.refusal}")
    cost = ""
    if report.planned:
        expected = forecast(session, mirror, report)
        requests = counted(int(expected["requests"]), "request")
        cost = f"; about {requests}, {span(expected['seconds'])} at the present rate limit"
    print_line(f"{title}: {_summary(report)}{cost}")


def _plan_rows(report: "Report") -> Iterator[_Row]:
    """Yield a row for each action, or for each directory if there are many."""
    if report.planned.total() <= _ACTIONS_SHOWN:
        for action, _ in report.actions():
            size = shown_size(action.size) if action.kind == "put" else ""
            yield f"  {action.kind}", action.reason, action.key, size
        return
    files, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for action, _ in report.actions():
        directory = action.key.rpartition("/")[0], action.kind
        files[directory] += 1
        sizes[directory] += action.size if action.kind == "put" else 0
    for path, kind in sorted(files):
        size = shown_size(sizes[path, kind]) if kind == "put" else ""
        yield f"  {kind}", counted(files[path, kind], "file"), f"{path}/" if path else "./", size


# -- counts


def forecast(session: "Session", mirror: "Mirror", report: "Report") -> dict[str, float]:
    """Return how many requests the plan takes, and how many seconds at the present rate limits."""
    plan = plan_counts(report)
    requests = mirror.target.requests(plan["put"], plan["delete"], _put_bytes(report))
    return {"requests": requests, "seconds": round(session.transport.gate.seconds_for(requests), 1)}


def plan_counts(report: "Report") -> dict[str, int]:
    """Return the number of planned actions by kind, and of entries that are in step."""
    results = report.results
    counts: dict[str, int] = {kind: report.planned[kind] for kind in KINDS}
    # Only the last pass still has the postponed deletes in its plan.
    counts["delete"] += report.postponed_deletes
    # Files that a later pass takes again were counted by the full pass.
    return {**counts, "unchanged": results[0].unchanged if results else 0}


def _put_bytes(report: "Report") -> int:
    """Return the size of all puts in bytes."""
    return sum(result.tables.plan.put_bytes for result in report.results)


# -- the limits of the account


def _print_capacity(report: "Report") -> None:
    """Print how much room the ceilings leave after the plan of a dry run, if that is known or becomes less."""
    from syncd.queries.forecast import describe_usage, usage_object

    growth = _growth(report)
    for usage in report.usages:
        if usage.used is None and not usage_object(usage, growth)["to_come"]:
            continue
        line, remedy = describe_usage(usage, growth)
        print_line(f"  {line}{f' → {remedy}' if remedy else ''}")


def capacity_object(report: "Report") -> dict[str, Any]:
    """Return the ceilings for scripts, {} unless the plan may go over one of them."""
    from syncd.queries.forecast import describe_usage, usage_object

    growth = _growth(report)
    if not any(describe_usage(usage, growth)[1] for usage in report.usages):
        return {}
    return {"capacity": [usage_object(usage, growth) for usage in report.usages]}


def _growth(report: "Report") -> "Growth":
    """Return how many entries the plan of a dry run adds and writes."""
    from syncd.queries.forecast import Growth
    from syncd.queries.verify import MISSING

    new = sum(action.kind == "put" and action.reason in MISSING for action, _ in report.actions())
    return Growth(new - report.planned["delete"], report.planned["put"])
