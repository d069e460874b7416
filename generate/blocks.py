"""Text as a list of blocks, and its two forms: Markdown for the pages, roff for man(1).

Inline text has one kind of mark-up: `code` between backticks.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading. level: 1 for a section of the page."""

    text: str
    level: int = 1


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Code:
    """Lines that are shown as they are."""

    text: str
    language: str = "console"


@dataclass(frozen=True, slots=True)
class Item:
    """A term, such as an option, and the paragraphs that explain it."""

    term: str
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


Block = Heading | Text | Code | Item | Table

DATE = "2026-11-28"
"""The date in the footer of the man pages. It is fixed, so that the pages change only with the program."""
_ROFF_WIDTH = 76
"""Characters of a line of roff before `mandoc -T lint` finds it too long."""


# -- Markdown


def markdown(title: str, blocks: Sequence[Block], source: str) -> str:
    """Return a page. source: the part of the program that it is made of."""
    lines = [
        f"# {title}",
        "",
        f"<!-- Made of {source} by `make generate`. Do not edit. -->",
        "",
    ]
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        lines += _markdown_lines(block)
        if not (isinstance(block, Item) and isinstance(after, Item)):
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _markdown_lines(block: Block) -> Iterator[str]:
    match block:
        case Heading(text, level):
            yield f"{'#' * (level + 1)} {text}"
        case Text(text):
            yield text
        case Code(text, language):
            yield from (f"```{language}", *text.splitlines(), "```")
        case Item(term, text):
            first, *others = text.split("\n\n")
            yield f"- `{term}`: {first}" if first else f"- `{term}`"
            for other in others:
                yield from ("", f"  {other}")
        case Table(header, rows):
            yield _row(header)
            yield f"|{'---|' * len(header)}"
            yield from map(_row, rows)


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |".replace("|  |", "| |")


# -- roff


def man_page(name: str, section: int, summary: str, version: str, blocks: Sequence[Block]) -> str:
    """Return a page for man(1)."""
    header = f'.TH "{name.upper()}" "{section}" "{DATE}" "syncd {version}" "syncd"'
    # .nh: no word is divided, since most long words are names of keys and options.
    lines = [header, ".nh", ".ad l", ".SH NAME", f"{_roff(name)} \\- {_roff(summary)}"]
    before: Block | None = None
    for block in blocks:
        if isinstance(block, (Text, Code)) and not isinstance(before, (Heading, type(None))):
            lines.append(".PP")
        lines += _roff_lines(block)
        before = block
    return "\n".join(lines) + "\n"


def _roff_lines(block: Block) -> Iterator[str]:
    match block:
        case Heading(text, level):
            upper = level == 1 and "[" not in text
            yield f'.{"SH" if level == 1 else "SS"} "{_roff(text.upper() if upper else text)}"'
        case Text(text):
            yield from _roff_text(text)
        case Code(text):
            yield from (".RS 4", ".nf", *map(_roff_line, text.splitlines()), ".fi", ".RE")
        case Item(term, text):
            yield from (".TP", f"\\fB{_roff(term)}\\fR")
            first, *others = text.split("\n\n")
            yield from _roff_text(first)
            for other in others:
                yield from (".IP", *_roff_text(other))
        case Table(_, rows):
            for first, *others in rows:
                yield from (".TP", _roff_line(first), *_roff_text(". ".join(cell for cell in others if cell)))


def _roff_text(text: str) -> Iterator[str]:
    """Yield a line for each sentence, because roff chooses the space behind a sentence by the end of the line."""
    for sentence in re.split(r"(?<=[.:])\s+(?=[A-Z`])", " ".join(text.split())):
        for line in textwrap.wrap(_roff(sentence), _ROFF_WIDTH, break_on_hyphens=False, break_long_words=False):
            yield _guarded(line)


def _roff_line(text: str) -> str:
    return _guarded(_roff(text))


def _guarded(line: str) -> str:
    """Return a line of roff that is no command, which begins with a dot or an apostrophe."""
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha")
    escaped = escaped.replace("~", "\\(ti").replace('"', "\\(dq").replace("…", "\\&...")
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", escaped)
