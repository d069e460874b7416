"""Iterates over the pages of a listing with cursors. The next request runs while the caller processes a page."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol, TypeVar

from syncd.core.errors import Park, Retry

HEAD_START = 5
"""Turns of the event loop for sending the next request, before the caller processes the current page."""
LISTINGS = 3
"""Attempts to list if the remote refuses a later cursor: snapshots expire, and servers forget them."""


class CursorRefused(Retry):
    """The remote refused its own cursor. A listing from the start may succeed."""


class CursorPage(Protocol):
    """One page. cursor: the cursor of the next page, None at the end."""

    @property
    def cursor(self) -> str | None: ...


_P = TypeVar("_P", bound=CursorPage)


async def pages(ask: Callable[[str | None], Awaitable[_P]], limit: int) -> AsyncGenerator[_P, None]:
    """Yield pages, from ask(None) to the page without a cursor.

    The generator requests one page ahead and raises an error of that request in place of the page. A caller that stops
    early closes the generator, which cancels the request. Raises CursorRefused if the remote refuses a later page.
    Raises Retry for a repeated cursor or more than `limit` pages, because such a listing may never end.
    """

    async def ask_next(cursor: str | None) -> _P:
        try:
            return await ask(cursor)
        except Park as error:
            message = f"the remote refused the cursor of the listing half-way: {error}"
            raise CursorRefused(message, status=error.status) from error

    cursors: set[str] = set()
    page = await ask(None)
    while page.cursor is not None and page.cursor not in cursors and len(cursors) < limit - 1:
        cursors.add(page.cursor)
        request = asyncio.create_task(ask_next(page.cursor))
        try:
            for _ in range(HEAD_START):
                await asyncio.sleep(0)
            yield page
            page = await request
        finally:
            request.cancel()
            await asyncio.gather(request, return_exceptions=True)
    yield page
    if page.cursor in cursors:
        raise Retry("unexpected answer: the listing gives a cursor it gave before")
    if page.cursor is not None:
        raise Retry(f"unexpected answer: the listing does not end after {limit} pages")
