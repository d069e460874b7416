"""The room that the limits of the plans of Cloudflare leave after a pass.

The plan of an account is unknown, and Cloudflare raises the ceilings for single accounts on request. So this is advice.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog

from syncd.core.errors import SyncdError
from syncd.sync.mirror import Mirror
from syncd.targets.base import Usage

_log = structlog.get_logger()


class Growth(NamedTuple):
    """The additions of a pass. files: new entries less deleted ones. puts: all entries that it writes."""

    files: int = 0
    puts: int = 0


async def usages(mirror: Mirror) -> Sequence[Usage]:
    """Return how much of the plan's ceilings the target uses, nothing if the remote does not tell."""
    try:
        return await mirror.target.usage(account=False)
    except SyncdError as error:
        _log.info("capacity.unknown", mirror=mirror.name, why=str(error))
        return ()


def describe(usage: Usage, growth: Growth) -> tuple[str, str | None]:
    """Return one line about a ceiling, and the remedy if the pass may go over it, else None."""
    to_come = _to_come(usage, growth)
    used = "an unknown number" if usage.used is None else f"{usage.used:,}"
    head = f"{usage.what}: {used}{f', {to_come:,} to come' if to_come else ''}"
    after = (usage.used or 0) + to_come
    plans = _plans(usage)
    if usage.used is None:
        return f"{head}; {'; '.join(f'{name} {most:,}' for name, most in plans)}", _remedy(usage, after)
    left = "; ".join(f"{name} {max(0, most - after):,} of {most:,} left" for name, most in plans)
    return f"{head}; {left}", _remedy(usage, after)


def as_object(usage: Usage, growth: Growth) -> dict[str, Any]:
    """Return the JSON of a ceiling. A value is null if it is unknown or has no limit."""
    return {
        "what": usage.what,
        "used": usage.used,
        "to_come": _to_come(usage, growth),
        "free_plan": usage.free,
        "paid_plan": usage.paid,
    }


def _to_come(usage: Usage, growth: Growth) -> int:
    more = 0 if usage.per is None else growth.files if usage.per == "file" else growth.puts
    return max(0, usage.to_come + more)


def _plans(usage: Usage) -> list[tuple[str, int]]:
    """Return the plans that the account may have, with their ceilings."""
    if usage.free == usage.paid and usage.free is not None:
        return [("any plan:", usage.free)]
    plans = [("free plan:", usage.free), ("paid plan:", usage.paid)]
    # More than the free plan allows is there already, so the account has another one.
    return [(name, most) for name, most in plans if most is not None and not (name == "free plan:" and _is_paid(usage))]


def _is_paid(usage: Usage) -> bool:
    return usage.used is not None and usage.free is not None and usage.used > usage.free


def _remedy(usage: Usage, after: int) -> str | None:
    if usage.paid is not None and after > usage.paid:
        return "ask Cloudflare for a higher limit, or spread the files or stores over another one"
    if usage.free is not None and after > usage.free and not _is_paid(usage):
        return "nothing on a paid plan; on the free plan leave files out with exclude, or upgrade"
    return None
