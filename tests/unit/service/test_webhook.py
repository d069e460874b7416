"""Which states of a mirror are posted, how often, and what happens without an answer."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from syncd.service.notify import PAUSES_S, WAITING, Webhook

URL = "https://hooks.example.org/s3cr3t"
Answer = Callable[[httpx.Request], httpx.Response]


class Address:
    """A server that gives the answers of the test, then 204."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if self._answers else 204
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, headers={"Location": "http://127.0.0.1/elsewhere"})

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def messages(self) -> list[tuple[str, str, str | None]]:
        bodies = [json.loads(request.content) for request in self.requests]
        return [(body["mirror"], body["state"], body["detail"]) for body in bodies]

    def webhook(self) -> Webhook:
        return Webhook(httpx.MockTransport(self), self.sleep)


@asynccontextmanager
async def running(webhook: Webhook, url: str = URL) -> AsyncIterator[None]:
    """Run a webhook for the block, and until it has sent all messages."""
    task = asyncio.create_task(webhook.run(url))
    try:
        yield
        for _ in range(1000):
            await asyncio.sleep(0)  # Every answer arrives at once.
        assert not webhook._waiting
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_halt_and_a_recovery_are_posted_once_each() -> None:
    address = Address()
    webhook = address.webhook()
    async with running(webhook):
        for state, detail in (
            ("idle", None),
            ("halted", "the folder is gone"),
            ("halted", "the folder is gone"),
            ("syncing", None),
            ("halted", "the folder is still gone"),
            ("syncing", None),
            ("idle", None),
            ("idle", None),
            ("degraded", "no answer"),
        ):
            webhook.update("docs", state, detail)
    assert address.messages() == [("docs", "halted", "the folder is gone"), ("docs", "recovered", None)]
    body = json.loads(address.requests[0].content)
    assert set(body) == {"mirror", "state", "detail", "time"}
    assert body["time"].endswith("Z")
    assert address.requests[0].headers["content-type"] == "application/json"


async def test_each_mirror_has_its_messages_and_a_hostile_name_is_escaped() -> None:
    address = Address()
    webhook = address.webhook()
    webhook.update("a", "halted", "x\u202e\n\udcff")
    webhook.update("b", "halted", None)
    webhook.update("b", "idle", None)
    async with running(webhook):
        pass
    assert address.messages() == [("a", "halted", "x\\u202e\\n\\xff"), ("b", "halted", None), ("b", "recovered", None)]


@pytest.mark.parametrize("failures", range(len(PAUSES_S) + 1))
async def test_a_failed_post_is_retried_a_few_times(failures: int) -> None:
    faults: list[int | Exception] = [500, httpx.ConnectError("refused"), 302]
    address = Address(*faults[:failures])
    webhook = address.webhook()
    webhook.update("docs", "halted", None)
    async with running(webhook):
        pass
    assert len(address.requests) == failures + 1
    assert address.pauses == list(PAUSES_S[:failures])
    assert {str(request.url) for request in address.requests} == {URL}


async def test_after_the_last_try_the_log_has_a_line_without_the_address(capsys: pytest.CaptureFixture[str]) -> None:
    address = Address(*[httpx.ConnectError(f"cannot reach {URL}")] * (len(PAUSES_S) + 1))
    webhook = address.webhook()
    webhook.update("docs", "halted", None)
    async with running(webhook):
        pass
    log = capsys.readouterr().out
    assert "webhook.failed" in log
    assert "ConnectError" in log
    assert "s3cr3t" not in log
    assert len(address.requests) == len(PAUSES_S) + 1


async def test_a_message_that_waits_at_a_reload_is_sent_after_it() -> None:
    address = Address()
    webhook = address.webhook()

    async def hang(request: httpx.Request) -> Any:
        del request
        await asyncio.Event().wait()

    webhook._http = httpx.MockTransport(hang)
    task = asyncio.create_task(webhook.run(URL))
    webhook.update("docs", "halted", "why")
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    webhook._http = httpx.MockTransport(address)
    async with running(webhook):
        pass
    assert address.messages() == [("docs", "halted", "why")]


async def test_without_an_address_messages_are_dropped() -> None:
    webhook = Webhook()
    for each in range(WAITING * 2):
        webhook.update(str(each), "halted", None)
    assert len(webhook._waiting) == WAITING
    await webhook.run("")
    assert not webhook._waiting
