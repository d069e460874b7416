"""Printing: JSON, lines, tables and progress. The answer goes to stdout, everything else to stderr."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from syncd.core.plain_text import printable, redact_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from syncd.queries.forecast import Pace
    from syncd.sync.mirror import Result

_UNFOLDED_WIDTH = 100_000
"""Columns of the console when stdout is no terminal, so that lines are never folded for scripts."""
_PLAIN_INTERVAL_S = 5.0
"""Time between two progress lines when stderr is no terminal."""


def stdout_console() -> "Console":
    """Return the console that writes to stdout."""
    from rich.console import Console

    tty = sys.stdout.isatty()
    return Console(highlight=False, emoji=False, soft_wrap=not tty, width=None if tty else _UNFOLDED_WIDTH)


def print_json(data: Any) -> None:
    """Print one JSON object."""
    print(redact_text(json.dumps(data, indent=2)))  # noqa: T201


def print_line(text: str) -> None:
    """Print one line of the answer, with control characters and secrets escaped."""
    print(printable(text))  # noqa: T201


def print_error(text: str) -> None:
    """Print an error that does not end the command."""
    print(f"syncd: {printable(text)}", file=sys.stderr)  # noqa: T201


def print_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns, with control characters and secrets escaped."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=any(headers), header_style="dim")
    for header in headers:
        table.add_column(header, overflow="fold", justify="right" if header == "size" else "left")
    for row in rows:
        table.add_row(*(escape(printable("" if value is None else str(value))) for value in row))
    stdout_console().print(table)


def shard_suffix(shard: str) -> str:
    """Return the text that follows a mirror's name if the mirror has one shard of the keys."""
    return f", shard {shard}" if shard else ""


def counted(number: int, noun: str) -> str:
    """Return a number and its noun: "1 request", "2 requests"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class ProgressDisplay:
    """Shows a growing result: a bar on a terminal, a line every few seconds elsewhere, nothing if quiet.

    pace: estimates the remaining time.
    """

    def __init__(
        self, name: str, progress: "Progress | None", *, quiet: bool = False, pace: "Pace | None" = None
    ) -> None:
        self._name = name
        self._progress = progress
        self._task = progress.add_task(f"{name}: listing the target", total=None) if progress else None
        self._printed_at = time.monotonic()
        self._quiet = quiet
        self._pace = pace

    def __call__(self, result: "Result") -> None:
        now = time.monotonic()
        total = result.tables.plan.counts.total()
        done = result.done.total()
        step = f"{self._name}: {_step(result, done)}"
        left = self._left(result, now)
        if self._progress and self._task is not None:
            self._progress.update(self._task, description=step + left, total=total if done else None, completed=done)
        elif not self._quiet and now - self._printed_at >= _PLAIN_INTERVAL_S:
            self._printed_at = now
            print(f"{step} {done}/{total}{left}" if done else step, file=sys.stderr)  # noqa: T201

    def _left(self, result: "Result", now: float) -> str:
        from syncd.queries.forecast import span

        left_s = self._pace.look(result, now) if self._pace else None
        return f", about {span(left_s)} left" if left_s else ""


def _step(result: "Result", done: int) -> str:
    """Return what the pass is doing."""
    if result.waiting:
        return f"waiting until {result.waiting} file{' is' if result.waiting == 1 else 's are'} searchable"
    if done:
        return "syncing"
    compared = result.tables.local.files
    return f"comparing, {compared} files" if compared else "listing the target"


@contextmanager
def progress(*, quiet: bool = False) -> "Iterator[Progress | None]":
    """Yield a progress display if stderr is a terminal, None otherwise."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as display:
        yield display
