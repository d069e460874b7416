"""Listeners: told what changes, bounded in number and in patience."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from web_room import Room, open_web_room

from syncd.model import Ending, Problem
from syncd.web.feed import LISTENERS, EventFeed, EventStream
from syncd.web.view import PageView, StatusCache


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_web_room(tmp_path) as opened:
        yield opened


def feed(room: Room) -> EventFeed:
    """A feed that does not wait between two looks, with a status that is counted after each change."""
    clock = iter(range(0, 10**9, 3600))
    return EventFeed(PageView(room.history, StatusCache(lambda: next(clock))), lambda: room.runtime, poll_s=0.0)


GET = {"type": "http", "method": "GET"}


async def never(*_: object) -> Any:
    await asyncio.Event().wait()


async def test_only_what_has_changed_is_told_again(room: Room) -> None:
    messages = feed(room).messages()
    assert b"event: state" in await anext(messages)
    room.session.mirrors["docs"].heard(Ending("put", "a.md", "new", "done"))
    told = await anext(messages)
    assert (b"event: state" in told, b"event: actions" in told, b"event: minutes" in told) == (False, True, True)
    room.session.mirrors["docs"].journal.note([Problem("b.md", "refused", "no")], 1)
    told = await anext(messages)
    assert (b"event: state" in told, b"event: actions" in told, b"event: minutes" in told) == (True, False, False)


async def test_a_reload_is_told_and_what_comes_after_it(room: Room) -> None:
    messages = feed(room).messages()
    await anext(messages)
    runtime, room.runtime = room.runtime, None
    assert b'"reloading":true' in await anext(messages)
    room.runtime = runtime
    assert b'"mirrors":[' in await anext(messages)


async def test_what_is_over_is_not_asked_any_more(room: Room) -> None:
    status = StatusCache()
    assert room.runtime is not None
    before = await status.mirrors(room.runtime)
    room.runtime.closed = True
    room.session.db.close()
    assert await status.mirrors(room.runtime) == before


async def test_facts_are_counted_once_a_second_however_many_ask(room: Room) -> None:
    now = 0.0
    status = StatusCache(lambda: now)
    assert room.runtime is not None
    first = await status.mirrors(room.runtime)
    room.session.mirrors["docs"].journal.note([Problem("b.md", "refused", "no")], 1)
    assert await status.mirrors(room.runtime) is first
    now = 1.0
    assert (await status.mirrors(room.runtime))["docs"]["items"]["rejected"] == 1


async def test_more_than_the_bound_are_sent_away(room: Room) -> None:
    streams = []
    for _ in range(LISTENERS):
        assert not room.web.feed.full
        streams.append(asyncio.create_task(EventStream(room.web.feed)(GET, never, never)))
        await asyncio.sleep(0)
    answer = await room.http.get("/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    assert not room.web.feed.full


async def test_a_listener_that_does_not_take_its_message_is_left_behind(room: Room) -> None:
    async with asyncio.timeout(10):
        await EventStream(room.web.feed, send_timeout_s=0.01)(GET, never, never)
    assert room.web.feed.listeners == 0


async def test_a_listener_that_goes_is_forgotten(room: Room) -> None:
    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async with asyncio.timeout(10):
        await EventStream(room.web.feed)(GET, gone, never)
    assert room.web.feed.listeners == 0


async def test_the_end_of_the_news_ends_each_stream_in_order(room: Room) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            room.web.feed.close()

    async with asyncio.timeout(10):
        await EventStream(room.web.feed)(GET, never, send)
    assert dict(sent[0]["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_head_of_the_stream_is_no_stream(room: Room) -> None:
    answer = await room.http.head("/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
