"""status, ls, explain, search: the commands that only look."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.app import Globals, app, await_, os_path
from syncd.core.errors import EXIT_OK, ConfigError
from syncd.core.os_names import from_os, shown_path

UNINDEXED = frozenset({"index_error", "skipped"})
"""Problem kinds of what is stored, and only not searchable."""

if TYPE_CHECKING:
    import sqlite3

    from syncd.config.schema import Config

REFRESH_S = 1.0


@app.command()
def status(
    ctx: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")] = False,
) -> int:
    """Show what is in step, waiting, indexing and failed.

    With or without a running daemon.
    """
    options: Globals = ctx.obj
    config = options.load(level=None)
    from syncd.cli.out import emit
    from syncd.cli.status_view import show
    from syncd.queries.status import snapshot

    if watch:
        from syncd.cli.status_live import live

        live(lambda: snapshot(config), REFRESH_S)
    elif as_json:
        emit(snapshot(config))
    else:
        show(snapshot(config))
    return EXIT_OK


@app.command(name="ls")
def list_items(
    ctx: typer.Context,
    mirror: Annotated[str | None, typer.Argument(metavar="MIRROR", show_default=False)] = None,
    *,
    remote: Annotated[bool, typer.Option("--remote", help="What the target holds, whoever put it there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """List items with size, state and index status."""
    options: Globals = ctx.obj
    config = options.load()
    name = one_mirror(config, mirror)
    rows = await_(_remote_rows(config, name)) if remote else list(_local_rows(config, name))
    from syncd.cli.out import emit, table

    shard = config.mirrors[name].shard
    if as_json:
        emit({"mirror": name, **({"shard": shard} if shard else {}), "items": rows})
    else:
        if shard:
            typer.echo(f"{name}: the keys of shard {shard}", err=True)
        local: tuple[str, ...] = ("key", "size", "state", "index")
        headers = ("key", "size", "owner", "index", "ref") if remote else local
        table(headers, ([row.get(header) for header in headers] for row in rows))
    return EXIT_OK


@app.command()
def explain(
    ctx: typer.Context, path: Annotated[Path, typer.Argument(help="A file, or its path in the mirror.", parser=Path)]
) -> int:
    """Say which rule took or left a file, and what is known of it.

    And what happens next.
    """
    options: Globals = ctx.obj
    config = options.load()
    from syncd.cli.out import line
    from syncd.queries.explain import explain as facts_of
    from syncd.service.build import build_tree

    mirror, path_inside = _mirror_of(config, path)
    for name, value in facts_of(config, mirror, path_inside, build_tree(config.mirrors[mirror])):
        line(f"{name:<10} {value}")
    return EXIT_OK


@app.command()
def search(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="What to ask.")],
    *,
    mirror: Annotated[str | None, typer.Option("--mirror", metavar="M", help="Which mirror's target to ask.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="Hits at most.", min=1, max=50)] = 10,
    folder: Annotated[str, typer.Option("--folder", metavar="PATH", help="Only in this folder of the mirror.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Ask the target's own search and show the hits.

    Each with its file.
    """
    options: Globals = ctx.obj
    if not query.strip():
        raise ConfigError("the query is empty; ask for something: syncd search QUERY")
    config = options.load()
    name = one_mirror(config, mirror)
    hits = await_(_search(config, name, query, limit, folder.strip("/")))
    from syncd.cli.hits import show_hits
    from syncd.cli.out import emit

    if as_json:
        emit({"mirror": name, "query": query, "hits": hits})
    else:
        show_hits(hits, query)
    return EXIT_OK


def one_mirror(config: "Config", name: str | None) -> str:
    """Return the mirror that is meant. Raises ConfigError if several are configured and none is named."""
    from syncd.service.build import mirror_config

    if name is not None:
        mirror_config(config, name)
        return name
    if len(config.mirrors) == 1:
        return next(iter(config.mirrors))
    raise ConfigError(f"which mirror? Name one of: {', '.join(config.mirrors)}")


def _mirror_of(config: "Config", path: Path) -> tuple[str, str]:
    """Return the mirror a path lies in, and the path relative to its root."""
    if found := inside(config, path):
        return found
    if len(config.mirrors) == 1 and not path.is_absolute():
        return next(iter(config.mirrors)), path.as_posix()
    roots = ", ".join(shown_path(section.path) for section in config.mirrors.values())
    raise ConfigError(f"{path} lies in no mirrored folder; they are: {roots}")


def inside(config: "Config", path: Path) -> tuple[str, str] | None:
    """Return the mirror whose folder a path leads into, and the path relative to its root; None if it does not."""
    path = os_path(str(path)).expanduser()
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - takes "..", and follows no link, out
    for candidate in (absolute, path.parent.resolve() / absolute.name):
        for name, section in config.mirrors.items():
            for root in (section.path, section.path.resolve()):
                if candidate.is_relative_to(root) and candidate != root:
                    return name, from_os(candidate.relative_to(root).as_posix())
    return None


def _local_rows(config: "Config", name: str) -> Iterator[dict[str, Any]]:
    from syncd.state.db import open_state_to_read

    db = open_state_to_read(config.state_dir)
    if db is None:
        return
    try:
        yield from _rows_of(db, name)
    finally:
        db.close()


def _rows_of(db: "sqlite3.Connection", name: str) -> Iterator[dict[str, Any]]:
    from syncd.state.journal import LAST, Journal
    from syncd.state.queue import Queue

    journal = Journal(db, name)
    waiting = {row.key: row for row in Queue(db, name, 0, 0).every()}
    problems = {problem.key: problem for problem in journal.problems()}
    after = ""
    while records := journal.after(after, LAST, 1000):
        for record in records:
            problem = problems.pop(record.key, None)
            yield {
                "key": record.key,
                "size": record.size,
                "state": state_of(problem.kind if problem else None, dirty=record.key in waiting),
                "index": record.status,
                "searchable_s": record.searchable_s,
            }
        after = records[-1].key
    for key in sorted(problems):
        kind = problems[key].kind
        # One that could not be indexed is in step as long as it is stored.
        state = f"rejected: {kind}" if kind in UNINDEXED else state_of(kind, dirty=False)
        yield {"key": key, "size": None, "state": state, "index": None, "searchable_s": None}


def state_of(kind: str | None, *, dirty: bool) -> str:
    """An item's state in one word, as `status` counts it."""
    if kind == "failed":
        return "failed"
    if kind is not None and kind not in UNINDEXED:
        return f"rejected: {kind}"
    return "pending" if dirty else "synced"


async def _remote_rows(config: "Config", name: str) -> list[dict[str, Any]]:
    from syncd.cloudflare.decoding import tame
    from syncd.service.build import open_session
    from syncd.sync.observe import ours

    async with open_session(config, [name], read_only=True) as session:
        rows = [
            {"key": e.key, "size": e.size, "owner": e.owner, "index": e.status, "ref": e.ref, "checksum": e.checksum}
            | ({} if e.metadata is None else {"metadata": tame(dict(e.metadata))})
            async for e in ours(session.mirrors[name])
        ]
    return sorted(rows, key=lambda row: str(row["key"]))


async def _search(config: "Config", name: str, query: str, limit: int, folder: str) -> list[dict[str, Any]]:
    from syncd.service.build import open_session
    from syncd.targets.base import searchable

    async with open_session(config, [name], read_only=True) as session:
        mirror = session.mirrors[name]
        root, prefix = mirror.tree.root, mirror.policy.prefix
        hits = await searchable(mirror.target).search(query, limit, f"{prefix}{folder}/" if folder else "")
        return [
            {
                "key": hit.key,
                "path": str(root / hit.key.removeprefix(prefix)),
                "score": hit.score,
                "title": hit.title,
                "heading": hit.heading,
                "text": hit.text,
            }
            for hit in hits
        ]
