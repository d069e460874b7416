"""One body of a KV bulk is under way while the next is under construction. Errors meanwhile lose no put."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest

from syncd.core.errors import Deferred, FileChanged, Halt, Park, Retry, SyncdError, Unreachable
from syncd.core.model import Content, Delete, Put
from syncd.targets.base import Done, Outcome
from syncd.targets.kv import writing
from syncd.targets.kv.writing import KEY_REST_S, TRIES
from tests.unit.targets.harness_bulk import WriterHarness, may_hold, new, turns, until


@pytest.fixture
def harness(monkeypatch: pytest.MonkeyPatch) -> WriterHarness:
    """A harness with bodies of two pairs and files that are read one at a time."""
    monkeypatch.setattr(writing, "BULK_PAIRS", 2)
    monkeypatch.setattr(writing, "READ_FILES", 1)
    return WriterHarness()


async def takes_its_time(keys: list[str]) -> Sequence[str]:
    """Store every key after a while."""
    del keys
    await turns(50)
    return ()


async def test_the_next_body_is_read_while_one_is_on_its_way_and_no_second_one_is(harness: WriterHarness) -> None:
    async def waits_for_the_next_to_be_read(keys: list[str]) -> Sequence[str]:
        following = "abcdef"[len(harness.remote.sent) * 2 :][:2]
        await until(lambda: set(following) <= set(harness.reads))
        await turns(20)
        assert len(harness.reads) <= 2 * len(harness.remote.sent) + 3, (
            "one body is read ahead, and the pair that shows it"
        )
        del keys
        return ()

    harness.remote.answer = waits_for_the_next_to_be_read
    await harness.write("abcdef")
    assert harness.remote.sent == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert harness.remote.most_under_way == 1
    assert harness.done() == "abcdef"


async def test_outcomes_of_a_body_are_reported_while_the_next_is_under_construction(harness: WriterHarness) -> None:
    async def waits_for_the_first_body(put: Put) -> bytes:
        if put.key == "d":
            await until(lambda: harness.done() == "ab")
        return await harness.whole(put)

    harness.read = waits_for_the_first_body
    await harness.write("abcd")
    assert harness.done() == "abcd"


@pytest.mark.parametrize("pairs", [3, 100])
async def test_two_bodies_together_stay_within_the_limit_of_one(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    """The limit in bytes allows four pairs."""
    await harness.write("x")
    one = harness.remote.sizes.pop() - len("[]") + len(",")
    most = 4 * one + len("[][]")
    monkeypatch.setattr(writing, "BULK_PAIRS", pairs)
    may_hold(monkeypatch, most)
    held: list[int] = []

    async def counts(put: Put) -> bytes:
        # Earlier files are encoded by now: under way, under construction, or stored.
        waiting = (
            set(harness.reads[:-1])
            - set(harness.remote.times)
            - set(harness.remote.sent[-1] if harness.remote.held else ())
        )
        held.append(harness.remote.held + len(waiting) * one)
        return await harness.whole(put)

    harness.read, harness.remote.answer = counts, takes_its_time
    harness.remote.sent.clear()
    await harness.write("abcdefghijkl")
    bodies_of = min(pairs, 4)
    assert [len(keys) for keys in harness.remote.sent] == [bodies_of] * (12 // bodies_of)
    assert max(held) <= most
    assert harness.done() == "xabcdefghijkl"


async def test_unsuccessful_keys_are_sent_again_a_second_later_before_the_next_body(harness: WriterHarness) -> None:
    async def not_a(keys: list[str]) -> Sequence[str]:
        await turns(20)
        return ["a"] if keys == ["a", "b"] else ()

    harness.remote.answer = not_a
    await harness.write("abcdef")
    assert harness.remote.sent == [["a", "b"], ["a"], ["c", "d"], ["e", "f"]]
    first, second = harness.remote.times["a"]
    assert second - first >= KEY_REST_S
    assert harness.done() == "abcdef"
    assert len(harness.reported) == 6


async def test_if_the_remote_stores_nothing_each_put_fails_once_after_few_tries(harness: WriterHarness) -> None:
    async def none_stored(keys: list[str]) -> Sequence[str]:
        return keys

    harness.remote.answer = none_stored
    await harness.write("abcdefgh")
    assert Counter(action.key for action, _ in harness.reported) == Counter("abcdefgh")
    assert {type(outcome) for _, outcome in harness.reported} == {Retry}
    assert max(Counter(key for keys in harness.remote.sent for key in keys).values()) == TRIES
    for times in harness.remote.times.values():
        assert min(later - earlier for earlier, later in pairwise(times)) >= KEY_REST_S


@pytest.mark.parametrize("unstored", [False, True], ids=["stored", "stored at the second try"])
@pytest.mark.parametrize("keys", ["aabc", "abac", "abcda", "abcdea"])
async def test_of_two_puts_of_one_key_the_later_counts(harness: WriterHarness, keys: str, unstored: bool) -> None:
    async def a_is_refused_once(keys: list[str]) -> Sequence[str]:
        await turns(20)
        return ["a"] if unstored and "a" in keys and not harness.remote.times["a"] else ()

    harness.remote.answer = a_is_refused_once
    await harness.write([new(key, f"{place}") for place, key in enumerate(keys)])
    assert all(len(set(each)) == len(each) for each in harness.remote.sent)
    assert f'"value":"{keys.rindex("a")}"'.encode() in harness.remote.values["a"]
    for earlier, later in pairwise(harness.remote.times["a"]):
        assert later - earlier >= KEY_REST_S
    assert sorted(action.key for action, _ in harness.reported) == sorted(keys)


async def test_a_value_sent_alone_waits_for_the_body_under_way(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "BULK_VALUE", 3)

    harness.remote.answer = takes_its_time
    await harness.write([new(key, "large" if key == "d" else key) for key in "abcde"])
    assert harness.remote.sent == [["a", "b"], ["d"], ["c", "e"]]
    assert harness.remote.most_under_way == 1
    assert harness.remote.values["d"] == b"large"
    assert harness.done() == "abdce"


@pytest.mark.parametrize("error", [Halt("no more"), Unreachable("nobody there")], ids=["halt", "unreachable"])
async def test_a_halt_is_raised_at_once_although_a_file_is_being_read(
    harness: WriterHarness, error: SyncdError
) -> None:
    async def hangs(put: Put) -> bytes:
        if put.key == "f":
            await asyncio.Event().wait()
        return await harness.whole(put)

    async def the_second_fails(keys: list[str]) -> Sequence[str]:
        if keys == ["c", "d"]:
            await until(lambda: "f" in harness.reads)
            raise error
        return ()

    harness.read, harness.remote.answer = hangs, the_second_fails
    with pytest.raises(type(error)) as raised:
        await harness.write("abcdef")
    assert raised.value is error
    assert harness.done() == "ab"
    assert len(harness.reported) == 2


@pytest.mark.parametrize("error", [Halt("no more"), asyncio.CancelledError()], ids=["halt", "cancelled"])
async def test_an_error_of_reading_ends_the_request_under_way(harness: WriterHarness, error: BaseException) -> None:
    async def stops(put: Put) -> bytes:
        if put.key == "f":
            await until(lambda: harness.remote.under_way == 1 and len(harness.remote.sent) == 2)
            raise error
        return await harness.whole(put)

    async def the_second_hangs(keys: list[str]) -> Sequence[str]:
        if keys == ["c", "d"]:
            await asyncio.Event().wait()
        return ()

    harness.read, harness.remote.answer = stops, the_second_hangs
    with pytest.raises(type(error)) as raised:
        await harness.write("abcdef")
    assert raised.value is error
    assert harness.remote.cancelled == 1
    assert harness.done() == "ab"


async def test_an_answer_that_has_arrived_is_reported_though_the_reading_stops(harness: WriterHarness) -> None:
    answered = asyncio.Event()

    async def stops(put: Put) -> bytes:
        if put.key == "d":
            await answered.wait()
            await turns(3)
            raise Halt("no more")
        return await harness.whole(put)

    async def answers(keys: list[str]) -> Sequence[str]:
        del keys
        answered.set()
        return ()

    harness.read, harness.remote.answer = stops, answers
    with pytest.raises(Halt):
        await harness.write("abcd")
    assert harness.done() == "ab"


async def test_a_cancellation_ends_the_request_under_way(harness: WriterHarness) -> None:
    async def hangs(keys: list[str]) -> Sequence[str]:
        del keys
        await asyncio.Event().wait()
        return ()

    harness.remote.answer = hangs
    writing = asyncio.create_task(harness.write("abcd"))
    await until(lambda: harness.remote.under_way == 1 and len(harness.reads) == 4)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert harness.remote.cancelled == 1
    assert harness.reported == []


async def test_an_error_of_recording_ends_the_writing(harness: WriterHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(outcomes: Mapping[Put | Delete, Outcome]) -> None:
        raise OSError(next(iter(outcomes)).key)

    monkeypatch.setattr(harness, "report", report)
    with pytest.raises(OSError, match="a"):
        await harness.write("abcdefgh")
    assert len(harness.remote.sent) == 1


async def test_puts_that_are_not_sent_are_reported_while_a_body_is_on_its_way(harness: WriterHarness) -> None:
    outcomes = {"d": Deferred("d"), "e": FileChanged("it changed"), "f": Park("unreadable", "it cannot be read")}

    async def raises(put: Put) -> bytes:
        if put.key in outcomes:
            await until(lambda: harness.remote.under_way == 1)
            raise outcomes[put.key]
        return await harness.whole(put)

    async def waits_for_these(keys: list[str]) -> Sequence[str]:
        if keys == ["a", "b"]:
            await until(lambda: [action.key for action, _ in harness.reported] == ["d", "e", "f"])
        return ()

    harness.read, harness.remote.answer = raises, waits_for_these
    await harness.write("abcdef")
    assert [action.key for action, _ in harness.reported] == ["d", "e", "f", "a", "b", "c"]
    assert {action.key: outcome for action, outcome in harness.reported if action.key in outcomes} == outcomes
    assert harness.remote.sent == [["a", "b"], ["c"]]


@pytest.mark.parametrize("seed", range(40))
async def test_each_put_is_reported_once_and_no_body_is_held_or_sent_twice(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(writing, "BULK_PAIRS", chance.randint(1, 5))
    most = chance.choice([500, 800, 2000])
    may_hold(monkeypatch, most)
    bad = chance.random() * 0.8

    async def reads(put: Put) -> bytes:
        await turns(chance.randint(0, 3))
        if chance.random() < 0.1:
            raise FileChanged("it changed")
        return put.path.encode() * chance.randint(1, 50)

    async def loses_some(keys: list[str]) -> Sequence[str]:
        await turns(chance.randint(0, 30))
        harness.remote.clock.now += chance.random()
        return [key for key in keys if chance.random() < bad]

    harness.read, harness.remote.answer = reads, loses_some
    puts = [new(chance.choice("abcdefghijklmnopqrstuvwxyz"), f"{place}") for place in range(chance.randint(1, 40))]
    await harness.write(puts)
    assert Counter(action for action, _ in harness.reported) == Counter(puts)
    assert harness.remote.most_under_way <= 1
    assert max(harness.remote.sizes, default=0) <= most
    for times in harness.remote.times.values():
        assert all(later - earlier >= KEY_REST_S - 1e-6 for earlier, later in pairwise(times))
    stored = {action.key: outcome.stored for action, outcome in harness.reported if isinstance(outcome, Done)}
    for key, last in stored.items():
        assert last is not None
        assert last.checksum.encode() in harness.remote.values[key], "the remote has the content of the last report"


@pytest.mark.parametrize(
    ("sizes", "groups"),
    [
        ([1] * 3, [3]),
        ([1] * 4, [3, 1]),
        ([1] * 7, [3, 3, 1]),
        ([50, 50, 1], [2, 1]),
        ([50, 51], [1, 1]),
        ([1, 101, 1], [1, 1, 1]),
    ],
)
async def test_files_are_read_in_groups_of_bounded_number_and_size(
    harness: WriterHarness, monkeypatch: pytest.MonkeyPatch, sizes: list[int], groups: list[int]
) -> None:
    monkeypatch.setattr(writing, "READ_FILES", 3)
    monkeypatch.setattr(writing, "READ_BYTES", 100)
    read: list[int] = []

    async def counted(puts: Sequence[Put]) -> list[Content | SyncdError]:
        read.append(len(puts))
        return [FileChanged("it changed") for _ in puts]

    puts = [Put(f"{number}", "new", f"{number}", size) for number, size in enumerate(sizes)]
    await harness.writer.write(puts, counted, harness.report)
    assert read == groups
    assert [action for action, _ in harness.reported] == puts
