"""What becomes of a text before it is embedded: chunks, each under its headings. PURE.

Borders depend on what stands around them and not on where in the file that is, so an edit changes few chunks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from syncd.text.chunk_markdown import front_end, sections
from syncd.text.chunk_text import Block, Section, paragraphs, pieces

Kind = Literal["markdown", "text"]

VERSION = 1
"""Part of what ids prove: raise it when the same text would give other chunks."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a text. `text` is what is embedded, never blank. `heading` is the path of the headings that it
    stands under ("Guide > Install > Linux"), "" if there are none.
    """

    text: str
    heading: str


def chunks(text: str, kind: Kind, size: int, overlap: int) -> list[Chunk]:
    """The chunks of a text, in order; none if it is blank. Nothing but white space and front matter is lost.

    size: the most characters of a chunk, overlap included. overlap: how many characters a chunk may repeat from the
    end of the one before, within one section. Line ends are line feeds. ValueError unless 0 <= overlap < size / 2.
    """
    if not 0 <= overlap * 2 < size:
        raise ValueError(f"overlap {overlap} must be less than half of size {size}")
    found = _sections(text, kind)
    return [Chunk(piece, section.heading) for section in found for piece in pieces(text, section, size, overlap)]


def is_blank(text: str, kind: Kind) -> bool:
    """Whether chunks() would give none."""
    start = front_end(text) if kind == "markdown" else 0
    return not text[start:].strip()


def _sections(text: str, kind: Kind) -> Iterator[Section]:
    if kind == "markdown":
        yield from sections(text)
    else:
        blocks = [Block(start, end, lined=True) for start, end in paragraphs(text, 0, len(text))]
        yield Section("", 0, 0, blocks)
