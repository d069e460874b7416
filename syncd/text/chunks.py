"""Cuts a text into chunks for an embedding model, each with the path of its headings. Has no side effects.

A section that is too long is cut into units: blocks, then lines or sentences, then words, then characters. Units are
packed into chunks. The candidates for the end of a chunk are the units of the best rank in its second half. The chunk
ends after the candidate with the smallest checksum. A border depends only on the content near it and not on its place
in the file, so an edit changes few chunks.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from syncd.text.sections import Block, Section, front_end, paragraphs, sections, trimmed

TextKind = Literal["markdown", "text"]

CHUNKS_VERSION = 1
"""The ids of vectors contain this number. Increase it after a change by which the same text gives other chunks."""

_PARAGRAPH, _LINE, _WORD, _CHARACTER, _HEADING = range(5)
"""The ranks of units. A lower rank is a better border after the unit."""

_WORD_GROUPS = 8
"""A unit of words has at most 1/8 of the size of a chunk. One unit for each word would be slow for long lines."""

_CLUSTER = 16
"""Maximum characters by which a cut moves back, so that it does not cut a letter with accents or an emoji."""

_ZWJ = "\u200d"
_SPACE = re.compile(r"\s")
_SPACES = re.compile(r"\s*")
_LAST_SPACE = re.compile(r".*\s", re.DOTALL)
_NOT_EMPTY = re.compile(r"[^\n]+")
# The repetition is bounded, so that a long run of full stops or quotes takes linear time.
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]{0,4}(?=\s)|[。！？][\"'”’」』）]{0,4}")  # noqa: RUF001 - CJK full stops
_CLEAN_START = re.compile(rf"\n+|(?:{_SENTENCE_END.pattern})\s*")
# A line of a table, a quote or a list.
_ROW = re.compile(r"^[ \t]*(?:[|>]|[-*+][ \t]|\d{1,9}[.)][ \t])", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text.

    text: the text to embed, never blank. heading: the path of its headings ("Guide > Install > Linux"), "" for none.
    """

    text: str
    heading: str


class _Unit(NamedTuple):
    """A part of a section that no border cuts."""

    start: int
    end: int
    rank: int


def chunks(text: str, kind: TextKind, size: int, overlap: int) -> list[Chunk]:
    """Return the chunks of a text in order. They contain the whole text except for front matter and white space.

    text: with line feeds as line ends. size: maximum characters of a chunk with its overlap. overlap: maximum
    characters that a chunk repeats from the previous chunk of its section. Raises ValueError unless
    0 <= overlap < size / 2.
    """
    if not 0 <= overlap * 2 < size:
        raise ValueError(f"overlap {overlap} must be less than half of size {size}")
    if kind == "markdown":
        parts = sections(text)
    else:
        blocks = [Block(start, end, by_lines=True) for start, end in paragraphs(text, 0, len(text))]
        parts = iter([Section("", 0, 0, blocks)])
    return [Chunk(piece, section.path) for section in parts for piece in _pieces(text, section, size, overlap)]


def is_blank(text: str, kind: TextKind) -> bool:
    """Return whether a text has no chunks."""
    start = front_end(text) if kind == "markdown" else 0
    return not text[start:].strip()


def _pieces(text: str, section: Section, size: int, overlap: int) -> Iterator[str]:
    """Yield the texts of the chunks of a section, each with at most `size` characters.

    The first one starts with the heading. The heading is a chunk of its own only if the section is empty, or if the
    heading takes three quarters of the size.
    """
    blocks, has_heading = section.blocks, section.heading_start < section.heading_end
    if not has_heading and not blocks:
        return
    start = section.heading_start if has_heading else blocks[0].start
    end = blocks[-1].end if blocks else section.heading_end
    if end - start <= size:
        yield text[start:end]
        return
    limit = size - overlap
    joined, units = _join_units(text, list(_units(text, section, limit)))
    previous_start = 0
    for first, last in _packed(joined, units, limit):
        start, end = units[first].start, units[last].end
        yield joined[_overlap_start(joined, previous_start, start, overlap) : end]
        previous_start = start


def _units(text: str, section: Section, limit: int) -> Iterator[_Unit]:
    """Yield the section in units of at most `limit` characters."""
    start, end = section.heading_start, section.heading_end
    block_limit = limit
    if 0 < end - start <= limit * 3 // 4 and section.blocks:
        yield _Unit(start, end, _HEADING)
        # Two characters are for the blank line after the heading. The first unit must fit after it.
        block_limit = max(1, limit - (end - start) - 2)
    elif start < end:
        yield from _lines(text, start, end, limit)
    for block in section.blocks:
        yield from _block(text, block, block_limit)
        block_limit = limit


def _block(text: str, block: Block, limit: int) -> Iterator[_Unit]:
    """Yield a block as one unit, or a long block as lines or sentences."""
    start, end, by_lines = block
    if end - start <= limit:
        yield _Unit(start, end, _PARAGRAPH)
        return
    if by_lines is None:
        by_lines = _ROW.search(text, start, end) is not None
    *units, last = (_lines if by_lines else _sentences)(text, start, end, limit)
    yield from units
    # The border after the last unit is the border of the block.
    yield last._replace(rank=_PARAGRAPH)


def _lines(text: str, start: int, end: int, limit: int) -> Iterator[_Unit]:
    """Yield the lines of text[start:end], and a long line as sentences."""
    for line in _NOT_EMPTY.finditer(text, start, end):
        for first, last in trimmed(text, line.start(), line.end()):
            if last - first <= limit:
                yield _Unit(first, last, _LINE)
            else:
                yield from _sentences(text, first, last, limit)


def _sentences(text: str, start: int, end: int, limit: int) -> Iterator[_Unit]:
    """Yield the sentences of text[start:end], and a long sentence as groups of words."""
    stops = (stop.end() for stop in _SENTENCE_END.finditer(text, start, end))
    begin = start
    for stop in (*stops, end):
        if stop - begin > limit:
            yield from _words(text, begin, stop, limit)
        elif begin < stop:
            yield _Unit(begin, stop, _LINE)
        begin = _skip_spaces(text, stop, end)


def _words(text: str, start: int, end: int, limit: int) -> Iterator[_Unit]:
    """Yield text[start:end] in groups of words, and a long word in parts."""
    begin = _skip_spaces(text, start, end)
    while begin < end:
        stop, rank = _word_border(text, begin, end, limit)
        yield _Unit(begin, begin + len(text[begin:stop].rstrip()), rank)
        begin = _skip_spaces(text, stop, end)


def _word_border(text: str, begin: int, end: int, limit: int) -> tuple[int, int]:
    """Return the end and the rank of a group of words, or of a part of a word that is longer than the limit."""
    group = max(1, limit // _WORD_GROUPS)
    if end - begin <= group:
        return end, _WORD
    within = _LAST_SPACE.match(text, begin, begin + group)
    if within:
        return within.end(), _WORD
    beyond = _SPACE.search(text, begin + group, min(end, begin + limit + 1))
    if beyond:
        return beyond.start(), _WORD
    if end - begin <= limit:
        return end, _WORD
    return _cluster_border(text, begin, begin + limit), _CHARACTER


def _cluster_border(text: str, begin: int, stop: int) -> int:
    """Return `stop`, or an index shortly before it that does not separate a character from its modifiers."""
    for place in range(stop, max(begin, stop - _CLUSTER), -1):
        if not _modifies(text[place]) and text[place - 1] != _ZWJ:
            return place
    return stop


def _modifies(character: str) -> bool:
    skin_tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return character == _ZWJ or skin_tone or unicodedata.category(character).startswith("M")


def _skip_spaces(text: str, start: int, end: int) -> int:
    spaces = _SPACES.match(text, start, end)
    return spaces.end() if spaces else start


def _join_units(text: str, units: Sequence[_Unit]) -> tuple[str, list[_Unit]]:
    """Return a text of the units with at most one blank line between two units, and the units in this text."""
    parts: list[str] = []
    joined: list[_Unit] = []
    length = 0
    previous_end = units[0].start
    for start, end, rank in units:
        gap = text[previous_end:start]
        joint = "\n" * min(2, gap.count("\n")) or gap[:1]
        parts += (joint, text[start:end])
        length += len(joint)
        joined.append(_Unit(length, length + end - start, rank))
        length += end - start
        previous_end = end
    return "".join(parts), joined


def _packed(text: str, units: Sequence[_Unit], limit: int) -> Iterator[tuple[int, int]]:
    """Yield the index of the first and the last unit of each chunk."""
    first = 0
    while first < len(units):
        after = first + 1
        while after < len(units) and units[after].end - units[first].start <= limit:
            after += 1
        last = after - 1 if after == len(units) else _last_unit(text, units, first, after)
        yield first, last
        first = last + 1


def _last_unit(text: str, units: Sequence[_Unit], first: int, after: int) -> int:
    """Return the index of the last unit of a chunk. The units from `first` to `after - 1` fit into the chunk."""
    middle = (units[first].start + units[after - 1].end + 1) // 2
    earliest = after - 1
    while earliest > first and units[earliest - 1].end >= middle:
        earliest -= 1
    rank = min(unit.rank for unit in units[earliest:after])
    candidates = [index for index in range(earliest, after) if units[index].rank == rank]
    # If two units have the same checksum, the later one is the last.
    return min(reversed(candidates), key=lambda index: _checksum(text, units[index]))


def _checksum(text: str, unit: _Unit) -> int:
    return zlib.crc32(text[unit.start : unit.end].encode("utf-8", "surrogatepass"))


def _overlap_start(text: str, previous_start: int, start: int, overlap: int) -> int:
    """Return the start of a chunk with its overlap. previous_start, start: of the previous chunk, and of this one."""
    earliest = start - overlap
    if earliest <= previous_start:
        return previous_start
    clean = _CLEAN_START.search(text, earliest - 1, start - overlap // 2)
    if clean and clean.end() < start:
        return clean.end()
    space = _SPACE.search(text, earliest - 1, start)
    return _skip_spaces(text, space.end(), start) if space else start
