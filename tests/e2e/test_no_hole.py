"""A search that runs all the time never returns nothing while a file is renamed."""

import json
from pathlib import Path

from tests.e2e.harness import open_room, until
from tests.e2e.searcher import seeking

INDEX_S = 1.0


def test_a_file_renamed_before_a_reconcile_is_always_found(tmp_path: Path) -> None:
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


def test_a_folder_renamed_under_a_running_daemon_is_always_found(tmp_path: Path) -> None:
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


def test_the_next_daemon_makes_a_delete_that_waited_at_the_stop(tmp_path: Path) -> None:
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
