"""Markdown by its headings: front matter, headings, code that only looks like them, and the section below each. PURE.

Lines are found by CommonMark's rules as far as headings need them. Blocks in quotes and below list items are not
taken apart.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

HEADING_LIMIT = 200
"""Characters of one heading that the path shows (our own limit: a path is repeated with every chunk)."""

_SETEXT_LINES = 4
"""A longer paragraph with a line of dashes below it is prose above a rule, whatever CommonMark says."""

Span = tuple[int, int]
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
    """A paragraph, table or code block: text[start:end]. lined: it is cut at lines, None for what its look says."""

    start: int
    end: int
    lined: bool | None


@dataclass(frozen=True, slots=True)
class Section:
    """What stands under one heading. text[lead:lead_end] is the heading itself, with empty ones above; it may be
    empty. `heading` is the path.
    """

    heading: str
    lead: int
    lead_end: int
    blocks: Sequence[Block]


class FrontSpan(NamedTuple):
    """Where front matter stands: from `start` to `stop`; the text proper begins at `end`."""

    kind: Literal["yaml", "toml"]
    start: int
    stop: int
    end: int


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading: its level, its text without markup, and where it stands."""

    level: int
    title: str
    start: int
    end: int


def front_span(text: str) -> FrontSpan | None:
    """Where the front matter stands, if there is any and it is closed."""
    for kind, opening, closing in _FRONTS:
        begin = opening.match(text)
        end = closing.search(text, begin.end()) if begin else None
        if begin and end:
            return FrontSpan(kind, begin.end(), end.start(), end.end())
    return None


def front_end(text: str) -> int:
    """Where the text proper begins, after front matter if there is any."""
    span = front_span(text)
    return span.end if span else 0


def first_heading(text: str) -> str | None:
    """The first level-1 heading that has a text, else the first heading at all, else None."""
    headings = (line for line in structure(text, front_end(text)) if isinstance(line, Heading))
    first = next(headings, None)
    if first is None or first.level == 1:
        return first.title if first else None
    return next((line.title for line in headings if line.level == 1), first.title)


def sections(text: str) -> Iterator[Section]:
    """The text by headings, in order. A heading with nothing of its own goes with the first section below it."""
    start = front_end(text)
    path: list[Heading] = []
    kept: list[Block] = []
    lead = lead_end = start
    for line in (*structure(text, start), None):
        if isinstance(line, Block):
            kept.append(line)
            continue
        blocks = list(_blocks(text, lead_end, line.start if line else len(text), kept))
        goes_on = not blocks and path and line is not None and line.level > path[-1].level
        if not goes_on:
            yield Section(" > ".join(each.title for each in path), lead, lead_end, blocks)
        if line is not None:
            path = [each for each in path if each.level < line.level] + [line]
            lead, lead_end = (lead if goes_on else line.start), line.end
            kept = []


def _blocks(text: str, start: int, end: int, kept: list[Block]) -> Iterator[Block]:
    """Paragraphs, and between them the blocks whose blank lines do not count."""
    for block in kept:
        yield from (Block(*each, lined=None) for each in paragraphs(text, start, block.start))
        yield block
        start = block.end
    yield from (Block(*each, lined=None) for each in paragraphs(text, start, end))


def structure(text: str, start: int) -> Iterator[Heading | Block]:
    """Headings, and blocks in which nothing is a heading. A heading without a text counts as prose."""
    floor = start
    while line := _LINE.search(text, start):
        found: Heading | Block | None
        if line["level"]:
            name = _plain(_CLOSING_HASHES.sub("", (line["atx"] or "")[: HEADING_LIMIT * 5]))
            found = Heading(len(line["level"]), name, line.start(), line.end()) if name else None
        elif line["setext"]:
            found = _setext(text, floor, line)
        else:
            end = _fence_end(text, line) if line["fence"] else _html_end(text, line)
            found = Block(line.start(), line.start() + len(text[line.start() : end].rstrip()), lined=True)
        start = max(line.end(), found.end if found else 0)
        if found:
            yield found
        floor = start


def _setext(text: str, floor: int, line: re.Match[str]) -> Heading | None:
    """The paragraph above a line of `=` or `-` as a heading; None if there is none, as below a list or a table."""
    begin = line.start()
    for _ in range(_SETEXT_LINES + 1):
        above = text.rfind("\n", floor, begin - 1) + 1 if begin > floor else begin
        above = max(above, floor)
        if not text[above:begin].strip():
            break
        begin = above
    else:
        return None
    words = text[begin : line.start()]
    if not words.strip() or _NOT_PROSE.match(words):
        return None
    name = _plain(words[: HEADING_LIMIT * 5])
    begin += len(words) - len(words.lstrip("\n"))
    return Heading(1 if line["setext"][0] == "=" else 2, name, begin, line.end()) if name else None


def _fence_end(text: str, line: re.Match[str]) -> int:
    """Where a fenced block ends: with a fence as long, or with its list item, or with the text."""
    inside = bool(line["item"]) or len(line["indent"].expandtabs(4)) > 3
    for each in _FENCE_END.finditer(text, line.end()):
        if each["other"]:
            if inside and not each["indent"]:
                return each.start()
        elif each["fence"].startswith(line["fence"]) and (inside or len(each["indent"]) <= 3):
            return each.end()
        elif inside and not each["indent"]:
            return each.start()
    return len(text)


def _html_end(text: str, line: re.Match[str]) -> int:
    """The end of the line on which a comment or a block of raw HTML is closed, or of the text."""
    if line["html"] == "!--":
        closed = text.find("-->", line.end())
    else:
        end = _HTML_END.search(text, line.end())
        closed = end.start() if end else -1
    line_end = text.find("\n", closed) if closed >= 0 else -1
    return line_end if line_end >= 0 else len(text)


def _plain(heading: str) -> str:
    """A heading without Markdown: the text of links, code without backticks; cut to HEADING_LIMIT characters."""
    for pattern, instead in _INLINE if _MARKUP.search(heading) else ():
        heading = pattern.sub(instead, heading)
    heading = " ".join(heading.split())
    return heading if len(heading) <= HEADING_LIMIT else heading[: HEADING_LIMIT - 1].rstrip() + "…"


def paragraphs(text: str, start: int, end: int) -> Iterator[Span]:
    """The parts of text[start:end] between blank lines, from the start of a line to the last visible character."""
    begin = _line_start(text, start, end)
    for blank in _BLANK_LINES.finditer(text, begin, end):
        yield from trimmed(text, begin, blank.start())
        begin = text.rfind("\n", blank.start(), blank.end()) + 1
    yield from trimmed(text, begin, end)


def _line_start(text: str, start: int, end: int) -> int:
    """Where the first line begins that is not blank; its indentation stays."""
    visible = _SPACES.match(text, start, end)
    return max(start, text.rfind("\n", start, visible.end() if visible else start) + 1)


def trimmed(text: str, start: int, end: int) -> Iterator[Span]:
    length = len(text[start:end].rstrip())
    if length:
        yield start, start + length
