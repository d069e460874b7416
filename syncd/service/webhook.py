"""Posts a message to one address when a mirror halts and when it recovers. It never delays syncing."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable

import httpx
import structlog

from syncd.core.keys import shown
from syncd.core.plain_text import printable, utc_time

_log = structlog.get_logger()

TIMEOUT_S = 10.0
PAUSES_S = (2.0, 15.0, 60.0)
"""Pauses between the tries of one message. After the last try the log has a line, and the message is dropped."""
WAITING = 100
"""Maximum waiting messages. Later ones replace the oldest."""


class Webhook:
    """Posts {mirror, state, detail, time} when a mirror halts, and when it is in step again.

    The object survives reloads of the config, with its waiting messages. http, sleep: for tests.
    """

    def __init__(
        self,
        http: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._http = http
        self._sleep = sleep
        self._halted: set[str] = set()
        self._waiting: deque[dict[str, str | None]] = deque(maxlen=WAITING)
        self._wake = asyncio.Event()

    def update(self, mirror: str, state: str, detail: str | None) -> None:
        """Take the current state of a mirror. A halted mirror that tries again sends nothing until it is idle."""
        if state == "halted" and mirror not in self._halted:
            self._halted.add(mirror)
            self._add(mirror, "halted", detail)
        elif state == "idle" and mirror in self._halted:
            self._halted.remove(mirror)
            self._add(mirror, "recovered", None)

    async def run(self, url: str) -> None:
        """Post waiting messages until cancelled. url: a secret. "" drops all messages."""
        if not url:
            self._waiting.clear()
            return
        # No redirects: the config checks this address only.
        async with httpx.AsyncClient(transport=self._http, timeout=TIMEOUT_S, follow_redirects=False) as client:
            while True:
                while self._waiting:
                    message = self._waiting[0]
                    await self._post(client, url, message)
                    if self._waiting and self._waiting[0] is message:
                        self._waiting.popleft()
                self._wake.clear()
                await self._wake.wait()

    def _add(self, mirror: str, state: str, detail: str | None) -> None:
        text = printable(shown(detail)) if detail else None
        self._waiting.append({"mirror": mirror, "state": state, "detail": text, "time": utc_time(time.time())})
        self._wake.set()

    async def _post(self, client: httpx.AsyncClient, url: str, message: dict[str, str | None]) -> None:
        fault = ""
        for pause_s in (*PAUSES_S, None):
            fault = await _try_post(client, url, message)
            if not fault or pause_s is None:
                break
            await self._sleep(pause_s)
        # The address is a secret, and messages of the library contain it.
        fields = {"mirror": message["mirror"], "state": message["state"]}
        if fault:
            _log.warning("webhook.failed", why=fault, tries=len(PAUSES_S) + 1, **fields)
        else:
            _log.info("webhook.sent", **fields)


async def _try_post(client: httpx.AsyncClient, url: str, message: dict[str, str | None]) -> str:
    """Post once. Return the error, or "". Only the status of the answer is read."""
    body = json.dumps(message).encode()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async with client.stream("POST", url, content=body, headers={"Content-Type": "application/json"}) as answer:
                return "" if answer.is_success else f"status {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        return type(error).__name__
