"""Search hits for people: score, key, file, and the part of the text that matches."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from syncd.cli.out import line, stdout
from syncd.core.redact import printable

SNIPPET = 160
"""Characters of a hit's text for people."""
_SHORT = 3
"""Words with fewer letters are marked where they stand alone only."""


def show_hits(hits: Sequence[dict[str, Any]], query: str) -> None:
    """Print search hits, best first. On a terminal the words of the query are highlighted."""
    if not hits:
        line(f"nothing found for {query!r}")
    console, words = stdout(), words_of(query)
    for hit in hits:
        head = Text.assemble(f"{hit['score']:.2f}  ", (printable(hit["key"]), "bold"))
        called = hit["heading"] or hit.get("title")
        head.append(f"  ({printable(called)})" if called else "")
        shown = [head]
        if path := hit.get("path"):
            there = "" if Path(path).exists() else "  (no such file here)"
            shown.append(Text.assemble("      ", (printable(path), "dim"), there))
        text = Text("      " + printable(_snippet(hit["text"], query)))
        if words:
            text.highlight_regex(words, "bold yellow")
        for each in (*shown, text):
            # A path that is folded cannot be clicked, nor copied.
            console.print(each, soft_wrap=True)


def words_of(query: str) -> re.Pattern[str] | None:
    """An expression for the words of a query; None if it has none."""
    parts = []
    for word in dict.fromkeys(re.findall(r"\w+", query)):
        # Not every script parts its words.
        begin = r"(?<!\w)" if word.isascii() else ""
        parts.append(begin + re.escape(word) + (r"(?!\w)" if len(word) < _SHORT and word.isascii() else ""))
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None


def _snippet(text: str, query: str) -> str:
    flat = " ".join(text.split())
    places = [flat.lower().find(word) for word in query.lower().split()]
    start = max(0, min((place for place in places if place >= 0), default=0) - SNIPPET // 4)
    cut = flat[start : start + SNIPPET]
    return ("…" if start else "") + cut + ("…" if start + SNIPPET < len(flat) else "")
