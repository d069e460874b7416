"""Forecasts the time of a number of requests, the rest of a pass, and the next pass of a folder."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from syncd.core.names import Forms
from syncd.core.plain_text import counted

if TYPE_CHECKING:
    from syncd.sync.mirror import Result
    from syncd.targets.base import Target

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
