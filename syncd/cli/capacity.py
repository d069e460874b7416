"""Reads how much of the limits of an account a target uses, and prints the room after the plan of a dry run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from syncd.cli.output import print_line
from syncd.core.errors import SyncdError

if TYPE_CHECKING:
    from syncd.queries.capacity import Growth
    from syncd.sync.mirror import Mirror
    from syncd.sync.once import Report
    from syncd.targets.base import Usage


async def usages(mirror: "Mirror") -> "Sequence[Usage]":
    """Return how much of the plan's ceilings the target uses, nothing if the remote does not tell."""
    import structlog

    try:
        return await mirror.target.usage(account=False)
    except SyncdError as error:
        structlog.get_logger().info("capacity.unknown", mirror=mirror.name, why=str(error))
        return ()


def print_capacity(report: "Report") -> None:
    """Print how much room the ceilings leave after the plan of a dry run."""
    from syncd.queries.capacity import describe

    growth = _growth(report)
    for usage in report.usages:
        line, remedy = describe(usage, growth)
        print_line(f"  {line}{f' → {remedy}' if remedy else ''}")


def capacity_object(report: "Report") -> dict[str, Any]:
    """Return the ceilings for scripts, {} unless the plan may go over one of them."""
    from syncd.queries.capacity import as_object, describe

    growth = _growth(report)
    if not any(describe(usage, growth)[1] for usage in report.usages):
        return {}
    return {"capacity": [as_object(usage, growth) for usage in report.usages]}


def _growth(report: "Report") -> "Growth":
    """Return how many entries the plan of a dry run adds and writes."""
    from syncd.queries.capacity import Growth
    from syncd.queries.verify import MISSING

    actions = (action for result in report.results for action, _ in result.tables.plan.actions())
    new = sum(action.kind == "put" and action.reason in MISSING for action in actions)
    counts = [result.tables.plan.counts for result in report.results]
    return Growth(new - sum(each["delete"] for each in counts), sum(each["put"] for each in counts))
