from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.model import Action, Adopt, Delete, Entry, Forget, Put
from syncd.state.db import open_state
from syncd.state.pass_tables import Spill


@pytest.fixture
def spills(tmp_path: Path) -> Iterator[tuple[Spill, Spill]]:
    with closing(open_state(tmp_path)) as db:
        yield Spill(db, 1), Spill(db, 2)


@pytest.fixture
def spill(spills: tuple[Spill, Spill]) -> Spill:
    return spills[0]


ADOPT = Adopt("a", "found", "r", "c", 3, "v", 4, marked=True, status="error", error="why")
PUT, DELETE, FORGET = Put("b", "new", "path/b", 5), Delete("c", "stale", "path/c", "rc"), Forget("d", "gone")


def test_entries_come_back_as_they_went_in_by_ranges_of_keys(spill: Spill) -> None:
    full = Entry("b", "r", "c", "v", 7, "me", marked=True, status="queued", error="why")
    entries = [Entry("\U0001f600", "1"), full, Entry("a/b", "2", marked=False), Entry("a.b", "3")]
    spill.list_entries(entries)
    assert list(spill.entries("", None)) == ["a.b", "a/b", "b", "\U0001f600"]
    assert spill.entries("a/b", "b") == {"b": [full]}
    assert spill.entries("b", None) == {"\U0001f600": [entries[0]]}


def test_what_a_stranger_wrote_into_an_entry_is_kept_whatever_it_is(spill: Spill) -> None:
    strange = Entry("a", "1", checksum="\ud800", size=10**30, owner="\0", marked=False)
    spill.list_entries([strange])
    assert spill.entries("", None) == {"a": [strange]}


def test_a_row_listed_twice_is_one_and_two_refs_are_two(spill: Spill) -> None:
    spill.list_entries([Entry("a", "1", version="old"), Entry("a", "2")])
    spill.list_entries([Entry("a", "1", version="new")])
    assert spill.entries("", None) == {"a": [Entry("a", "1", version="new"), Entry("a", "2")]}


def test_the_nth_entry_after_a_key_bounds_a_block(spill: Spill) -> None:
    spill.list_entries([Entry(key, "1") for key in "abcd"])
    assert spill.entry_key("", 1) == "a"
    assert spill.entry_key("a", 3) == "d"
    assert spill.entry_key("a", 4) is None


def test_actions_come_back_as_they_went_in_with_their_outcomes(spill: Spill) -> None:
    plan: list[Action] = [DELETE, PUT, FORGET, ADOPT]
    spill.plan(plan)
    (((seq, action),),) = spill.turns("put")
    assert action == PUT
    spill.outcome(seq, "put", "done")
    assert list(spill.actions()) == [(ADOPT, None), (FORGET, None), (PUT, "done"), (DELETE, None)]
    assert dict(spill.planned) == {"delete": 1, "put": 1, "forget": 1, "adopt": 1}


@pytest.mark.parametrize(
    "action",
    [
        Put("f.md", "changed", "f.md", 2**62, "r"),
        Delete("\ud800", "orphan", "\udc80", "\0", "c", "orphan", "\U0001f600"),
    ],
)
def test_large_sizes_and_odd_names_come_back_as_they_went_in(spill: Spill, action: Put | Delete) -> None:
    spill.plan([action])
    (((_, back),),) = spill.turns(action.kind)
    assert repr(back) == repr(action)


@pytest.mark.parametrize(
    ("number", "turns"), [(0, []), (255, [255]), (256, [256]), (257, [256, 1]), (513, [256, 256, 1])]
)
def test_turns_hold_at_most_256_actions(spill: Spill, number: int, turns: list[int]) -> None:
    spill.plan([Put(f"{n:04}", "new", "p", 1) for n in range(number)])
    taken = list(spill.turns("put"))
    assert [len(turn) for turn in taken] == turns
    assert [action.key for turn in taken for _, action in turn] == [f"{n:04}" for n in range(number)]


def test_deletes_can_be_taken_out(spill: Spill) -> None:
    spill.plan([PUT, DELETE])
    spill.unplan_deletes()
    assert list(spill.turns("delete")) == []
    assert dict(spill.planned) == {"put": 1}
    spill.unplan_deletes()


def test_the_first_few_are_named(spill: Spill) -> None:
    spill.plan([PUT, DELETE, Delete("e", "stale", "e", "re")])
    assert [action.key for action in spill.first("delete", 1)] == ["c"]
    assert spill.first("adopt", 3) == []


def test_passes_do_not_see_each_other_and_end_alone(spills: tuple[Spill, Spill]) -> None:
    one, two = spills
    for spill in spills:
        spill.list_entries([Entry("a", "1")])
        spill.plan([PUT])
    one.drop()
    assert one.entries("", None) == {}
    assert list(one.actions()) == []
    assert len(two.entries("", None)) == 1
    assert len(list(two.actions())) == 1
