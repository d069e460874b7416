"""Each delete has a line in the log with its evidence. Without a writable log nothing is deleted."""

import errno
import json
import os
import sqlite3
import stat
from pathlib import Path
from typing import Any

import pytest

from syncd.core.errors import Park, StateHalt
from syncd.core.model import Record
from syncd.core.rules import Rules
from syncd.state import deletions
from syncd.state.deletions import HOUR_S, DeleteLog, Tombstones, last_delete, log_path
from syncd.state.journal import Journal
from tests.harness import Core, ScriptedTarget, in_step

LINE: dict[str, object] = {"mirror": "docs", "key": "a.md", "why": "so"}


@pytest.fixture
def log(tmp_path: Path) -> DeleteLog:
    return DeleteLog(tmp_path)


def lines(core: Core) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log_path(core.state).read_text().splitlines()]


def why_of(core: Core) -> dict[str, tuple[str, str]]:
    return {line["key"]: (line["reason"], line["evidence"]["kind"]) for line in lines(core)}


async def test_the_evidence_of_a_full_pass_is_absent_and_of_a_hint_seen_to_go(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.remove("a.md", "b.md")
    core.write("c.md", "c")
    await core.hint("a.md")
    await core.full()
    assert why_of(core) == {"a.md": ("stale", "seen_to_go"), "b.md": ("stale", "absent")}
    first = lines(core)[0]
    assert (first["mirror"], first["time"]) == ("docs", "2027-01-15T08:00:02.000Z")
    assert first["brake"]["passed"] == "within max_delete"
    assert stat.S_IMODE(log_path(core.state).stat().st_mode) == 0o600


async def test_the_line_names_the_rule_and_the_consent(core: Core) -> None:
    await in_step(core, **{"a.tmp": "a", "b.md": "b"})
    core.use(rules=Rules(exclude=("*.tmp",)))
    await core.full()
    assert not log_path(core.state).exists()
    await core.full(delete_excluded=True, force=True)
    (line,) = lines(core)
    assert line["evidence"] == {"kind": "excluded", "pass": line["evidence"]["pass"], "rule": "exclude: *.tmp"}
    assert line["consent"] == ["--force", "--delete-excluded"]


async def test_an_orphan_names_its_owner(core: Core) -> None:
    await in_step(core, **{"b.md": "b"})
    core.forget_listing()
    core.target.put_by("me", "lost.md", "of a lost journal")
    core.target.put_by("you", "theirs.md", "another's")
    await core.full()
    assert why_of(core) == {"lost.md": ("orphan", "orphan")}
    assert lines(core)[0]["evidence"]["owner"] == "me"
    core.use(prune="all")
    await core.full()
    assert lines(core)[1]["evidence"]["owner"] == "you"
    assert lines(core)[1]["consent"] == ['prune = "all"']


async def test_a_failed_delete_has_no_line(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.remove("a.md")
    core.target.failures["a.md"] = [Park("refused", "no")]
    await core.full()
    assert log_path(core.state).read_text() == ""


async def test_without_a_writable_log_nothing_is_deleted(core: Core) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.remove("a.md")
    log_path(core.state).mkdir()
    with pytest.raises(
        StateHalt, match=r"the log of deletes .* cannot be written .* nothing of this batch was deleted"
    ):
        await core.full()
    assert core.target.texts() == {"a.md": "a", "b.md": "b"}
    log_path(core.state).rmdir()
    await core.full()
    assert core.target.texts() == {"b.md": "b"}


async def test_a_full_disk_is_noticed_before_the_delete(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, **{"a.md": "a", "b.md": "b"})
    core.remove("a.md")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StateHalt, match="No space left"):
        await core.full()
    assert core.target.applied == []
    assert log_path(core.state).read_text() == ""


def test_a_file_system_that_cannot_reserve_is_no_obstacle(log: DeleteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def never_heard(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", never_heard)
    with log.writing([LINE]) as pen:
        pen.write(LINE, 0.0)


def test_the_error_quotes_a_line_that_cannot_be_written(
    log: DeleteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with log.writing([LINE]) as pen:
        pen.write({"mirror": "docs", "key": "first", "why": "so"}, 0.0)
        real = os.write

        def half(descriptor: int, data: bytes) -> int:
            return real(descriptor, data[: len(data) // 2])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(StateHalt, match=r'this was deleted and could not be noted: .*"key": "second"'):
            pen.write({"mirror": "docs", "key": "second", "why": "so"}, 0.0)
        monkeypatch.undo()
        pen.write({"mirror": "docs", "key": "third", "why": "so"}, 0.0)
    assert [json.loads(line)["key"] for line in log_path(tmp_path).read_text().splitlines()] == ["first", "third"]


@pytest.mark.parametrize(("size", "aside"), [(99, False), (100, True), (101, True)])
def test_a_log_that_is_full_is_put_aside_once(
    log: DeleteLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, aside: bool
) -> None:
    monkeypatch.setattr(deletions, "LOG_LIMIT", 100)
    log_path(tmp_path).write_text("x" * (size - 1) + "\n")
    (tmp_path / deletions.OLD_DELETE_LOG_NAME).write_text("the one before")
    with log.writing([LINE]) as pen:
        pen.write(LINE, 0.0)
    assert len(list(tmp_path.iterdir())) == 2
    assert ((tmp_path / deletions.OLD_DELETE_LOG_NAME).read_text() == "the one before") is not aside
    assert len(log_path(tmp_path).read_text().splitlines()) == (1 if aside else 2)
    assert last_delete(tmp_path, "docs", "a.md") is not None


def test_many_deletes_are_synced_once(log: DeleteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with log.writing([LINE] * 1000) as pen:
        for _ in range(1000):
            pen.write(LINE, 0.0)
        assert synced == []
    assert len(synced) == 1


def test_the_last_line_of_a_key_is_found_among_broken_lines(log: DeleteLog, tmp_path: Path) -> None:
    with log.writing([LINE]) as pen:
        pen.write({"mirror": "docs", "key": "é\n.md", "why": "first"}, 1.0)
        pen.write({"mirror": "docs", "key": "é\n.md", "why": "second"}, 2.0)
        pen.write({"mirror": "other", "key": "é\n.md", "why": "third"}, 3.0)
        pen.write({"mirror": "docs", "key": "other", "why": "é\n.md"}, 4.0)
    with log_path(tmp_path).open("ab") as file:
        file.write(b'{"mirror": "docs", "key": "\\u00e9\\n.md", "wh\n["\\u00e9\\n.md"]\n\0\0\0')
    found = last_delete(tmp_path, "docs", "é\n.md")
    assert found is not None
    assert found["why"] == "second"
    assert last_delete(tmp_path, "docs", "nothing") is None
    assert last_delete(tmp_path / "nowhere", "docs", "x") is None


def test_the_last_line_of_a_key_is_found_in_the_renamed_log(log: DeleteLog, tmp_path: Path) -> None:
    with log.writing([LINE]) as pen:
        pen.write(LINE, 0.0)
    line = {"time": "1970-01-01T00:00:00.000Z", **LINE}
    assert last_delete(tmp_path, "docs", "a.md") == line
    log_path(tmp_path).rename(tmp_path / deletions.OLD_DELETE_LOG_NAME)
    assert last_delete(tmp_path, "docs", "a.md") == line
    with log.writing([LINE]) as pen:
        pen.write(LINE | {"key": "b.md"}, 0.0)
    assert last_delete(tmp_path, "docs", "a.md") == line
    with log.writing([LINE]) as pen:
        pen.write(LINE, 1.0)
    assert last_delete(tmp_path, "docs", "a.md") == line | {"time": "1970-01-01T00:00:01.000Z"}


async def test_a_second_entry_of_a_key_names_the_one_that_stays(core: Core, monkeypatch: pytest.MonkeyPatch) -> None:
    await in_step(core, **{"a.md": "a"})
    core.forget_listing()
    (first,) = core.target.listing()
    monkeypatch.setattr(ScriptedTarget, "listing", lambda _: [first, first._replace(ref="second")])
    await core.full()
    (line,) = lines(core)
    assert line["ref"] == "second"
    assert line["evidence"] == {"kind": "duplicate", "pass": line["evidence"]["pass"], "kept": first.ref}


# -- tombstones


@pytest.mark.parametrize(("seconds", "near"), [(-61, False), (-60, True), (0, True), (60, True), (61, False)])
def test_a_delete_is_near_within_some_seconds_in_both_directions(
    db: sqlite3.Connection, seconds: float, near: bool
) -> None:
    tombstones = Tombstones(db, "docs")
    tombstones.record_delete("a.md", "r", 1000.0 + seconds, consented=False)
    assert tombstones.any_about(1000.0, 60.0) is near
    assert tombstones.deleted_between(["q", "r"], 940.0, 1060.0) == ({"r"} if near else set())
    assert not Tombstones(db, "other").any_about(1000.0, 60.0)


@pytest.mark.parametrize(
    ("now", "age", "kept"),
    [
        (1060, HOUR_S + 101, True),
        (940, HOUR_S + 101, True),
        (1061, HOUR_S + 100, True),
        (1061, HOUR_S + 101, False),
        (939, HOUR_S + 101, False),
    ],
)
def test_a_tombstone_is_kept_while_a_listing_may_lag_or_the_brake_counts_it(
    db: sqlite3.Connection, now: float, age: float, kept: bool
) -> None:
    tombstones = Tombstones(db, "docs")
    tombstones.record_delete("a.md", "r", 1000.0, consented=False, age=100.0)
    assert tombstones.recent_deletes(age) == (age <= HOUR_S + 100)
    tombstones.drop_old(now, 60.0, age)
    assert tombstones.deleted_at("r") == (1000.0 if kept else None)


def test_a_delete_with_consent_or_of_a_key_that_is_back_does_not_count(db: sqlite3.Connection) -> None:
    tombstones, journal = Tombstones(db, "docs"), Journal(db, "docs")
    for key, consented in (("a.md", False), ("b.md", True), ("c.md", False)):
        tombstones.record_delete(key, key, 1000.0, consented=consented, age=100.0)
    assert (tombstones.recent_deletes(100.0), Tombstones(db, "other").recent_deletes(100.0)) == (2, 0)
    journal.put(Record("c.md", "c.md", "x", 1, 1000.0))
    assert tombstones.recent_deletes(100.0) == 1
    found = [tombstones.deleted_at(ref) for ref in ("a.md", "b.md", "c.md", "d.md")]
    assert found == [1000.0, 1000.0, None, None], "c.md was written again"
    assert tombstones.deleted_between(["a.md", "b.md", "c.md"], 0.0, 2000.0) == {"a.md", "b.md"}
