"""/keys: the listing."""

import base64
import json
from typing import Any, NamedTuple

from starlette.responses import Response

from syncd.emulator.envelope import ok
from syncd.emulator.kv import entries
from syncd.emulator.kv.entries import Row
from syncd.emulator.kv.places import NAMESPACE, check_length, namespace_of, number, refused
from syncd.emulator.limits import MAX_KV_LIST, MIN_KV_LIST
from syncd.emulator.routing import Call, Endpoint

# Greater than any UTF-8.
_END = b"\xff"


class _Cursor(NamedTuple):
    """How many pages there were, and the last key of these."""

    pages: int = 0
    after: bytes = b""

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(b"%d:%s" % self).decode()


async def _list(call: Call) -> Response:
    namespace = namespace_of(call)
    limit = number(call, "limit", MAX_KV_LIST, MIN_KV_LIST, MAX_KV_LIST)
    prefix = call.query("prefix") or ""
    check_length(prefix)
    cursor = _read_cursor(call.query("cursor") or "")
    if call.backend.options.empty_pages and cursor.pages % 2 == 0:
        return _answer([], _Cursor(cursor.pages + 1, cursor.after))
    rows = entries.page(call.backend, namespace, _bounds(prefix.encode(), cursor.after), limit + 1)
    more = len(rows) > limit
    return _answer(rows[:limit], _Cursor(cursor.pages + 1, rows[limit - 1].key) if more else None)


def _answer(rows: list[Row], following: _Cursor | None) -> Response:
    info = {"count": len(rows), "cursor": "" if following is None else str(following)}
    return ok([_render(row) for row in rows], info)


def _render(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": row.key.decode()}
    if row.expiration is not None:
        shown["expiration"] = row.expiration
    if row.metadata is not None:
        shown["metadata"] = json.loads(row.metadata)
    return shown


def _bounds(prefix: bytes, after: bytes) -> tuple[bytes, bytes]:
    """The first key that may come, and the first that may not any more. UTF-8 never ends in 0xff."""
    end = prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else _END
    return max(prefix, after + b"\0" if after else b""), end


def _read_cursor(text: str) -> _Cursor:
    if not text:
        return _Cursor()
    try:
        pages, _, after = base64.b64decode(text, altchars=b"-_", validate=True).partition(b":")
        return _Cursor(int(pages), after)
    except ValueError:
        raise refused("the cursor is none of this API's") from None


ENDPOINTS = [Endpoint("GET", f"{NAMESPACE}/keys", _list)]
