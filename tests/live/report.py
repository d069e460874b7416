"""The report of a live run: one value, as JSON and as Markdown. It names neither the account nor a secret."""

import platform
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from syncd import __version__
from syncd.core.probe_answers import ProbeAnswers
from tests.live.lab import Lab

Outcome = Literal["passed", "failed", "skipped", "not run"]
MESSAGE = 600
"""Maximum characters of the reason of a failure."""


@dataclass(slots=True)
class Case:
    """One test. requests: its number of requests. why: the reason of a failure or of a skip."""

    name: str
    outcome: Outcome = "passed"
    seconds: float = 0.0
    requests: int = 0
    why: str = ""


@dataclass(slots=True)
class LiveReport:
    """What a run found.

    service: who answered. requests: of the whole run. limit: the most it may make. left: what could not be removed.
    removed: stores of earlier runs that were removed.
    """

    started: str
    service: str
    limit: int
    syncd: str = __version__
    python: str = field(default_factory=platform.python_version)
    requests: int = 0
    seconds: float = 0.0
    answer_ms: float | None = None
    statuses: dict[str, int] = field(default_factory=dict)
    routes: dict[str, int] = field(default_factory=dict)
    manners: dict[str, Any] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    removed: int = 0
    broken: str = ""

    @property
    def outcomes(self) -> Counter[str]:
        """The number of tests by outcome."""
        return Counter(case.outcome for case in self.cases)

    @property
    def ok(self) -> bool:
        """Whether every test ran and passed or had nothing to test, and nothing is left."""
        counted = self.outcomes
        bad = counted["failed"] + counted["not run"]
        return bool(counted["passed"]) and not bad and not self.left and not self.broken

    def add(self, lab: Lab) -> None:
        """Add what the lab counted."""
        wire = lab.wire
        self.requests, self.removed, self.left = wire.requests, lab.removed, lab.faults
        self.answer_ms = round(median(wire.latency) * 1000, 1) if wire.latency else None
        self.statuses = {str(status): number for status, number in sorted(wire.statuses.items())}
        self.routes = dict(sorted(wire.routes.items()))
        self.manners = _answers(lab.manners)

    def as_json(self) -> dict[str, Any]:
        """Return the report as a JSON object."""
        return asdict(self) | {"outcomes": dict(self.outcomes), "ok": self.ok}

    def as_markdown(self) -> str:
        """Return the report as Markdown."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        counted = ", ".join(f"{number} {outcome}" for outcome, number in sorted(self.outcomes.items()))
        yield f"# syncd {self.syncd} on {self.service}"
        yield ""
        yield f"{self.started}, Python {self.python}: {counted or 'no test ran'}."
        made = f"{self.requests} requests of at most {self.limit} in {self.seconds:.0f} s"
        yield f"{made}; the median answer took {self.answer_ms} ms."
        if self.broken:
            yield f"\nThe run ended early: {self.broken}"
        yield from _table(("answer of the instance", "learned"), self.manners.items())
        yield from _table(
            ("test", "outcome", "requests", "seconds", "why"),
            ((case.name, case.outcome, case.requests, f"{case.seconds:.1f}", case.why) for case in self.cases),
        )
        yield from _table(("route", "requests"), self.routes.items())
        yield from _table(("status", "answers"), self.statuses.items())
        yield ""
        left = "; ".join(self.left) or "none"
        yield f"Stores of earlier runs that were removed: {self.removed}. Stores that could not be removed: {left}."


def _answers(manners: ProbeAnswers) -> dict[str, Any]:
    return {question: answer for question, answer in manners.as_json().items() if question != "fields"}


def _table(head: tuple[str, ...], rows: Any) -> Iterator[str]:
    yield ""
    yield _row(head)
    yield "|" + "---|" * len(head)
    for row in rows:
        yield _row(row)


def _row(cells: Any) -> str:
    return "| " + " | ".join(" ".join(str(cell).split()).replace("|", "\\|") for cell in cells) + " |"
