"""The body of a KV bulk write: pairs encoded once, held once, counted exactly."""

import binascii
import codecs
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from syncd.errors import Park

KEY_LIMIT = 512
"""Longest key, bytes of UTF-8 (KV limits)."""
VALUE_LIMIT = 25 * 1024 * 1024
"""Largest value, bytes (KV limits)."""
METADATA_LIMIT = 1024
"""Largest metadata, bytes of its JSON (KV limits)."""
BULK_PAIRS_LIMIT = 10_000
"""Most pairs of one bulk write, and most keys of one bulk delete (KV API)."""
BULK_BYTES_LIMIT = 100_000_000
"""Largest body of a bulk write, bytes: 100 decimal megabytes (KV API)."""
TTL_MIN_S = 60
"""Shortest expiration_ttl, s (KV API)."""

_BLOCK = 192 * 1024  # divisible by 3, so that base64 of blocks is base64 of the whole
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
# Made once: a pass encodes three values for each of its files.
_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Pair:
    """One element of the JSON array of a bulk write. size: bytes of the pieces; base64: how the value travels."""

    key: str
    pieces: tuple[bytes, ...] = field(repr=False)
    size: int
    base64: bool


def encode_pair(
    key: str,
    value: bytes,
    *,
    metadata: Mapping[str, Any] | None = None,
    expiration: int | None = None,
    expiration_ttl: int | None = None,
) -> Pair:
    """The pair as it travels: the value as JSON text or as base64, whichever is shorter and gives the same bytes back.

    expiration: Unix s. expiration_ttl: s from now, at least TTL_MIN_S; it wins over expiration. Park for a key or
    content that KV does not take; ValueError for a ttl that it does not take, or metadata that is no JSON.
    """
    check_key(key)
    check_value(value)
    check_ttl(expiration_ttl)
    more: dict[str, Any] = {"expiration": expiration, "expiration_ttl": expiration_ttl}
    end = "".join(f',"{name}":{number}' for name, number in more.items() if number is not None).encode()
    if metadata is not None:
        end += b',"metadata":' + encode_metadata(metadata)
    head = b'{"key":' + compact_json(key) + b',"value":"'
    base64_mark = b'","base64":true'
    base64_size = 4 * ((len(value) + 2) // 3) + len(base64_mark) - 1
    text = _as_text(value, base64_size)
    inside, mark = (_as_base64(value), base64_mark) if text is None else (text, b'"')
    pieces = (head, *inside, mark + end + b"}")
    return Pair(key, pieces, sum(map(len, pieces)), text is None)


class BulkBody:
    """The JSON array of a bulk write, built pair by pair; a Stream, which can be sent any number of times.

    max_pairs and max_bytes: of the body, at most what the API takes. Nothing may be added while it is being sent.
    """

    def __init__(self, max_pairs: int = BULK_PAIRS_LIMIT, max_bytes: int = BULK_BYTES_LIMIT) -> None:
        if not (1 <= max_pairs <= BULK_PAIRS_LIMIT and 2 <= max_bytes <= BULK_BYTES_LIMIT):
            raise ValueError(f"a bulk holds 1 to {BULK_PAIRS_LIMIT} pairs and 2 to {BULK_BYTES_LIMIT} bytes")
        self._max_pairs = max_pairs
        self._max_bytes = max_bytes
        self._pairs: dict[str, Pair] = {}
        self._size = len(b"[]")

    def add(self, pair: Pair) -> bool:
        """Take the pair in. False, and nothing has changed, when it does not fit in beside the others or its key
        stands here already: then it begins the next body. ValueError when it would not even fit alone.
        """
        if len(b"[]") + pair.size > self._max_bytes:
            raise ValueError(f"the pair of {pair.size} bytes fits into no bulk of {self._max_bytes}")
        size = self._size + pair.size + bool(self._pairs)
        if pair.key in self._pairs or len(self._pairs) >= self._max_pairs or size > self._max_bytes:
            return False
        self._pairs[pair.key] = pair
        self._size = size
        return True

    @property
    def size(self) -> int:
        """Bytes of the array as it is sent, exactly."""
        return self._size

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in the order in which they were added."""
        return tuple(self._pairs)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs in the order in which they were added."""
        return tuple(self._pairs.values())

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Iterator[bytes]:
        block: list[bytes] = []
        size = 0
        for piece in self._pieces():
            block.append(piece)
            size += len(piece)
            if size >= _BLOCK:
                yield b"".join(block)
                block, size = [], 0
        if block:
            yield b"".join(block)

    def halves(self) -> tuple[Self, Self]:
        """Two bodies with half of the pairs each, which share their bytes with this one; ValueError below two pairs."""
        if len(self) < 2:
            raise ValueError("fewer than two pairs have no halves")
        keys = self.keys
        middle = len(keys) // 2
        return self.only(keys[:middle]), self.only(keys[middle:])

    def only(self, keys: Collection[str]) -> Self:
        """A body of those pairs whose keys are named, which shares its bytes with this one; other keys are ignored."""
        body = type(self)(self._max_pairs, self._max_bytes)
        wanted = frozenset(keys)
        for key, pair in self._pairs.items():
            if key in wanted:
                body.add(pair)
        return body

    def _pieces(self) -> Iterator[bytes]:
        before = b"["
        for pair in self._pairs.values():
            yield before
            yield from pair.pieces
            before = b","
        yield b"]" if self._pairs else b"[]"


def check_key(key: str, *, in_url: bool = False) -> None:
    """Park("invalid_key" or "key_too_long") for a key that KV does not take.

    in_url: for an operation on one key. Control characters come through in a bulk only (workers-sdk#7997).
    """
    if key in {"", ".", ".."}:
        raise Park("invalid_key", f"KV takes no key {key!r}: rename the file")
    if (size := check_text(key)) > KEY_LIMIT:
        raise Park("key_too_long", f"the key has {size} bytes, KV takes {KEY_LIMIT}; shorten it")
    if in_url and _CONTROL.search(key):
        raise Park("invalid_key", "a key with control characters does not travel in a URL: use a bulk request")


def check_text(key: str) -> int:
    """The bytes of a key, or of a part of one, as UTF-8; Park("invalid_key") for what was no UTF-8 as a file name."""
    try:
        return len(key.encode())
    except UnicodeEncodeError:
        raise Park("invalid_key", "the key is not valid UTF-8: rename the file") from None


def check_value(value: bytes) -> None:
    """Park("too_large") for a value over VALUE_LIMIT."""
    if len(value) > VALUE_LIMIT:
        raise Park("too_large", f"the value has {len(value)} bytes, KV takes {VALUE_LIMIT}")


def check_ttl(expiration_ttl: int | None) -> None:
    """ValueError for an expiration_ttl under TTL_MIN_S."""
    if expiration_ttl is not None and expiration_ttl < TTL_MIN_S:
        raise ValueError(f"expiration_ttl must be at least {TTL_MIN_S} s")


def encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    """The metadata as JSON; Park("refused") over METADATA_LIMIT, ValueError for what is no JSON."""
    encoded = compact_json(dict(metadata))
    if len(encoded) > METADATA_LIMIT:
        raise Park("refused", f"the metadata has {len(encoded)} bytes, KV takes {METADATA_LIMIT}")
    return encoded


def compact_json(value: object) -> bytes:
    """JSON in UTF-8 with nothing that could be left out; ValueError for NaN and for text that is no Unicode."""
    return _json(value).encode()


def _as_text(value: bytes, max_size: int) -> list[bytes] | None:
    """The inside of a JSON string that reads as value; None when it is not UTF-8 or would be over max_size bytes.

    In blocks: the text of a value may take four times the memory of its bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces = []
    size = 0
    try:
        for start in range(0, len(value), _BLOCK):
            text = decoder.decode(value[start : start + _BLOCK], final=start + _BLOCK >= len(value))
            pieces.append(compact_json(text)[1:-1])
            size += len(pieces[-1])
            if size > max_size:
                return None
    except UnicodeDecodeError:
        return None
    return pieces


def _as_base64(value: bytes) -> list[bytes]:
    starts = range(0, len(value), _BLOCK)
    return [binascii.b2a_base64(value[start : start + _BLOCK], newline=False) for start in starts]
