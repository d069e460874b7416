"""The structure of a Markdown text: front matter, headings, blocks of code, and the section below each heading.

Lines are read by the rules of CommonMark as far as headings need them. Blocks in quotes and list items are not parsed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

HEADING_LIMIT = 200
"""Maximum characters of one heading in a path (our own limit, because every chunk repeats the path)."""

_SETEXT_LINES = 4
"""Maximum lines of a setext heading (our own limit). A longer paragraph above a line of dashes counts as prose."""

Span = tuple[int, int]
"""The start and the end of a part of a text."""
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")
_SPACES = re.compile(r"\s*")
_LINE = re.compile(
    r"""^(?:
        [ ]{0,3}(?P<level>\#{1,6})(?:[ \t](?P<atx>[^\n]*))?$
      | (?P<indent>[ \t]*(?P<item>(?:(?:[-*+]|\d{1,9}[.)])[ \t]+){0,8}+))(?P<fence>`{3,}+(?=[^`\n]*$)|~{3,}+)[^\n]*$
      | [ ]{0,3}(?P<setext>=++|-++)[ \t]*$
      | [ ]{0,3}<(?P<html>!--|(?:pre|script|style|textarea)(?=[\s>]|$))
    )""",
    re.MULTILINE | re.VERBOSE | re.IGNORECASE,
)
_FENCE_END = re.compile(r"^(?P<indent>[ \t]*)(?:(?P<fence>`{3,}+|~{3,}+)[ \t]*$|(?P<other>\S))", re.MULTILINE)
_HTML_END = re.compile(r"</(?:pre|script|style|textarea)>", re.IGNORECASE)
_NOT_PROSE = re.compile(r"[ ]{4}|[ ]{0,3}(?:\t|[|>]|[-*+][ \t]|\d{1,9}[.)][ \t]|[*_]{3,}+[ \t]*$)", re.MULTILINE)
_CLOSING_HASHES = re.compile(r"(?:^|(?<=[ \t]))#+[ \t]*$")
_YAML = re.compile(r"---[ \t]*\n(?=\#|---|[\w\"'-][^:\n]{0,200}:(?:[ \t\n]|$))")
_YAML_END = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE)
_TOML = re.compile(r"\+\+\+[ \t]*\n")
_TOML_END = re.compile(r"^\+\+\+[ \t]*(?:\n|\Z)", re.MULTILINE)
_FRONTS: tuple[tuple[Literal["yaml", "toml"], re.Pattern[str], re.Pattern[str]], ...] = (
    ("yaml", _YAML, _YAML_END),
    ("toml", _TOML, _TOML_END),
)
_MARKUP = re.compile(r"[\[\]<`*_~\\{]")
_INLINE: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"[ \t]*\{[#.:][^{}]*\}[ \t]*$"), ""),  # {#anchor}
    (re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])"), r"\1"),
    (re.compile(r"<((?:https?|mailto):[^<>\s]*)>"), r"\1"),
    (re.compile(r"</?[a-zA-Z][^<>]*>"), ""),
    (re.compile(r"(`+)[ ]?(.+?)[ ]?\1"), r"\2"),
    (re.compile(r"(\*{1,3})(?=\S)([^*]+)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<!\w)(_{1,3})(?=\S)([^_]+)(?<=\S)\1(?!\w)"), r"\2"),
    (re.compile(r"~~(?=\S)([^~]+)~~"), r"\1"),
    (re.compile(r"\\([!-/:-@\[-`{-~])"), r"\1"),
)


class Block(NamedTuple):
    """A paragraph, table or code block: text[start:end].

    by_lines: whether a long block is cut at line ends, or at sentences. None: the text of the block decides.
    """

    start: int
    end: int
    by_lines: bool | None


@dataclass(frozen=True, slots=True)
class Section:
    """The text below one heading.

    path: the titles of its heading and of the headings above it, joined by " > ". text[heading_start:heading_end]: its
    heading, with the headings of empty sections before it; empty before the first heading.
    """

    path: str
    heading_start: int
    heading_end: int
    blocks: Sequence[Block]


class FrontSpan(NamedTuple):
    """The place of front matter: text[start:stop], without its marks. end: the start of the text after it."""

    kind: Literal["yaml", "toml"]
    start: int
    stop: int
    end: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading at text[start:end]. title: its text without markup."""

    level: int
    title: str
    start: int
    end: int


def front_span(text: str) -> FrontSpan | None:
    """Return the place of the front matter. None: the text has none, or it is not closed."""
    for kind, opening, closing in _FRONTS:
        begin = opening.match(text)
        end = closing.search(text, begin.end()) if begin else None
        if begin and end:
            return FrontSpan(kind, begin.end(), end.start(), end.end())
    return None


def front_end(text: str) -> int:
    """Return the start of the text after its front matter."""
    span = front_span(text)
    return span.end if span else 0


def first_heading(text: str) -> str | None:
    """Return the first level-1 heading with a text, else the first heading, else None."""
    headings = (part for part in structure(text, front_end(text)) if isinstance(part, Heading))
    first = next(headings, None)
    if first is None or first.level == 1:
        return first.title if first else None
    return next((heading.title for heading in headings if heading.level == 1), first.title)


def sections(text: str) -> Iterator[Section]:
    """Yield the sections of a text in order. A heading without own text belongs to the first section below it."""
    start = front_end(text)
    path: list[Heading] = []
    unparsed: list[Block] = []
    heading_start = heading_end = start
    for part in (*structure(text, start), None):
        if isinstance(part, Block):
            unparsed.append(part)
            continue
        blocks = list(_blocks(text, heading_end, part.start if part else len(text), unparsed))
        has_subsection = part is not None and path and part.level > path[-1].level
        is_joined = has_subsection and not blocks
        if not is_joined:
            yield Section(" > ".join(heading.title for heading in path), heading_start, heading_end, blocks)
        if part is not None:
            path = [heading for heading in path if heading.level < part.level] + [part]
            heading_start, heading_end = (heading_start if is_joined else part.start), part.end
            unparsed = []


def _blocks(text: str, start: int, end: int, unparsed: list[Block]) -> Iterator[Block]:
    """Yield the paragraphs of text[start:end] and the unparsed blocks, which a blank line does not end, in order."""
    for block in unparsed:
        yield from (Block(*span, by_lines=None) for span in paragraphs(text, start, block.start))
        yield block
        start = block.end
    yield from (Block(*span, by_lines=None) for span in paragraphs(text, start, end))


def structure(text: str, start: int) -> Iterator[Heading | Block]:
    """Yield the headings, the fenced blocks and the blocks of raw HTML. A heading without a text counts as prose."""
    prose_start = start
    while line := _LINE.search(text, start):
        part: Heading | Block | None
        if line["level"]:
            title = _plain(_CLOSING_HASHES.sub("", (line["atx"] or "")[: HEADING_LIMIT * 5]))
            part = Heading(len(line["level"]), title, line.start(), line.end()) if title else None
        elif line["setext"]:
            part = _setext(text, prose_start, line)
        else:
            end = _fence_end(text, line) if line["fence"] else _html_end(text, line)
            part = Block(line.start(), line.start() + len(text[line.start() : end].rstrip()), by_lines=True)
        start = max(line.end(), part.end if part else 0)
        if part:
            yield part
        prose_start = start


def _setext(text: str, prose_start: int, line: re.Match[str]) -> Heading | None:
    """Return the heading that ends with a line of `=` or `-`. None: the lines above are no heading, such as a list."""
    begin = line.start()
    for _ in range(_SETEXT_LINES + 1):
        above = text.rfind("\n", prose_start, begin - 1) + 1 if begin > prose_start else begin
        above = max(above, prose_start)
        if not text[above:begin].strip():
            break
        begin = above
    else:
        return None
    words = text[begin : line.start()]
    if not words.strip() or _NOT_PROSE.match(words):
        return None
    title = _plain(words[: HEADING_LIMIT * 5])
    begin += len(words) - len(words.lstrip("\n"))
    return Heading(1 if line["setext"][0] == "=" else 2, title, begin, line.end()) if title else None


def _fence_end(text: str, line: re.Match[str]) -> int:
    """Return the end of a fenced block: a fence of the same length, else the end of its list item or of the text."""
    inside = bool(line["item"]) or len(line["indent"].expandtabs(4)) > 3
    for fence in _FENCE_END.finditer(text, line.end()):
        if fence["other"]:
            if inside and not fence["indent"]:
                return fence.start()
        elif fence["fence"].startswith(line["fence"]) and (inside or len(fence["indent"]) <= 3):
            return fence.end()
        elif inside and not fence["indent"]:
            return fence.start()
    return len(text)


def _html_end(text: str, line: re.Match[str]) -> int:
    """Return the end of the line that closes a comment or a block of raw HTML, or the end of the text."""
    if line["html"] == "!--":
        closed = text.find("-->", line.end())
    else:
        end = _HTML_END.search(text, line.end())
        closed = end.start() if end else -1
    line_end = text.find("\n", closed) if closed >= 0 else -1
    return line_end if line_end >= 0 else len(text)


def _plain(heading: str) -> str:
    """Return a heading without markup, of at most HEADING_LIMIT characters."""
    for pattern, replacement in _INLINE if _MARKUP.search(heading) else ():
        heading = pattern.sub(replacement, heading)
    heading = " ".join(heading.split())
    return heading if len(heading) <= HEADING_LIMIT else heading[: HEADING_LIMIT - 1].rstrip() + "…"


def paragraphs(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield the parts of text[start:end] between blank lines, without blank characters at their end."""
    begin = _line_start(text, start, end)
    for blank in _BLANK_LINES.finditer(text, begin, end):
        yield from trimmed(text, begin, blank.start())
        begin = text.rfind("\n", blank.start(), blank.end()) + 1
    yield from trimmed(text, begin, end)


def _line_start(text: str, start: int, end: int) -> int:
    """Return the start of the first line that is not blank, before its indentation."""
    visible = _SPACES.match(text, start, end)
    return max(start, text.rfind("\n", start, visible.end() if visible else start) + 1)


def trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield text[start:end] without blank characters at its end, unless nothing remains."""
    length = len(text[start:end].rstrip())
    if length:
        yield start, start + length
