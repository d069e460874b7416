"""While one body of a KV bulk is on its way, the next is put together; what goes wrong meanwhile loses nothing."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

import pytest

from syncd.core.errors import Deferred, FileChanged, Halt, Park, SyncdError, Unreachable
from syncd.core.model import Content, Delete, Put
from syncd.targets.base import Done, Outcome
from syncd.targets.kv import bulk, writing
from syncd.targets.kv.bulk import TRIES, NotStored
from syncd.targets.kv.writing import KEY_REST_S
from tests.unit.targets.harness_bulk import Room, may_hold, new, turns, until


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """With bodies of two pairs, and files read one at a time."""
    monkeypatch.setattr(bulk, "BULK_PAIRS", 2)
    monkeypatch.setattr(writing, "READ_FILES", 1)
    return Room()


async def test_the_next_body_is_read_while_one_is_on_its_way_and_no_second_one_is(room: Room) -> None:
    async def waits_for_the_next_to_be_read(keys: list[str]) -> Sequence[str]:
        following = "abcdef"[len(room.remote.sent) * 2 :][:2]
        await until(lambda: set(following) <= set(room.reads))
        await turns(20)
        assert len(room.reads) <= 2 * len(room.remote.sent) + 3, "one body is read ahead, and the pair that shows it"
        del keys
        return ()

    room.remote.answer = waits_for_the_next_to_be_read
    await room.write("abcdef")
    assert room.remote.sent == [["a", "b"], ["c", "d"], ["e", "f"]]
    assert room.remote.most_under_way == 1
    assert room.done() == "abcdef"


async def test_what_is_reported_of_a_body_is_reported_while_the_next_is_put_together(room: Room) -> None:
    async def waits_for_the_first_body(put: Put) -> bytes:
        if put.key == "d":
            await until(lambda: room.done() == "ab")
        return await room.whole(put)

    room.read = waits_for_the_first_body
    await room.write("abcd")
    assert room.done() == "abcd"


@pytest.mark.parametrize("pairs", [3, 100])
async def test_both_bodies_together_hold_what_one_may_hold(
    room: Room, monkeypatch: pytest.MonkeyPatch, pairs: int
) -> None:
    """By bytes four pairs have room."""
    await room.write("x")
    one = room.remote.sizes.pop() - len("[]") + len(",")
    most = 4 * one + len("[][]")
    monkeypatch.setattr(bulk, "BULK_PAIRS", pairs)
    may_hold(monkeypatch, most)
    held: list[int] = []

    async def counts(put: Put) -> bytes:
        # What was read before this one is encoded by now: it is on its way, under construction, or stored.
        waiting = set(room.reads[:-1]) - set(room.remote.times) - set(room.remote.sent[-1] if room.remote.held else ())
        held.append(room.remote.held + len(waiting) * one)
        return await room.whole(put)

    async def takes_its_time(keys: list[str]) -> Sequence[str]:
        del keys
        await turns(50)
        return ()

    room.read, room.remote.answer = counts, takes_its_time
    room.remote.sent.clear()
    await room.write("abcdefghijkl")
    bodies_of = min(pairs, 4)
    assert [len(keys) for keys in room.remote.sent] == [bodies_of] * (12 // bodies_of)
    assert max(held) <= most
    assert room.done() == "xabcdefghijkl"


async def test_what_was_not_stored_goes_with_the_body_after_the_next_a_second_later(room: Room) -> None:
    async def not_a(keys: list[str]) -> Sequence[str]:
        await turns(20)
        return ["a"] if keys == ["a", "b"] else ()

    room.remote.answer = not_a
    await room.write("abcdef")
    assert room.remote.sent == [["a", "b"], ["c", "d"], ["a", "e"], ["f"]]
    first, second = room.remote.times["a"]
    assert second - first >= KEY_REST_S
    assert sorted(room.done()) == list("abcdef")
    assert len(room.reported) == 6


async def test_what_was_not_stored_goes_with_the_last_body_if_it_has_room(room: Room) -> None:
    async def not_a(keys: list[str]) -> Sequence[str]:
        return ["a"] if keys == ["a", "b"] else ()

    room.remote.answer = not_a
    await room.write("abc")
    assert room.remote.sent == [["a", "b"], ["c", "a"]]
    assert room.done() == "bca"


async def test_where_nothing_is_ever_stored_each_put_fails_once_after_few_tries(room: Room) -> None:
    async def none_stored(keys: list[str]) -> Sequence[str]:
        return keys

    room.remote.answer = none_stored
    await room.write("abcdefgh")
    assert Counter(action.key for action, _ in room.reported) == Counter("abcdefgh")
    assert {type(outcome) for _, outcome in room.reported} == {NotStored}
    assert max(Counter(key for keys in room.remote.sent for key in keys).values()) <= TRIES + 2
    for times in room.remote.times.values():
        assert min(later - earlier for earlier, later in pairwise(times)) >= KEY_REST_S


@pytest.mark.parametrize("unstored", [False, True], ids=["stored", "stored at the second try"])
@pytest.mark.parametrize("keys", ["aabc", "abac", "abcda", "abcdea"])
async def test_of_two_puts_of_one_key_the_later_counts(room: Room, keys: str, unstored: bool) -> None:
    async def a_is_refused_once(keys: list[str]) -> Sequence[str]:
        await turns(20)
        return ["a"] if unstored and "a" in keys and not room.remote.times["a"] else ()

    room.remote.answer = a_is_refused_once
    await room.write([new(key, f"{place}") for place, key in enumerate(keys)])
    assert all(len(set(each)) == len(each) for each in room.remote.sent)
    assert f'"value":"{keys.rindex("a")}"'.encode() in room.remote.values["a"]
    for earlier, later in pairwise(room.remote.times["a"]):
        assert later - earlier >= KEY_REST_S
    assert sorted(action.key for action, _ in room.reported) == sorted(keys)


async def test_what_goes_alone_waits_for_the_body_on_its_way(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BULK_VALUE", 3)

    async def takes_its_time(keys: list[str]) -> Sequence[str]:
        del keys
        await turns(50)
        return ()

    room.remote.answer = takes_its_time
    await room.write([new(key, "large" if key == "d" else key) for key in "abcde"])
    assert room.remote.sent == [["a", "b"], ["d"], ["c", "e"]]
    assert room.remote.most_under_way == 1
    assert room.remote.values["d"] == b"large"
    assert room.done() == "abdce"


@pytest.mark.parametrize("error", [Halt("no more"), Unreachable("nobody there")], ids=["halt", "unreachable"])
async def test_what_stops_everything_comes_out_at_once_though_a_file_is_being_read(
    room: Room, error: SyncdError
) -> None:
    async def hangs(put: Put) -> bytes:
        if put.key == "f":
            await asyncio.Event().wait()
        return await room.whole(put)

    async def the_second_fails(keys: list[str]) -> Sequence[str]:
        if keys == ["c", "d"]:
            await until(lambda: "f" in room.reads)
            raise error
        return ()

    room.read, room.remote.answer = hangs, the_second_fails
    with pytest.raises(type(error)) as raised:
        await room.write("abcdef")
    assert raised.value is error
    assert room.done() == "ab"
    assert len(room.reported) == 2


@pytest.mark.parametrize("error", [Halt("no more"), asyncio.CancelledError()], ids=["halt", "cancelled"])
async def test_what_stops_the_reading_ends_the_request_on_its_way(room: Room, error: BaseException) -> None:
    async def stops(put: Put) -> bytes:
        if put.key == "f":
            await until(lambda: room.remote.under_way == 1 and len(room.remote.sent) == 2)
            raise error
        return await room.whole(put)

    async def the_second_hangs(keys: list[str]) -> Sequence[str]:
        if keys == ["c", "d"]:
            await asyncio.Event().wait()
        return ()

    room.read, room.remote.answer = stops, the_second_hangs
    with pytest.raises(type(error)) as raised:
        await room.write("abcdef")
    assert raised.value is error
    assert room.remote.cancelled == 1
    assert room.done() == "ab"


async def test_an_answer_that_has_arrived_is_reported_though_the_reading_stops(room: Room) -> None:
    answered = asyncio.Event()

    async def stops(put: Put) -> bytes:
        if put.key == "d":
            await answered.wait()
            await turns(3)
            raise Halt("no more")
        return await room.whole(put)

    async def answers(keys: list[str]) -> Sequence[str]:
        del keys
        answered.set()
        return ()

    room.read, room.remote.answer = stops, answers
    with pytest.raises(Halt):
        await room.write("abcd")
    assert room.done() == "ab"


async def test_whoever_ends_the_writing_ends_the_request_on_its_way(room: Room) -> None:
    async def hangs(keys: list[str]) -> Sequence[str]:
        del keys
        await asyncio.Event().wait()
        return ()

    room.remote.answer = hangs
    writing = asyncio.create_task(room.write("abcd"))
    await until(lambda: room.remote.under_way == 1 and len(room.reads) == 4)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert room.remote.cancelled == 1
    assert room.reported == []


async def test_what_cannot_be_recorded_ends_the_writing(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    def report(outcomes: Mapping[Put | Delete, Outcome]) -> None:
        raise OSError(next(iter(outcomes)).key)

    monkeypatch.setattr(room, "report", report)
    with pytest.raises(OSError, match="a"):
        await room.write("abcdefgh")
    assert len(room.remote.sent) == 1


async def test_puts_that_are_not_sent_are_reported_while_a_body_is_on_its_way(room: Room) -> None:
    outcomes = {"d": Deferred("d"), "e": FileChanged("it changed"), "f": Park("unreadable", "it cannot be read")}

    async def raises(put: Put) -> bytes:
        if put.key in outcomes:
            await until(lambda: room.remote.under_way == 1)
            raise outcomes[put.key]
        return await room.whole(put)

    async def waits_for_these(keys: list[str]) -> Sequence[str]:
        if keys == ["a", "b"]:
            await until(lambda: [action.key for action, _ in room.reported] == ["d", "e", "f"])
        return ()

    room.read, room.remote.answer = raises, waits_for_these
    await room.write("abcdef")
    assert [action.key for action, _ in room.reported] == ["d", "e", "f", "a", "b", "c"]
    assert {action.key: outcome for action, outcome in room.reported if action.key in outcomes} == outcomes
    assert room.remote.sent == [["a", "b"], ["c"]]


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_happens_each_put_is_reported_once_and_nothing_is_held_or_sent_twice(
    room: Room, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(bulk, "BULK_PAIRS", chance.randint(1, 5))
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
        room.remote.clock.now += chance.random()
        return [key for key in keys if chance.random() < bad]

    room.read, room.remote.answer = reads, loses_some
    puts = [new(chance.choice("abcdefghijklmnopqrstuvwxyz"), f"{place}") for place in range(chance.randint(1, 40))]
    await room.write(puts)
    assert Counter(action for action, _ in room.reported) == Counter(puts)
    assert room.remote.most_under_way <= 1
    assert max(room.remote.sizes, default=0) <= most
    for times in room.remote.times.values():
        assert all(later - earlier >= KEY_REST_S - 1e-6 for earlier, later in pairwise(times))
    stored = {action.key: outcome.stored for action, outcome in room.reported if isinstance(outcome, Done)}
    for key, last in stored.items():
        assert last is not None
        assert last.checksum.encode() in room.remote.values[key], "what was reported last is what is there"


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
    room: Room, monkeypatch: pytest.MonkeyPatch, sizes: list[int], groups: list[int]
) -> None:
    monkeypatch.setattr(writing, "READ_FILES", 3)
    monkeypatch.setattr(writing, "READ_BYTES", 100)
    read: list[int] = []

    async def counted(puts: Sequence[Put]) -> list[Content | SyncdError]:
        read.append(len(puts))
        return [FileChanged("it changed") for _ in puts]

    puts = [Put(f"{number}", "new", f"{number}", size) for number, size in enumerate(sizes)]
    await room.writer.write(puts, counted, room.report)
    assert read == groups
    assert [action for action, _ in room.reported] == puts
