"""`status` for people: one block for each mirror once, one row for each live."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, NoReturn

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from syncd.answers.forecast import span
from syncd.cli.out import of_shard, stdout
from syncd.masks import printable
from syncd.state.journal_index import STUCK_S

PROBLEMS_SHOWN = 20
STUCK_SHOWN = 3
_NUMBERS = frozenset({"in step", "to go", "indexing", "problems"})
_COLOURS = {"idle": "green", "syncing": "cyan", "degraded": "yellow", "halted": "bold red"}


def show(seen: dict[str, Any]) -> None:
    """Print a snapshot."""
    stdout().print(_render(seen))


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
            now = f"{name} {mirror['state']}{_left(mirror)}: {counts}"
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
            details.append(Text(printable(f"{name}: {mirror['detail']}"), style=_COLOURS[mirror["state"]]))
        problems += [problem | {"key": f"{name}: {problem['key']}"} for problem in mirror["problems"]]
    return Group(_daemon(seen), Text(), rows, *details, *_problems(problems))


def _row(name: str, mirror: dict[str, Any]) -> list[Text]:
    items, index, state = mirror["items"], mirror["index"], mirror["state"]
    eta_s, last = mirror.get("eta_s"), mirror["last_reconcile"]
    ago_s = time.time() - datetime.fromisoformat(last).timestamp() if last else None
    bad = items["failed"] + items["rejected"] + index["error"]
    return [
        Text(name, style="bold"),
        Text(state, style=_COLOURS[state]),
        Text(f"{items['synced']:,}"),
        Text(f"{items['pending']:,}" if items["pending"] else ""),
        Text(f"about {span(eta_s)}" if eta_s else ""),
        Text(f"{index['queued'] + index['running']:,}" if index["queued"] + index["running"] else ""),
        Text(f"{bad:,}" if bad else "", style="yellow"),
        Text("never" if ago_s is None else f"{span(ago_s)} ago"),
        Text(mirror["watch"] or ""),
    ]


def _render(seen: dict[str, Any]) -> Group:
    return Group(_daemon(seen), *(_mirror(name, mirror) for name, mirror in seen["mirrors"].items()))


def _daemon(seen: dict[str, Any]) -> str:
    daemon = seen["daemon"]
    return f"daemon     running, pid {daemon['pid']}" if daemon["running"] else "daemon     not running"


def _mirror(name: str, mirror: dict[str, Any]) -> Group:
    state = mirror["state"]
    parts: list[Any] = [
        Text(),
        Text.from_markup(f"[bold]{name}[/] [{_COLOURS[state]}]{state}{_left(mirror)}[/]  ")
        + Text(printable(f"{mirror['path']} → {mirror['target']}{of_shard(mirror.get('shard', ''))}")),
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
    if stuck := mirror.get("stuck"):
        facts.add_row("  stuck", escape(printable(_named(stuck["keys"], stuck["count"]))))
    if mirror.get("replace_gap"):
        facts.add_row("  replacing", escape(printable(_gaps(mirror["replace_gap"]))))
    facts.add_row("  last pass", mirror["last_reconcile"] or "never")
    if mirror["oldest_pending_s"] is not None:
        facts.add_row("  oldest", f"{mirror['oldest_pending_s']:.0f} s waiting")
    if mirror["watch"]:
        detail = f": {mirror['watch_detail']}" if mirror.get("watch_detail") else ""
        facts.add_row("  watch", escape(printable(mirror["watch"] + detail)))
    return facts


def _named(keys: list[str], count: int) -> str:
    """The first keys of those that take too long, and how many more there are."""
    first = ", ".join(keys[:STUCK_SHOWN])
    more = f" and {count - STUCK_SHOWN} more" if count > STUCK_SHOWN else ""
    return f"{first}{more}: not searchable for over {STUCK_S / 60:.0f} minutes; the service does not get on"


def _gaps(gap: dict[str, Any]) -> str:
    parts = []
    if gap["last_key"] is not None:
        last, longest = gap["last_searchable_s"], gap["longest_s"]
        parts.append(f"{gap['last_key']} could not be found for {last} s; the longest was {longest} s")
    if gap["open"]:
        parts.append(f"{gap['open']} cannot be found until indexed")
    return ", ".join(parts)


def _problems(problems: list[dict[str, str]]) -> list[Any]:
    if not problems:
        return []
    rows = Table(box=None, show_header=False, pad_edge=False)
    for problem in problems[:PROBLEMS_SHOWN]:
        rows.add_row(*(escape(printable(f"{lead}{problem[part]}")) for lead, part in _PROBLEM_COLUMNS))
    more = len(problems) - PROBLEMS_SHOWN
    return [Text("  problems"), rows, *([Text(f"    … and {more} more: syncd status --json")] if more > 0 else [])]


_PROBLEM_COLUMNS = (("    ", "kind"), ("", "key"), ("", "message"))
