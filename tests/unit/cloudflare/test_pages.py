"""One page is requested ahead, and a caller that stops leaves no request under way."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from syncd.cloudflare import decoding
from syncd.cloudflare.decoding import Page, pages
from syncd.core.errors import Halt, Retry


@dataclass
class Book:
    """A listing of so many pages; asking for page `broken` fails, for page `stuck` never ends."""

    length: int
    broken: int | None = None
    stuck: int | None = None
    asked: list[int] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    sticks: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, cursor: str | None) -> Page[int]:
        number = int(cursor or 0)
        self.asked.append(number)
        if number == self.stuck:
            self.sticks.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.append(number)
        if number == self.broken:
            raise Halt("torn out")
        return Page((number,), str(number + 1) if number + 1 < self.length else None)


async def read(book: Book) -> list[int]:
    return [number async for page in pages(book.ask) for number in page.rows]


def asking() -> list[str]:
    """Return the names of the tasks of requests under way."""
    return [task.get_name() for task in asyncio.all_tasks() if "pages." in repr(task.get_coro())]


@pytest.mark.parametrize("length", [1, 2, 3, 10])
async def test_every_page_comes_once_and_in_order(length: int) -> None:
    book = Book(length)
    assert await read(book) == list(range(length))
    assert book.asked == list(range(length))
    assert not asking()


async def test_the_next_page_is_on_its_way_while_one_is_read_and_no_other() -> None:
    book = Book(5)
    async with aclosing(pages(book.ask)) as found:
        async for page in found:
            assert book.asked == list(range(min(page.rows[0] + 2, 5)))


async def test_the_error_of_a_page_requested_ahead_comes_after_the_earlier_pages() -> None:
    found = pages(Book(5, broken=2).ask)
    assert [(await anext(found)).rows for _ in range(2)] == [(0,), (1,)]
    with pytest.raises(Halt, match="torn out"):
        await anext(found)
    assert not asking()


async def test_a_caller_that_stops_early_cancels_the_request() -> None:
    book = Book(5, stuck=1)
    async with aclosing(pages(book.ask)) as found:
        assert (await anext(found)).rows == (0,)
        assert asking()
    assert book.cancelled == [1]
    assert not asking()


async def test_a_page_that_failed_and_nobody_waits_for_is_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    book = Book(5, broken=1)
    async with aclosing(pages(book.ask)) as found:
        assert (await anext(found)).rows == (0,)
    assert not asking()
    assert not caplog.records


async def test_cancelling_the_reader_cancels_the_request() -> None:
    book = Book(5, stuck=1)
    reader = asyncio.create_task(read(book))
    await book.sticks.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert book.cancelled == [1]
    assert not asking()


@pytest.mark.parametrize(("most", "ends"), [(2, False), (3, True), (4, True)])
async def test_a_listing_has_at_most_so_many_pages(monkeypatch: pytest.MonkeyPatch, most: int, ends: bool) -> None:
    monkeypatch.setattr(decoding, "PAGES_LIMIT", most)
    book = Book(3)
    if ends:
        assert await read(book) == [0, 1, 2]
    else:
        with pytest.raises(Retry, match="does not end"):
            await read(book)
    assert len(book.asked) == min(most, 3)
