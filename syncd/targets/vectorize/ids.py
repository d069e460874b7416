"""The id of a vector says it all: whose it is, of which key and content, made how, which piece of how many. PURE.

    rD8xkQ2a.q1Zr8h2Lm0sX9tYw.0aBcDeFgHiJkLmNoPqRs.m3AcD1.0002-000c
    owner    key              content              recipe piece 2 of 12

63 bytes; Vectorize takes 64. All but the last part are the beginnings of SHA-256 digests, so the listing, which gives
ids only, proves what the index holds and whose it is, without a journal and without reading any vector.
"""

import base64
import hashlib
import re
from dataclasses import dataclass

OWNER_CHARS, KEY_CHARS, CONTENT_CHARS, MODEL_CHARS, CUT_CHARS = 8, 16, 20, 3, 3
"""Characters of 6 bits each. Two of 1,000 owners share a tag once in 10^8 indexes, two of a million keys in 10^17."""
PIECES_LIMIT = 0xFFFF
"""Most pieces of one file: four hex digits."""
WHOLE = "whole"
"""An entry's version if all its vectors are there, made the way they would be made now."""

_REF = re.compile(
    rf"(?P<owner>[\w-]{{{OWNER_CHARS}}})\.(?P<key>[\w-]{{{KEY_CHARS}}})\.(?P<content>[\w-]{{{CONTENT_CHARS}}})"
    rf"\.(?P<model>[\w-]{{{MODEL_CHARS}}})(?P<cut>[\w-]{{{CUT_CHARS}}})\.(?P<pieces>[0-9a-f]{{4}})",
    re.ASCII,
)
_ID = re.compile(r"(.{53})\.([0-9a-f]{4})-([0-9a-f]{4})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Ref:
    """All vectors of one content of one key. `str()` is what the journal keeps as the entry's ref."""

    owner: str
    key: str
    content: str
    model: str
    cut: str
    pieces: int

    def __str__(self) -> str:
        return f"{self._stem}.{self.pieces:04x}"

    def ids(self) -> list[str]:
        """The ids of all pieces, first to last."""
        return [f"{self._stem}.{piece:04x}-{self.pieces:04x}" for piece in range(1, self.pieces + 1)]

    @property
    def _stem(self) -> str:
        return f"{self.owner}.{self.key}.{self.content}.{self.model}{self.cut}"


@dataclass(frozen=True, slots=True)
class Maker:
    """What is the same in all refs that one mirror writes."""

    owner: str
    model: str
    cut: str

    def ref(self, key: str, checksum: str, pieces: int) -> Ref:
        """The ref of a content (its sha-256 in hex) that was cut into so many pieces."""
        content = content_tag(checksum)
        return Ref(self.owner, key_tag(key), content, self.model, self.cut, pieces)


def maker(owner: str, model: str, cut: str) -> Maker:
    """Tags of an owner, of a model (with its pooling), and of the rules by which text is cut."""
    return Maker(_tag("owner", owner, OWNER_CHARS), _tag("model", model, MODEL_CHARS), _tag("cut", cut, CUT_CHARS))


def key_tag(key: str) -> str:
    """What stands for a key in an id."""
    return _tag("key", key, KEY_CHARS)


def content_tag(checksum: str) -> str:
    """What stands for a content in an id. checksum: its sha-256 in hex."""
    return _tag("content", checksum, CONTENT_CHARS)


def parse_ref(text: str) -> Ref | None:
    """The ref that `str()` wrote, or None."""
    found = _REF.fullmatch(text)
    if found is None:
        return None
    pieces = int(found["pieces"], 16)
    return Ref(found["owner"], found["key"], found["content"], found["model"], found["cut"], pieces) if pieces else None


def split_id(text: str) -> tuple[str, int] | None:
    """The ref, as text, and the number of the piece (from 1) of one vector's id; None if it is none of syncd's."""
    found = _ID.fullmatch(text)
    if found is None:
        return None
    stem, piece, pieces = found.groups()
    ref = f"{stem}.{pieces}"
    return (ref, int(piece, 16)) if _REF.fullmatch(ref) and 1 <= int(piece, 16) <= int(pieces, 16) else None


def _tag(what: str, text: str, chars: int) -> str:
    # Its kind is hashed too, so that an owner and a key of the same name have nothing in common.
    digest = hashlib.sha256(f"{what}\0{text}".encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest)[:chars].decode("ascii")
