"""`status` for people: one block of lines for each mirror."""

import os
from collections.abc import Iterator
from typing import Any

import typer

from syncd.cli.out import of_shard
from syncd.core.redact import printable
from syncd.queries.forecast import span
from syncd.state.journal_index import STUCK_S

PROBLEMS_SHOWN = 20
STUCK_SHOWN = 3
COLOURS = {"idle": "green", "syncing": "cyan", "degraded": "yellow", "halted": "red"}
_LABEL = 11
"""Columns of what stands before a fact."""


def show(seen: dict[str, Any]) -> None:
    """Print a snapshot. Without the library for tables: it would take longer than the question."""
    # None: colours on a terminal only (no-color.org).
    color = False if os.environ.get("NO_COLOR") else None
    typer.echo(daemon(seen))
    for name, mirror in seen["mirrors"].items():
        typer.echo()
        for line in _mirror(name, mirror):
            typer.echo(line, color=color)


def daemon(seen: dict[str, Any]) -> str:
    """Whether the daemon runs."""
    found = seen["daemon"]
    return f"daemon     running, pid {found['pid']}" if found["running"] else "daemon     not running"


def left(mirror: dict[str, Any]) -> str:
    """What the pass under way has still to do."""
    if not mirror.get("remaining"):
        return ""
    time_left = f", about {span(mirror['eta_s'])} left" if mirror["eta_s"] is not None else ""
    return f", {mirror['remaining']:,} to go{time_left}"


def problem_lines(problems: list[dict[str, str]]) -> Iterator[str]:
    """The first problems in columns, and how many more there are."""
    if not problems:
        return
    yield "  problems"
    shown = [[printable(problem[part]) for part in ("kind", "key", "message")] for problem in problems[:PROBLEMS_SHOWN]]
    kinds, keys = (max(len(row[at]) for row in shown) for at in (0, 1))
    for kind, key, message in shown:
        yield f"    {kind:{kinds}}  {key:{keys}}  {message}"
    more = len(problems) - PROBLEMS_SHOWN
    if more > 0:
        yield f"    … and {more} more: syncd status --json"


def _mirror(name: str, mirror: dict[str, Any]) -> Iterator[str]:
    state = mirror["state"]
    styled = typer.style(f"{state}{left(mirror)}", fg=COLOURS[state], bold=state == "halted")
    where = printable(f"{mirror['path']} → {mirror['target']}{of_shard(mirror.get('shard', ''))}")
    yield f"{typer.style(name, bold=True)} {styled}  {where}"
    if mirror.get("detail"):
        yield "  " + typer.style(printable(mirror["detail"]), fg=COLOURS[state])
    for label, fact in _facts(mirror):
        yield f"  {label:{_LABEL}}{printable(fact)}"
    yield from problem_lines(mirror["problems"])


def _facts(mirror: dict[str, Any]) -> Iterator[tuple[str, str]]:
    items, index = mirror["items"], mirror["index"]
    yield "items", ", ".join(f"{count} {state}" for state, count in items.items() if count or state == "synced")
    if any(index.values()):
        yield "searchable", f"{mirror['searchable'] or 0} of {sum(index.values())}"
        yield "index", ", ".join(f"{count} {state}" for state, count in index.items() if count)
    if stuck := mirror.get("stuck"):
        yield "stuck", _named(stuck["keys"], stuck["count"])
    yield "owner", mirror["owner"] or "decided by the first pass"
    yield "last pass", mirror["last_reconcile"] or "never"
    if mirror["oldest_pending_s"] is not None:
        yield "oldest", f"{mirror['oldest_pending_s']:.0f} s waiting"
    if mirror["watch"]:
        detail = f": {mirror['watch_detail']}" if mirror.get("watch_detail") else ""
        yield "watch", mirror["watch"] + detail


def _named(keys: list[str], count: int) -> str:
    """The first keys of those that take too long, and how many more there are."""
    first = ", ".join(keys[:STUCK_SHOWN])
    more = f" and {count - STUCK_SHOWN} more" if count > STUCK_SHOWN else ""
    return f"{first}{more}: not searchable for over {STUCK_S / 60:.0f} minutes; the service does not get on"
