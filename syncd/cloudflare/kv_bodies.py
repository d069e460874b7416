"""The bodies of Workers KV requests, each encoded once and of exact size, and the limits of keys and values."""

import binascii
import codecs
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from syncd.cloudflare.request import compact_json
from syncd.core.errors import Park
from syncd.core.problems import KV_KEY_BYTES

VALUE_LIMIT = 25 * 1024 * 1024
"""Largest value, bytes (KV limits)."""
METADATA_LIMIT = 1024
"""Largest metadata, bytes of its JSON (KV limits)."""
BULK_PAIRS_LIMIT = 10_000
"""Maximum number of pairs of one bulk write, and of keys of one bulk delete (KV API)."""
BULK_BYTES_LIMIT = 100_000_000
"""Largest body of a bulk write, bytes: 100 decimal megabytes (KV API)."""

BLOCK = 192 * 1024
"""Bytes of a value that are encoded at a time. The number is divisible by 3, so that base64 can be joined."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Pair:
    """One element of the JSON array of a bulk write. size: bytes of the pieces."""

    key: str
    pieces: tuple[bytes, ...] = field(repr=False)
    size: int


def encode_pair(
    key: str, value: bytes, *, metadata: Mapping[str, Any] | None = None, expiration_ttl: int | None = None
) -> Pair:
    """Encode a pair. The value becomes JSON text or base64: the shorter one that decodes to the same bytes.

    expiration_ttl: seconds from now, at least 60 (KV API). Raises Park for a key or metadata that KV does not accept,
    ValueError for metadata that is no JSON.
    """
    check_key(key)
    end = b"" if expiration_ttl is None else f',"expiration_ttl":{expiration_ttl}'.encode()
    if metadata is not None:
        end += b',"metadata":' + encode_metadata(metadata)
    head = b'{"key":' + compact_json(key) + b',"value":"'
    base64_mark = b'","base64":true'
    base64_size = 4 * ((len(value) + 2) // 3) + len(base64_mark) - 1
    text = _as_text(value, base64_size)
    inside, mark = (_as_base64(value), base64_mark) if text is None else (text, b'"')
    pieces = (head, *inside, mark + end + b"}")
    return Pair(key, pieces, sum(map(len, pieces)))


class BulkBody:
    """The JSON array of a bulk write, built pair by pair.

    max_pairs, max_bytes: limits of the body, at most the limits of the API. size: exact bytes of the encoded array.
    """

    def __init__(self, max_pairs: int = BULK_PAIRS_LIMIT, max_bytes: int = BULK_BYTES_LIMIT) -> None:
        self._max_pairs = max_pairs
        self._max_bytes = max_bytes
        self.size = len(b"[]")
        self._pairs: dict[str, Pair] = {}

    def add(self, pair: Pair) -> bool:
        """Add the pair. Return False, without a change, if the body has no room or already contains the key.

        The caller then adds the pair to the next body. Raises ValueError for a pair that fits into no body.
        """
        if len(b"[]") + pair.size > self._max_bytes:
            raise ValueError(f"the pair of {pair.size} bytes fits into no bulk of {self._max_bytes}")
        size = self.size + pair.size + bool(self._pairs)
        if pair.key in self._pairs or len(self._pairs) >= self._max_pairs or size > self._max_bytes:
            return False
        self._pairs[pair.key] = pair
        self.size = size
        return True

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys, in the order in which they were added."""
        return tuple(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def pieces(self) -> list[bytes]:
        """Return the encoded array in pieces."""
        pieces = [b"["]
        for number, pair in enumerate(self._pairs.values()):
            pieces += (b",", *pair.pieces) if number else pair.pieces
        return [*pieces, b"]"]

    def only(self, keys: Collection[str]) -> Self:
        """Return a body with the pairs of these keys, without copying bytes. Unknown keys are ignored."""
        body = type(self)(self._max_pairs, self._max_bytes)
        wanted = frozenset(keys)
        for key, pair in self._pairs.items():
            if key in wanted:
                body.add(pair)
        return body


def check_key(key: str, *, in_url: bool = False) -> None:
    """Raise Park("invalid_key" or "key_too_long") for a key that KV does not accept.

    in_url: for an operation on one key. Only bulk requests transmit control characters (workers-sdk#7997).
    """
    if key in {"", ".", ".."}:
        raise Park("invalid_key", f"KV takes no key {key!r}; choose another")
    if (size := check_text(key)) > KV_KEY_BYTES:
        raise Park("key_too_long", f"the key has {size} bytes, KV takes {KV_KEY_BYTES}; shorten it")
    if in_url and _CONTROL.search(key):
        raise Park(
            "invalid_key", "a URL cannot contain the control characters of the key; use syncd kv keys, or syncd kv rm"
        )


def check_text(key: str) -> int:
    """Return the UTF-8 bytes of a key or a prefix. Raises Park("invalid_key") for a file name that is not UTF-8."""
    try:
        return len(key.encode())
    except UnicodeEncodeError:
        raise Park("invalid_key", "the key is not valid UTF-8: rename the file") from None


def encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    """Encode metadata as JSON. Raises Park("refused") over METADATA_LIMIT, ValueError for other values than JSON."""
    encoded = compact_json(dict(metadata))
    if len(encoded) > METADATA_LIMIT:
        raise Park("refused", f"the metadata has {len(encoded)} bytes, KV takes {METADATA_LIMIT}")
    return encoded


def _as_text(value: bytes, max_size: int) -> list[bytes] | None:
    """Return the content of a JSON string for the value, None if the value is not UTF-8 or the content too long.

    Encodes in blocks, because the text of a value may use four times the memory of its bytes.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    pieces = []
    size = 0
    try:
        for start in range(0, len(value), BLOCK):
            text = decoder.decode(value[start : start + BLOCK], final=start + BLOCK >= len(value))
            pieces.append(compact_json(text)[1:-1])
            size += len(pieces[-1])
            if size > max_size:
                return None
    except UnicodeDecodeError:
        return None
    return pieces


def _as_base64(value: bytes) -> list[bytes]:
    starts = range(0, len(value), BLOCK)
    return [binascii.b2a_base64(value[start : start + BLOCK], newline=False) for start in starts]
