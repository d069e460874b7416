"""The delete guard in a running daemon and over restarts, and journals that speak of somewhere else."""

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


def filled(room: Room, files: int = 60) -> None:
    for number in range(files):
        room.write(f"d{number % 6}/{number}.md", f"text {number}")


def test_an_rm_of_most_of_the_folder_is_one_plan_and_stays_refused_over_a_restart(tmp_path: Path) -> None:
    with open_room(tmp_path) as room:
        room.config.write_text(room.config.read_text().replace("settle = 0.05", "settle = 0.4"))
        filled(room, 48)
        with room.daemon() as daemon:
            room.in_step(very_bytes=False)
            # As a slow rm -r does it: longer than `settle` in all, and never that long between two.
            for path in sorted(room.docs.rglob("*.md"))[:32]:
                path.unlink()
                time.sleep(0.04)
            daemon.saw("mirror.halted")
            assert len(room.remote.items()) >= 38, "no more than the ten that always pass"
            said = room.status()["detail"]
            for part in ("max_delete = 25%", "reconcile --dry-run docs", "reconcile --force docs"):
                assert part in said
            left = len(room.remote.items())
        assert room.status()["state"] == "halted", "also while nothing runs"
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


def test_rules_that_leave_files_out_delete_them_only_when_told(room: Room) -> None:
    filled(room, 12)
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


def test_a_path_that_names_another_folder_is_no_mass_delete_and_a_copy_no_upload(room: Room) -> None:
    filled(room, 20)
    assert room.syncd("reconcile").code == 0
    room.remote.forget_requests()
    other = room.path / "other"
    other.mkdir()
    (other / "one.md").write_text("another folder")
    config = room.config.read_text()
    room.config.write_text(config.replace(f'path = "{room.docs}"', f'path = "{other}"'))
    ended = room.syncd("reconcile")
    assert (ended.code, "root.changed" in ended.err) == (4, True)
    assert room.remote.counted()["changing"] == 1, "the other folder's file goes up, nothing is deleted"
    copy = room.path / "copy"
    shutil.copytree(room.docs, copy)
    room.config.write_text(config.replace(f'path = "{room.docs}"', f'path = "{copy}"'))
    assert room.syncd("reconcile").code == 0
    assert room.remote.counted()["changing"] == 2, "and goes again"


def test_a_base_url_of_elsewhere_believes_no_journal_and_deletes_nothing_there(room: Room) -> None:
    filled(room, 12)
    assert room.syncd("reconcile").code == 0
    with serve(EmulatorOptions(index_delay=0.0)) as elsewhere:
        config = room.config.read_text()
        room.config.write_text(config.replace(room.server.base_url, elsewhere.base_url))
        ended = room.syncd("reconcile", "--json")
        seen = ended.json()["mirrors"]["docs"]
        assert "journal.rebound" in ended.err
        assert {action["reason"] for action in seen["actions"]} == {"new"}, "not missing: nobody took them away"
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
def test_a_journal_of_another_target_causes_no_delete_and_no_upload_when_it_is_changed_back(
    room: Room, was: str, now: str
) -> None:
    filled(room, 12)
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


def test_two_syncds_on_one_state_are_one_too_many(room: Room) -> None:
    filled(room, 3)
    with room.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        for command in ("reconcile", "run"):
            ended = room.syncd(command)
            assert (ended.code, str(daemon.pid) in ended.err) == (11, True)
    until(lambda: room.syncd("reconcile").code == 0)
