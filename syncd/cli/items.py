"""ls, search, explain, retry: single items of a mirror, as the state file and the target know them."""

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from syncd.cli import completion
from syncd.cli.context import (
    GlobalOptions,
    Text,
    as_json_option,
    change_state,
    chosen_mirrors,
    command,
    mirror_option,
    one_mirror,
    one_mirror_argument,
    run_async,
    shard_field,
)
from syncd.cli.daemon import ask_daemon
from syncd.cli.output import print_json, print_line, print_note, print_styled, print_table
from syncd.core.errors import EXIT_OK, ConfigError, most_serious
from syncd.core.plain_text import counted, printable

if TYPE_CHECKING:
    import sqlite3

    from syncd.config.schema import Config
    from syncd.core.model import Entry
    from syncd.sync.mirror import Mirror
    from syncd.sync.once import Report

_SNIPPET_LENGTH = 160
"""Characters of a hit's text that are printed."""
_SHORT_WORD = 3
"""Words with fewer letters are highlighted only where they are whole words."""


folder_option = click.option(
    "--folder",
    metavar="DIR",
    default="",
    show_default=False,
    help="Look only in this folder of the mirror.",
    shell_complete=completion.directories,
)


def _keys_begin(config: "Config", name: str, folder: str) -> str:
    """Return the beginning of the keys in a folder of a mirror. Raises ConfigError if there is no such folder."""
    if not folder:
        return ""
    from syncd.queries.lookup import folder_key
    from syncd.service.build import build_tree

    return folder_key(config, name, folder, build_tree(config.mirrors[name]))


# -- ls


@command("ls")
@one_mirror_argument
@click.option("--remote", is_flag=True, help="List the entries in the target, of all owners.")
@folder_option
@as_json_option
@click.pass_obj
def list_items(options: GlobalOptions, mirrors: tuple[str, ...], *, folder: str, remote: bool, as_json: bool) -> int:
    """List items with size, state and index status."""
    from syncd.queries.status import local_rows

    config = options.load()
    name = one_mirror(config, mirrors)
    begin = _keys_begin(config, name, folder)
    rows = run_async(_remote_rows(config, name, begin)) if remote else list(local_rows(config, name, begin))
    if as_json:
        print_json({"mirror": name, **shard_field(config, name), "items": rows})
        return EXIT_OK
    if shard := config.mirrors[name].shard:
        print_note(f"{name}: the keys of shard {shard}")
    headers = ("key", "size", "owner", "index", "ref") if remote else ("key", "size", "state", "index")
    print_table(headers, ([row.get(header) for header in headers] for row in rows))
    return EXIT_OK


async def _remote_rows(config: "Config", name: str, begin: str) -> list[dict[str, Any]]:
    """Return a row for each entry of the target whose key begins with `begin`, by key."""
    from syncd.service.build import open_session
    from syncd.sync.observe import shard_entries

    async with open_session(config, [name], read_only=True) as session:
        rows = [
            _remote_row(entry) async for entry in shard_entries(session.mirrors[name]) if entry.key.startswith(begin)
        ]
    return sorted(rows, key=lambda row: str(row["key"]))


def _remote_row(entry: "Entry") -> dict[str, Any]:
    from syncd.cloudflare.decoding import bounded_json

    return {
        "key": entry.key,
        "size": entry.size,
        "owner": entry.owner,
        "index": entry.status,
        "ref": entry.ref,
        "checksum": entry.checksum,
        **({} if entry.metadata is None else {"metadata": bounded_json(dict(entry.metadata))}),
    }


# -- search


@command()
@click.argument("words", metavar="WORDS...", type=Text(), nargs=-1, required=True, help="The words of the query.")
@mirror_option
@click.option("--limit", metavar="N", type=click.IntRange(1, 50), default=10, help="The largest number of hits.")
@folder_option
@as_json_option
@click.pass_obj
def search(
    options: GlobalOptions, words: tuple[str, ...], mirrors: tuple[str, ...], limit: int, folder: str, *, as_json: bool
) -> int:
    """Ask the search of the target and print the hits.

    Each hit has its file.
    """
    query = " ".join(words)
    if not query.strip():
        raise ConfigError("the query is empty; ask for something: syncd search WORDS")
    config = options.load()
    name = one_mirror(config, mirrors)
    hits = run_async(_search(config, name, query, limit, _keys_begin(config, name, folder)))
    if as_json:
        known = [
            {key: None if value == "" and key in ("title", "heading") else value for key, value in hit.items()}
            for hit in hits
        ]
        print_json({"mirror": name, "query": query, "hits": known})
    else:
        print_hits(hits, query)
    return EXIT_OK


async def _search(config: "Config", name: str, query: str, limit: int, begin: str) -> list[dict[str, Any]]:
    from syncd.queries.search import search as ask
    from syncd.service.build import open_session

    async with open_session(config, [name], read_only=True) as session:
        return await ask(session.mirrors[name].target, config.mirrors[name], query, limit, begin)


def print_hits(hits: Sequence[dict[str, Any]], query: str) -> None:
    """Print search hits, best first. The words of the query are highlighted on a terminal."""
    if not hits:
        print_line(f"nothing found for {query!r}")
    for hit in hits:
        for line in _hit_lines(hit, query):
            print_styled(line)


def _hit_lines(hit: dict[str, Any], query: str) -> Iterator[str]:
    """Yield the lines of one hit: score, key and title; file; snippet."""
    title = hit["heading"] or hit.get("title")
    head = f"{hit['score']:.2f}  {click.style(printable(hit['key']), bold=True)}"
    yield f"{head}  ({printable(title)})" if title else head
    if path := hit.get("path"):
        missing = "" if Path(path).exists() else "  (no such file here)"
        yield f"      {click.style(printable(path), dim=True)}{missing}"
    snippet = printable(_snippet(hit["text"], query))
    pattern = words_pattern(query)
    yield "      " + (pattern.sub(_highlight, snippet) if pattern else snippet)


def _highlight(match: re.Match[str]) -> str:
    return click.style(match[0], fg="yellow", bold=True)


def words_pattern(query: str) -> re.Pattern[str] | None:
    """Return an expression for the words of a query, None if it has none."""
    parts = []
    for word in dict.fromkeys(re.findall(r"\w+", query)):
        # Some scripts do not separate words.
        begin = r"(?<!\w)" if word.isascii() else ""
        end = r"(?!\w)" if len(word) < _SHORT_WORD and word.isascii() else ""
        parts.append(begin + re.escape(word) + end)
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None


def _snippet(text: str, query: str) -> str:
    """Return the part of a text around the first word of the query."""
    flat = " ".join(text.split())
    places = [flat.lower().find(word) for word in query.lower().split()]
    start = max(0, min((place for place in places if place >= 0), default=0) - _SNIPPET_LENGTH // 4)
    cut = flat[start : start + _SNIPPET_LENGTH]
    return ("…" if start else "") + cut + ("…" if start + _SNIPPET_LENGTH < len(flat) else "")


# -- explain


@command()
@click.argument(
    "name",
    metavar="PATH-OR-KEY",
    help="A file, a directory, or a key as another command shows it.",
    shell_complete=completion.files,
)
@mirror_option
@click.pass_obj
def explain(options: GlobalOptions, name: str, mirrors: tuple[str, ...]) -> int:
    """Show which rule includes or excludes a file, and its state.

    It also shows what the next pass does, and the history of the file, for every mirror that holds it.
    """
    config = options.load()
    from syncd.queries.explain import explain as facts_of
    from syncd.queries.lookup import find_all
    from syncd.service.build import build_tree

    for number, found in enumerate(find_all(config, chosen_mirrors(config, mirrors), name, build_tree)):
        if number:
            print_line("")
        for label, value in facts_of(config, found, build_tree(config.mirrors[found.mirror])):
            print_line(f"{label:<10} {value}")
    return EXIT_OK


# -- retry


@command()
@click.argument("keys", metavar="[KEY]...", nargs=-1, help="The keys. Default: all failed and rejected items.")
@mirror_option
@click.pass_obj
def retry(options: GlobalOptions, keys: tuple[str, ...], mirrors: tuple[str, ...]) -> int:
    """Retry failed and rejected items now.

    An item that could not be indexed is indexed again without an upload.
    """
    config = options.load()
    return run_async(_retry(config, chosen_mirrors(config, mirrors), keys or None))


async def _retry(config: "Config", names: Sequence[str], keys: Sequence[str] | None) -> int:
    """Make the items due, then process them here unless a daemon does so. keys: None for all."""
    from syncd.service.build import open_session
    from syncd.state.directory import holder
    from syncd.sync import once

    marked, others = await change_state(config, lambda db: _make_due(db, names, keys))
    total = sum(marked.values())
    print_line(f"{counted(total, 'item')} to try again")
    for key in sorted(others):
        print_note(f"{key}: nothing to try again; see: syncd explain {key}")
    if not total:
        return EXIT_OK
    names = [name for name, count in marked.items() if count]
    code = await ask_daemon(config.state_dir, {"command": "retry", "mirrors": names})
    if code is not None:
        return code
    if holder(config.state_dir) is not None:
        # The other process finds the due items by itself.
        return EXIT_OK
    codes = set()
    async with open_session(config, names) as session:
        for name, mirror in session.mirrors.items():
            report = await once.serve_due(mirror)
            print_retried(name, mirror, report)
            codes.add(report.exit_code)
    return most_serious(codes)


def print_retried(name: str, mirror: "Mirror", report: "Report") -> None:
    """Print the problems that are left."""
    for problem in report.problems(mirror):
        print_note(f"{name}: {problem.key}: {problem.kind}: {problem.message}")
    if report.error:
        print_note(f"{name}: {report.error}")


def _make_due(
    db: "sqlite3.Connection", names: Sequence[str], keys: Sequence[str] | None
) -> tuple[dict[str, int], set[str]]:
    """Make failed and rejected items due. Return their number for each mirror, and the keys that make nothing due."""
    from syncd.state.journal import Journal
    from syncd.state.queue import Queue, retry_problems

    now, counts, others = time.time(), dict.fromkeys(names, 0), set[str]()
    for chosen in [[key] for key in dict.fromkeys(keys)] if keys else [None]:
        found = {name: retry_problems(Journal(db, name), Queue(db, name, 0, 0), chosen, now) for name in names}
        if chosen and not any(found.values()):
            others.update(chosen)
        counts = {name: counts[name] + number for name, number in found.items()}
    return counts, others
