"""Figures, and the one table they end up in."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. limit: the most it may be; None: it only guides.

    exact: a count that does not depend on the machine, so that going over the limit is a fault.
    """

    name: str
    value: float
    unit: str = ""
    limit: float | None = None
    exact: bool = False

    @property
    def over(self) -> bool:
        """True if there is a limit and the value is above it."""
        return self.limit is not None and self.value > self.limit

    @property
    def failed(self) -> bool:
        """True if this figure must not be over its limit, on any machine, and is."""
        return self.exact and self.over


def show(figures: Sequence[Figure]) -> None:
    """Print the table."""
    rows = [("figure", "measured", "limit", "ratio", "")] + [_cells(figure) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        numbers = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        print("  ".join([row[0].ljust(widths[0]), *numbers]).rstrip())


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(name: str, seconds: Sequence[float], limits_ms: tuple[float | None, float | None]) -> list[Figure]:
    """Figures of a sample of durations: p50, p90, p99 and max in ms. limits_ms: those of p50 and p99."""
    named = (("p50", 50, limits_ms[0]), ("p90", 90, None), ("p99", 99, limits_ms[1]), ("max", 100, None))
    return [Figure(f"{name}, {label}", percentile(seconds, rank) * 1e3, "ms", limit) for label, rank, limit in named]


def _cells(figure: Figure) -> tuple[str, str, str, str, str]:
    limit = figure.limit
    if limit is None:
        return figure.name, _number(figure.value, figure.unit), "", "", ""
    ratio = f"{figure.value / limit:.2f}" if limit else ""
    return (
        figure.name,
        _number(figure.value, figure.unit),
        _number(limit, figure.unit),
        ratio,
        "OVER" if figure.over else "ok",
    )


def _number(value: float, unit: str) -> str:
    if not unit:
        return f"{value:,.0f}"
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f} {unit}"
