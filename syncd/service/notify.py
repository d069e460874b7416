"""Reports the state of the daemon: to systemd, and to one web address when a mirror halts or recovers."""

import asyncio
import json
import os
import socket
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Self

import httpx
import structlog

from syncd.core.keys import shown
from syncd.core.plain_text import printable, utc_time

_log = structlog.get_logger()

_MAX_TEXT = 1024
"""Maximum characters of a status text: far below the limit of a datagram. systemctl shows one line."""
TIMEOUT_S = 10.0
PAUSES_S = (2.0, 15.0, 60.0)
"""Pauses between the tries of one message. After the last try the log has a line, and the message is dropped."""
WAITING = 100
"""Maximum waiting messages. Later ones replace the oldest."""


class Notifier:
    """Sends state datagrams to systemd, see sd_notify(3). No method raises: a service must not fail if nobody listens.

    address: a socket path, "@name" for an abstract one, or None to send nothing.
    watchdog_interval_s: seconds between two `watchdog()` calls, half of the limit of systemd. None without a watchdog.
    """

    def __init__(
        self,
        address: str | None,
        *,
        watchdog_interval_s: float | None = None,
        monotonic_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.watchdog_interval_s = watchdog_interval_s
        self._address = _usable(address)
        self._monotonic_ns = monotonic_ns
        self._failed = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read NOTIFY_SOCKET, and WATCHDOG_USEC unless WATCHDOG_PID names another process."""
        return cls(environ.get("NOTIFY_SOCKET"), watchdog_interval_s=_watchdog_interval_s(environ))

    def ready(self) -> None:
        """Report that the service is started, or has reloaded its config."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show one line in `systemctl status`. Line breaks become spaces, because each line could set a state."""
        line = " ".join(text.encode(errors="replace").decode().replace("\0", " ").splitlines())
        line = "".join(char if char.isprintable() else "?" for char in line)
        self._send(f"STATUS={line[:_MAX_TEXT]}")

    def watchdog(self) -> None:
        """Report that the service is alive."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the service stops."""
        self._send("STOPPING=1")

    def reloading(self) -> None:
        """Report that the service reloads its config. Call `ready` afterwards."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={self._monotonic_ns() // 1000}")

    def _send(self, state: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # A manager that does not read must not block the event loop.
                sender.setblocking(False)
                sender.sendto(state.encode(), self._address)
        except OSError as error:
            if not self._failed:
                _log.warning("notify.failed", error=str(error))
            self._failed = True
        else:
            self._failed = False


def _usable(address: str | None) -> str | None:
    if not address or address[0] not in "@/":
        return None
    return "\0" + address[1:] if address[0] == "@" else address


def _watchdog_interval_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    try:
        allowed_us = int(environ.get("WATCHDOG_USEC", "0"))
    except ValueError:
        return None
    return allowed_us / 2_000_000 if allowed_us > 0 else None


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
