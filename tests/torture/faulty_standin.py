"""The stand-in with faults: requests and answers of the real program fail at random, by rate and seed."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from random import Random
from typing import Any, cast
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope, Send

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import Emulator, Server
from tests.torture.stormy_remote import PLACE

HTML = b"<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>"
HANG_LIMIT_S = 10.0
"""Maximum seconds of a hanging request whose client does not disconnect."""
NOT_DONE = ("500", "502 in HTML", "429", "no success", "dropped before", "hung before")
"""Faults that prevent the execution of a request."""
DONE = ("500 though done", "no success though done", "dropped after", "cut short", "hung after")
"""Faults of the answer to an executed request."""
LISTING = ("rows missed", "rows repeated", "rows shifted")
"""Faults in the rows of a listing."""
EMBEDDED: Mapping[str, Callable[[list[list[float]]], list[list[float]]]] = {
    "vectors too short": lambda rows: [row[: len(row) // 2] for row in rows],
    "vector missing": lambda rows: rows[1:],
    "vector of zeros": lambda rows: [[0.0] * len(rows[0]), *rows[1:]],
    "numbers too large": lambda rows: [[1e39, *row[1:]] for row in rows],
}
"""Faults in the vectors of a model whose answer reports success."""
REFUSED = "401"
SPOILT = 0.2
"""Share of the rows of a page that are left out or repeated."""


def weather(strength: float, *, ambiguous: bool = True) -> dict[str, float]:
    """Rates by kind of fault. strength: the share of requests that fail. ambiguous: answers are lost, too."""
    kinds = (*NOT_DONE, *DONE) if ambiguous else NOT_DONE
    rates = dict.fromkeys(kinds, strength / len(kinds))
    # Each of these faults costs a second, so they are rare.
    rates |= {kind: rate / 4 for kind, rate in rates.items() if kind in {"429", "hung before", "hung after"}}
    return rates | dict.fromkeys(LISTING, strength * 2) | dict.fromkeys(EMBEDDED, strength / 4)


class FaultyStandin:
    """An ASGI application around the stand-in. Only requests of syncd get faults, and not those of tests.

    rates: chance of each kind of fault per request. spared: keys that no listing may miss, since no program could
    know of them then. counted: faults by kind. after_refusal: requests that followed the first 401.
    """

    def __init__(self, app: Emulator, seed: int, spared: Callable[[str], bool]) -> None:
        self.backend = app.backend
        self.rates: Mapping[str, float] = {}
        self.counted: Counter[str] = Counter()
        self.requests = 0
        self.changing = 0
        self.after_refusal = 0
        self._refused_once = False
        self._app = app
        self._chance = Random(seed)
        self._spared = spared

    def calm(self) -> None:
        """End all faults and lags."""
        self.rates = {}
        backend = self.backend
        object.__setattr__(
            backend, "options", replace(backend.options, list_lag=0.0, mutation_lag=0.0, unsuccessful=0.0)
        )

    @property
    def lag_s(self) -> float:
        """Return the seconds after which every reader sees a change, at the latest."""
        options = self.backend.options
        return float(max(options.list_lag, options.mutation_lag))

    def forget_refusal(self) -> None:
        """Count requests again from the next 401 on."""
        self.after_refusal, self._refused_once = 0, False

    @property
    def refused(self) -> bool:
        """Return whether there was a 401 since then."""
        return self._refused_once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, possibly with a fault."""
        headers = dict(scope["headers"])
        if not headers.get(b"user-agent", b"").startswith(b"syncd/"):
            await self._app(scope, receive, send)
            return
        self.requests += 1
        self.changing += _changes(scope)
        body = await _whole(receive)
        kind = self._draw()
        if kind:
            self.counted[kind] += 1
        self.after_refusal += self._refused_once
        self._refused_once |= kind == REFUSED
        if kind in (None, *DONE):
            answer = await self._carried_out(scope, body, receive)
            await self._answered(kind, answer, receive, send)
        else:
            await self._refused(str(kind), receive, send)

    def _draw(self) -> str | None:
        left = self._chance.random()
        for kind, rate in self.rates.items():
            if kind in LISTING or kind in EMBEDDED:
                continue
            if left < rate:
                return kind
            left -= rate
        return None

    async def _carried_out(self, scope: Scope, body: bytes, receive: Receive) -> "_Answer":
        answer = _Answer()
        given = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(given, None) or await receive()

        await self._app(scope, again, answer.take)
        if _is_listing(scope) and answer.status == 200:
            self._tamper(scope, answer)
        if "/ai/run/" in scope["path"] and answer.status == 200:
            self._embed_wrong(answer)
        return answer

    def _embed_wrong(self, answer: "_Answer") -> None:
        said = json.loads(answer.body)
        for kind, spoil in EMBEDDED.items():
            if self._chance.random() < self.rates.get(kind, 0.0):
                self.counted[kind] += 1
                rows = spoil(said["result"]["data"])
                said["result"] |= {"data": rows, "shape": [len(rows), len(rows[0]) if rows else 0]}
                answer.replace(json.dumps(said).encode())
                return

    def _tamper(self, scope: Scope, answer: "_Answer") -> None:
        """Change the rows of one page. The total of the listing stays correct."""
        if self.lag_s:
            self.counted["listing late"] += 1
        page = json.loads(answer.body)
        result = page["result"]
        rows: list[dict[str, Any]] = result["vectors"] if isinstance(result, dict) else result
        for kind in LISTING:
            # The first page has no page before it to which a row could have moved.
            if kind == "rows shifted" and parse_qs(scope["query_string"].decode()).get("page", ["1"]) == ["1"]:
                continue
            if len(rows) > 1 and self._chance.random() < self.rates.get(kind, 0.0):
                self.counted[kind] += 1
                rows = list(self._spoilt(kind, rows))
        page["result"] = {**result, "vectors": rows} if isinstance(result, dict) else rows
        answer.replace(json.dumps(page).encode())

    def _spoilt(self, kind: str, rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for number, row in enumerate(rows):
            if kind == "rows repeated":
                yield row
                if self._chance.random() < SPOILT:
                    yield row
            elif self._spared(row.get("key") or row.get("name") or row["id"]) or not (
                number == 0 if kind == "rows shifted" else self._chance.random() < SPOILT
            ):
                yield row

    async def _answered(self, kind: str | None, answer: "_Answer", receive: Receive, send: Send) -> None:
        if kind == "500 though done":
            await _say(send, 500, _failure(7001))
        elif kind == "no success though done":
            await _say(send, 200, _failure(7009))
        elif kind == "dropped after":
            await _drop(send)
        elif kind == "hung after":
            await _hang(receive, send)
        elif kind == "cut short" and len(answer.body) > 1:
            await send(answer.start)
            await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
        else:
            await send(answer.start)
            await send({"type": "http.response.body", "body": answer.body})

    async def _refused(self, kind: str, receive: Receive, send: Send) -> None:
        if kind == "500":
            await _say(send, 500, _failure(7001))
        elif kind == "503":
            await _say(send, 503, b"no server is available", (b"content-type", b"text/plain"))
        elif kind == "502 in HTML":
            await _say(send, 502, HTML, (b"content-type", b"text/html"))
        elif kind == "429":
            await _say(send, 429, _failure(10429), (b"retry-after", b"1"))
        elif kind == "no success":
            await _say(send, 200, _failure(7009))
        elif kind == REFUSED:
            await _say(send, 401, _failure(10000))
        elif kind == "dropped before":
            await _drop(send)
        else:
            await _hang(receive, send)


class _Answer:
    """An answer of the stand-in that is held back."""

    def __init__(self) -> None:
        self.start: Message = {}
        self.body = b""

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message.get("body", b"")

    @property
    def status(self) -> int:
        return int(self.start["status"])

    def replace(self, body: bytes) -> None:
        self.body = body
        headers = [pair for pair in self.start["headers"] if pair[0].lower() != b"content-length"]
        self.start = {**self.start, "headers": [*headers, (b"content-length", str(len(body)).encode())]}


@contextmanager
def served(
    options: EmulatorOptions, seed: int, spared: Callable[[str], bool]
) -> Iterator[tuple[Server, FaultyStandin]]:
    """Run a stand-in without faults on a loopback port within the block."""
    faulty = FaultyStandin(Emulator(options), seed, spared)
    with Server(cast("Emulator", faulty), 0) as server:
        yield server, faulty


def _changes(scope: Scope) -> bool:
    reading = scope["path"].endswith(("/bulk/get", "/get_by_ids", "/query")) or "/ai/run/" in scope["path"]
    return scope["method"] != "GET" and not reading


def _is_listing(scope: Scope) -> bool:
    """Return whether a request reads a page of the whole listing, and not a single key."""
    return (
        scope["method"] == "GET"
        and scope["path"].endswith(("/items", "/keys", f"/{PLACE}/list"))
        and not {"key", "search", "item_id"} & parse_qs(scope["query_string"].decode()).keys()
    )


async def _whole(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def _say(send: Send, status: int, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": body})


def _failure(code: int) -> bytes:
    errors = [{"code": code, "message": "bad weather"}]
    return json.dumps({"success": False, "errors": errors, "messages": [], "result": None}).encode()


async def _drop(send: Send) -> None:
    """Close the connection without an answer. The method that the server passes in leads to its transport."""
    send.__self__.transport.abort()  # type: ignore[attr-defined]
    # Until the server notices the close, it would send an answer itself.
    await asyncio.sleep(0.01)


async def _hang(receive: Receive, send: Send) -> None:
    """Answer nothing until the client goes away."""
    try:
        async with asyncio.timeout(HANG_LIMIT_S):
            while (await receive())["type"] != "http.disconnect":
                continue
    except TimeoutError:
        await _drop(send)
