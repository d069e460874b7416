"""Request bodies, read to their end even when refused: a client that is still sending would see a broken connection
instead of the answer.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from syncd.emulator.envelope import ApiError, read_json
from syncd.emulator.kv.elements import Elements
from syncd.emulator.kv.places import refused
from syncd.emulator.limits import MAX_KV_BULK_ITEMS, MAX_KV_BULK_SIZE
from syncd.emulator.routing import Call

_MAX_OBJECT_SIZE = 1024 * 1024

Item = TypeVar("Item")


async def read_body(call: Call, limit: int) -> bytearray:
    """The whole body; ApiError 413 if it is over `limit` bytes."""
    body = bytearray()
    async for piece in call.request.stream():
        if len(body) <= limit:
            body += piece
    if len(body) > limit:
        raise refused(f"The request is larger than {limit} bytes", 413)
    return body


async def read_object(call: Call) -> dict[str, Any]:
    """The body as a JSON object; ApiError 400 if it is none."""
    try:
        value = read_json(bytes(await read_body(call, _MAX_OBJECT_SIZE)))
    except ValueError:
        raise refused("the body is no JSON") from None
    if not isinstance(value, dict):
        raise refused("the body must be a JSON object")
    return value


async def read_items(call: Call, read: Callable[[int, str], Item]) -> list[Item]:
    """The elements of a bulk body, each as `read` makes it from its place and its JSON text.

    ApiError 413 if the body is too large, else 400 if it is no array or has too many elements, else what `read`
    raised first.
    """
    allowed = call.backend.options.bulk_max_bytes
    limit = MAX_KV_BULK_SIZE if allowed is None else min(allowed, MAX_KV_BULK_SIZE)
    size = 0
    problem: ApiError | None = None
    items: list[Item] = []
    elements = Elements()
    async for piece in call.request.stream():
        size += len(piece)
        if problem is not None or size > limit:
            continue
        problem = _read_piece(elements, piece, items, read)
        if problem is not None:
            items.clear()
    if size > limit:
        raise refused(f"The request is larger than {limit} bytes", 413)
    if problem is not None:
        raise problem
    try:
        elements.close()
    except ValueError as reason:
        raise refused(str(reason)) from None
    return items


def _read_piece(
    elements: Elements, piece: bytes, items: list[Item], read: Callable[[int, str], Item]
) -> ApiError | None:
    try:
        for text in elements.feed(piece):
            if len(items) == MAX_KV_BULK_ITEMS:
                return refused(f"A bulk request has at most {MAX_KV_BULK_ITEMS} items")
            items.append(read(len(items), text))
    except ApiError as refusal:
        return refusal
    except ValueError as reason:
        return refused(str(reason))
    return None
