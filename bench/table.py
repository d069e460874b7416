"""Figures and their table."""

import math
import statistics
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import zip_longest

NAME_WIDTH = 38
HEAD = ("figure", "measured", "limit", "ratio", "peer", "ratio", "to reach", "")
LEFT = (0, 4)
"""Columns that contain words."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The value of another program, in the unit of the figure.

    value: None if the program is not installed. get: how to install it.
    """

    name: str
    value: float | None = None
    get: str = ""
    median: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """Durations of another program in seconds; none if it is not installed. get: how to install it."""

    name: str
    seconds: Sequence[float]
    get: str = ""

    def at(self, rank: float) -> Peer:
        """Return a percentile in ms."""
        if not self.seconds:
            return Peer(self.name, get=self.get)
        return Peer(self.name, percentile(self.seconds, rank) * 1e3, self.get)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    reach: the goal, which is the largest good value; None without a goal. exact: a count that does not depend on the
    machine, so that a larger value than the goal is a fault. floor: the value of the latency or the disk alone; the
    table calls it "limit". median: the median of all rounds; the value is that of the best round.
    """

    name: str
    value: float
    unit: str = ""
    reach: float | None = None
    exact: bool = False
    _: KW_ONLY
    floor: float | None = None
    peers: tuple[Peer, ...] = ()
    median: float | None = None

    @property
    def over(self) -> bool:
        """Return whether the value is above its goal."""
        return self.reach is not None and self.value > self.reach

    @property
    def failed(self) -> bool:
        """Return whether the value is above a goal that holds on every machine."""
        return self.exact and self.over


@dataclass(frozen=True, slots=True)
class Rounds:
    """One figure measured several times. The best counts, because other work on the machine only adds time."""

    values: Sequence[float]

    @property
    def best(self) -> float:
        """Return the smallest value."""
        return min(self.values)

    @property
    def median(self) -> float | None:
        """Return the median, if there was more than one round."""
        return statistics.median(self.values) if len(self.values) > 1 else None

    def figure(
        self,
        name: str,
        unit: str,
        reach: float | None = None,
        *,
        floor: float | None = None,
        peers: Sequence[Peer] = (),
    ) -> Figure:
        """Return the rounds as a line of the table."""
        return Figure(name, self.best, unit, reach, floor=floor, peers=tuple(peers), median=self.median)

    def peer(self, name: str, get: str = "") -> Peer:
        """Return the rounds as a peer. Without rounds, the peer is not installed."""
        return Peer(name, self.best, get, self.median) if self.values else Peer(name, get=get)


def text(figures: Sequence[Figure]) -> list[str]:
    """Return the lines of the table, and below it how to install missing peers."""
    rows = [HEAD, *(row for figure in figures for row in _rows(figure))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if column in LEFT else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines + [f"not found: {note}" for note in missing(figures)]


def markdown(figures: Sequence[Figure]) -> list[str]:
    """Return the table as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", "|---|" + "--:|" * 3 + "---|" + "--:|" * 2 + "---|"]
    for figure in figures:
        median = f"<br>median {_number(figure.median, figure.unit)}" if figure.median is not None else ""
        beside = [cells for peer in figure.peers for cells in _peer(peer, figure)]
        peers, ratios = ("<br>".join(cells[at].strip() for cells in beside) for at in (0, 1))
        measured, *limit = _own(figure)
        cells = (figure.name, measured + median, *limit, peers, ratios, *_verdict(figure))
        lines.append(f"| {' | '.join(cells)} |")
    notes = [f"- not found: {note}" for note in missing(figures)]
    return [*lines, "", *notes] if notes else lines


def missing(figures: Sequence[Figure]) -> list[str]:
    """Return each missing peer once with the way to install it, unless it comes with another peer."""
    absent = (peer for figure in figures for peer in figure.peers if peer.value is None and peer.get)
    return list(dict.fromkeys(f"{peer.name}: {peer.get}" for peer in absent))


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(
    name: str, seconds: Sequence[float], reach_ms: tuple[float, float], *, floor_s: float, peers: Sequence[Sample] = ()
) -> list[Figure]:
    """Return p50, p90, p99 and max of durations in ms. reach_ms: goals of p50 and p99. peers: their samples."""
    named = (("p50", 50, reach_ms[0]), ("p90", 90, None), ("p99", 99, reach_ms[1]), ("max", 100, None))
    return [
        Figure(
            f"{name}, {label}",
            percentile(seconds, rank) * 1e3,
            "ms",
            reach,
            floor=floor_s * 1e3,
            peers=tuple(peer.at(rank) for peer in peers),
        )
        for label, rank, reach in named
    ]


def _rows(figure: Figure) -> Iterator[tuple[str, ...]]:
    """Yield the line of a figure, and further lines for a long name, the median and more peers."""
    first, *more = textwrap.wrap(figure.name, NAME_WIDTH, subsequent_indent="  ")
    measured, *limit = _own(figure)
    median = [("  median", _number(figure.median, figure.unit))] if figure.median is not None else []
    left = [(first, measured), *((line, "") for line in more), *median]
    right = [cells for peer in figure.peers for cells in _peer(peer, figure)]
    for at, (mine, theirs) in enumerate(zip_longest(left, right, fillvalue=("", ""))):
        yield (*mine, "", "", *theirs, "", "") if at else (*mine, *limit, *theirs, *_verdict(figure))


def _own(figure: Figure) -> tuple[str, str, str]:
    number, ratio = _number(figure.floor, figure.unit), _ratio(figure.value, figure.floor)
    return _number(figure.value, figure.unit), number, ratio


def _verdict(figure: Figure) -> tuple[str, str]:
    return _number(figure.reach, figure.unit), "" if figure.reach is None else "OVER" if figure.over else "ok"


def _peer(peer: Peer, figure: Figure) -> Iterator[tuple[str, str]]:
    if peer.value is None:
        yield f"{peer.name}: not found", ""
        return
    yield f"{peer.name}: {_number(peer.value, figure.unit)}", _ratio(figure.value, peer.value)
    if peer.median is not None:
        yield f"  median {_number(peer.median, figure.unit)}", ""


def _ratio(value: float, of: float | None) -> str:
    return f"{value / of:.2f}" if of else ""


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    if not unit:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f} {unit}"
