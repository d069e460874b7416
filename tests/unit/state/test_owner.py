"""The default owner: one for each machine and folder, kept after it was derived."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from syncd.state import ownership
from syncd.state.db import Meta, open_state
from syncd.state.directory import FILE_NAME, installation

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
    place.write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n", encoding="ascii")
    assert ownership.machine(tmp_path / "state") != found


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
    assert ownership.owner_of("docs", folder, None, "reborn container") != first


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


def test_without_state_and_machine_id_the_owner_is_unknown(tmp_path: Path) -> None:
    assert ownership.owner_of("docs", tmp_path, None, None) is None
    assert installation(tmp_path / "nowhere") is None
