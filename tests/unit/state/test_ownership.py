"""The default owner, the binding of a journal, and the entries without a record that are ours."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from syncd.core.model import Delete, Entry, Record
from syncd.core.names import WHOLE, Shard
from syncd.state import ownership
from syncd.state.db import Meta, open_state
from syncd.state.deletions import Absences, Tombstones
from syncd.state.directory import FILE_NAME, installation
from syncd.state.journal import Journal
from syncd.state.ownership import Claims, Listing, SupersededEntries, bind, is_bound, reshard
from syncd.state.pass_tables import PassTables
from tests.harness import Core, in_step, sha

MACHINE = "3d1219c7c4c5404aaa1f6d2a48adfda4 host"


@pytest.fixture
def meta(tmp_path: Path) -> Iterator[Meta]:
    with closing(open_state(tmp_path / "state")) as db:
        yield Meta(db, "docs")


def test_the_owner_is_the_name_and_eight_hex_digits() -> None:
    one = ownership.derived("docs", Path("/srv/docs"), MACHINE)
    assert one == ownership.derived("docs", Path("/srv/docs"), MACHINE)
    name, _, digits = one.rpartition("-")
    assert (name, len(digits), set(digits) <= set("0123456789abcdef")) == ("docs", 8, True)


@pytest.mark.parametrize(("folder", "owner"), [("/srv/docs", "docs-14794d50"), ("/srv/\udcff", "docs-c11c2415")])
def test_the_owner_of_a_folder_is_the_same_in_every_version(
    meta: Meta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, owner: str
) -> None:
    monkeypatch.setattr(ownership, "machine", {tmp_path: MACHINE}.get)
    assert ownership.derived("docs", Path(folder), MACHINE) == owner
    assert ownership.owner_of("docs", Path(folder), meta, MACHINE) == owner
    assert ownership.known_or_derived("docs", Path(folder), meta, tmp_path) == owner
    undecided = ownership.derived("docs", Path(folder), ownership.UNDECIDED)
    assert ownership.known_or_derived("docs", Path(folder), meta, tmp_path / "new") == undecided
    ownership.remember("docs-12345678", Path(folder), meta)
    assert ownership.known_or_derived("docs", Path(folder), meta, tmp_path) == "docs-12345678"


def test_machines_folders_and_names_have_owners_of_their_own() -> None:
    long = "n" * 63
    found = {
        ownership.derived(name, Path(folder), machine)
        for name in ("docs", "wiki", f"{long}a", f"{long}b")
        for folder in ("/srv/docs", "/srv/wiki")
        for machine in (MACHINE, "other host")
    }
    assert len(found) == 16
    assert max(map(len, found)) == 64


@pytest.mark.parametrize("content", ["", "uninitialized\n", "0" * 32, "not hex at all, but as long as it", b"\xff\xfe"])
def test_a_machine_id_that_is_none_gives_way_to_the_state_directory(
    tmp_path: Path, content: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "machine-id"
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setattr(ownership, "MACHINE_ID_FILES", (tmp_path / "missing", place))
    assert ownership.machine(tmp_path / "state") is None
    open_state(tmp_path / "state").close()
    found = ownership.machine(tmp_path / "state")
    assert found is not None
    (tmp_path / "state" / FILE_NAME).unlink()
    open_state(tmp_path / "state").close()
    assert ownership.machine(tmp_path / "state") == found, "it outlives a lost state file"
    for known in ("3d1219c7c4c5404aaa1f6d2a48adfda4", 2 * "0123456789abcdef", "0" * 31 + "1"):
        place.write_text(f"{known}\n", encoding="ascii")
        assert (ownership.machine(tmp_path / "state") or "").split()[0] == known


def test_machines_of_one_image_differ_by_their_host_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "machine-id"
    place.write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n", encoding="ascii")
    monkeypatch.setattr(ownership, "MACHINE_ID_FILES", (place,))
    one = ownership.machine(tmp_path)
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert ownership.machine(tmp_path) != one


def test_the_first_derived_owner_is_kept_while_the_state_exists(meta: Meta, tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    first = ownership.owner_of("docs", folder, meta, MACHINE)
    assert first is not None
    ownership.remember(first, folder, meta)
    assert ownership.owner_of("docs", folder, meta, "reborn container") == first
    assert ownership.owner_of("docs", folder, meta, None) == first
    meta.set("owners", None)
    assert ownership.owner_of("docs", folder, meta, "reborn container") != first


def test_a_folder_that_was_moved_keeps_its_owner_and_another_one_has_its_own(meta: Meta, tmp_path: Path) -> None:
    folder, moved, other = tmp_path / "docs", tmp_path / "moved", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    first = ownership.derived("docs", folder, MACHINE)
    ownership.remember(first, folder, meta)
    second = ownership.owner_of("docs", other, meta, MACHINE)
    assert second != first, "two configs share a state directory and a mirror's name"
    folder.rename(moved)
    assert ownership.owner_of("docs", moved, meta, MACHINE) == first
    assert ownership.owner_of("docs", other, meta, MACHINE) == second


def test_without_a_stored_owner_and_a_machine_id_the_owner_is_unknown(meta: Meta, tmp_path: Path) -> None:
    assert ownership.owner_of("docs", tmp_path, meta, None) is None
    assert installation(tmp_path / "nowhere") is None


def bound(core: Core, location: str, prefix: str = "") -> list[str]:
    with capture_logs() as logs:
        bind(core.mirror.db, "docs", location, prefix)
    return [line["event"] for line in logs]


async def test_the_first_binding_and_the_same_binding_keep_the_records(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    assert is_bound(core.mirror.db, "docs", "account/kv", "")
    assert bound(core, "account/kv") == []
    assert bound(core, "account/kv") == []
    assert is_bound(core.mirror.db, "docs", "account/kv", "")
    assert not is_bound(core.mirror.db, "docs", "account/other", "")
    assert not is_bound(core.mirror.db, "docs", "account/kv", "new/")
    assert core.mirror.journal.count() == 1
    assert core.mirror.claims.complete


async def test_another_target_has_no_records_and_no_claims(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    bound(core, "account/kv")
    assert bound(core, "account/other") == ["journal.rebound"]
    assert core.mirror.journal.count() == 0
    assert Claims(core.mirror.db, "docs").get(["a.md"]) == {}
    assert not core.mirror.claims.complete
    assert bound(core, "account/other") == []


def test_the_warning_names_the_mirror_and_what_to_do_if_two_configs_share_it(core: Core) -> None:
    bound(core, "account/kv")
    with capture_logs() as logs:
        bind(core.mirror.db, "docs", "account/other", "")
    assert logs[0]["mirror"] == "docs"
    assert "set another state_dir in one" in logs[0]["remedy"]


async def test_another_prefix_claims_the_entries_of_the_former_one(core: Core) -> None:
    await in_step(core, **{"a.md": "a"})
    record = core.mirror.journal.get("a.md")
    assert record is not None
    bound(core, "account/kv")
    assert bound(core, "account/kv", "new/") == ["journal.rebound"]
    assert core.mirror.journal.count() == 0
    assert Claims(core.mirror.db, "docs").get(["a.md"]) == {"a.md": {(record.ref, sha("a"))}}
    assert not core.mirror.claims.complete


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


@pytest.mark.parametrize(("checksum", "stays"), [(None, True), ("x", True), ("y", False)])
def test_an_old_claim_stays_while_a_listing_shows_its_entry(
    db: sqlite3.Connection, checksum: str | None, stays: bool
) -> None:
    claims, tables = Claims(db, "docs"), PassTables(db, 2)
    claims.add("a.md", ("1", "x"), 0.0)
    tables.remote.add([Entry("a.md", "1", checksum, owner="you", marked=True)])
    claims.apply_listing(Listing(2, "me", "", started=9000.0, whole=True, lag_s=0.0), 9000.0, 3600.0)
    assert bool(claims.get(["a.md"])) is stays


@pytest.mark.parametrize("number", [499, 500, 501, 1001])
def test_many_claims_are_found(db: sqlite3.Connection, number: int) -> None:
    keys = [f"{each}.md" for each in range(number)]
    Claims(db, "docs").add_puts(keys, 1.0)
    assert set(Claims(db, "docs").get(keys)) == set(keys)


@pytest.mark.parametrize(
    ("seconds", "whole", "complete"),
    [(-61, True, True), (-60, True, False), (0, True, False), (60, True, False), (61, True, True), (61, False, False)],
)
def test_a_journal_is_complete_after_a_second_whole_listing_beyond_the_lag(
    db: sqlite3.Connection, seconds: float, whole: bool, complete: bool
) -> None:
    claims, meta = Claims(db, "docs"), Meta(db, "docs")
    first = Listing(1, "me", "", started=1000.0, whole=False, lag_s=60.0)
    claims.apply_listing(first, 1000.0, 3600.0)
    assert (claims.complete, meta.get("listed")) == (False, {"at": 1000.0, "open": True})
    second = replace(first, pass_id=2, started=1000.0 + seconds, whole=whole)
    claims.apply_listing(second, 1100.0, 3600.0)
    expected = {"at": second.started, "open": False} if complete else {"at": 1000.0, "open": True}
    assert (claims.complete, meta.get("listed")) == (complete, expected)
    claims.apply_listing(replace(second, started=5000.0, whole=True), 5000.0, 3600.0)
    assert (claims.complete, meta.get("listed")) == (True, expected if complete else {"at": 5000.0, "open": False})


def test_the_rows_of_keys_in_other_shards_are_removed_when_the_shard_changes(db: sqlite3.Connection) -> None:
    keys, tables = [f"{number:02}.md" for number in range(20)], ("record", "tombstone", "absence")
    for mirror in ("docs", "wiki"):
        for key in keys:
            record(db, key, "1", mirror)
            Tombstones(db, mirror).record_delete(key, f"earlier {key}", 1.0, consented=True)
        Absences(db, mirror).record([delete(key, key) for key in keys], 1.0, 1)
        Meta(db, mirror).set("audit", {"total": 20})
        Meta(db, mirror).set("listed", {"at": 1.0, "open": False})

    def found(mirror: str) -> list[object]:
        values = [Meta(db, mirror).get(name) for name in ("shard", "audit", "listed")]
        select = "SELECT key FROM {} WHERE mirror = ? ORDER BY key"
        return [[key for (key,) in db.execute(select.format(table), (mirror,))] for table in tables] + values

    all_keys = [keys, keys, keys, None, {"total": 20}, {"at": 1.0, "open": False}]
    with capture_logs() as lines:
        reshard(db, "docs", WHOLE)
    assert (found("docs"), lines) == (all_keys, [])
    with capture_logs() as lines:
        reshard(db, "docs", Shard(0, 2))
    held = [key for key in keys if Shard(0, 2).holds(key)]
    assert 0 < len(held) < len(keys)
    assert found("docs") == [held, held, held, "0/2", None, None]
    assert found("wiki") == all_keys
    changed = {"event": "shard.changed", "log_level": "info", "mirror": "docs", "before": "0/1", "now": "0/2"}
    assert lines == [changed | {"forgotten": len(keys) - len(held)}]
    Meta(db, "docs").set("audit", {"total": 1})
    reshard(db, "docs", Shard(0, 2))
    assert Meta(db, "docs").get("audit") == {"total": 1}, "the shard is the same"
    reshard(db, "docs", Shard(1, 2))
    assert found("docs") == [[], [], [], "1/2", None, None]


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
