"""The journal of a rebuild takes over in one transaction, and only for the target that it describes."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.core.errors import Locked
from syncd.core.keys import LAST
from syncd.core.model import Record
from syncd.state import succession
from syncd.state.db import Age, Meta, open_state
from syncd.state.directory import FILE_NAME, lock
from syncd.state.journal import Journal
from syncd.state.ownership import Claims, bind
from syncd.state.pass_tables import last_pass_id, next_pass_id
from syncd.state.succession import REBUILD, adopt_rebuild, rebuild_description, rebuild_directory, stored_binding

FIRST, SECOND = ["account ai-search:default/docs", ""], ["account ai-search:default/docs-2", ""]


def record(key: str, ref: str, pass_id: int = 0) -> Record:
    return Record(key, ref, "c" * 64, 1, 1.0, pass_id=pass_id)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Yield a state with a mirror of one entry, beside another mirror and a rebuild with two entries."""
    with closing(open_state(tmp_path)) as db:
        for _ in range(7):
            next_pass_id(db)
        bind(db, "docs", *FIRST)
        Journal(db, "docs").put(record("a.md", "old", 7))
        Meta(db, "docs").set("owners", {"/srv": ["docs-1", 2]})
        bind(db, "other", "account kv:x", "")
        Journal(db, "other").put(record("b.md", "others"))
        make_rebuild(tmp_path)
        yield db


def make_rebuild(state: Path) -> None:
    with closing(open_state(rebuild_directory(state, "docs"))) as db:
        for _ in range(3):
            next_pass_id(db)
        bind(db, "docs", *SECOND)
        Journal(db, "docs").put(record("a.md", "new", 2))
        Journal(db, "docs").put(record("c.md", "new", 3))
        Claims(db, "docs").add_puts(["d.md"], Age(db).now())
        Meta(db, "docs").set("listed", {"at": Age(db).now() - 100.0, "open": False})


def refs(db: sqlite3.Connection, mirror: str = "docs") -> dict[str, str]:
    journal = Journal(db, mirror)
    return {record.key: record.ref for record in journal.after("", LAST, 100)}


def killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_the_journal_of_the_rebuild_takes_over(db: sqlite3.Connection, tmp_path: Path) -> None:
    assert adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)

    assert refs(db) == {"a.md": "new", "c.md": "new"}
    assert refs(db, "other") == {"b.md": "others"}
    assert Meta(db, "docs").get("binding") == SECOND
    assert Meta(db, "docs").get("owners") == {"/srv": ["docs-1", 2]}
    assert list((tmp_path / "rebuild").iterdir()) == []
    assert not adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False), "nothing is left to do"


def test_numbers_of_passes_go_on_and_ages_move(db: sqlite3.Connection, tmp_path: Path) -> None:
    age = Age(db)
    age._offset += 5000.0
    age.keep()
    adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)
    changed = Journal(db, "docs").get("c.md")
    assert changed is not None
    assert (changed.pass_id, last_pass_id(db)) == (10, 10)
    (claimed,) = db.execute("SELECT at FROM claim WHERE mirror = 'docs'").fetchone()
    assert age.now() - claimed < 60
    listed = Meta(db, "docs").values("listed")
    assert listed["open"] is False
    assert 50 < age.now() - listed["at"] < 160, "a hundred seconds before the end of the rebuild"


@pytest.mark.parametrize("binding", [FIRST, ["account ai-search:default/docs-3", ""], [SECOND[0], "v2/"]])
def test_a_rebuild_of_another_target_has_no_effect(db: sqlite3.Connection, tmp_path: Path, binding: list[str]) -> None:
    assert not adopt_rebuild(db, tmp_path, "docs", binding, keep=False)
    assert refs(db) == {"a.md": "old"}
    assert (rebuild_directory(tmp_path, "docs") / FILE_NAME).exists()


def test_a_copy_leaves_the_files_of_the_rebuild_alone(db: sqlite3.Connection, tmp_path: Path) -> None:
    assert adopt_rebuild(db, tmp_path, "docs", SECOND, keep=True)
    assert refs(db) == {"a.md": "new", "c.md": "new"}
    assert (rebuild_directory(tmp_path, "docs") / FILE_NAME).exists()


def test_a_rebuild_at_work_is_named(db: sqlite3.Connection, tmp_path: Path) -> None:
    with lock(rebuild_directory(tmp_path, "docs")), pytest.raises(Locked):
        adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)
    assert refs(db) == {"a.md": "old"}


def test_a_kill_before_the_commit_changes_nothing(
    db: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("syncd.state.succession.keep_pass_id", killed)
        with pytest.raises(KeyboardInterrupt):
            adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)
    assert (refs(db), Meta(db, "docs").get("binding")) == ({"a.md": "old"}, FIRST)
    assert adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)


@pytest.mark.parametrize("step", ["rename", "rmtree"])
def test_a_kill_after_the_commit_is_cleaned_up_later(
    db: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    with monkeypatch.context() as patched:
        if step == "rename":
            patched.setattr(Path, "rename", killed)
        else:
            calls: list[object] = []
            patched.setattr("shutil.rmtree", lambda *args, **_: killed() if calls else calls.append(args))
        with pytest.raises(KeyboardInterrupt):
            adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)
    assert refs(db) == {"a.md": "new", "c.md": "new"}
    Journal(db, "docs").put(record("later.md", "newer"))

    assert not adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)

    assert refs(db) == {"a.md": "new", "c.md": "new", "later.md": "newer"}, "a later change stays"
    assert list((tmp_path / "rebuild").iterdir()) == []


@pytest.mark.parametrize("damage", ["no database", "older"])
def test_a_rebuild_that_cannot_be_read_has_no_effect(db: sqlite3.Connection, tmp_path: Path, damage: str) -> None:
    """A daemon must start all the same. The next full pass recognizes the entries by their marks."""
    file = rebuild_directory(tmp_path, "docs") / FILE_NAME
    if damage == "older":
        with closing(sqlite3.connect(file)) as other:
            other.execute("PRAGMA user_version = 9")
    else:
        file.write_bytes(b"x" * 8192)
    assert not adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)
    assert refs(db) == {"a.md": "old"}


def test_a_mirror_that_has_lost_its_state_begins_with_caution(tmp_path: Path) -> None:
    make_rebuild(tmp_path)
    with closing(open_state(tmp_path)) as db:
        assert not adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)
        assert refs(db) == {}
        bind(db, "docs", *SECOND)
        assert not adopt_rebuild(db, tmp_path, "docs", SECOND, keep=False)
        assert list((tmp_path / "rebuild").iterdir()) == []


def test_every_table_of_a_mirror_is_replaced_emptied_or_kept(db: sqlite3.Connection) -> None:
    """A new table needs a decision: does it describe the entries in the target, or the folder?"""
    found = db.execute(
        "SELECT name FROM sqlite_schema AS made WHERE type = 'table'"
        " AND EXISTS (SELECT 1 FROM pragma_table_info(made.name) WHERE name = 'mirror')"
    )
    decided = {*succession._REPLACED, *succession._EMPTIED, "history", "pass", "meta"}
    assert {name for (name,) in found} == decided


def test_the_description_and_the_binding_of_a_rebuild_can_be_read(tmp_path: Path) -> None:
    directory = rebuild_directory(tmp_path, "docs")
    assert directory == tmp_path / "rebuild/docs"
    assert (rebuild_description(directory, "docs"), stored_binding(directory, "docs")) == (None, None)
    make_rebuild(tmp_path)
    assert (rebuild_description(directory, "docs"), stored_binding(directory, "docs")) == (None, SECOND)
    with closing(open_state(directory)) as db:
        Meta(db, "docs").set(REBUILD, {"name": "v2"})
        Meta(db, "other").set(REBUILD, "no description")
    assert rebuild_description(directory, "docs") == {"name": "v2"}
    assert rebuild_description(directory, "other") is None
    (directory / FILE_NAME).write_bytes(b"x" * 8192)
    assert rebuild_description(directory, "docs") is None
