"""The ids of vectors, and the refs that a listing of ids proves. PURE.

    rD8xkQ2a.q1Zr8h2Lm0sX9tYw.0aBcDeFgHiJkLmNoPqRs.m3AcD1.0002-000c
    owner    key              content              |      chunk 2 of 12
                                                   model and chunk settings

An id has 63 bytes; Vectorize takes 64. All parts but the last are the beginnings of SHA-256 digests. So the listing,
which gives ids only, proves the content of the index and its owner without a journal and without reading a vector.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

OWNER_CHARS, KEY_CHARS, CONTENT_CHARS, MODEL_CHARS, CUT_CHARS = 8, 16, 20, 3, 3
"""Characters of 6 bits each. With 1,000 owners, two share a tag in one of 10^8 indexes; with a million keys, in one
of 10^17."""
CHUNKS_LIMIT = 0xFFFF
"""Maximum number of chunks of one file: four hex digits."""
WHOLE = "whole"
"""The version of an entry with all its vectors, made with the present model and chunk settings."""

_REF = re.compile(
    rf"(?P<owner>[\w-]{{{OWNER_CHARS}}})\.(?P<key>[\w-]{{{KEY_CHARS}}})\.(?P<content>[\w-]{{{CONTENT_CHARS}}})"
    rf"\.(?P<model>[\w-]{{{MODEL_CHARS}}})(?P<cut>[\w-]{{{CUT_CHARS}}})\.(?P<chunks>[0-9a-f]{{4}})",
    re.ASCII,
)
_ID = re.compile(r"(.{53})\.([0-9a-f]{4})-([0-9a-f]{4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class VectorRef:
    """All vectors of one content of one key. `str()` gives the ref for the journal.

    owner, key, content, model, cut: tags. cut: the tag of the chunk settings. chunks: the number of vectors.
    """

    owner: str
    key: str
    content: str
    model: str
    cut: str
    chunks: int

    def __str__(self) -> str:
        return f"{self._stem}.{self.chunks:04x}"

    def ids(self) -> list[str]:
        """Return the ids of all chunks, in order."""
        return [f"{self._stem}.{chunk:04x}-{self.chunks:04x}" for chunk in range(1, self.chunks + 1)]

    @property
    def _stem(self) -> str:
        return f"{self.owner}.{self.key}.{self.content}.{self.model}{self.cut}"


@dataclass(frozen=True, slots=True)
class RefMaker:
    """Makes the refs of one mirror. owner, model, cut: the tags that all of them share."""

    owner: str
    model: str
    cut: str

    @classmethod
    def of(cls, owner: str, model: str, cut: str) -> "RefMaker":
        """Return the maker of an owner. model: model and pooling. cut: the name of the chunk settings."""
        return cls(_tag("owner", owner, OWNER_CHARS), _tag("model", model, MODEL_CHARS), _tag("cut", cut, CUT_CHARS))

    def ref(self, key: str, checksum: str, chunks: int) -> VectorRef:
        """Return the ref of a content with so many chunks. checksum: its sha-256 in hex."""
        return VectorRef(self.owner, key_tag(key), content_tag(checksum), self.model, self.cut, chunks)


def key_tag(key: str) -> str:
    """Return the tag of a key."""
    return _tag("key", key, KEY_CHARS)


def content_tag(checksum: str) -> str:
    """Return the tag of a content. checksum: its sha-256 in hex."""
    return _tag("content", checksum, CONTENT_CHARS)


def parse_ref(text: str) -> VectorRef | None:
    """Return the ref that `str()` wrote, None for other text."""
    match = _REF.fullmatch(text)
    if match is None:
        return None
    owner, key, content, model, cut, digits = match.group("owner", "key", "content", "model", "cut", "chunks")
    chunks = int(digits, 16)
    return VectorRef(owner, key, content, model, cut, chunks) if chunks else None


def split_id(text: str) -> tuple[str, int] | None:
    """Return the ref, as text, and the number of the chunk (from 1) of a vector's id. None: syncd made no such id."""
    match = _ID.fullmatch(text)
    if match is None:
        return None
    stem, chunk, chunks = match.groups()
    ref = f"{stem}.{chunks}"
    return (ref, int(chunk, 16)) if _REF.fullmatch(ref) and 1 <= int(chunk, 16) <= int(chunks, 16) else None


def _tag(kind: str, text: str, chars: int) -> str:
    # The kind is part of the digest, so that an owner and a key with the same name have different tags.
    digest = hashlib.sha256(f"{kind}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest)[:chars].decode("ascii")


class HeldVectors:
    """The vectors that an index holds: the ids of a listing, and our own changes since. Takes 300 bytes for each ref.

    foreign_ids: the ids that syncd did not make.
    """

    def __init__(self) -> None:
        self.foreign_ids: list[str] = []
        self._chunks: dict[str, int] = {}
        """The chunks of each ref, as bits of a number."""
        self._refs: dict[tuple[str, str], tuple[str, ...]] = {}
        """The refs by the tags of owner and key."""

    def add_ids(self, ids: Iterable[str]) -> None:
        """Add the ids of a listing."""
        for vector_id in ids:
            split = split_id(vector_id)
            if split is None:
                self.foreign_ids.append(vector_id)
            else:
                ref, chunk = split
                self._add(ref, 1 << (chunk - 1))

    def add(self, ref: VectorRef) -> None:
        """Add all vectors of a ref."""
        self._add(str(ref), (1 << ref.chunks) - 1)

    def remove(self, ref: VectorRef) -> None:
        """Remove all vectors of a ref."""
        text = str(ref)
        if self._chunks.pop(text, None) is not None:
            left = tuple(other for other in self._refs[ref.owner, ref.key] if other != text)
            self._refs[ref.owner, ref.key] = left
            if not left:
                del self._refs[ref.owner, ref.key]

    def refs_of(self, owner: str, key: str) -> list[VectorRef]:
        """Return the refs of the tags of an owner and a key."""
        return [_parsed(text) for text in self._refs.get((owner, key), ())]

    def tags(self) -> Iterator[tuple[str, str]]:
        """Return an iterator over the tags of owner and key of all refs."""
        return iter(self._refs)

    def count(self, ref: VectorRef) -> int:
        """Return the number of vectors of a ref."""
        return self._chunks.get(str(ref), 0).bit_count()

    def holds(self, vector_id: str) -> bool:
        """Return whether the index holds this vector of syncd."""
        split = split_id(vector_id)
        return split is not None and bool(self._chunks.get(split[0], 0) >> (split[1] - 1) & 1)

    def any_id(self, ref: VectorRef) -> str:
        """Return the id of one vector of a ref. Raises KeyError without a vector."""
        chunks = self._chunks[str(ref)]
        return ref.ids()[(chunks & -chunks).bit_length() - 1]

    def _add(self, ref: str, chunks: int) -> None:
        if ref not in self._chunks:
            parsed = _parsed(ref)
            tags = parsed.owner, parsed.key
            self._refs[tags] = (*self._refs.get(tags, ()), ref)
        self._chunks[ref] = self._chunks.get(ref, 0) | chunks


def _parsed(text: str) -> VectorRef:
    ref = parse_ref(text)
    if ref is None:
        raise AssertionError(f"no ref of syncd: {text!r}")
    return ref
