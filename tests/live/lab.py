"""The account of a live run: its requests, which are counted and limited, and the scratch stores that it makes."""

import asyncio
import math
import re
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from syncd.cloudflare.ai_search import AISearch
from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.connection import make_transport
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.kv import KV
from syncd.cloudflare.request import Request, path
from syncd.cloudflare.transport import Transport
from syncd.cloudflare.vectorize import Vectorize
from syncd.core.errors import ConfigError, Halt, NotFound, SyncdError, TargetMissing
from syncd.core.names import FULL_KEY_FIELD
from syncd.core.plain_text import redact_text
from syncd.core.probe_answers import NO_ANSWERS, ProbeAnswers
from syncd.core.requests import check_base_url, is_loopback
from syncd.targets.ai_search.items import OWNER, PREFIX, SHA256

LIMIT = 300
"""Maximum requests of a run, with its cleaning up."""
RESERVE = 30
"""Requests of LIMIT that are kept for cleaning up."""
STEM = "syncd-live-"
OLD_S = 86400
"""Age in seconds of a scratch store that no run can still use."""
TPS = 3.5
"""Requests a second of a run on the service: 1,050 in five minutes, which leaves room for others."""
_NAME = re.compile(re.escape(STEM) + r"(\d{14})-[0-9a-f]{4}(-[a-z0-9-]+)?")
_ACCOUNT = re.compile("[0-9a-f]{32}")
_ITEMS = re.compile(r"/instances/[^/]+/items(/([^/]+))?$")
_LISTINGS = {"items": re.compile(r"/instances/[^/]+/items$"), "keys": re.compile(r"/kv/namespaces/[^/]+/keys$")}
_WRITES = {"items": _ITEMS, "keys": re.compile(r"/kv/namespaces/[^/]+/(bulk|values)")}
LOOKS, LOOK_S = 10, 2.0
"""Looks for a write that a listing does not show, and seconds between them."""


@dataclass(frozen=True, slots=True)
class Account:
    """Whose service a run asks, by the variables CLOUDFLARE_*."""

    base_url: str
    account_id: str
    credentials: Credentials

    @classmethod
    def of(cls, env: Mapping[str, str]) -> "Account":
        """Return the account that the environment names. Raises ConfigError with the name of a missing variable."""
        account_id, token = env.get("CLOUDFLARE_ACCOUNT_ID", ""), env.get("CLOUDFLARE_API_TOKEN", "")
        email, key = env.get("CLOUDFLARE_EMAIL", ""), env.get("CLOUDFLARE_API_KEY", "")
        if not _ACCOUNT.fullmatch(account_id):
            raise ConfigError("CLOUDFLARE_ACCOUNT_ID must hold the 32 hex digits of the account")
        if not token and not (email and key):
            raise ConfigError(
                "CLOUDFLARE_API_TOKEN must hold a token with AI Search:Edit and Run, KV and Vectorize Edit"
            )
        base_url = env.get("CLOUDFLARE_API_BASE_URL") or "https://api.cloudflare.com/client/v4"
        try:
            login = Credentials.bearer(token) if token else Credentials.global_key(email, key)
            return cls(check_base_url(base_url), account_id, login)
        except ValueError as error:
            raise ConfigError(f"CLOUDFLARE_*: {error}") from None

    @property
    def rehearsal(self) -> bool:
        """Whether a stand-in on this machine answers."""
        return is_loopback(urlsplit(self.base_url).hostname or "")

    def hide(self, text: str) -> str:
        """Return a text without the credentials and the id of the account."""
        return redact_text(text).replace(self.account_id, "ACCOUNT")


@dataclass(slots=True)
class Wire(httpx.AsyncBaseTransport):
    """The connection of a run. It counts requests, refuses those over the limit, and waits where a listing lags.

    lags: seconds after a write until a listing of "items" or "keys" shows it. items: present items, by the answers.
    refused: requests that the limit refused. routes: requests by route. latency: seconds of the answers.
    """

    inner: httpx.AsyncBaseTransport
    limit: int = LIMIT
    requests: int = 0
    refused: int = 0
    lags: dict[str, float] = field(default_factory=dict)
    cleaning: bool = False
    items: set[str] = field(default_factory=set)
    routes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    latency: list[float] = field(default_factory=list)
    _written_at: dict[str, float] = field(default_factory=dict)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await self._wait_for_listing(request)
        if self.requests >= self.limit - (0 if self.cleaning else RESERVE):
            self.refused += 1
            raise Halt(f"the limit of {self.limit} requests of a live run is reached")
        self.requests += 1
        self.routes[f"{request.method} {_route(request.url.path)}"] += 1
        began = time.monotonic()
        answer = await self.inner.handle_async_request(request)
        # The body as it was sent, which the transport decodes.
        raw = b"".join([piece async for piece in answer.aiter_raw()])
        await answer.aclose()
        response = httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(raw))
        self.latency.append(time.monotonic() - began)
        self.statuses[response.status_code] += 1
        for kind, written in _WRITES.items():
            if request.method != "GET" and written.search(request.url.path):
                self._written_at[kind] = time.monotonic()
        if (found := _ITEMS.search(request.url.path)) and request.method in ("POST", "DELETE"):
            self._note_item(
                request.method, found[2], httpx.Response(answer.status_code, headers=answer.headers, content=raw)
            )
        return response

    async def _wait_for_listing(self, request: httpx.Request) -> None:
        for kind, listed in _LISTINGS.items():
            if request.method == "GET" and listed.search(request.url.path):
                shown_at = self._written_at.get(kind, -math.inf) + self.lags.get(kind, 0.0)
                await asyncio.sleep(max(0.0, shown_at - time.monotonic()))

    def _note_item(self, method: str, item: str | None, response: httpx.Response) -> None:
        if method == "DELETE" and item:
            self.items.discard(item)
        elif response.is_success:
            self.items.add(str(response.json()["result"]["id"]))

    async def aclose(self) -> None:
        await self.inner.aclose()


def _route(url_path: str) -> str:
    """Return a path without the account and the names of stores, items and keys."""
    after = "/" + (url_path.partition("/accounts/")[2].partition("/")[2] or url_path.rpartition("/v4/")[2])
    for name in ("instances", "namespaces", "items", "indexes", "values", "metadata"):
        after = re.sub(f"(?<=/{name}/)[^/]+", "…", after)
    return after


@dataclass(slots=True)
class Lab:
    """The scratch stores of one run. name: the beginning of all their names."""

    account: Account
    wire: Wire
    transport: Transport
    state: Path
    name: str = field(default_factory=lambda: scratch_name(time.time()))
    manners: ProbeAnswers = NO_ANSWERS
    removed: int = 0
    """Leftovers of earlier runs that were removed."""
    faults: list[str] = field(default_factory=list)
    """What could not be removed, and why."""
    _undo: list[tuple[str, Callable[[], Awaitable[object]]]] = field(default_factory=list)

    def ai_search(self, instance: str = "docs") -> AISearch:
        """Return an instance in the scratch namespace of the run."""
        return AISearch(self.transport, self.name, instance)

    async def make_instance(self) -> AISearch:
        """Make the scratch namespace and its instance."""
        api = self.ai_search()
        self._undo.append(("namespace", lambda: remove_namespace(self.transport, self.name)))
        await api.create_namespace()
        # The service may refuse metadata that an instance does not declare.
        await api.create_instance(dict.fromkeys((SHA256, OWNER, PREFIX, FULL_KEY_FIELD), "text"))
        return api

    async def make_kv(self, ending: str) -> tuple[KV, str]:
        """Make a KV namespace, and return its id."""
        kv = KV(self.transport)
        made = (await kv.create_namespace(f"{self.name}-{ending}")).id
        self._undo.append(("KV namespace", lambda: kv.delete_namespace(made)))
        return kv, made

    async def make_index(self, ending: str, dimensions: int) -> str:
        """Make a Vectorize index, and return its name."""
        api, name = Vectorize(self.transport), f"{self.name}-{ending}"
        self._undo.append(("index", lambda: remove_index(self.transport, name)))
        await api.create_index(name, dimensions)
        return name

    async def clean(self, upto: int = 0) -> None:
        """Remove the stores of the run that were made after the first `upto`, and note what cannot be removed."""
        self.wire.cleaning = True
        while len(self._undo) > upto:
            what, remove = self._undo.pop()
            try:
                await remove()
            except (NotFound, TargetMissing):
                continue
            except SyncdError as error:
                self.faults.append(f"{what} of {self.name}: {self.account.hide(str(error))}")
        self.wire.cleaning = False

    @property
    def made(self) -> int:
        """The number of stores that exist now."""
        return len(self._undo)


@asynccontextmanager
async def open_lab(account: Account, state: Path, limit: int) -> AsyncIterator[Lab]:
    """Yield a lab, and remove everything that it made, however the run ends."""
    async with AsyncExitStack() as stack:
        wire = Wire(make_transport(account.base_url), limit)
        gate = Gate(0 if account.rehearsal else TPS, 4)
        transport = Transport(account.base_url, account.account_id, account.credentials, gate, retry_for=60, http=wire)
        lab = Lab(account, wire, await stack.enter_async_context(transport), state)
        stack.push_async_callback(lab.clean)
        yield lab


async def lag_of(is_shown: Callable[[], Awaitable[bool]], written_at: float) -> float:
    """Return the seconds after which a listing shows a change, 0 if it does so at once. written_at: by time.monotonic.

    Raises AssertionError if it never does.
    """
    for look in range(LOOKS):
        looked = time.monotonic()
        if await is_shown():
            return looked - written_at if look else 0.0
        await asyncio.sleep(LOOK_S)
    raise AssertionError(f"the listing does not show a change after {LOOKS * LOOK_S:.0f} s")


# -- names and leftovers


def scratch_name(now: float) -> str:
    """Return a new name that tells its age. AI Search takes lower case, digits and hyphens, at most 32 of them."""
    return f"{STEM}{datetime.fromtimestamp(now, UTC):%Y%m%d%H%M%S}-{secrets.token_hex(2)}"


def is_leftover(name: str, now: float) -> bool:
    """Return whether a name is that of a scratch store which is older than a day."""
    found = _NAME.fullmatch(name)
    if not found:
        return False
    try:
        made = datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return False
    return now - made > OLD_S


async def remove_leftovers(lab: Lab, now: float) -> None:
    """Remove the scratch stores of earlier runs that were killed."""
    kv = KV(lab.transport)
    for namespace in (await lab.ai_search().list_namespaces()).rows:
        if is_leftover(namespace.name, now):
            await remove_namespace(lab.transport, namespace.name)
            lab.removed += 1
    async for space in kv.iter_namespaces():
        if is_leftover(space.title, now):
            await kv.delete_namespace(space.id)
            lab.removed += 1
    for index in await Vectorize(lab.transport).list_indexes():
        if is_leftover(index.name, now):
            await remove_index(lab.transport, index.name)
            lab.removed += 1


async def remove_namespace(transport: Transport, name: str) -> None:
    """Remove an AI Search namespace of a run, with its instances."""
    if not name.startswith(STEM):
        raise AssertionError(f"{name} is no scratch namespace")
    base = path("accounts", transport.account_id, "ai-search", "namespaces", name)
    for instance in (await transport.request(Request("GET", base + "/instances"))).result:
        await transport.request(Request("DELETE", base + path("instances", instance["id"])))
    await transport.request(Request("DELETE", base))


async def remove_index(transport: Transport, name: str) -> None:
    """Remove a Vectorize index of a run."""
    url = path("accounts", transport.account_id, "vectorize", "v2", "indexes", name)
    await transport.request(Request("DELETE", url))
