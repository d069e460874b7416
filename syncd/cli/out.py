"""What a person sees: tables, sizes, progress. stdout carries the answer, stderr the rest."""

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from syncd.core.redact import masked_text, printable
from syncd.queries.forecast import span

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from syncd.queries.pace import Pace
    from syncd.sync.passes import Result

WIDE = 100_000
"""Columns of a "terminal" that is a file: lines are never folded for scripts."""
PLAIN_EVERY_S = 5.0


def stdout() -> "Console":
    """The console of the answer."""
    from rich.console import Console

    tty = sys.stdout.isatty()
    return Console(highlight=False, emoji=False, soft_wrap=not tty, width=None if tty else WIDE)


def emit(data: Any) -> None:
    """Print one JSON object."""
    print(masked_text(json.dumps(data, indent=2)))  # noqa: T201


def table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows in columns; names are made safe for the terminal."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, show_header=any(headers), header_style="dim")
    for header in headers:
        shown.add_column(header, overflow="fold", justify="right" if header == "size" else "left")
    for row in rows:
        shown.add_row(*(_cell(value) for value in row))
    stdout().print(shown)


def _cell(value: object) -> str:
    from rich.markup import escape

    return escape(printable("" if value is None else str(value)))


def of_shard(shard: str) -> str:
    """What is added to a mirror's name where only a part of its keys is meant."""
    return f", shard {shard}" if shard else ""


def line(text: str) -> None:
    """Print one line of the answer as it is, safe for the terminal."""
    print(printable(text))  # noqa: T201


class Watcher:
    """Shows a growing result: a bar on a terminal, a plain line now and then otherwise, nothing if quiet.

    pace: says how long it still takes.
    """

    def __init__(
        self, name: str, progress: "Progress | None", *, quiet: bool = False, pace: "Pace | None" = None
    ) -> None:
        self._name = name
        self._progress = progress
        self._task = progress.add_task(f"{name}: listing the target", total=None) if progress else None
        self._said = time.monotonic()
        self._quiet = quiet
        self._pace = pace

    def __call__(self, result: "Result") -> None:
        now = time.monotonic()
        total = result.tables.plan.counts.total()
        done = result.done.total()
        looked = total + result.unchanged
        what = "syncing" if done else f"comparing, {looked} files" if looked else "listing the target"
        if result.waiting:
            what = f"waiting until {result.waiting} file{' is' if result.waiting == 1 else 's are'} searchable"
        what = f"{self._name}: {what}"
        left_s = self._pace.look(result, now) if self._pace else None
        left = f", about {span(left_s)} left" if left_s else ""
        if self._progress and self._task is not None:
            self._progress.update(self._task, description=what + left, total=total if done else None, completed=done)
        elif not self._quiet and now - self._said >= PLAIN_EVERY_S:
            self._said = now
            print(f"{what} {done}/{total}{left}" if done else what, file=sys.stderr)  # noqa: T201


@contextmanager
def progress(*, quiet: bool = False) -> "Iterator[Progress | None]":
    """Yield a progress display if stderr is a terminal, None if it is not."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield shown
