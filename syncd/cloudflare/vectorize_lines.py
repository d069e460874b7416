"""The body of a Vectorize upsert: one line of JSON for each vector, encoded once. The size of the body is exact."""

import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from syncd.cloudflare.kv_bulk import compact_json
from syncd.core.errors import Park

ID_LIMIT = 64
"""Longest id of a vector, bytes of UTF-8 (Vectorize limits)."""
NAMESPACE_LIMIT = 64
"""Longest namespace, bytes of UTF-8 (Vectorize limits)."""
METADATA_LIMIT = 10 * 1024
"""Largest metadata of one vector, bytes of its compact JSON (Vectorize limits)."""
DIMENSIONS_LIMIT = 1536
"""Maximum number of values of one vector (Vectorize limits)."""
VECTORS_LIMIT = 5000
"""Maximum number of vectors of one upsert over HTTP (Vectorize limits)."""
BODY_LIMIT = 100_000_000
"""Largest body of an upsert, bytes: 100 decimal megabytes (Vectorize limits)."""

_BLOCK = 192 * 1024


def encode_line(
    id: str,  # noqa: A002 - the name in the API
    values: Sequence[float],
    metadata: Mapping[str, Any] | None = None,
    namespace: str | None = None,
) -> bytes:
    """Encode one vector as a line with its newline. Each value decodes to the same float32, which Vectorize stores.

    Raises Park("refused") for an id, a namespace or metadata that Vectorize does not accept. Raises ValueError unless
    the values are 1 to DIMENSIONS_LIMIT finite float32, and for metadata that is no JSON.
    """
    check_id(id)
    line = b'{"id":' + compact_json(id) + b',"values":' + _encode_values(values)
    if namespace is not None:
        _check_text("namespace", namespace, NAMESPACE_LIMIT)
        line += b',"namespace":' + compact_json(namespace)
    if metadata is not None:
        line += b',"metadata":' + _encode_metadata(metadata)
    return line + b"}\n"


class VectorLines:
    """The lines of an upsert or insert, in the order of adding. A Stream, which requests can send repeatedly.

    max_lines, max_bytes: limits of the body, at most the limits of the API. A caller adds no line during a request.
    """

    def __init__(self, max_lines: int = VECTORS_LIMIT, max_bytes: int = BODY_LIMIT) -> None:
        if not (1 <= max_lines <= VECTORS_LIMIT and 1 <= max_bytes <= BODY_LIMIT):
            raise ValueError(f"an upsert holds 1 to {VECTORS_LIMIT} lines and 1 to {BODY_LIMIT} bytes")
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._lines: list[bytes] = []
        self._size = 0

    def fits(self, line: bytes) -> bool:
        """Whether the body has room for this line."""
        return len(self._lines) < self._max_lines and self._size + len(line) <= self._max_bytes

    def add(self, line: bytes) -> None:
        """Add a line of encode_line(). Raises ValueError if the line does not fit, or is not one line."""
        if not self.fits(line):
            raise ValueError(f"an upsert holds at most {self._max_lines} lines and {self._max_bytes} bytes")
        if line.find(b"\n") != len(line) - 1 or len(line) < 2:
            raise ValueError("a line ends with its only newline")
        self._lines.append(line)
        self._size += len(line)

    @property
    def size(self) -> int:
        """Exact bytes of all lines."""
        return self._size

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[bytes]:
        block: list[bytes] = []
        size = 0
        for line in self._lines:
            block.append(line)
            size += len(line)
            if size >= _BLOCK:
                yield b"".join(block)
                block, size = [], 0
        if block:
            yield b"".join(block)


def check_id(vector_id: str) -> None:
    """Raise Park("refused") for an id that is empty, over ID_LIMIT or not valid Unicode."""
    _check_text("id of a vector", vector_id, ID_LIMIT)


def _check_text(name: str, text: str, limit: int) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise Park("refused", f"the {name} is not valid UTF-8") from None
    if not 1 <= size <= limit:
        raise Park("refused", f"the {name} has {size} bytes, Vectorize takes 1 to {limit}")


def _encode_values(values: Sequence[float]) -> bytes:
    if not 1 <= len(values) <= DIMENSIONS_LIMIT:
        raise ValueError(f"a vector has 1 to {DIMENSIONS_LIMIT} values, not {len(values)}")
    stored = array("f", values)
    if not math.isfinite(sum(stored)):  # the sum of float32 values stays in the range of a double
        raise ValueError("a vector holds a value that is no finite float32")
    return _template(len(stored)) % tuple(stored)


@lru_cache(maxsize=8)
def _template(count: int) -> bytes:
    """Return the format of `count` values. Nine digits identify every float32. Bytes are a third faster than text."""
    return b"[" + b",".join([b"%.9g"] * count) + b"]"


def _encode_metadata(metadata: Mapping[str, Any]) -> bytes:
    _check_names(metadata)
    try:
        encoded = compact_json(dict(metadata))
    except UnicodeEncodeError:
        raise Park("refused", "the metadata is not valid UTF-8: rename the file") from None
    if len(encoded) > METADATA_LIMIT:
        message = f"the metadata of a vector has {len(encoded)} bytes, Vectorize takes {METADATA_LIMIT}"
        raise Park("refused", f"{message}: set a smaller chunk_size, or less metadata")
    return encoded


def _check_names(value: object) -> None:
    """Check the names of metadata, also of nested objects (Vectorize: metadata filtering)."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not name or "." in name or '"' in name or name.startswith("$"):
                raise Park(
                    "refused",
                    f'Vectorize refuses the metadata name {name!r}: no name has a "." or a quote, or starts with "$"',
                )
            _check_names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check_names(inner)
