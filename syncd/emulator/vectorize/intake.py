"""The bodies of upsert and insert in all the forms in which clients send them, read to their end even when refused: a
client that is still sending would see a broken connection instead of the answer.
"""

import asyncio
from collections.abc import Iterator

from syncd.emulator.envelope import ApiError
from syncd.emulator.limits import MAX_VECTORS, MAX_VECTORS_SIZE
from syncd.emulator.multipart import parse
from syncd.emulator.routing import Call
from syncd.emulator.vectorize.elements import Vector, read_line
from syncd.emulator.vectorize.places import (
    TOO_MANY_VECTORS,
    UNKNOWN_CONTENT_TYPE,
    UNPARSABLE_VECTORS,
    misfit,
    refused,
    too_large,
)

_NDJSON = "application/x-ndjson"
_FORM = "multipart/form-data"
_PARTS = ("vectors", "body")
"""What the form's part is called: by wrangler, and by the example of the API reference."""

_PIECE = 1024 * 1024


async def read_vectors(call: Call) -> list[Vector]:
    """The vectors in their order. ApiError 413 if the body is too large, else 400 for its type, else what was first
    wrong with it. With ?unparsable-behavior=discard lines that cannot be read are left out.
    """
    try:
        form, discard = _form(call), _discards(call)
    except ApiError:
        await _read_whole(call, 0)
        raise
    lines = _Lines(discard=discard)
    if form is None:
        size = 0
        async for piece in call.request.stream():
            size += len(piece)
            if size <= MAX_VECTORS_SIZE:
                lines.feed(piece)
        if size > MAX_VECTORS_SIZE:
            raise too_large(MAX_VECTORS_SIZE)
    else:
        for piece in _part(form, await _read_whole(call, MAX_VECTORS_SIZE)):
            lines.feed(piece)
            # A hundred megabytes of numbers take seconds: let other requests in between.
            await asyncio.sleep(0)
    return lines.close()


class _Lines:
    """Vectors from pieces of ndjson, until the first problem; what comes after that is dropped."""

    def __init__(self, *, discard: bool) -> None:
        self._discard = discard
        self._vectors: list[Vector] = []
        self._pending = bytearray()
        self._number = 0
        self._problem: ApiError | None = None

    def feed(self, piece: bytes) -> None:
        if self._problem is not None:
            return
        *complete, rest = piece.split(b"\n")
        try:
            for line in complete:
                self._pending += line
                self._take()
        except ApiError as refusal:
            self._problem = refusal
        self._pending += rest

    def close(self) -> list[Vector]:
        if self._problem is not None:
            raise self._problem
        self._take()
        if not self._vectors and not self._discard:
            raise _unreadable("there is no vector in it")
        return self._vectors

    def _take(self) -> None:
        line = bytes(self._pending)
        self._pending.clear()
        self._number += 1
        if not line.strip():
            return
        try:
            vector = read_line(line)
        except ValueError as reason:
            if self._discard:
                return
            raise _unreadable(f"line {self._number}: {reason}") from None
        if len(self._vectors) == MAX_VECTORS:
            raise refused(TOO_MANY_VECTORS, f"too many vectors in payload; max count is {MAX_VECTORS}")
        self._vectors.append(vector)


def _discards(call: Call) -> bool:
    try:
        return call.choice("unparsable-behavior", ("error", "discard")) == "discard"
    except ApiError as reason:
        raise misfit(reason.message) from None


def _form(call: Call) -> str | None:
    """The multipart content type of the body, None for plain ndjson; ApiError 400 for any other."""
    content_type = call.request.headers.get("content-type", "")
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    # curl, told the type as in the API reference's example, sends a form that calls itself ndjson, with a boundary.
    if media_type == _FORM or (media_type == _NDJSON and "boundary=" in parameters.lower()):
        return f"{_FORM};{parameters}"
    if media_type == _NDJSON:
        return None
    if media_type == "application/json":
        raise refused(UNPARSABLE_VECTORS, "failed to parse upsert vectors request in json format")
    raise refused(UNKNOWN_CONTENT_TYPE, "vectorize.unknown_content_type")


def _part(content_type: str, body: bytes) -> Iterator[bytes]:
    try:
        parts = parse(content_type, body)
    except ValueError as reason:
        raise _unreadable(str(reason)) from None
    part = next((parts[name] for name in _PARTS if name in parts), None)
    if part is None:
        raise _unreadable(f"the form has no part named {' or '.join(_PARTS)}")
    for start in range(0, len(part.data), _PIECE):
        yield bytes(part.data[start : start + _PIECE])


async def _read_whole(call: Call, limit: int) -> bytes:
    size, body = 0, bytearray()
    async for piece in call.request.stream():
        size += len(piece)
        if size <= limit:
            body += piece
    if limit and size > limit:
        raise too_large(limit)
    return bytes(body)


def _unreadable(reason: str) -> ApiError:
    return refused(UNPARSABLE_VECTORS, f"failed to parse vectors in ndjson format: {reason}")
