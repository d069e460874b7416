from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.keys import LAST
from syncd.core.model import Action, Adopt, Delete, Entry, Excluded, Forget, Item, Problem, Put
from syncd.state.db import open_state
from syncd.state.pass_tables import ChangeQuery, KeyRow, PassTables


@pytest.fixture
def spills(tmp_path: Path) -> Iterator[tuple[PassTables, PassTables]]:
    with closing(open_state(tmp_path)) as db:
        yield PassTables(db, 1), PassTables(db, 2)


@pytest.fixture
def tables(spills: tuple[PassTables, PassTables]) -> PassTables:
    return spills[0]


ADOPT = Adopt("a", "found", "r", "c", 3, "v", 4, marked=True, status="error", error="why")
PUT, DELETE, FORGET = Put("b", "new", "path/b", 5), Delete("c", "stale", "path/c", "rc"), Forget("d", "gone")


def test_entries_come_back_as_they_went_in_by_key(tables: PassTables) -> None:
    full = Entry("b", "r", "c", "v", 7, "me", marked=True, status="queued", error="why")
    entries = [Entry("\U0001f600", "1"), full, Entry("a/b", "2", marked=False), Entry("a.b", "3")]
    tables.remote.add(entries)
    assert list(tables.remote.entries([entry.key for entry in entries])) == ["a.b", "a/b", "b", "\U0001f600"]
    assert tables.remote.entries(["b"]) == {"b": [full]}
    assert tables.remote.entries(["\U0001f600", "c"]) == {"\U0001f600": [entries[0]]}


def test_any_value_of_a_foreign_entry_is_kept(tables: PassTables) -> None:
    strange = Entry("a", "1", checksum="\ud800", size=10**30, owner="\0", marked=False)
    tables.remote.add([strange])
    assert tables.remote.entries(["a"]) == {"a": [strange]}


def test_a_row_listed_twice_is_one_and_two_refs_are_two(tables: PassTables) -> None:
    tables.remote.add([Entry("a", "1", version="old"), Entry("a", "2")])
    tables.remote.add([Entry("a", "1", version="new")])
    assert tables.remote.entries(["a"]) == {"a": [Entry("a", "1", version="new"), Entry("a", "2")]}


def test_changed_keys_come_back_as_they_went_in(tables: PassTables) -> None:
    file = Item("b", "path/b", 5, 6, 7, 8)
    unusable: list[tuple[str, Excluded | Problem]] = [
        ("a", Excluded("path/a", "*.tmp")),
        ("c", Problem("path/c", "unreadable", "no permission")),
    ]
    tables.local.add([file])
    tables.local.add_unusable(unusable)
    query = ChangeQuery("docs", "me", "", LAST, listed=False, cached=True, now=0.0, lag_s=-1.0, renew_s=1e9)
    before, after = [KeyRow(key, local, None) for key, local in unusable]
    assert [row for page in tables.changed(query) for row in page] == [before, KeyRow("b", file, None), after]


def test_actions_come_back_as_they_went_in_with_their_outcomes(tables: PassTables) -> None:
    plan: list[Action] = [DELETE, PUT, FORGET, ADOPT]
    tables.plan.add(plan)
    (((seq, action),),) = tables.plan.batches("put")
    assert action == PUT
    tables.plan.set_outcome(seq, "put", "done")
    assert list(tables.plan.actions()) == [(ADOPT, None), (FORGET, None), (PUT, "done"), (DELETE, None)]
    assert dict(tables.plan.counts) == {"delete": 1, "put": 1, "forget": 1, "adopt": 1}


@pytest.mark.parametrize(
    "action",
    [
        Put("f.md", "changed", "f.md", 2**62, "r"),
        Delete("\ud800", "orphan", "\udc80", "\0", "c", "orphan", "\U0001f600"),
    ],
)
def test_large_sizes_and_odd_names_come_back_as_they_went_in(tables: PassTables, action: Put | Delete) -> None:
    tables.plan.add([action])
    (((_, back),),) = tables.plan.batches(action.kind)
    assert repr(back) == repr(action)


@pytest.mark.parametrize(
    ("number", "turns"), [(0, []), (255, [255]), (256, [256]), (257, [256, 1]), (513, [256, 256, 1])]
)
def test_batches_hold_at_most_256_actions(tables: PassTables, number: int, turns: list[int]) -> None:
    tables.plan.add([Put(f"{n:04}", "new", "p", 1) for n in range(number)])
    taken = list(tables.plan.batches("put"))
    assert [len(turn) for turn in taken] == turns
    assert [action.key for turn in taken for _, action in turn] == [f"{n:04}" for n in range(number)]


def test_deletes_can_be_taken_out(tables: PassTables) -> None:
    tables.plan.add([PUT, DELETE])
    tables.plan.remove_deletes()
    assert list(tables.plan.batches("delete")) == []
    assert dict(tables.plan.counts) == {"put": 1}
    tables.plan.remove_deletes()


def test_the_first_few_are_named(tables: PassTables) -> None:
    tables.plan.add([PUT, DELETE, Delete("e", "stale", "e", "re")])
    assert [action.key for action in tables.plan.first_deletes(1)] == ["c"]


def test_passes_do_not_see_each_other_and_end_alone(spills: tuple[PassTables, PassTables]) -> None:
    one, two = spills
    for tables in spills:
        tables.remote.add([Entry("a", "1")])
        tables.plan.add([PUT])
    one.drop()
    assert one.remote.entries(["a"]) == {}
    assert list(one.plan.actions()) == []
    assert len(two.remote.entries(["a"])) == 1
    assert len(list(two.plan.actions())) == 1
