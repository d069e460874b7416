"""The sending of notices: tries, limits, log lines, and the addresses of apprise."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from syncd.core.errors import ConfigError
from syncd.service.outbox import PAUSES_S, TEXT_LIMIT, WAITING, Notice, Outbox, apprise, webhook
from tests.webhook import open_webhook

URL = "https://hooks.example.org/s3cr3t"
NOTICE = Notice("docs", "halted", "halted", "why", 0.0)


class Address:
    """A server that gives the answers of the test, then 204."""

    def __init__(self, *answers: int | Exception) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []
        self.outbox = Outbox("webhook", self.sleep)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if self._answers else 204
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer, headers={"Location": "http://127.0.0.1/elsewhere"})

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def details(self) -> list[str]:
        return [json.loads(request.content)["detail"] for request in self.requests]


@pytest.mark.parametrize("length", [0, TEXT_LIMIT, TEXT_LIMIT * 3])
def test_a_text_is_short_enough_for_every_service(length: int) -> None:
    assert len(Notice(None, "budget", "budget", "@" * length, 0.0).text) <= TEXT_LIMIT


@asynccontextmanager
async def running(address: Address, *notices: Notice) -> AsyncIterator[None]:
    """Run an outbox with these notices for the block, and until it has sent all of them."""
    async with webhook(URL, httpx.MockTransport(address)) as send:
        address.outbox.open(send)
        for notice in notices:
            address.outbox.add(notice)
        task = asyncio.create_task(address.outbox.run())
        try:
            yield
            for _ in range(1000):
                await asyncio.sleep(0)  # Every answer arrives at once.
            assert len(address.outbox) == 0
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("failures", range(len(PAUSES_S) + 1))
async def test_a_failed_post_is_retried_a_few_times(failures: int) -> None:
    faults: list[int | Exception] = [500, httpx.ConnectError("refused"), 302]
    address = Address(*faults[:failures])
    async with running(address, NOTICE):
        pass
    assert len(address.requests) == failures + 1
    assert address.pauses == list(PAUSES_S[:failures])
    assert {str(request.url) for request in address.requests} == {URL}
    assert address.requests[0].headers["content-type"] == "application/json"


async def test_after_the_last_try_the_log_has_a_line_without_the_address(capsys: pytest.CaptureFixture[str]) -> None:
    address = Address(*[httpx.ConnectError(f"cannot reach {URL}")] * (len(PAUSES_S) + 1))
    async with running(address, NOTICE):
        pass
    log = capsys.readouterr().out
    assert "webhook.failed" in log
    assert "no answer (ConnectError); check the address, and the network of this machine" in log
    assert "s3cr3t" not in log
    assert len(address.requests) == len(PAUSES_S) + 1


async def test_a_notice_that_waits_at_a_reload_is_sent_after_it() -> None:
    address = Address()

    async def hang(notice: Notice) -> str:
        del notice
        await asyncio.Event().wait()
        return ""

    address.outbox.open(hang)
    address.outbox.add(NOTICE)
    task = asyncio.create_task(address.outbox.run())
    for _ in range(20):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    async with running(address):
        pass
    assert address.details() == ["why"]


async def test_waiting_notices_are_bounded_and_dropped_without_an_address() -> None:
    outbox = Outbox("webhook")
    async with webhook(URL) as send:
        outbox.open(send)
    for _ in range(WAITING * 2):
        outbox.add(NOTICE)
    assert len(outbox) == WAITING
    async with webhook("") as send:
        outbox.open(send)
    outbox.add(NOTICE)
    await outbox.run()
    assert len(outbox) == 0, "a later address gets no old notices"


# -- apprise


async def test_apprise_sends_to_every_address_and_names_those_that_fail_by_number(
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("apprise")
    with open_webhook() as (address, bodies):
        send = apprise([f"json://{address}/s3cr3t", f"json://{address}/broken-s3cr3t"])
        assert send
        assert await send(NOTICE) == "address 2 of 2 refused it or did not answer"
    assert len(bodies) == 2
    assert "halted" in bodies[0]["title"]
    assert bodies[0]["message"] == NOTICE.text
    assert "s3cr3t" not in "".join(capfd.readouterr())


def test_an_address_that_apprise_does_not_know_is_not_quoted(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("apprise")
    with pytest.raises(ConfigError, match="apprise does not know address 2") as error:
        apprise(["json://127.0.0.1:9", "nothing://s3cr3t"])
    assert "s3cr3t" not in str(error.value) + "".join(capfd.readouterr())


def test_without_the_package_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    assert apprise([]) is None
    with pytest.raises(ConfigError, match=r"pip install 'syncd\[notify\]'"):
        apprise(["json://127.0.0.1:9"])
