"""Server-sent events: sends each open page the changes since its last message."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Message, Receive, Scope, Send

from syncd.service.runtime import Runtime
from syncd.web.view import PageView

LISTENERS = 16
"""The server answers 503 to more listeners than this."""
POLL_S = 1.0
SEND_TIMEOUT_S = 10.0
"""The stream ends if the listener does not take a message within this time. Its browser connects again."""


class EventFeed:
    """Makes the messages for all listeners, until `close`.

    runtime: returns the objects at work, or None. poll_s: seconds between two looks at them.
    """

    def __init__(self, view: PageView, runtime: Callable[[], Runtime | None], poll_s: float = POLL_S) -> None:
        self._view = view
        self._runtime = runtime
        self._poll_s = poll_s
        self._closed = asyncio.Event()
        self.listeners = 0

    @property
    def full(self) -> bool:
        """Whether the number of listeners has reached the limit."""
        return self.listeners >= LISTENERS

    def close(self) -> None:
        """End all streams."""
        self._closed.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield the whole state first, then changes."""
        state: dict[str, Any] = {}
        last: list[list[int]] = []
        action, minute = 0, 0
        while not self._closed.is_set():
            events = []
            if (now := await self._view.state(self._runtime())) != state:
                state = now
                events.append(_event("state", {**state, "now": round(time.time(), 1)}))
            if actions := self._view.actions(action):
                action = actions[-1]["number"]
                events.append(_event("actions", actions))
            if (minutes := self._view.minutes(minute)) and minutes != last:
                minute, last = minutes[-1][0], minutes[-1:]
                events.append(_event("minutes", minutes))
            if events:
                yield b"".join(events)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), self._poll_s)


class EventStream(EventSourceResponse):
    """The stream to one listener. The library sends a comment every 15 s, so both ends notice a lost connection."""

    def __init__(self, feed: EventFeed, send_timeout_s: float = SEND_TIMEOUT_S) -> None:
        super().__init__(feed.messages(), sep="\n")
        self._feed = feed
        self._send_timeout_s = send_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the listener leaves or is too slow, or the feed is closed."""

        # The library's own time limit leaves out the first and the last message.
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._send_timeout_s):
                await send(message)

        self._feed.listeners += 1
        try:
            with contextlib.suppress(TimeoutError):
                await super().__call__(scope, receive, send_in_time)
        finally:
            self._feed.listeners -= 1


def _event(name: str, value: Any) -> bytes:
    # ASCII on one line: no character of a file's name can end the event or begin another one.
    data = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return ServerSentEvent(data, event=name, sep="\n").encode()
