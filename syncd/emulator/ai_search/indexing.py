"""What indexing makes of a file: chunks of text, or a reason why not. PURE."""

import re
from typing import NamedTuple

from syncd.emulator.limits import BINARY_TYPES

CHUNK_LENGTH = 1000
"""Characters of a chunk, about; a paragraph that is longer is cut at white space."""

_PARAGRAPH = re.compile(r".+?(?:\n[ \t\r]*\n\s*|\Z)", re.DOTALL)
_HEADING = re.compile(r"#{1,6}(\s|$)")
_MARKDOWN = (".md", ".mdx", ".markdown", ".mdoc")


class Chunk(NamedTuple):
    """A piece of a file: data[start_byte:end_byte]."""

    start_byte: int
    end_byte: int
    text: str


class Outcome(NamedTuple):
    """How an indexing will end: with chunks, or with one of the service's error values."""

    chunks: list[Chunk]
    error: str | None


REASONS = {
    "unknown_error": "Vector ingestion did not confirm, giving up",
    "file_is_password_locked": "The document is encrypted and no password was given",
    "unable_to_convert_to_markdown": "The converter returned no result for this file",
    "file_content_empty": "No text was found in the file",
    "file_not_found": "The object does not exist in the bucket",
}
"""What an item's log says of an error; the service's own words are not documented."""


def fault_of(key: str) -> str:
    """The error value of a content that cannot be indexed, though it was taken."""
    return "file_is_password_locked" if key.lower().endswith(".pdf") else "unable_to_convert_to_markdown"


def index(key: str, data: bytes) -> Outcome:
    """Chunks of the content. Files without text end in file_content_empty. Pictures, PDF and office files are taken
    without looking into them: no chunks.
    """
    name = key.lower()
    if not data.strip():
        return Outcome([], "file_content_empty")
    if name.endswith(BINARY_TYPES):
        return Outcome([], None)
    text = data.decode("utf-8", "surrogateescape")
    if name.endswith(_MARKDOWN) and all(_HEADING.match(line) for line in text.splitlines() if line.strip()):
        return Outcome([], "file_content_empty")
    return Outcome(_chunks(text), None)


def _chunks(text: str) -> list[Chunk]:
    """Every byte belongs to exactly one chunk, so the offsets follow from the lengths."""
    chunks = []
    position = 0
    for piece in _pieces(text):
        raw = piece.encode("utf-8", "surrogateescape")
        chunks.append(Chunk(position, position + len(raw), raw.decode("utf-8", "replace")))
        position += len(raw)
    return chunks


def _pieces(text: str) -> list[str]:
    pieces = [""]
    for paragraph in _PARAGRAPH.findall(text):
        for part in _cut(paragraph):
            if pieces[-1] and len(pieces[-1]) + len(part) > CHUNK_LENGTH:
                pieces.append(part)
            else:
                pieces[-1] += part
    return pieces


def _cut(paragraph: str) -> list[str]:
    parts = []
    start = 0
    while len(paragraph) - start > CHUNK_LENGTH:
        end = paragraph.rfind(" ", start + CHUNK_LENGTH // 2, start + CHUNK_LENGTH) + 1 or start + CHUNK_LENGTH
        parts.append(paragraph[start:end])
        start = end
    parts.append(paragraph[start:])
    return parts
