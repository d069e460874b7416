"""search: asks the search of a target and prints the hits with their files."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from syncd.cli.context import AsJson, GlobalOptions, one_mirror, run_async
from syncd.cli.output import print_json, print_line, stdout_console
from syncd.core.errors import EXIT_OK, ConfigError
from syncd.core.plain_text import printable

if TYPE_CHECKING:
    from rich.text import Text

    from syncd.config.schema import Config

_SNIPPET_LENGTH = 160
"""Characters of a hit's text that are printed."""
_SHORT_WORD = 3
"""Words with fewer letters are highlighted only where they are whole words."""


def search(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="The question.")],
    *,
    mirror: Annotated[str | None, typer.Option("--mirror", metavar="M", help="The mirror to search.")] = None,
    limit: Annotated[int, typer.Option("--limit", help="The largest number of hits.", min=1, max=50)] = 10,
    folder: Annotated[str, typer.Option("--folder", metavar="PATH", help="Only in this folder of the mirror.")] = "",
    as_json: AsJson = False,
) -> int:
    """Ask the target's own search and print the hits.

    Each hit has its file.
    """
    options: GlobalOptions = ctx.obj
    if not query.strip():
        raise ConfigError("the query is empty; ask for something: syncd search QUERY")
    config = options.load()
    name = one_mirror(config, mirror)
    hits = run_async(_search(config, name, query, limit, folder.strip("/")))
    if as_json:
        print_json({"mirror": name, "query": query, "hits": hits})
    else:
        print_hits(hits, query)
    return EXIT_OK


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


def print_hits(hits: Sequence[dict[str, Any]], query: str) -> None:
    """Print search hits, best first. The words of the query are highlighted on a terminal."""
    if not hits:
        print_line(f"nothing found for {query!r}")
    console = stdout_console()
    for hit in hits:
        for text in _hit_lines(hit, query):
            # A folded path can be neither clicked nor copied.
            console.print(text, soft_wrap=True)


def _hit_lines(hit: dict[str, Any], query: str) -> "list[Text]":
    """Return the lines of one hit: score, key and title; file; snippet."""
    from rich.text import Text

    head = Text.assemble(f"{hit['score']:.2f}  ", (printable(hit["key"]), "bold"))
    title = hit["heading"] or hit.get("title")
    head.append(f"  ({printable(title)})" if title else "")
    lines = [head]
    if path := hit.get("path"):
        missing = "" if Path(path).exists() else "  (no such file here)"
        lines.append(Text.assemble("      ", (printable(path), "dim"), missing))
    snippet = Text("      " + printable(_snippet(hit["text"], query)))
    if pattern := words_pattern(query):
        snippet.highlight_regex(pattern, "bold yellow")
    return [*lines, snippet]


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
