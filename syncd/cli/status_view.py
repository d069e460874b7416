"""`status` for people: one block for each mirror, once or live."""

import time
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from syncd.cli.out import stdout
from syncd.forecast import span
from syncd.logs import printable

PROBLEMS_SHOWN = 20
_COLOURS = {"idle": "green", "syncing": "cyan", "degraded": "yellow", "halted": "bold red"}


def show(seen: dict[str, Any]) -> None:
    """Print a snapshot."""
    stdout().print(_render(seen))


def live(snapshot: Callable[[], dict[str, Any]], every_s: float) -> None:
    """Show fresh snapshots in place until interrupted."""
    with Live(_render(snapshot()), console=Console(emoji=False), auto_refresh=False, screen=False) as display:
        while True:
            time.sleep(every_s)
            display.update(_render(snapshot()), refresh=True)


def _render(seen: dict[str, Any]) -> Group:
    daemon = seen["daemon"]
    head = f"daemon     running, pid {daemon['pid']}" if daemon["running"] else "daemon     not running"
    blocks = [_mirror(name, mirror) for name, mirror in seen["mirrors"].items()]
    return Group(head, *blocks)


def _mirror(name: str, mirror: dict[str, Any]) -> Group:
    state = mirror["state"]
    parts: list[Any] = [
        Text(),
        Text.from_markup(f"[bold]{name}[/] [{_COLOURS[state]}]{state}{_left(mirror)}[/]  ")
        + Text(printable(f"{mirror['path']} → {mirror['target']}")),
    ]
    if mirror.get("detail"):
        parts.append(Text(f"  {printable(mirror['detail'])}", style=_COLOURS[state]))
    parts.append(_facts(mirror))
    parts += _problems(mirror["problems"])
    return Group(*parts)


def _left(mirror: dict[str, Any]) -> str:
    """What the pass under way has still to do."""
    if not mirror.get("remaining"):
        return ""
    left = f", about {span(mirror['eta_s'])} left" if mirror["eta_s"] is not None else ""
    return f", {mirror['remaining']:,} to go{left}"


def _facts(mirror: dict[str, Any]) -> Table:
    facts = Table(box=None, show_header=False, pad_edge=False)
    items, index = mirror["items"], mirror["index"]
    facts.add_row(
        "  items", ", ".join(f"{count} {state}" for state, count in items.items() if count or state == "synced")
    )
    if any(index.values()):
        facts.add_row("  index", ", ".join(f"{count} {state}" for state, count in index.items() if count))
    facts.add_row("  last pass", mirror["last_reconcile"] or "never")
    if mirror["oldest_pending_s"] is not None:
        facts.add_row("  oldest", f"{mirror['oldest_pending_s']:.0f} s waiting")
    if mirror["watch"]:
        detail = f": {mirror['watch_detail']}" if mirror.get("watch_detail") else ""
        facts.add_row("  watch", escape(printable(mirror["watch"] + detail)))
    return facts


def _problems(problems: list[dict[str, str]]) -> list[Any]:
    if not problems:
        return []
    rows = Table(box=None, show_header=False, pad_edge=False)
    for problem in problems[:PROBLEMS_SHOWN]:
        rows.add_row(*(escape(printable(f"{lead}{problem[part]}")) for lead, part in _PROBLEM_COLUMNS))
    more = len(problems) - PROBLEMS_SHOWN
    return [Text("  problems"), rows, *([Text(f"    … and {more} more: syncd status --json")] if more > 0 else [])]


_PROBLEM_COLUMNS = (("    ", "kind"), ("", "key"), ("", "message"))
