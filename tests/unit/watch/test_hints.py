import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from syncd.core.model import EVERYTHING, Hint
from syncd.watch.observer import Inbox


def hint(path: str) -> Hint:
    return Hint(path, subtree=False)


async def test_equal_hints_are_kept_once_and_in_order() -> None:
    inbox = Inbox(asyncio.get_running_loop())
    for path in ("b", "a", "b"):
        inbox.put("m", hint(path))
    assert inbox.drain() == {"m": [hint("b"), hint("a")]}
    assert inbox.drain() == {}


@pytest.mark.parametrize(("count", "collapsed"), [(9, False), (10, False), (11, True), (25, True)])
async def test_over_the_limit_a_mirrors_hints_become_everything(count: int, collapsed: bool) -> None:
    inbox = Inbox(asyncio.get_running_loop(), limit=10)
    inbox.put("other", hint("x"))
    for number in range(count):
        inbox.put("m", hint(str(number)))
    batch = inbox.drain()
    assert batch["other"] == [hint("x")]
    assert (batch["m"] == [EVERYTHING]) is collapsed
    assert collapsed or len(batch["m"]) == count


async def test_a_hint_for_everything_replaces_earlier_and_later_hints() -> None:
    inbox = Inbox(asyncio.get_running_loop())
    for added in (hint("a"), EVERYTHING, hint("b")):
        inbox.put("m", added)
    assert inbox.drain() == {"m": [EVERYTHING]}


async def test_a_hint_from_another_thread_wakes_the_consumer_within_milliseconds() -> None:
    inbox = Inbox(asyncio.get_running_loop())
    took: list[float] = []
    for number in range(20):
        waiting = asyncio.create_task(inbox.get_batch())
        await asyncio.sleep(0)
        sent = time.perf_counter()
        threading.Thread(target=inbox.put, args=("m", hint(str(number)))).start()
        assert await asyncio.wait_for(waiting, 2) == {"m": [hint(str(number))]}
        took.append(time.perf_counter() - sent)
    assert sorted(took)[10] < 0.02


async def test_a_batch_of_hints_wakes_the_consumer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    calls: list[object] = []
    real = loop.call_soon_threadsafe

    def counted(call: Callable[[], object]) -> asyncio.Handle:
        calls.append(call)
        return real(call)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    inbox = Inbox(loop)
    for number in range(100):
        inbox.put("m", hint(str(number)))
    assert len(calls) == 1
    assert len((await inbox.get_batch())["m"]) == 100
    await asyncio.sleep(0)
    inbox.put("m", hint("later"))
    assert len(calls) == 2
    assert await inbox.get_batch() == {"m": [hint("later")]}


async def test_no_hint_is_lost_between_many_writers_and_one_reader() -> None:
    inbox = Inbox(asyncio.get_running_loop(), limit=100_000)
    wanted = {f"{writer}/{number}" for writer in range(4) for number in range(2_000)}

    def write(writer: int) -> None:
        for number in range(2_000):
            inbox.put("m", hint(f"{writer}/{number}"))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    got: set[str] = set()
    while got != wanted:
        batch = await asyncio.wait_for(inbox.get_batch(), 5)
        got |= {added.path for added in batch["m"]}
    for thread in threads:
        thread.join()


def test_a_hint_after_the_loop_is_closed_raises_nothing() -> None:
    loop = asyncio.new_event_loop()
    inbox = Inbox(loop)
    loop.close()
    inbox.put("m", hint("late"))
    inbox.put("m", hint("later"))
    assert inbox.drain() == {"m": [hint("late"), hint("later")]}
