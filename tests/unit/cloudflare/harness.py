"""A clock that moves only when all tasks sleep, and a remote with scripted answers."""

import asyncio
import heapq
import itertools
import json
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import httpx

from syncd.cloudflare.auth import Credentials
from syncd.cloudflare.gate import Gate
from syncd.cloudflare.kv_bodies import BulkBody, encode_pair
from syncd.cloudflare.transport import Transport

T = TypeVar("T")
Script = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]

TOKEN = "s3cr3t-t0ken"
BASE = "http://127.0.0.1:8080/client/v4"
ACCOUNT = "0123456789abcdef0123456789abcdef"


class VirtualTime:
    """clock() and sleep() for a Gate; `run` moves the time to the next sleeper whenever nothing else can happen."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), future))
        await future

    async def rest(self) -> None:
        """Let every task run until all of them wait, for at most 200 turns of the loop."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        for _ in range(200):
            await asyncio.sleep(0)
            if not ready:
                return

    async def run(self, work: Coroutine[Any, Any, T], *, until: float | None = None) -> T:
        """The result of work; with until, work is cancelled at that time, which must raise CancelledError."""
        task = asyncio.ensure_future(work)
        await self.rest()
        while not task.done():
            assert self._sleepers, "everybody waits and nobody sleeps"
            due, _, future = heapq.heappop(self._sleepers)
            if until is not None and due > until:
                self.now = until
                task.cancel()
            elif not future.done():
                self.now = max(self.now, due)
                future.set_result(None)
            await self.rest()
        return task.result()


class Remote:
    """Answers requests from a script, the last entry for ever. requests, at: the requests and their times."""

    def __init__(self, time: VirtualTime) -> None:
        self.time = time
        self.script: list[Script] = []
        self.requests: list[httpx.Request] = []
        self.at: list[float] = []

    def says(self, *script: Script) -> None:
        self.script = list(script)

    async def _handle(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        self.at.append(self.time.now)
        step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(step, Exception):
            raise step
        if isinstance(step, httpx.Response):
            return httpx.Response(step.status_code, headers=step.headers, content=step.content)
        answer = step(request)
        return answer if isinstance(answer, httpx.Response) else await answer

    def gate(self, tpslimit: float = 0, transfers: int = 8) -> Gate:
        return Gate(tpslimit, transfers, self.time.clock, self.time.sleep)

    def transport(
        self,
        gate: Gate | None = None,
        *,
        timeout: float = 60.0,
        retry_for: float = 120.0,
        chance: float = 0.0,
        login: Callable[[], Credentials] | None = None,
    ) -> Transport:
        return Transport(
            BASE,
            ACCOUNT,
            Credentials.bearer(TOKEN),
            gate or self.gate(),
            timeout=timeout,
            retry_for=retry_for,
            login=login,
            http=httpx.MockTransport(self._handle),
            rng=lambda: chance,
        )


def ok(result: Any = None, **info: Any) -> httpx.Response:
    body: dict[str, Any] = {"success": True, "errors": [], "messages": [], "result": result}
    if info:
        body["result_info"] = info
    return httpx.Response(200, json=body)


def bad(
    status: int, code: int | str | None = None, message: str = "said", headers: Mapping[str, str] | None = None
) -> httpx.Response:
    errors = [] if code is None else [{"code": code, "message": message}]
    body = {"success": False, "errors": errors, "messages": [], "result": None}
    return httpx.Response(status, json=body, headers=dict(headers or {}))


def html(status: int, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(
        status, content=b"<html>Attention Required!</html>", headers={"content-type": "text/html"} | names
    )


def row(key: str = "a.md", item_id: str = "i1", **more: Any) -> dict[str, Any]:
    return {
        "id": item_id,
        "key": key,
        "checksum": "0",
        "status": "completed",
        "source_id": "builtin",
        "file_size": 3,
        **more,
    }


def asked(request: httpx.Request) -> tuple[str, str, dict[str, str]]:
    """Return the method, the URL and the parameters of a request."""
    url, _, query = str(request.url).partition("?")
    return request.method, url, dict(parse_qsl(query, keep_blank_values=True))


def sent_json(request: httpx.Request) -> Any:
    return json.loads(request.content)


def body_of(*keys: str) -> BulkBody:
    """Return a bulk write of a short value under each key."""
    body = BulkBody()
    for key in keys:
        assert body.add(encode_pair(key, b"x"))
    return body
