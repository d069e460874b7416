"""Claims and superseded entries: which entries without a record are ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.model import Delete, Entry, Record
from syncd.state.db import open_state
from syncd.state.journal import Journal
from syncd.state.ownership import Claims, SupersededEntries
from tests.harness import sha


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_state(tmp_path)) as made:
        yield made


@pytest.fixture
def superseded(db: sqlite3.Connection) -> SupersededEntries:
    return SupersededEntries(db, "docs", "me")


def record(db: sqlite3.Connection, key: str, ref: str, mirror: str = "docs") -> None:
    Journal(db, mirror).put(Record(key, ref, sha(key), 1, 0.0))


def delete(key: str, ref: str, checksum: str | None = None) -> Delete:
    return Delete(key, "orphan", key, ref, checksum)


def refs(found: dict[str, list[Entry]]) -> dict[str, list[str]]:
    return {key: sorted(entry.ref for entry in entries) for key, entries in found.items()}


def test_all_records_of_the_mirror_are_claimed(db: sqlite3.Connection) -> None:
    record(db, "a.md", "1")
    record(db, "b.md", "2")
    record(db, "c.md", "3", mirror="other")
    Claims(db, "docs").add_records(7.0)
    assert Claims(db, "docs").get(["a.md", "b.md", "c.md"]) == {
        "a.md": {("1", sha("a.md"))},
        "b.md": {("2", sha("b.md"))},
    }
    assert db.execute("SELECT DISTINCT mirror, at FROM claim").fetchall() == [("docs", 7.0)]


def test_the_claim_of_a_put_ends_alone(db: sqlite3.Connection) -> None:
    claims = Claims(db, "docs")
    claims.add_puts(["a.md", "b.md"], 1.0)
    claims.add("a.md", ("1", "x"), 1.0)
    claims.remove_put("a.md")
    assert claims.get(["a.md", "b.md"]) == {"a.md": {("1", "x")}, "b.md": {("", "")}}


@pytest.mark.parametrize("number", [499, 500, 501, 1001])
def test_many_claims_are_found(db: sqlite3.Connection, number: int) -> None:
    keys = [f"{each}.md" for each in range(number)]
    Claims(db, "docs").add_puts(keys, 1.0)
    assert set(Claims(db, "docs").get(keys)) == set(keys)


def test_a_put_is_claimed_on_the_disk_and_other_writes_are_not_synced(db: sqlite3.Connection) -> None:
    seen: list[str] = []
    db.set_trace_callback(seen.append)
    Claims(db, "docs").add_puts(["a.md"], 1.0)
    assert [line for line in seen if "synchronous" in line] == [
        "PRAGMA synchronous = FULL",
        "PRAGMA synchronous = NORMAL",
    ]
    assert db.execute("PRAGMA synchronous").fetchone() == (1,)


def test_superseded_entries_are_ours_and_found_by_key(superseded: SupersededEntries) -> None:
    superseded.keep([delete("a.md", "1", "x"), delete("a.md", "2"), delete("b.md", "3"), delete("c.md", "4")])
    assert refs(superseded.of(["a.md", "b.md", "d.md"])) == {"a.md": ["1", "2"], "b.md": ["3"]}
    (first, *_) = superseded.of(["a.md"])["a.md"]
    assert (first.key, first.ref, first.checksum, first.owner, first.marked) == ("a.md", "1", "x", "me", True)
    assert superseded.of([]) == {}


def test_an_entry_that_is_recorded_again_is_not_superseded(
    db: sqlite3.Connection, superseded: SupersededEntries
) -> None:
    superseded.keep([delete("a.md", "1"), delete("a.md", "2")])
    record(db, "a.md", "1")
    assert refs(superseded.of(["a.md"])) == {"a.md": ["2"]}
    assert SupersededEntries(db, "other", "me").of(["a.md"]) == {}
