"""Notices for people: their text, and how they are sent to a web address and to the addresses of apprise."""

import asyncio
import json
import logging
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import structlog

from syncd.cloudflare.connection import in_daemon_thread
from syncd.core.errors import ConfigError
from syncd.core.plain_text import utc_time

_log = structlog.get_logger()

Topic = Literal["halted", "refused", "degraded", "problems", "foreign", "budget", "test"]
"""halted, refused (by the delete guard), degraded for long: the states of a mirror. problems: items that fail, are
skipped or are stuck in the index. foreign: another writer's entries. budget: requests wait for the quota for long."""

TEXT_LIMIT = 1500
"""Characters of a text. Discord takes 2,000 (Discord API: execute webhook), the other services more."""
_PINGS = str.maketrans({"@": "@\u200b", "<": "\u2039", ">": "\u203a"})
"""Characters with which chats begin a mention or a link. A file name must not notify all members of a chat."""

TIMEOUT_S = 10.0
PAUSES_S = (2.0, 15.0, 60.0)
"""Pauses between the tries of one message. After the last try, the message is logged and dropped."""
WAITING = 100
"""Maximum waiting messages. Later ones replace the oldest."""
_EXTRA = "notify.urls needs the package apprise: pip install 'syncd[notify]'"


@dataclass(frozen=True, slots=True)
class Notice:
    """One message. mirror: None for all mirrors. topic: None for a recovery. at: seconds since the epoch."""

    mirror: str | None
    state: str
    topic: Topic | None
    detail: str | None
    at: float

    @property
    def title(self) -> str:
        """One line with the mirror, the machine and the event."""
        where = f"mirror {self.mirror}" if self.mirror else "syncd"
        return f"{where} on {socket.gethostname()}: {_TITLES[self.state]}"

    @property
    def text(self) -> str:
        """The whole message for people, without characters that chats read as commands."""
        text = f"{self.title}. {self.detail}" if self.detail else self.title
        return text.translate(_PINGS)[:TEXT_LIMIT]

    def body(self) -> dict[str, object]:
        """Return the JSON object of a webhook. Slack and Mattermost show `text`, Discord shows `content`."""
        fields = {"mirror": self.mirror, "state": self.state, "kind": self.topic, "detail": self.detail}
        return {
            **fields,
            "time": utc_time(self.at),
            "text": self.text,
            "content": self.text,
            "allowed_mentions": {"parse": []},
        }


_TITLES = {
    "halted": "halted, it needs a person",
    "degraded": "it does not reach its target",
    "problems": "many items have problems",
    "foreign": "another writer's entries are in the way",
    "budget": "requests wait for the quota",
    "recovered": "in order again",
    "test": "this is a test notice",
}


Send = Callable[[Notice], Awaitable[str]]
"""Sends a notice once. Returns the fault, "" for none. A fault names no address, because addresses are secret."""


class Outbox:
    """The waiting notices for one kind of address (webhook or apprise). A reload of the config keeps them.

    name: a part of the names of its log events. sleep: for tests.
    """

    def __init__(self, name: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._name = name
        self._sleep = sleep
        self._waiting: deque[Notice] = deque(maxlen=WAITING)
        self._send: Send | None = None
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def open(self, send: Send | None) -> None:
        """Use `send` from now on. None: there is no address, so waiting and later notices are dropped."""
        self._send = send
        if send is None:
            self._waiting.clear()

    def add(self, notice: Notice) -> None:
        """Let a notice be sent, if there is an address."""
        if self._send:
            self._waiting.append(notice)
            self._wake.set()

    async def run(self) -> None:
        """Send waiting notices until cancelled, or return if there is no address."""
        if self._send is None:
            return
        while True:
            while self._waiting:
                notice = self._waiting[0]
                await self._deliver(self._send, notice)
                if self._waiting and self._waiting[0] is notice:
                    self._waiting.popleft()
            self._wake.clear()
            await self._wake.wait()

    async def _deliver(self, send: Send, notice: Notice) -> None:
        fault = ""
        for pause_s in (*PAUSES_S, None):
            fault = await send(notice)
            if not fault or pause_s is None:
                break
            await self._sleep(pause_s)
        fields = {"mirror": notice.mirror, "state": notice.state}
        if fault:
            _log.warning(f"{self._name}.failed", why=fault, tries=len(PAUSES_S) + 1, **fields)
        else:
            _log.info(f"{self._name}.sent", **fields)


# -- the webhook


@asynccontextmanager
async def webhook(url: str, http: httpx.AsyncBaseTransport | None = None) -> AsyncIterator[Send | None]:
    """Yield the function that posts to a web address, None for "". http: for tests."""
    if not url:
        yield None
        return
    # No redirects: the config checks this address only.
    async with httpx.AsyncClient(transport=http, timeout=TIMEOUT_S, follow_redirects=False) as client:

        async def post(notice: Notice) -> str:
            return await _post(client, url, json.dumps(notice.body()).encode())

        yield post


async def _post(client: httpx.AsyncClient, url: str, body: bytes) -> str:
    """Post once. Return the error, or "". Only the status of the answer is read."""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            async with client.stream("POST", url, content=body, headers={"Content-Type": "application/json"}) as answer:
                return "" if answer.is_success else f"status {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
        # The address is a secret, and messages of the library contain it.
        return f"no answer ({type(error).__name__}); check the address, and the network of this machine"


# -- apprise


def apprise(urls: Sequence[str]) -> Send | None:
    """Return the function that sends to the addresses of apprise, None without an address.

    Raises ConfigError if apprise is not installed, or does not know an address.
    """
    if not urls:
        return None
    services = _services(urls)

    async def send(notice: Notice) -> str:
        sent = await asyncio.gather(*(_notify(service, notice) for service in services))
        failed = [str(number) for number, is_sent in enumerate(sent, 1) if not is_sent]
        addresses = f"address {', '.join(failed)} of {len(sent)}" if len(sent) > 1 else "the address"
        return f"{addresses} refused it or did not answer" if failed else ""

    return send


def _services(urls: Sequence[str]) -> list[Any]:
    try:
        from apprise import Apprise, AppriseAsset
    except ImportError:
        raise ConfigError(_EXTRA) from None
    # Its messages contain addresses.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    asset = AppriseAsset(app_id="syncd", app_desc="syncd", secure_logging=True, storage_mode="memory")
    services = []
    for number, url in enumerate(urls, 1):
        service = Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
        if service is None:
            raise ConfigError(
                f"notify.urls: apprise does not know address {number}; see the list of its services, such as"
                " mailtos://… and ntfys://…"
            )
        services.append(service)
    return services


async def _notify(service: Any, notice: Notice) -> bool:
    """Send a notice to one address. Return whether it was accepted in time."""
    try:
        async with asyncio.timeout(TIMEOUT_S * 3):
            return await in_daemon_thread(lambda: bool(service.notify(body=notice.text, title=notice.title)))
    except TimeoutError:
        return False
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and its message may hold the address
        _log.debug("apprise.raised", error=type(error).__name__)
        return False
