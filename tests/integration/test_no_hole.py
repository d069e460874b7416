"""From outside: a search that runs all the time never comes back empty while a file is renamed."""

import json
from functools import partial
from pathlib import Path

import pytest
from seeker import Seeker, seeking
from syncd_process import Room, open_room, until

INDEX_S = 1.0


def test_a_file_renamed_before_a_reconcile_is_found_all_the_time(tmp_path: Path) -> None:
    with open_room(tmp_path, index_delay=INDEX_S) as room:
        room.write("old.md", "the word is quagga")
        room.write("other.md", "the word is okapi")
        assert room.syncd("reconcile", "--wait", "30").code == 0
        with seeking(room, "quagga") as seeker:
            until(lambda: seeker.last)
            (room.docs / "old.md").rename(room.docs / "new.md")
            ended = room.syncd("reconcile", "--json")
            until(lambda: seeker.last == {"new.md"})
        assert seeker.holes_s() == [], seeker.seen
        assert ended.code == 0, ended.err
        docs = json.loads(ended.out)["mirrors"]["docs"]
        assert docs["plan"] == {"put": 1, "delete": 1, "adopt": 0, "forget": 0, "unchanged": 1}
        assert docs["result"] == {"put": 1, "delete": 1, "failed": 0}
        assert [(a["action"], a["key"], a["outcome"]) for a in docs["actions"]] == [
            ("put", "new.md", "done"),
            ("delete", "old.md", "done"),
        ]
        room.nothing_left_to_do()


def test_a_folder_renamed_under_a_running_daemon_is_found_all_the_time(tmp_path: Path) -> None:
    with open_room(tmp_path, index_delay=INDEX_S) as room:
        room.configure(mirror="max_delete = 100")
        for number in range(30):
            room.write(f"old/{number}.md", f"the word is quagga, file {number}")
        with room.daemon("-v") as daemon:
            room.in_step()
            with seeking(room, "quagga") as seeker:
                until(lambda: len(seeker.last) == 10)
                (room.docs / "old").rename(room.docs / "new")
                until(lambda: set(room.remote.marks()) == {f"new/{number}.md" for number in range(30)})
                until(lambda: room.status()["index"]["queued"] + room.status()["index"]["running"] == 0)
            assert seeker.holes_s() == [], seeker.seen
            daemon.saw("delete.waits")
            room.in_step()


def test_a_daemon_that_is_stopped_while_a_delete_waits_carries_it_out_in_its_next_life(tmp_path: Path) -> None:
    with open_room(tmp_path, index_delay=4 * INDEX_S) as room:
        room.write("old.md", "the word is quagga")
        room.write("other.md", "the word is okapi")
        assert room.syncd("reconcile", "--wait", "30").code == 0
        with seeking(room, "quagga") as seeker:
            until(lambda: seeker.last)
            with room.daemon("-v") as daemon:
                daemon.saw("pass.done", scope="all")
                (room.docs / "old.md").rename(room.docs / "new.md")
                daemon.saw("delete.waits")
                daemon.stop()
            assert set(room.remote.marks()) == {"old.md", "new.md", "other.md"}
            with room.daemon():
                until(lambda: seeker.last == {"new.md"})
        assert seeker.holes_s() == [], seeker.seen


def _alone(room: Room, seeker: Seeker, name: str) -> bool:
    """Whether nothing else is found, nor there."""
    return seeker.last == {name} and list(room.remote.files()) == [name]


@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
def test_a_file_replaced_beside_its_old_item_is_found_all_the_time(tmp_path: Path, on_existing: str) -> None:
    with open_room(tmp_path, index_delay=INDEX_S, on_existing=on_existing) as room:
        room.configure(target='create = true\nreplace = "alternate"')
        room.write("a.md", "the word is quagga, once")
        with room.daemon() as daemon:
            daemon.saw("index.done")
            with seeking(room, "quagga") as seeker:
                until(lambda: seeker.last)
                for text, name in (("twice", "a.next.md"), ("thrice", "a.md")):
                    room.write("a.md", f"the word is quagga, {text}")
                    until(partial(_alone, room, seeker, name))
            assert seeker.holes_s() == [], seeker.seen
            hits = room.syncd("search", "quagga", "--json").json()["hits"]
            assert [hit["key"] for hit in hits] == ["a.md"]
        assert "replace_gap" not in room.status()
    assert seeker.asked > 20


def test_a_reconcile_waits_until_what_was_replaced_beside_can_go(tmp_path: Path) -> None:
    with open_room(tmp_path, index_delay=INDEX_S) as room:
        room.configure(target='create = true\nreplace = "alternate"')
        room.write("a.md", "the word is quagga, once")
        assert room.syncd("reconcile", "--wait", "30").code == 0
        room.write("a.md", "the word is quagga, twice")
        with seeking(room, "quagga") as seeker:
            until(lambda: seeker.last)
            ended = room.syncd("reconcile", "--json")
            until(lambda: seeker.last == {"a.next.md"})
        assert seeker.holes_s() == [], seeker.seen
        assert ended.json()["mirrors"]["docs"]["result"] == {"put": 1, "delete": 1, "failed": 0}
        assert room.syncd("verify").code == 0
        room.nothing_left_to_do()


def test_the_gap_that_is_told_is_the_one_that_a_search_met(tmp_path: Path) -> None:
    with open_room(tmp_path, index_delay=INDEX_S, on_existing="conflict") as room:
        room.write("a.md", "the word is quagga, once")
        with room.daemon() as daemon:
            daemon.saw("index.done")
            with seeking(room, "quagga") as seeker:
                until(lambda: seeker.last)
                room.write("a.md", "the word is quagga, twice")
                daemon.saw("replace.gap")
                until(lambda: seeker.last)
            [hole_s] = seeker.holes_s()
        told = room.status()["replace_gap"]
        assert hole_s - 0.3 <= told["last_searchable_s"] <= hole_s + 1.5
        assert told["last_stored_s"] < told["last_searchable_s"]
        assert "a.md could not be found for" in room.syncd("status").out
        assert "stored again after" in room.syncd("explain", str(room.docs / "a.md")).out
        assert 'replace = "alternate"' in room.syncd("check").out
        room.write("a.md", "the word is quagga, thrice")
        assert "cannot be found for about" in room.syncd("reconcile", "--dry-run").out
