"""Forecasts: the requests of the next pass, and the use of the ceilings of the Cloudflare plan of the account.

The plan of the account is unknown, and Cloudflare raises the ceilings of an account on request. So a ceiling that may
be exceeded is a remark, not an error.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd.core.errors import SyncdError
from syncd.core.names import Forms
from syncd.core.plain_text import counted, span

if TYPE_CHECKING:
    from syncd.sync.mirror import Mirror
    from syncd.targets.base import Target, Usage


# -- the next pass


@dataclass(slots=True)
class FolderSurvey:
    """The result of a walk that reads no file.

    unsent: files that are new or look changed; unsent_bytes: their size. html: files that are HTML by their names.
    known: entries of the journal; found: entries of the journal that have a file. complete: every directory could be
    read. protected: a mount is missing, so the number of deleted files is unknown. forms: files of each form.
    """

    files: int = 0
    problems: int = 0
    unsent: int = 0
    unsent_bytes: int = 0
    html: int = 0
    known: int = 0
    found: int = 0
    complete: bool = True
    protected: bool = False
    forms: Counter[str] = field(default_factory=Counter)


def describe_forms(survey: FolderSurvey, forms: Forms, *, missing: bool) -> str:
    """Return how many files are sent in another form. missing: the converter is not installed."""
    if missing:
        return f"{counted(survey.forms['convert'], 'file')} cannot be converted; the extra 'convert' is not installed"
    by = f" by {forms.converter}" if forms.convert else ""
    return f"{counted(survey.forms['convert'], 'file')} to convert{by}, {survey.forms['text']} to send as text"


def describe(survey: FolderSurvey, target: "Target", seconds_for: Callable[[int], float], limit: str) -> str:
    """Return a line with the requests and the time of the next pass, and of a pass with nothing to do.

    seconds_for: returns the seconds for a number of requests. limit: a text with the rate limit.
    """

    def cost(entries: int, more: int = 0) -> str:
        """Return the requests, and their time, of a listing of `entries` and of `more` other requests."""
        requests = max(1, -(-entries // target.limits.listed)) + more
        return f"{requests:,} request{'' if requests == 1 else 's'}, {span(seconds_for(requests))}"

    gone = survey.known - survey.found if survey.complete and not survey.protected else 0
    work = target.requests(survey.unsent, gone, survey.unsent_bytes)
    idle = f"one with nothing to do: {cost(survey.files)}"
    if not survey.known:
        return f"first pass about {cost(0, work)} {limit}; {idle}"
    if not (survey.unsent or gone):
        return f"nothing looks changed; a pass takes about {cost(survey.known)} {limit}"
    parts = [f"{survey.unsent:,} to look at" if survey.unsent else "", f"{gone:,} to delete" if gone else ""]
    return f"{', '.join(part for part in parts if part)}: about {cost(survey.known, work)} {limit}; {idle}"


# -- the limits of the plan


class Growth(NamedTuple):
    """The additions of a pass. files: new entries less deleted ones. puts: all entries that it writes."""

    files: int = 0
    puts: int = 0


async def usages(mirror: "Mirror") -> "Sequence[Usage]":
    """Return the use of the ceilings of the plan by the target, () if the remote does not report it."""
    import structlog

    try:
        return await mirror.target.usage(account=False)
    except SyncdError as error:
        structlog.get_logger().info("capacity.unknown", mirror=mirror.name, why=str(error))
        return ()


def describe_usage(usage: "Usage", growth: Growth) -> tuple[str, str | None]:
    """Return a line about a ceiling, and the remedy if the pass may exceed the ceiling, else None."""
    to_come = _to_come(usage, growth)
    used = "an unknown number" if usage.used is None else f"{usage.used:,}"
    head = f"{usage.what}: {used}{f', {to_come:,} to come' if to_come else ''}"
    after = (usage.used or 0) + to_come
    plans = _plans(usage)
    if usage.used is None:
        return f"{head}; {'; '.join(f'{name} {most:,}' for name, most in plans)}", _remedy(usage, after)
    left = "; ".join(f"{name} {max(0, most - after):,} of {most:,} left" for name, most in plans)
    return f"{head}; {left}", _remedy(usage, after)


def usage_object(usage: "Usage", growth: Growth) -> dict[str, Any]:
    """Return the JSON of a ceiling. A value is null if it is unknown or has no limit."""
    return {
        "what": usage.what,
        "used": usage.used,
        "to_come": _to_come(usage, growth),
        "free_plan": usage.free,
        "paid_plan": usage.paid,
    }


def _to_come(usage: "Usage", growth: Growth) -> int:
    """Return the additions that a ceiling counts: of the target, and of the pass."""
    if usage.per is None:
        return max(0, usage.to_come)
    return max(0, usage.to_come + (growth.files if usage.per == "file" else growth.puts))


def _plans(usage: "Usage") -> list[tuple[str, int]]:
    """Return the plans that the account may have, with their ceilings."""
    if usage.free == usage.paid and usage.free is not None:
        return [("any plan:", usage.free)]
    plans = [("free plan:", usage.free), ("paid plan:", usage.paid)]
    # The account uses more than the free plan allows, so it has another plan.
    return [(name, most) for name, most in plans if most is not None and not (name == "free plan:" and _is_paid(usage))]


def _is_paid(usage: "Usage") -> bool:
    return usage.used is not None and usage.free is not None and usage.used > usage.free


def _remedy(usage: "Usage", after: int) -> str | None:
    if usage.paid is not None and after > usage.paid:
        return "ask Cloudflare for a higher limit, or spread the files or stores over another one"
    if usage.free is not None and after > usage.free and not _is_paid(usage):
        return "nothing on a paid plan; on the free plan leave files out with exclude, or upgrade"
    return None
