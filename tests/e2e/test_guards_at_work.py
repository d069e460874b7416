"""The delete guard in a running daemon and over restarts, and journals of another folder or target."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from syncd.emulator.options import EmulatorOptions
from syncd.emulator.server import serve
from tests.e2e.harness import Room, open_room, until


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        yield room


def fill(room: Room, files: int = 60) -> None:
    for number in range(files):
        room.write(f"d{number % 6}/{number}.md", f"text {number}")


def test_a_slow_rm_of_most_files_is_refused_as_one_plan_and_over_a_restart(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.config.write_text(room.config.read_text().replace("settle = 0.05", "settle = 0.4"))
        fill(room, 48)
        with room.daemon() as daemon:
            room.in_step(very_bytes=False)
            # A slow rm -r takes longer than `settle` in all, and never that long between two files.
            for path in sorted(room.docs.rglob("*.md"))[:32]:
                path.unlink()
                time.sleep(0.04)
            daemon.saw("mirror.halted")
            assert len(room.remote.items()) >= 38, "at most the ten deletes that are always allowed"
            detail = room.status()["detail"]
            for part in ("max_delete = 25%", "reconcile --dry-run docs", "reconcile --force docs"):
                assert part in detail
            left = len(room.remote.items())
        assert room.status()["state"] == "halted", "also without a daemon"
        shutil.rmtree(room.docs / "d5")
        with room.daemon() as daemon:
            daemon.saw("mirror.halted")
            assert len(room.remote.items()) == left
            assert room.status()["state"] == "halted"
        dry = room.syncd("reconcile", "--dry-run", "docs")
        assert "refused when run" in dry.out
        assert room.syncd("reconcile", "docs").code == 4
        assert room.syncd("reconcile", "--force", "docs").code == 0
        assert room.status()["state"] == "idle"
        assert len(room.remote.items()) == len(list(room.docs.rglob("*.md")))


def test_entries_of_excluded_files_are_deleted_on_request_only(room: Room) -> None:
    fill(room, 12)
    assert room.syncd("reconcile").code == 0
    for rules in ('exclude = ["d1/"]', 'include = ["d0/**"]', 'exclude = ["d1/"]\nprune = "all"'):
        room.configure(mirror=rules)
        assert room.syncd("reconcile").code == 0
        assert len(room.remote.items()) == 12, rules
    room.configure(mirror='exclude = ["d1/"]\nprune = "never"')
    assert room.syncd("reconcile", "--delete-excluded").code == 0
    assert len(room.remote.items()) == 12
    room.configure(mirror='exclude = ["d1/"]')
    assert room.syncd("reconcile", "--delete-excluded").code == 0
    assert {item["key"].partition("/")[0] for item in room.remote.items()} == {"d0", "d2", "d3", "d4", "d5"}


def test_another_folder_causes_no_mass_delete_and_a_copy_no_upload(room: Room) -> None:
    fill(room, 20)
    assert room.syncd("reconcile").code == 0
    room.remote.forget_requests()
    other = room.path / "other"
    other.mkdir()
    (other / "one.md").write_text("another folder")
    config = room.config.read_text()
    room.config.write_text(config.replace(f'path = "{room.docs}"', f'path = "{other}"'))
    ended = room.syncd("reconcile")
    assert (ended.code, "root.changed" in ended.err) == (4, True)
    assert room.remote.counted()["changing"] == 1, "the file of the other folder is uploaded, and nothing is deleted"
    copy = room.path / "copy"
    shutil.copytree(room.docs, copy)
    room.config.write_text(config.replace(f'path = "{room.docs}"', f'path = "{copy}"'))
    assert room.syncd("reconcile").code == 0
    assert room.remote.counted()["changing"] == 2, "and its entry is deleted again"


def test_after_a_change_of_base_url_the_journal_is_not_used(room: Room) -> None:
    fill(room, 12)
    assert room.syncd("reconcile").code == 0
    with serve(EmulatorOptions(index_delay=0.0)) as elsewhere:
        config = room.config.read_text()
        room.config.write_text(config.replace(room.server.base_url, elsewhere.base_url))
        ended = room.syncd("reconcile", "--json")
        seen = ended.json()["mirrors"]["docs"]
        assert "journal.rebound" in ended.err
        assert {action["reason"] for action in seen["actions"]} == {"new"}, (
            "not missing, because nobody deleted them there"
        )
    room.config.write_text(config)
    room.remote.forget_requests()
    back = room.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert {action["action"] for action in back["actions"]} == {"adopt"}
    assert room.remote.counted()["changing"] == 0


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ('instance = "docs"', 'instance = "other"'),
        ('instance = "docs"', 'instance = "docs"\nnamespace = "other"'),
        ("settle = 0.05", 'settle = 0.05\nkey_prefix = "p/"'),
        ("0123456789abcdef0123456789abcdef", "f123456789abcdef0123456789abcdef"),
    ],
)
def test_a_change_of_target_and_back_causes_no_delete_and_no_upload(room: Room, was: str, now: str) -> None:
    fill(room, 12)
    assert room.syncd("reconcile").code == 0
    config = room.config.read_text()
    room.config.write_text(config.replace(was, now))
    seen = room.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert {(action["action"], action["reason"]) for action in seen["actions"]} == {("put", "new")}
    room.config.write_text(config)
    room.remote.forget_requests()
    back = room.syncd("reconcile", "--json").json()["mirrors"]["docs"]
    assert "put" not in {action["action"] for action in back["actions"]}, back
    wanted = {f"d{number % 6}/{number}.md" for number in range(12)}
    assert wanted <= {item["key"] for item in room.remote.items()}


def test_a_second_process_on_the_same_state_is_refused(room: Room) -> None:
    fill(room, 3)
    with room.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        for command in ("reconcile", "run"):
            ended = room.syncd(command)
            assert (ended.code, str(daemon.pid) in ended.err) == (11, True)
    until(lambda: room.syncd("reconcile").code == 0)
