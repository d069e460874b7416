"""Server-sent events: what has changed since this listener was last told. Bounded in number and in patience."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from syncd.web.live import Live
from syncd.web.view import View

LISTENERS = 16
"""More are told to come back later."""
LOOK_S = 1.0
SLOW_S = 10.0
"""A listener that has not taken a message by then is left behind; its browser may come again."""
PROOF_S = 15.0
"""A comment after so many quiet seconds: both ends notice when the other is gone."""


class News:
    """Tells listeners what is new, until `close`.

    live: what is at work, or None. look_s: seconds between two looks.
    """

    def __init__(self, view: View, live: Callable[[], Live | None], look_s: float = LOOK_S) -> None:
        self._view = view
        self._live = live
        self._look_s = look_s
        self._closed = asyncio.Event()
        self.listeners = 0

    @property
    def full(self) -> bool:
        """Whether there are as many listeners as there may be."""
        return self.listeners >= LISTENERS

    def close(self) -> None:
        """End all streams."""
        self._closed.set()

    async def messages(self) -> AsyncIterator[bytes]:
        """Yield all of it first, then changes and proofs of life."""
        state: dict[str, Any] = {}
        last: list[list[int]] = []
        action, minute, quiet_s = 0, 0, 0.0
        while not self._closed.is_set():
            told = []
            if (now := await self._view.state(self._live())) != state:
                state = now
                told.append(_event("state", {**state, "now": round(time.time(), 1)}))
            if actions := self._view.actions(action):
                action = actions[-1]["number"]
                told.append(_event("actions", actions))
            if (minutes := self._view.minutes(minute)) and minutes != last:
                minute, last = minutes[-1][0], minutes[-1:]
                told.append(_event("minutes", minutes))
            quiet_s = 0.0 if told else quiet_s + self._look_s
            if quiet_s >= PROOF_S:
                quiet_s = 0.0
                told.append(b":\n\n")
            if told:
                yield b"".join(told)
            await self._pause()

    async def _pause(self) -> None:
        waiting = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait({waiting}, timeout=self._look_s)
        finally:
            waiting.cancel()


class EventStream(Response):
    """One listener's stream. slow_s: the longest that one message may take."""

    media_type = "text/event-stream"

    def __init__(self, news: News, slow_s: float = SLOW_S) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._news = news
        self._slow_s = slow_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the listener goes, is too slow, or the news end."""
        del scope
        telling = asyncio.ensure_future(self._tell(send))
        leaving = asyncio.ensure_future(_gone(receive))
        self._news.listeners += 1
        try:
            await asyncio.wait({telling, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
        finally:
            self._news.listeners -= 1
            for task in (telling, leaving):
                task.cancel()
            await asyncio.gather(telling, leaving, return_exceptions=True)

    async def _tell(self, send: Send) -> None:
        try:
            await self._in_time(
                send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            async for message in self._news.messages():
                await self._in_time(send, {"type": "http.response.body", "body": message, "more_body": True})
            await self._in_time(send, {"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            return

    async def _in_time(self, send: Callable[[Message], Awaitable[None]], message: Message) -> None:
        async with asyncio.timeout(self._slow_s):
            await send(message)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _event(name: str, value: Any) -> bytes:
    # ASCII and one line: no character of a name can end the event or begin another.
    return f"event: {name}\ndata: {json.dumps(value, ensure_ascii=True, separators=(',', ':'))}\n\n".encode()
