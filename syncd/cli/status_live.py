"""`status --watch`: one row for each mirror, shown anew; where there is no place for that, a line for every change."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from syncd.cli.out import stdout
from syncd.cli.status_view import COLOURS, daemon, left, problem_lines
from syncd.core.redact import printable
from syncd.queries.forecast import span

_NUMBERS = frozenset({"in step", "to go", "indexing", "problems"})


def live(snapshot: Callable[[], dict[str, Any]], every_s: float) -> None:
    """Show fresh snapshots in place until interrupted; where there is no place, a line whenever something changed."""
    console = stdout()
    if not console.is_terminal:
        _tell_changes(snapshot, every_s)
    with Live(_table(snapshot()), console=console, auto_refresh=False, screen=False) as display:
        while True:
            time.sleep(every_s)
            display.update(_table(snapshot()), refresh=True)


def _tell_changes(snapshot: Callable[[], dict[str, Any]], every_s: float) -> NoReturn:
    said: dict[str, str] = {}
    while True:
        for name, mirror in snapshot()["mirrors"].items():
            counts = ", ".join(f"{count} {state}" for state, count in mirror["items"].items())
            now = f"{name} {mirror['state']}{left(mirror)}: {counts}"
            if said.get(name) != now:
                said[name] = now
                print(printable(now), flush=True)  # noqa: T201
        time.sleep(every_s)


def _table(seen: dict[str, Any]) -> Group:
    """One row for each mirror, then why some are in trouble, then problems, as far as they fit."""
    rows = Table(box=None, pad_edge=False, header_style="dim")
    for header in ("mirror", "state", "in step", "to go", "left", "indexing", "problems", "last pass", "watch"):
        rows.add_column(header, justify="right" if header in _NUMBERS else "left", no_wrap=header != "mirror")
    details, problems = [], []
    for name, mirror in seen["mirrors"].items():
        rows.add_row(*_row(name, mirror))
        if mirror.get("detail"):
            details.append(Text(printable(f"{name}: {mirror['detail']}"), style=COLOURS[mirror["state"]]))
        problems += [problem | {"key": f"{name}: {problem['key']}"} for problem in mirror["problems"]]
    return Group(daemon(seen), Text(), rows, *details, *map(Text, problem_lines(problems)))


def _row(name: str, mirror: dict[str, Any]) -> list[Text]:
    items, index, state = mirror["items"], mirror["index"], mirror["state"]
    eta_s, last = mirror.get("eta_s"), mirror["last_reconcile"]
    ago_s = time.time() - datetime.fromisoformat(last).timestamp() if last else None
    bad = items["failed"] + items["rejected"] + index["error"]
    return [
        Text(name, style="bold"),
        Text(state, style=COLOURS[state]),
        Text(f"{max(0, items['synced'] - index['error'] - index['skipped']):,}"),
        Text(f"{items['pending']:,}" if items["pending"] else ""),
        Text(f"about {span(eta_s)}" if eta_s else ""),
        Text(f"{index['queued'] + index['running']:,}" if index["queued"] + index["running"] else ""),
        Text(f"{bad:,}" if bad else "", style="yellow"),
        Text("never" if ago_s is None else f"{span(ago_s)} ago"),
        Text(mirror["watch"] or ""),
    ]
