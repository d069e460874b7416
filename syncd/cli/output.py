"""Printing: JSON, lines, tables and progress. The answer goes to stdout, everything else to stderr."""

import json
import math
import sys
import time
import unicodedata
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol, Self

import click

from syncd.core.plain_text import counted, printable, redact_text, span
from syncd.service.streams import LogStream, is_terminal, shows_colours

if TYPE_CHECKING:
    from syncd.cloudflare.gate import Gate
    from syncd.core.model import Problem
    from syncd.sync.mirror import Result
    from syncd.sync.mirror_status import Pace

PROBLEMS_SHOWN = 20
"""The largest number of problems of a mirror that are printed."""
_WIDEST = 60
"""The largest number of columns to which the other cells of a column are filled up."""
PLAIN_INTERVAL_S = 5.0
"""Seconds between two progress lines when stderr is no terminal."""
_REFRESH_S = 0.1
"""Seconds between two states of the progress bar."""
_WAIT_LOOK_S = 1.0
"""Seconds between two checks whether requests wait for the rate limits."""
_BAR_WIDTH = 30
_ERASE = b"\x1b[K"
"""Control sequence: removes the rest of the line."""
_FIRST_STEP = "listing the target"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[?7h"
"""Control sequences: a terminal cuts longer lines; a terminal continues them in the next line."""


def print_json(data: Any) -> None:
    """Print one JSON object."""
    print(redact_text(json.dumps(data, indent=2)))  # noqa: T201


def print_line(text: str) -> None:
    """Print one line of the answer, with control characters and secrets escaped. A reader of a pipe gets it at once."""
    print(printable(text), flush=True)  # noqa: T201


def print_note(text: str) -> None:
    """Print one line to stderr that is not part of the answer, with control characters and secrets escaped."""
    print(printable(text), file=sys.stderr)  # noqa: T201


def print_error(text: str) -> None:
    """Print an error that does not end the command."""
    print_note(f"syncd: {text}")


def print_styled(text: str) -> None:
    """Print one line of the answer that is escaped already. Its colours are for terminals only."""
    print(_styled(text))  # noqa: T201


def print_frame(lines: Sequence[str], replaced: int) -> None:
    """Print lines in place of the last `replaced` lines of a terminal, which cuts lines that are too long."""
    back = f"\x1b[{replaced}F\x1b[J" if replaced else ""
    text = "\n".join(map(_styled, lines))
    print(f"{_NO_WRAP}{back}{text}{_WRAP}", flush=True)  # noqa: T201


def _styled(text: str) -> str:
    """Return a text without its colours if stdout is no terminal or the user wants none (no-color.org)."""
    return text if shows_colours(sys.stdout) else click.unstyle(text)


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns, with control characters and secrets escaped. Lines are never folded."""
    cells = [[printable("" if value is None else str(value)) for value in row] for row in rows]
    for line in table_lines(headers, cells, right=("size",)):
        print_styled(line)


def print_rows(rows: Iterable[Sequence[object]]) -> None:
    """Print indented rows in columns without headers, nothing if there are none."""
    indented = [(f"  {first}", *rest) for first, *rest in rows]
    print_table([""] * len(indented[0]) if indented else (), indented)


def print_problems(problems: "Sequence[Problem]", rest: str) -> None:
    """Print the first problems in columns, and the number of the others. rest: the command that shows all."""
    print_rows((problem.kind, problem.key, problem.message) for problem in problems[:PROBLEMS_SHOWN])
    if len(problems) > PROBLEMS_SHOWN:
        print_line(f"  … and {len(problems) - PROBLEMS_SHOWN} more: {rest}")


def table_lines(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str]) -> Iterator[str]:
    """Yield a line for the headers, unless all are empty, and for each row.

    A cell of more than _WIDEST columns moves the rest of its line, and not that of the other lines.
    rows: cells that are escaped already and may have colours. right: headers of columns aligned to the right.
    """
    lines = [[click.style(header, dim=True) for header in headers]] if any(headers) else []
    lines += [list(row) for row in rows]
    widths = [
        max((wide for wide in map(width, column) if wide <= _WIDEST), default=0) for column in zip(*lines, strict=True)
    ]
    for line in lines:
        yield "  ".join(map(_aligned, line, widths, (header in right for header in headers))).rstrip()


def _aligned(cell: str, columns: int, right: bool) -> str:
    space = " " * (columns - width(cell))
    return space + cell if right else cell + space


def width(text: str) -> int:
    """Return the number of columns that a text takes on a terminal: two for a wide character, none for an accent."""
    plain = click.unstyle(text)
    if plain.isascii():
        return len(plain)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in plain
    )


def cut(text: str, columns: int) -> str:
    """Return a text without colours, shortened with "…" to the columns of a terminal."""
    if width(text) <= columns:
        return text
    while width(text) > columns - 1:
        text = text[:-1]
    return f"{text}…"


def shard_suffix(shard: str) -> str:
    """Return the text that follows a mirror's name if the mirror has one shard of the keys."""
    return f", shard {shard}" if shard else ""


class Bar(Protocol):
    """Shows the progress of a command."""

    def show(self, text: str, done: int, total: int, left: str = "") -> None:
        """Show a text and how much is done. left: a text about the rest."""


class ProgressLine:
    """The last line of a terminal, which shows the progress of a command."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._shown_at = self._began - _REFRESH_S

    def show(self, text: str, done: int, total: int, left: str = "") -> None:
        """Show a text, with a bar if something is done."""
        now = time.monotonic()
        if now - self._shown_at < _REFRESH_S:
            return
        self._shown_at = now
        bar = f" [{'#' * (_BAR_WIDTH * done // max(total, done)):{_BAR_WIDTH}}] {done}/{total}" if done else ""
        minutes, seconds = divmod(int(now - self._began), 60)
        shown = f"{text}{left}{bar} {minutes}:{seconds:02}"
        print(f"\r{_NO_WRAP}{shown}\x1b[K{_WRAP}\r", end="", file=sys.stderr, flush=True)  # noqa: T201
        # The cursor stays at the beginning of the line. The next log event first removes the whole line.
        raw = getattr(getattr(sys.stderr, "buffer", None), "raw", None)
        if isinstance(raw, LogStream):
            raw.before = _ERASE

    def clear(self) -> None:
        """Remove the line."""
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201


class ProgressPrinter:
    """Prints the progress of a command where stderr is no terminal: a line every `every_s` seconds."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._printed_at = time.monotonic()

    def show(self, text: str, done: int, total: int, left: str = "") -> None:
        """Print a text and how much is done, unless the last line is too recent."""
        now = time.monotonic()
        if now - self._printed_at >= self._every_s:
            self._printed_at = now
            print_note(f"{text} {done}/{total}{left}" if done else text + left)

    def clear(self) -> None:
        """Leave the printed lines as they are."""


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[ProgressLine | ProgressPrinter]:
    """Yield the display of progress on stderr: a line of a terminal, which is removed at the end, or printed lines."""
    terminal = not quiet and is_terminal(sys.stderr)
    bar = ProgressLine() if terminal else ProgressPrinter(math.inf if quiet else PLAIN_INTERVAL_S)
    try:
        yield bar
    finally:
        bar.clear()


class ProgressDisplay:
    """Shows the progress of work whose total may grow.

    gate: has the wait for the rate limits. pace: estimates the remaining time. first: the first step.
    """

    def __init__(
        self, name: str, bar: Bar, gate: "Gate", *, pace: "Pace | None" = None, first: str = _FIRST_STEP
    ) -> None:
        self._name = name
        self._bar = bar
        self._gate = gate
        self._pace = pace
        self.show(first, 0, 0)

    def __call__(self, result: "Result") -> None:
        self.show(_step(result), result.done.total(), result.tables.plan.counts.total(), self._left(result))

    def show(self, step: str, done: int, total: int, left: str = "") -> None:
        """Show a step, how much of it is done, and `left`, a text about the rest."""
        self._state = step, done, total
        self._bar.show(f"{self._name}: {step}", done, total, left)

    @asynccontextmanager
    async def refreshed(self) -> AsyncIterator[Self]:
        """Within the block, also show whether requests wait for the rate limits, and how long."""
        import asyncio

        task = asyncio.create_task(self._refresh())
        try:
            yield self
        finally:
            task.cancel()

    async def _refresh(self) -> None:
        import asyncio

        while True:
            await asyncio.sleep(_WAIT_LOOK_S)
            if (wait_s := self._gate.waiting_s) > 1.0:
                step, done, total = self._state
                self._bar.show(f"{self._name}: {step}", done, total, f", waiting {span(wait_s)} for the rate limits")

    def _left(self, result: "Result") -> str:
        left_s = self._pace.look(result) if self._pace else None
        return f", about {span(left_s)} left" if left_s else ""


def _step(result: "Result") -> str:
    if result.waiting:
        return f"waiting until {result.waiting} file{' is' if result.waiting == 1 else 's are'} searchable"
    if result.done.total():
        return "syncing"
    compared = result.tables.local.files
    return f"comparing, {counted(compared, 'file')}" if compared else _FIRST_STEP
