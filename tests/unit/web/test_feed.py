"""The messages of the event stream, and its limits of listeners and time."""

import asyncio
import time
from typing import Any

from syncd.core.model import ActionEvent, Delete, Problem
from syncd.web.view import ENTRIES, LISTENERS, EventFeed, EventStream
from tests.unit.web.harness import Room


def feed(room: Room) -> EventFeed:
    """A feed that does not wait between two looks, with a status that is counted after each change."""
    clock = iter(range(0, 10**9, 3600))
    return EventFeed(room.history, room.counted_by(lambda: next(clock)), poll_s=0.0)


GET = {"type": "http", "method": "GET"}


async def never(*_: object) -> Any:
    await asyncio.Event().wait()


async def test_only_changes_are_sent_again(room: Room) -> None:
    messages = feed(room).messages()
    assert b"event: state" in await anext(messages)
    mirror = room.session.mirrors["docs"]

    async def sent() -> tuple[bool, bool, bool]:
        message = await anext(messages)
        return b"event: state" in message, b"event: log" in message, b"event: minutes" in message

    mirror.on_action(ActionEvent("put", "a.md", "new", "done"))
    assert await sent() == (False, False, True)
    mirror.journal.problems.add([Problem("b.md", "refused", "no")], 1)
    assert await sent() == (True, False, False)
    mirror.history.add(Delete("a.md", "stale", "", "1", None), time.time(), "done", 1)
    assert await sent() == (False, True, False)


async def test_only_new_entries_of_the_log_are_sent_again_and_the_last_ones_first(room: Room) -> None:
    history, messages = room.session.mirrors["docs"].history, feed(room).messages()
    for each in range(ENTRIES + 1):
        history.add(Delete(f"{each:03}.md", "stale", "", "1", None), time.time() - 9 + each / 1000, "done", 1)
    first = await anext(messages)
    assert (first.count(b'"kind":"delete"'), b"000.md" in first, b"001.md" in first) == (ENTRIES, False, True)
    history.add(Delete("new.md", "stale", "", "1", None), time.time(), "done", 2)
    second = await anext(messages)
    assert (second.count(b'"kind":"delete"'), b"new.md" in second) == (1, True)


async def test_a_reload_and_its_end_are_sent(room: Room) -> None:
    messages = feed(room).messages()
    await anext(messages)
    runtime, room.runtime = room.runtime, None
    assert b'"reloading":true' in await anext(messages)
    room.runtime = runtime
    assert b'"mirrors":[' in await anext(messages)


async def test_a_closed_state_file_is_not_read(room: Room) -> None:
    before = await room.status.mirrors()
    room.runtime = None
    room.session.db.close()
    assert await room.status.mirrors() == before


async def test_the_status_is_counted_at_most_once_a_second(room: Room) -> None:
    now = 0.0
    status = room.counted_by(lambda: now)
    first = await status.mirrors()
    room.session.mirrors["docs"].journal.problems.add([Problem("b.md", "refused", "no")], 1)
    assert await status.mirrors() is first
    now = 1.0
    assert (await status.mirrors())["docs"]["items"]["rejected"] == 1


async def test_too_many_listeners_are_refused(room: Room) -> None:
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


async def test_the_stream_to_a_listener_that_does_not_read_ends(room: Room) -> None:
    async with asyncio.timeout(10):
        await EventStream(room.web.feed, send_timeout_s=0.01)(GET, never, never)
    assert room.web.feed.listeners == 0


async def test_a_listener_that_leaves_is_not_counted(room: Room) -> None:
    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async with asyncio.timeout(10):
        await EventStream(room.web.feed)(GET, gone, never)
    assert room.web.feed.listeners == 0


async def test_an_idle_stream_sends_comments(room: Room) -> None:
    sent = asyncio.Event()

    async def send(message: Any) -> None:
        if message.get("body", b"").startswith(b":"):
            sent.set()

    stream = EventStream(room.web.feed)
    assert stream.ping_interval == 15
    stream.ping_interval = 0.01
    serving = asyncio.create_task(stream(GET, never, send))
    async with asyncio.timeout(10):
        await sent.wait()
    room.web.feed.close()
    await serving


async def test_closing_the_feed_ends_each_stream_properly(room: Room) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            room.web.feed.close()

    async with asyncio.timeout(10):
        await EventStream(room.web.feed)(GET, never, send)
    assert dict(sent[0]["headers"])[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_head_opens_no_stream(room: Room) -> None:
    answer = await room.http.head("/events")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
