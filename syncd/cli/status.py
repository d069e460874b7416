"""status: prints the state of each mirror, once or again every second."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NoReturn

import click

from syncd.cli.context import GlobalOptions, as_json_option, chosen_mirrors, command, mirrors_argument, run_async
from syncd.cli.daemon import check_alive, let_daemon_look
from syncd.cli.output import (
    PROBLEMS_SHOWN,
    cut,
    print_frame,
    print_json,
    print_line,
    print_styled,
    shard_suffix,
    table_lines,
    width,
)
from syncd.core.errors import EXIT_OK
from syncd.core.plain_text import printable, span
from syncd.service.streams import is_terminal

_REFRESH_S = 1.0
_STUCK_SHOWN = 3
_NAMES_SHOWN = 3
_COLOURS = {"idle": "green", "syncing": "cyan", "degraded": "yellow", "halted": "red"}
_LABEL_WIDTH = 11
_HEADERS = ("mirror", "state", "in step", "to go", "left", "indexing", "problems", "last pass", "watch")
_SPARE = ("watch", "left", "indexing", "last pass", "to go")
"""The columns that a narrow terminal leaves out, the least important first."""
_NUMERIC_COLUMNS = frozenset({"in step", "to go", "indexing", "problems"})


@command()
@mirrors_argument
@as_json_option
@click.option("--all", "everything", is_flag=True, help="Show every problem, not only the first ones.")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--alive", is_flag=True, help="Only check that a daemon is running and not stuck; if not, exit with 1.")
@click.pass_obj
def status(
    options: GlobalOptions, mirrors: tuple[str, ...], *, as_json: bool, everything: bool, watch: bool, alive: bool
) -> int:
    """Show which items are in step, waiting, indexing and failed.

    It works with and without a running daemon.
    """
    if watch and as_json:
        raise click.UsageError("--watch prints text; for JSON, repeat: syncd status --json")
    config = options.load(level=None)
    if alive:
        return run_async(check_alive(config.state_dir))
    from syncd.queries.status import snapshot

    chosen = config.with_mirrors(chosen_mirrors(config, mirrors))

    def look() -> dict[str, Any]:
        let_daemon_look(chosen.state_dir)
        return snapshot(chosen)

    if watch:
        _watch(look)
    elif as_json:
        print_json(look())
    else:
        _print_status(look(), None if everything else PROBLEMS_SHOWN)
    return EXIT_OK


# -- one block of lines for each mirror


def _print_status(status: dict[str, Any], most: int | None) -> None:
    """Print the state of each mirror. most: the largest number of problems of a mirror, None for all."""
    print_line(_daemon_line(status))
    for name, mirror in status["mirrors"].items():
        print_line("")
        for line in _mirror_lines(name, mirror, most):
            print_styled(line)
    if len(status["mirrors"]) > 1:
        print_line("")
        print_styled(sum_line(status["mirrors"]))


def sum_line(mirrors: dict[str, dict[str, Any]]) -> str:
    """Return how many mirrors have each state, worst first, and the names of the mirrors that need a person."""
    names: dict[str, list[str]] = {state: [] for state in reversed(_COLOURS)}
    for name, mirror in mirrors.items():
        names[mirror["state"]].append(name)
    parts = [
        click.style(f"{len(found)} {state}{'' if state == 'idle' else _listed(found)}", fg=_COLOURS[state])
        for state, found in names.items()
        if found
    ]
    troubled = [name for name, mirror in mirrors.items() if mirror["items"]["failed"] or mirror["items"]["rejected"]]
    parts += [f"{len(troubled)} with problems{_listed(troubled)}"] if troubled else []
    return f"{'mirrors':{_LABEL_WIDTH}}{', '.join(parts)}"


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names[:_NAMES_SHOWN])}{', …' if len(names) > _NAMES_SHOWN else ''})"


def _daemon_line(status: dict[str, Any]) -> str:
    daemon, seen, command = status["daemon"], status["last_seen"], status["command"]
    if daemon["running"]:
        return f"daemon     running, pid {daemon['pid']}"
    line = "daemon     not running"
    if seen:
        ago = f"{span(time.time() - datetime.fromisoformat(seen).timestamp())} ago"
        line += (
            f"; it ended {ago}" if status["ended"] else f": no contact since {seen} ({ago}); it did not end by itself"
        )
    return f"{line}; another command is at work, pid {command['pid']}" if command else line


def _remaining(mirror: dict[str, Any]) -> str:
    """Return how much the current pass still has to do."""
    if not mirror.get("remaining"):
        return ""
    time_left = f", about {span(mirror['eta_s'])} left" if mirror["eta_s"] is not None else ""
    return f", {mirror['remaining']:,} to go{time_left}"


def _problem_lines(problems: list[dict[str, str]], most: int | None, rest: str) -> Iterator[str]:
    """Yield the first problems in columns and the number of the others. rest: the command that shows all."""
    if not problems:
        return
    yield "  problems"
    rows = [[printable(problem[part]) for part in ("kind", "key", "message")] for problem in problems[:most]]
    yield from (f"    {line}" for line in table_lines(("", "", ""), rows, ()))
    if len(problems) > len(rows):
        yield f"    … and {len(problems) - len(rows)} more: {rest}"


def _mirror_lines(name: str, mirror: dict[str, Any], most: int | None) -> Iterator[str]:
    state = mirror["state"]
    styled = click.style(f"{state}{_remaining(mirror)}", fg=_COLOURS[state], bold=state == "halted")
    target = printable(f"{mirror['path']} → {mirror['target']}{shard_suffix(mirror.get('shard', ''))}")
    yield f"{click.style(name, bold=True)} {styled}  {target}"
    if mirror.get("detail"):
        yield "  " + click.style(printable(mirror["detail"] + _next_try(mirror)), fg=_COLOURS[state])
    for label, fact in _facts(mirror):
        yield f"  {label:{_LABEL_WIDTH}}{printable(fact)}"
    yield from _problem_lines(mirror["problems"], most, f"syncd status {name} --all")


def _next_try(mirror: dict[str, Any]) -> str:
    """Return when a degraded mirror tries again."""
    if not mirror.get("next_try"):
        return ""
    left_s = datetime.fromisoformat(mirror["next_try"]).timestamp() - time.time()
    return f"; next try in {span(left_s)}" if left_s > 0 else "; the next try is now"


def _facts(mirror: dict[str, Any]) -> Iterator[tuple[str, str]]:
    index = mirror["index"]
    yield "items", _items(mirror)
    if any(index.values()):
        yield "searchable", f"{mirror['searchable'] or 0} of {sum(index.values())}"
        yield "index", ", ".join(f"{count} {state}" for state, count in index.items() if count)
    if stuck := mirror.get("stuck"):
        yield "stuck", _stuck(stuck["keys"], stuck["count"])
    yield "owner", mirror["owner"] or "decided by the first pass"
    yield "last pass", mirror["last_reconcile"] or "never"
    if mirror["oldest_pending_s"] is not None:
        yield "oldest", f"{mirror['oldest_pending_s']:.0f} s waiting"
    if mirror["watch"]:
        detail = f": {mirror['watch_detail']}" if mirror.get("watch_detail") else ""
        yield "watch", mirror["watch"] + detail


def _items(mirror: dict[str, Any]) -> str:
    """Return the numbers of items by their meaning for a person."""
    if mirror["files"] == 0 and not any(mirror["items"].values()):
        return (
            "none: the folder is empty, or the rules include no file; syncd check --excludes shows the excluded names"
        )
    words = {"in_step": "in step", "ignored": "ignored on purpose"}
    counts = {state: count for state, count in mirror["counts"].items() if state not in ("searchable", "indexing")}
    shown = [f"{count:,} {words.get(state, state)}" for state, count in counts.items() if count or state == "in_step"]
    return ", ".join(shown)


def _stuck(keys: list[str], count: int) -> str:
    """Return the first keys whose indexing takes too long and the number of the others."""
    from syncd.state.journal import STUCK_S

    first = ", ".join(keys[:_STUCK_SHOWN])
    more = f" and {count - _STUCK_SHOWN} more" if count > _STUCK_SHOWN else ""
    return f"{first}{more}: not searchable for over {STUCK_S / 60:.0f} minutes; the service makes no progress"


# -- status --watch


def _watch(snapshot: Callable[[], dict[str, Any]]) -> NoReturn:
    """Print fresh snapshots until interrupted: in place on a terminal, elsewhere one line for each change."""
    if not is_terminal(sys.stdout):
        _print_changes(snapshot)
    shown = 0
    while True:
        size = shutil.get_terminal_size()
        lines = frame(snapshot(), size.columns, size.lines - 1)
        print_frame(lines, shown)
        shown = len(lines)
        time.sleep(_REFRESH_S)


def _print_changes(snapshot: Callable[[], dict[str, Any]]) -> NoReturn:
    printed: dict[str, str] = {}
    while True:
        for name, mirror in snapshot()["mirrors"].items():
            counts = ", ".join(f"{count} {state}" for state, count in mirror["items"].items())
            line = f"{name} {mirror['state']}{_remaining(mirror)}: {counts}"
            if printed.get(name) != line:
                printed[name] = line
                print_line(line)
        time.sleep(_REFRESH_S)


def frame(status: dict[str, Any], columns: int, rows: int) -> list[str]:
    """Return a row for each mirror, the reasons for trouble and the first problems, in so many columns and rows."""
    mirrors = status["mirrors"]
    lines = [_daemon_line(status), "", *_table(mirrors, columns)]
    for name, mirror in mirrors.items():
        if mirror.get("detail"):
            reason = printable(f"{name}: {mirror['detail']}{_next_try(mirror)}")
            lines.append(click.style(cut(reason, columns), fg=_COLOURS[mirror["state"]]))
    problems = [
        problem | {"key": f"{name}: {problem['key']}"}
        for name, mirror in mirrors.items()
        for problem in mirror["problems"]
    ]
    # The heading and the number of the others take two rows.
    room = max(0, min(PROBLEMS_SHOWN, rows - len(lines) - 2))
    lines += _problem_lines(problems, room, "syncd status --all")
    if len(lines) > rows:
        lines[rows - 1 :] = [f"… and {len(lines) - rows + 1} more lines: syncd status"]
    return [cut(line, columns) if "\x1b" not in line else line for line in lines]


def _table(mirrors: dict[str, Any], columns: int) -> list[str]:
    """Return the table of the mirrors, without the columns that are least important if they have no room."""
    rows = [_row(name, mirror) for name, mirror in mirrors.items()]
    headers = list(_HEADERS)
    for spare in _SPARE:
        lines = list(table_lines(headers, rows, _NUMERIC_COLUMNS))
        if max(map(width, lines)) <= columns:
            break
        place = headers.index(spare)
        headers.pop(place)
        for row in rows:
            row.pop(place)
    return list(table_lines(headers, rows, _NUMERIC_COLUMNS))


def _row(name: str, mirror: dict[str, Any]) -> list[str]:
    items, index, state = mirror["items"], mirror["index"], mirror["state"]
    eta_s, last = mirror.get("eta_s"), mirror["last_reconcile"]
    ago_s = time.time() - datetime.fromisoformat(last).timestamp() if last else None
    indexing = index["queued"] + index["running"]
    problems = items["failed"] + items["rejected"] + index["error"] + index["skipped"]
    return [
        click.style(name, bold=True),
        click.style(state, fg=_COLOURS[state]),
        f"{max(0, items['synced'] - index['error'] - index['skipped']):,}",
        f"{items['pending']:,}" if items["pending"] else "",
        f"about {span(eta_s)}" if eta_s else "",
        f"{indexing:,}" if indexing else "",
        click.style(f"{problems:,}", fg="yellow") if problems else "",
        "never" if ago_s is None else f"{span(ago_s)} ago",
        mirror["watch"] or "",
    ]
