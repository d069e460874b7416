"""The pages of a listing that goes by cursors, each asked for while the one before it is taken in."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Protocol, TypeVar

from syncd.errors import Park, Retry

HEAD_START = 5
"""Turns of the event loop that a request gets to be on its way, before the page at hand keeps the loop busy."""


LISTINGS = 3
"""So often a listing is begun, if its cursor is refused half-way: snapshots expire, and servers forget them."""


class CursorRefused(Retry):
    """The remote refused the cursor that it gave. A listing from the start may get further."""


class Page(Protocol):
    """One page; cursor: of the next one, None at the end."""

    @property
    def cursor(self) -> str | None: ...


_P = TypeVar("_P", bound=Page)


async def pages(ask: Callable[[str | None], Awaitable[_P]], most: int) -> AsyncGenerator[_P, None]:
    """Yield the pages, from ask(None) on; the cursor alone says where the listing ends.

    One page is asked for ahead: its error comes out where the page would have. Whoever stops early closes the
    generator, which cancels that request. CursorRefused when a later page is refused. Retry when a cursor comes again
    or there are over `most` pages, as the listing would never end.
    """

    async def begin(cursor: str | None) -> _P:
        try:
            return await ask(cursor)
        except Park as error:
            said = f"the cursor of the listing was refused half-way: {error}"
            raise CursorRefused(said, status=error.status) from error

    cursors: set[str] = set()
    page = await ask(None)
    while page.cursor is not None and page.cursor not in cursors and len(cursors) < most - 1:
        cursors.add(page.cursor)
        ahead = asyncio.create_task(begin(page.cursor))
        try:
            for _ in range(HEAD_START):
                await asyncio.sleep(0)
            yield page
            page = await ahead
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)
    yield page
    if page.cursor in cursors:
        raise Retry("unexpected answer: the listing gives a cursor it gave before")
    if page.cursor is not None:
        raise Retry(f"unexpected answer: the listing does not end after {most} pages")
