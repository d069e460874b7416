"""log: prints the actions, problems and passes of the last 30 days, with their reasons."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from syncd.cli.context import Duration, GlobalOptions, as_json_option, chosen_mirrors, command, mirrors_argument
from syncd.cli.output import print_json, print_line, print_table
from syncd.core.errors import EXIT_OK
from syncd.core.keys import shown
from syncd.core.plain_text import utc_time

if TYPE_CHECKING:
    from syncd.queries.log import LogLine

_LINES = 100


def _split(ctx: click.Context, param: click.Parameter, texts: Sequence[str]) -> list[str]:
    """Return the kinds of some texts, which commas separate."""
    from syncd.queries.log import KINDS

    kinds = [name.strip() for text in texts for name in text.split(",")]
    for name in kinds:
        if name not in KINDS:
            raise click.BadParameter(f"{name!r} is not one of: {', '.join(KINDS)}", ctx, param)
    return kinds


@command()
@mirrors_argument
@click.option(
    "--since",
    metavar="TIME",
    type=Duration(),
    help="Look back this long, such as 12h.  [default: all]",
)
@click.option(
    "--kind",
    "kinds",
    metavar="KIND,…",
    callback=_split,
    multiple=True,
    help="Show only these kinds: put, delete, adopt, forget, problem (also failures), pass.  [default: all]",
)
@click.option("--limit", type=click.IntRange(0), metavar="N", help="Show the last N lines; 0: all.  [default: 100]")
@as_json_option
@click.pass_obj
def log(
    options: GlobalOptions,
    mirrors: tuple[str, ...],
    *,
    since: float | None,
    kinds: list[str],
    limit: int | None,
    as_json: bool,
) -> int:
    """Show what was done, and why: each action, new problem and pass of the last 30 days.

    It works with and without a running daemon. The newest line is the last one.
    """
    config = options.load(level=None)
    from syncd.queries.log import KINDS, read_log

    names = chosen_mirrors(config, mirrors)
    most = min(limit, sys.maxsize) if limit is not None else 0 if as_json else _LINES
    begin = 0.0 if since is None else time.time() - since
    entries, earlier = read_log(config.state_dir, names, begin, kinds or KINDS, most or -1)
    if as_json:
        print_json({"entries": [entry.as_json() for entry in entries], "earlier": earlier})
        return EXIT_OK
    if not entries:
        print_line("nothing was done" + (" in this time" if since is not None else "; to make a pass: syncd reconcile"))
        return EXIT_OK
    _print_entries(entries, several=len(names) > 1)
    if earlier:
        print_line(f"… and {earlier:,} earlier: {_for_all(mirrors, since, kinds)}")
    return EXIT_OK


def _print_entries(entries: "Sequence[LogLine]", *, several: bool) -> None:
    rows = [_row(entry) for entry in entries]
    headers = ("time", "mirror", "kind", "key", "reason", "outcome")
    columns = [column for column in range(len(headers)) if several or column != 1]
    print_table([headers[column] for column in columns], [[row[column] for column in columns] for row in rows])


def _row(entry: "LogLine") -> tuple[str, ...]:
    """Return the cells of a line: time, mirror, kind, key, reason, outcome."""
    from syncd.queries.log import summary
    from syncd.state.history import PastPass

    past = entry.past
    if isinstance(past, PastPass):
        scope = "(everything)" if past.keys is None else f"({past.keys} key{'' if past.keys == 1 else 's'})"
        outcome = f"{shown(past.detail)}: {summary(past)}" if past.detail else summary(past)
        if past.outcome != "done":
            outcome = f"{past.outcome}: {shown(past.detail)}"
            outcome += f" ({past.times} times since {utc_time(past.began)})" if past.times > 1 else f"; {summary(past)}"
        return (utc_time(past.ended), entry.mirror, "pass", scope, "", outcome)
    outcome = f"{past.outcome}: {shown(past.detail)}" if past.detail else past.outcome
    return (utc_time(past.at), entry.mirror, past.action, shown(past.key), past.reason, outcome)


def _for_all(mirrors: Sequence[str], since: float | None, kinds: Sequence[str]) -> str:
    """Return the command that shows all lines of this log."""
    parts = ["syncd log", *(f"-m {name}" for name in mirrors)]
    if since is not None:
        from syncd.config.values import SECONDS

        unit = next(unit for unit in ("d", "h", "m", "s", "") if not unit or since % SECONDS[unit] == 0)
        parts.append(f"--since {since / SECONDS[unit]:.15g}{unit}")
    parts += [f"--kind {','.join(kinds)}"] if kinds else []
    return " ".join([*parts, "--limit 0"])
