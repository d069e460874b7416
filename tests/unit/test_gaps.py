"""How long a replaced file could not be found: measured, kept, told."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.model import Record
from syncd.state import gaps
from syncd.state.db import open_state
from syncd.state.gaps import KEPT, Gap, Gaps
from syncd.state.journal import Journal

NOW = 1_800_000_000.0


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_state(tmp_path)) as opened:
        yield opened


@pytest.fixture
def kept(db: sqlite3.Connection) -> Gaps:
    return Gaps(db, "docs")


@pytest.fixture
def journal(db: sqlite3.Connection) -> Journal:
    return Journal(db, "docs")


def seconds(gap: Gap | None) -> float | None:
    return gap.searchable_s if gap else None


def test_without_a_gap_there_is_nothing_to_tell(kept: Gaps) -> None:
    assert (kept.last(), kept.of("a"), kept.summary(), kept.closed("a", NOW)) == (None, None, None, None)


def test_a_gap_lasts_from_the_delete_until_the_key_is_searchable(kept: Gaps) -> None:
    kept.opened("a", NOW, 1.5)
    assert kept.of("a") == Gap("a", NOW - 1.5, 1.5, None)
    assert kept.last() is None
    assert seconds(kept.closed("a", NOW + 10)) == 11.5
    assert kept.closed("a", NOW + 20) is None
    assert kept.last() == Gap("a", NOW - 1.5, 1.5, 11.5)


def test_a_gap_that_is_open_when_the_next_one_begins_goes_on(kept: Gaps) -> None:
    kept.opened("a", NOW, 1.0)
    kept.opened("a", NOW + 60, 2.0)
    assert seconds(kept.closed("a", NOW + 70)) == 71.0
    kept.opened("a", NOW + 100, 2.0)
    assert seconds(kept.closed("a", NOW + 110)) == 12.0


def test_the_summary_names_the_last_the_longest_and_what_is_open(kept: Gaps, journal: Journal) -> None:
    for number, seconds in enumerate((30.0, 10.0)):
        kept.opened(f"k{number}", NOW + number, 1.0)
        kept.closed(f"k{number}", NOW + number + seconds)
    for key in ("open", "deleted meanwhile"):
        kept.opened(key, NOW + 9, 2.0)
    journal.put(Record("open", "r", "c", 1, NOW))
    said = {"last_key": "k1", "last_stored_s": 1.0, "last_searchable_s": 11.0, "longest_s": 31.0, "open": 1}
    assert kept.summary() == said


def test_a_clock_that_was_set_back_makes_no_gap_shorter_than_its_upload(kept: Gaps) -> None:
    kept.opened("a", NOW, 2.0)
    assert seconds(kept.closed("a", NOW - 3600)) == 2.0


@pytest.mark.parametrize(("count", "first"), [(KEPT - 1, True), (KEPT, True), (KEPT + 1, False)])
def test_so_many_gaps_are_kept(kept: Gaps, count: int, first: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "KEPT", 10)
    for number in range(count - KEPT + 10):
        kept.opened(f"k{number}", NOW + number, 0.0)
    assert (kept.of("k0") is not None) == first


def test_a_state_file_of_an_older_version_has_no_gaps(kept: Gaps, db: sqlite3.Connection) -> None:
    db.execute("DROP TABLE gap")
    assert (kept.summary(), kept.of("a")) == (None, None)
