"""Listeners: told what changes, bounded in number and in patience."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from web_room import Room, open_web_room

from syncd.model import Ending, Problem
from syncd.web.live import Facts
from syncd.web.stream import LISTENERS, EventStream, News
from syncd.web.view import View


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    async with open_web_room(tmp_path) as opened:
        yield opened


def news(room: Room) -> News:
    """News that look again at once, and facts that are counted whenever something has changed."""
    clock = iter(range(0, 10**9, 3600))
    return News(View(room.history, Facts(lambda: next(clock))), lambda: room.live, look_s=0.0)


async def never(*_: object) -> Any:
    await asyncio.Event().wait()


async def test_only_what_has_changed_is_told_again(room: Room) -> None:
    messages = news(room).messages()
    assert b"event: state" in await anext(messages)
    room.session.mirrors["docs"].heard(Ending("put", "a.md", "new", "done"))
    told = await anext(messages)
    assert (b"event: state" in told, b"event: actions" in told, b"event: minutes" in told) == (False, True, True)
    room.session.mirrors["docs"].journal.note([Problem("b.md", "refused", "no")], 1)
    told = await anext(messages)
    assert (b"event: state" in told, b"event: actions" in told, b"event: minutes" in told) == (True, False, False)


async def test_a_reload_is_told_and_what_comes_after_it(room: Room) -> None:
    messages = news(room).messages()
    await anext(messages)
    live, room.live = room.live, None
    assert b'"reloading":true' in await anext(messages)
    room.live = live
    assert b'"mirrors":[' in await anext(messages)


async def test_what_is_over_is_not_asked_any_more(room: Room) -> None:
    facts = Facts()
    assert room.live is not None
    before = await facts.mirrors(room.live)
    room.live.over = True
    room.session.db.close()
    assert await facts.mirrors(room.live) == before


async def test_facts_are_counted_once_a_second_however_many_ask(room: Room) -> None:
    now = 0.0
    facts = Facts(lambda: now)
    assert room.live is not None
    first = await facts.mirrors(room.live)
    room.session.mirrors["docs"].journal.note([Problem("b.md", "refused", "no")], 1)
    assert await facts.mirrors(room.live) is first
    now = 1.0
    assert (await facts.mirrors(room.live))["docs"]["items"]["rejected"] == 1


async def test_more_than_the_bound_are_sent_away(room: Room) -> None:
    streams = []
    for _ in range(LISTENERS):
        assert not room.web.news.full
        streams.append(asyncio.create_task(EventStream(room.web.news)({}, never, never)))
        await asyncio.sleep(0)
    answer = await room.http.get("/events")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    for stream in streams:
        stream.cancel()
    await asyncio.gather(*streams, return_exceptions=True)
    assert not room.web.news.full


async def test_a_listener_that_does_not_take_its_message_is_left_behind(room: Room) -> None:
    async with asyncio.timeout(10):
        await EventStream(room.web.news, slow_s=0.01)({}, never, never)
    assert room.web.news.listeners == 0


async def test_a_listener_that_goes_is_forgotten(room: Room) -> None:
    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async with asyncio.timeout(10):
        await EventStream(room.web.news)({}, gone, never)
    assert room.web.news.listeners == 0


async def test_the_end_of_the_news_ends_each_stream_in_order(room: Room) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            room.web.news.close()

    async with asyncio.timeout(10):
        await EventStream(room.web.news)({}, never, send)
    assert dict(sent[0]["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_head_of_the_stream_is_no_stream(room: Room) -> None:
    answer = await room.http.head("/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
