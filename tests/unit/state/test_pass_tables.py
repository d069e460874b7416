import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from syncd.core.keys import LAST
from syncd.core.model import Action, Adopt, Delete, Entry, Excluded, Forget, Item, Problem, Put, Record
from syncd.state.db import open_state
from syncd.state.journal import Journal
from syncd.state.pass_tables import ChangeQuery, KeyRow, PassTables, Summary


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


RECORD = Record("d", "r1", "c1", 3, 1000.0, "v1", 3, marked=True, status="queued", error="why", pass_id=7)
QUERY = ChangeQuery(
    mirror="docs", owner="me", first="", last=LAST, listed=True, cached=True, now=2000.0, lag_s=-1.0, renew_s=math.inf
)


def test_a_changed_key_comes_with_its_file_and_its_record(tables: PassTables) -> None:
    items = [Item("a", "path/a", 1, 2, 3, 4), Item("e", "path/e", 5, 6, 7, 8)]
    tables.local.add(items)
    tables.local.add_unusable([("b", Problem("shown b", "unreadable", "why")), ("c", Excluded("shown c", "rule"))])
    tables._db.execute("INSERT INTO file VALUES ('docs', 'e', 5, 6, 7, 8, 'sum')")
    Journal(tables._db, "docs").put(RECORD)
    assert [row for page in tables.changed(QUERY) for row in page] == [
        KeyRow("a", items[0], None),
        KeyRow("b", Problem("shown b", "unreadable", "why"), None),
        KeyRow("c", Excluded("shown c", "rule"), None),
        KeyRow("d", None, RECORD),
        KeyRow("e", items[1]._replace(checksum="sum"), None),
    ]
    assert tables.local.files == 2


IN_STEP = Entry("d", "r1", "c1", "v1", 3, "me", marked=True, status="queued", error="why")


@pytest.mark.parametrize(
    ("entry", "query", "changed"),
    [
        (IN_STEP, QUERY, False),
        (Entry("d", "r1", error="why"), QUERY, False),
        (IN_STEP._replace(ref="r2"), QUERY, True),
        (IN_STEP._replace(checksum="c2"), QUERY, True),
        (IN_STEP._replace(version="v2"), QUERY, True),
        (IN_STEP._replace(size=4), QUERY, True),
        (IN_STEP._replace(owner="you"), QUERY, True),
        (IN_STEP._replace(marked=False), QUERY, True),
        (IN_STEP._replace(status="completed"), QUERY, True),
        (IN_STEP._replace(error=None), QUERY, True),
        (IN_STEP, QUERY._replace(cached=False), True),
        (IN_STEP, QUERY._replace(lag_s=999.0), False),
        (IN_STEP, QUERY._replace(lag_s=1000.0), True),
        (IN_STEP, QUERY._replace(renew_s=1001.0), False),
        (IN_STEP, QUERY._replace(renew_s=1000.0), True),
        (IN_STEP, QUERY._replace(now=0.0, renew_s=1000.0), True),
    ],
)
def test_a_key_is_in_step_only_if_nothing_differs(
    tables: PassTables, entry: Entry, query: ChangeQuery, *, changed: bool
) -> None:
    tables.local.add([Item("d", "d", 5, 6, 7, 8)])
    tables._db.execute("INSERT INTO file VALUES ('docs', 'd', 5, 6, 7, 8, 'c1')")
    Journal(tables._db, "docs").put(RECORD)
    tables.remote.add([entry])
    assert [row.key for page in tables.changed(query) for row in page] == (["d"] if changed else [])


@pytest.mark.parametrize(
    ("entry", "written_at", "summary"),
    [
        (IN_STEP, 1000.0, Summary(1, 1, 0, 0, 0)),
        (IN_STEP._replace(status="error"), 1000.0, Summary(1, 1, 0, 0, 0)),
        (IN_STEP._replace(version="v2"), 1000.0, Summary(1, 0, 0, 0, 0)),
        (IN_STEP._replace(checksum="c2"), 1000.0, Summary(1, 0, 0, 0, 0)),
        (IN_STEP._replace(version="v2"), 1500.0, Summary(1, 1, 1, 0, 0)),
        (IN_STEP, 2000.0, Summary(1, 1, 1, 0, 0)),
        (IN_STEP, 2001.0, Summary(1, 1, 0, 0, 0)),
        (IN_STEP._replace(ref="deleted"), 1000.0, Summary(0, 0, 0, 1, 0)),
        (IN_STEP._replace(ref="r2"), 1000.0, Summary(0, 0, 0, 0, 1)),
        (IN_STEP._replace(ref="r2", prefix="p/"), 1000.0, Summary(0, 0, 0, 0, 1)),
        (IN_STEP._replace(ref="r2", prefix="q/"), 1000.0, Summary(0, 0, 0, 0, 0)),
        (IN_STEP._replace(ref="r2", owner="you"), 1000.0, Summary(0, 0, 0, 0, 0)),
        (IN_STEP._replace(ref="r2", owner=None), 1000.0, Summary(0, 0, 0, 0, 0)),
        (IN_STEP._replace(ref="r2", owner="\ud800"), 1000.0, Summary(0, 0, 0, 0, 1)),
    ],
)
def test_the_summary_counts_listed_entries_by_their_records(
    tables: PassTables, entry: Entry, written_at: float, summary: Summary
) -> None:
    journal = Journal(tables._db, "docs")
    journal.tombstones.record_delete("d", "deleted", 1000.0, consented=False)
    journal.put(replace(RECORD, written_at=written_at))
    tables.remote.add([entry])
    assert tables.remote.summary("docs", "me", "p/", started=1500.0, now=2000.0) == summary


def test_the_plan_counts_what_it_holds_and_names_unfinished_puts(spills: tuple[PassTables, PassTables]) -> None:
    one, two = spills
    puts = [Put(key, "new", key, size) for key, size in [("a", 1), ("b", 2), ("c", 4), ("d", 8)]]
    one.plan.add([*puts, DELETE])
    two.plan.add([Put("e", "new", "e", 16)])
    (rows,) = one.plan.batches("put")
    for (seq, _), outcome in zip(rows, ["done", "again", "failed"], strict=False):
        one.plan.set_outcome(seq, "put", outcome)
    assert (one.plan.put_bytes, two.plan.put_bytes) == (15, 16)
    assert sorted(one.plan.unfinished_puts()) == [("b", 2), ("c", 4), ("d", 8), ("e", 16)]
    assert sorted(two.plan.unfinished_puts()) == [("d", 8), ("e", 16)]
    one.plan.remove("put", [rows[0][0], rows[3][0]])
    assert dict(one.plan.counts) == {"put": 2, "delete": 1}
    one.plan.refuse("delete")
    assert list(one.plan.actions()) == [(puts[1], "again"), (puts[2], "failed"), (DELETE, "refused")]
