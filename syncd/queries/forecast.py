"""Forecasts: the rest of the current pass, the requests of the next pass, and the use of the plan's ceilings.

The plan of an account is unknown, and Cloudflare raises the ceilings for single accounts on request. So a
ceiling that may be exceeded is a remark, not an error.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from syncd.core.errors import SyncdError
from syncd.core.names import Forms
from syncd.core.plain_text import counted

if TYPE_CHECKING:
    from syncd.sync.mirror import Mirror, Result
    from syncd.targets.base import Target, Usage

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))


def span(seconds: float) -> str:
    """Return a length of time for people: "7 s", "6 min", "3 h 20 min", "2 d 4 h"."""
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    # The time is rounded to the smallest unit that is printed, so that 59 min 40 s becomes 1 h.
    small = 3600 if whole >= 86400 else 60
    whole = round(whole / small) * small
    place = next(place for place, (unit, _) in enumerate(_UNITS) if whole >= unit)
    (unit, name), (below, below_name) = _UNITS[place], (*_UNITS, (1.0, "s"))[place + 1]
    rest = int(whole % unit // below)
    more = f" {rest} {below_name}" if rest and below_name != "s" else ""
    return f"{int(whole // unit)} {name}{more}"


# -- the current pass


def left_s(left: int, done: int, elapsed_s: float, floor_s: float) -> float | None:
    """Return the seconds that the remaining actions take, None while that is unknown.

    done: actions made in the last elapsed_s seconds. floor_s: the shortest time that the rate limit allows. The larger
    estimate counts: the speed of one bulk request says little about the next one, and the rate limit says little about
    large files.
    """
    if left <= 0:
        return 0.0
    if done <= 0:
        return floor_s or None
    return max(left * elapsed_s / done, floor_s)


class Pace:
    """Estimates the remaining time of one pass after another.

    requests: returns the number of requests that puts and deletes take. seconds_for: returns how long a number of
    requests takes by the rate limits. clock: counts seconds, but stands still while requests wait for the rate limits.
    """

    def __init__(
        self, requests: Callable[[int, int], int], seconds_for: Callable[[int], float], clock: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._requests = requests
        self._seconds_for = seconds_for
        self._result: Result | None = None
        self._since = 0.0

    def look(self, result: "Result") -> float | None:
        """Return the seconds that a pass still takes, None until it has changed the remote."""
        now = self._clock()
        done = result.done["put"] + result.done["delete"] + result.done["failed"]
        if result is not self._result or not done:
            self._result, self._since = result, now
        if not done:
            return None
        deletes = max(0, result.tables.plan.counts["delete"] - result.done["delete"])
        left = max(0, result.tables.plan.counts["put"] + result.tables.plan.counts["delete"] - done)
        puts = max(0, left - deletes)
        return left_s(left, done, now - self._since, self._seconds_for(self._requests(puts, min(deletes, left))))


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
    """Return how many requests and how long the next pass takes, and the same for a pass that has nothing to do.

    seconds_for: returns how long a number of requests takes. limit: the rate limit, for people.
    """

    def cost(entries: int, more: int = 0) -> str:
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
    """Return how much of the plan's ceilings the target uses, nothing if the remote does not tell."""
    import structlog

    try:
        return await mirror.target.usage(account=False)
    except SyncdError as error:
        structlog.get_logger().info("capacity.unknown", mirror=mirror.name, why=str(error))
        return ()


def describe_usage(usage: "Usage", growth: Growth) -> tuple[str, str | None]:
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
    more = 0 if usage.per is None else growth.files if usage.per == "file" else growth.puts
    return max(0, usage.to_come + more)


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
