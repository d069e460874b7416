"""A file as the pieces that become vectors, and what each vector says of itself. PURE but for reading HTML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from syncd.cloudflare.vectorize_lines import METADATA_LIMIT
from syncd.core.errors import Park, SyncdError
from syncd.core.model import Content, Put
from syncd.targets.describing import described
from syncd.targets.vectorize.ids import PIECES_LIMIT, Maker, Ref
from syncd.text.chunks import CHUNKS_VERSION, chunks
from syncd.text.documents import read_document
from syncd.text.metadata import fit_metadata as within
from syncd.text.metadata import json_size

KEY, HEADING, TEXT, OWNER, SHA256 = "key", "heading", "text", "owner", "sha256"
"""Our own metadata of a vector, for search and for people; the ids alone prove what is there."""
FIELDS_LIMIT = 5 * 1024
"""Bytes of a vector's metadata that all but the text may take: half of it (Vectorize limits)."""
_HEADING_CHARS = 500


@dataclass(frozen=True, slots=True)
class Cut:
    """How text is cut. size and overlap: characters."""

    size: int
    overlap: int

    @property
    def name(self) -> str:
        """What all pieces depend on besides the text."""
        return f"{CHUNKS_VERSION} {self.size} {self.overlap}"


@dataclass(frozen=True, slots=True)
class Signed:
    """What is the same in all vectors of a mirror. fields: of the metadata -> their sources (see metadata)."""

    owner: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class File:
    """One put under way. left: pieces not dealt with yet; error: why it cannot be stored; added: ids that it wrote
    and that were not there before.
    """

    put: Put
    checksum: str
    size: int
    ref: Ref
    left: int
    error: SyncdError | None = None
    added: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Piece:
    """One vector to be: its text, and its metadata."""

    file: File
    id: str
    text: str
    metadata: Mapping[str, Any]


def cut(put: Put, content: Content, maker: Maker, how: Cut, by: Signed) -> list[Piece]:
    """Cut a file's content. Raises Park if it is no text, holds none, or would give too many pieces."""
    found = read_document(put.key, content.data)
    found_chunks = chunks(found.text, found.kind, how.size, how.overlap)
    if len(found_chunks) > PIECES_LIMIT:
        over = f"it would be {len(found_chunks)} pieces, and {PIECES_LIMIT} are the most; raise chunk_size"
        raise Park("too_large", over)
    ref = maker.ref(put.key, content.checksum, len(found_chunks))
    file = File(put, content.checksum, len(content.data), ref, len(found_chunks))
    ours = {KEY: put.key, OWNER: by.owner, SHA256: content.checksum}
    same = within(ours, described(by.fields, put.key, content), FIELDS_LIMIT)
    return [
        Piece(file, vector_id, each.text, fitted({**same, HEADING: each.heading[:_HEADING_CHARS]}, each.text))
        for vector_id, each in zip(ref.ids(), found_chunks, strict=True)
    ]


def fitted(metadata: Mapping[str, str], text: str) -> dict[str, str]:
    """Metadata with as much of the text as 10 KiB leave room for."""
    whole = {**metadata, TEXT: text}
    if json_size(whole) <= METADATA_LIMIT:
        return whole
    fits, over = 0, len(text)
    while over - fits > 1:
        middle = (fits + over) // 2
        if json_size({**metadata, TEXT: text[:middle]}) <= METADATA_LIMIT:
            fits = middle
        else:
            over = middle
    return {**metadata, TEXT: text[:fits]}
