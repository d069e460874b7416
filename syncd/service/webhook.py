"""Tells one address of halts and of their end. Never in the way of syncing, and nothing that cannot be lost."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import httpx
import structlog

from syncd.core.keys import shown
from syncd.core.redact import printable

_log = structlog.get_logger()

TIMEOUT_S = 10.0
PAUSES_S = (2.0, 15.0, 60.0)
"""Between the tries of one message; after the last it is given up, and the log says so."""
WAITING = 100
"""Older messages give way when the address has not answered for so many."""


class Webhook:
    """Notices that a mirror halts, and that it is in step again, and posts {mirror, state, detail, time}.

    Outlives reloads: what was told is remembered, what waits is sent later. http, sleep: for tests.
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

    def look(self, mirror: str, state: str, detail: str | None) -> None:
        """Compare a mirror's state with what was told. A new try of a halted one is no news until it ends well."""
        if state == "halted" and mirror not in self._halted:
            self._halted.add(mirror)
            self._tell(mirror, "halted", detail)
        elif state == "idle" and mirror in self._halted:
            self._halted.remove(mirror)
            self._tell(mirror, "recovered", None)

    async def run(self, url: str) -> None:
        """Post what waits, until cancelled. url: a secret; "" posts nothing and forgets."""
        if not url:
            self._waiting.clear()
            return
        # No redirects: the address was checked, where it sends us to was not.
        async with httpx.AsyncClient(transport=self._http, timeout=TIMEOUT_S, follow_redirects=False) as client:
            while True:
                while self._waiting:
                    message = self._waiting[0]
                    await self._post(client, url, message)
                    if self._waiting and self._waiting[0] is message:
                        self._waiting.popleft()
                self._wake.clear()
                await self._wake.wait()

    def _tell(self, mirror: str, state: str, detail: str | None) -> None:
        text = printable(shown(detail)) if detail else None
        time = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._waiting.append({"mirror": mirror, "state": state, "detail": text, "time": time})
        self._wake.set()

    async def _post(self, client: httpx.AsyncClient, url: str, message: dict[str, str | None]) -> None:
        fault = ""
        for pause_s in (*PAUSES_S, None):
            fault = await _tried(client, url, message)
            if not fault or pause_s is None:
                break
            await self._sleep(pause_s)
        # Never the address, nor the library's words about it.
        told = {"mirror": message["mirror"], "state": message["state"]}
        if fault:
            _log.warning("webhook.failed", why=fault, tries=len(PAUSES_S) + 1, **told)
        else:
            _log.info("webhook.sent", **told)


async def _tried(client: httpx.AsyncClient, url: str, message: dict[str, str | None]) -> str:
    """Post once; return what went wrong, or "". Of the answer only its status is looked at."""
    body = json.dumps(message).encode()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async with client.stream("POST", url, content=body, headers={"Content-Type": "application/json"}) as answer:
                return "" if answer.is_success else f"status {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        return type(error).__name__
