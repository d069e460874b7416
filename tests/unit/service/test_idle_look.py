"""When the daemon looks whether idle mirrors can reach their remote, and when a fault is shown."""

import asyncio
from itertools import pairwise
from types import SimpleNamespace

import pytest

from syncd.cloudflare.connection import Fault
from syncd.core.requests import Contact
from syncd.service.idle_look import FAULT_EVERY_S, IDLE_EVERY_S, READ_EVERY_S, READER_S, IdleLook

real_sleep = asyncio.sleep
REFUSED = Fault("api.example.org:443 refuses the connection", "check the network")


class Room:
    """Looks at one mirror. Only a sleep moves its clock, and it ends at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.fault: Fault | None = None
        self.looks: list[float] = []
        self.contact = Contact(lambda: self.now, lambda: self.now)
        self.status = SimpleNamespace(at_rest=True, contact=self.contact, look=lambda: None)
        self.look = IdleLook(self._find, [SimpleNamespace(status=self.status)], lambda: self.now)  # type: ignore[list-item]
        monkeypatch.setattr("syncd.service.idle_look.asyncio.sleep", self._sleep)

    async def _find(self) -> Fault | None:
        self.looks.append(self.now)
        return self.fault

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        await real_sleep(0)

    def reason(self) -> str | None:
        trouble = self.contact.trouble()
        return trouble.reason if trouble else None


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    return Room(monkeypatch)


async def test_a_fault_is_shown_until_a_look_finds_none_or_a_request_succeeds(room: Room) -> None:
    room.now += 1
    room.fault = REFUSED
    await room.look.look()
    assert room.reason() == "could not connect: api.example.org:443 refuses the connection"
    room.now += 1
    room.fault = None
    await room.look.look()
    assert room.reason() is None
    room.now += 1
    room.fault = REFUSED
    await room.look.look()
    room.contact.answered()
    assert room.reason() is None


async def test_a_connection_that_fails_once_is_no_fault(room: Room) -> None:
    room.now += 1
    answers = [REFUSED, None]

    async def find() -> Fault | None:
        return answers.pop(0)

    room.look._find_fault = find
    await room.look.look()
    assert (room.reason(), answers) == (None, [])


async def test_a_mirror_at_work_needs_no_look(room: Room) -> None:
    room.now += 1
    room.fault, room.status.at_rest = REFUSED, False
    await room.look.look()
    assert (room.reason(), room.looks) == (None, [])


async def test_readers_that_come_together_share_a_look(room: Room) -> None:
    room.now += 1
    await asyncio.gather(*(room.look.look() for _ in range(5)))
    assert len(room.looks) == 1


async def test_it_looks_often_only_while_somebody_reads(room: Room) -> None:
    assert room.look._pause_s() == IDLE_EVERY_S
    room.look.note_reader()
    assert room.look._pause_s() == READ_EVERY_S
    room.now += 5
    room.fault = REFUSED
    await room.look.look()
    assert room.look._pause_s() == FAULT_EVERY_S
    room.look.note_reader()
    assert room.look._pause_s() == READ_EVERY_S


async def test_a_reader_who_comes_during_a_long_pause_ends_it(room: Room) -> None:
    began = room.now
    running = asyncio.create_task(room.look.run())
    while room.now < began + 10:
        await real_sleep(0)
    assert room.looks == []
    came = room.now
    room.look.note_reader()
    while room.now < came + IDLE_EVERY_S:
        await real_sleep(0)
    running.cancel()
    while_reading = [at for at in room.looks if at < came + READER_S]
    assert while_reading[0] <= came + 1
    assert [b - a for a, b in pairwise(while_reading)] == [READ_EVERY_S] * (len(while_reading) - 1)
    assert (len(while_reading), len(room.looks)) == (3, 3), "none after the reader has gone"
