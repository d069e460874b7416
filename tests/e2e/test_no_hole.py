"""A search that runs all the time never returns nothing while a file is renamed."""

import json
from pathlib import Path

import pytest

from tests.e2e.harness import open_workspace, until
from tests.e2e.searcher import seeking

pytestmark = pytest.mark.slow

INDEX_S = 1.0


def test_a_file_renamed_before_a_reconcile_is_always_found(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_delay=INDEX_S) as workspace:
        workspace.write("old.md", "the word is quagga")
        workspace.write("other.md", "the word is okapi")
        assert workspace.syncd("reconcile", "--wait", "30").code == 0
        with seeking(workspace, "quagga") as seeker:
            until(lambda: seeker.last)
            (workspace.docs / "old.md").rename(workspace.docs / "new.md")
            ended = workspace.syncd("reconcile", "--json")
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
        workspace.nothing_left_to_do()


def test_a_folder_renamed_under_a_running_daemon_is_always_found(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_delay=INDEX_S) as workspace:
        workspace.configure(mirror="max_delete = 100")
        for number in range(30):
            workspace.write(f"old/{number}.md", f"the word is quagga, file {number}")
        with workspace.daemon("-v") as daemon:
            workspace.in_step()
            with seeking(workspace, "quagga") as seeker:
                until(lambda: len(seeker.last) == 10)
                (workspace.docs / "old").rename(workspace.docs / "new")
                until(lambda: set(workspace.remote.marks()) == {f"new/{number}.md" for number in range(30)})
                until(lambda: workspace.status()["index"]["queued"] + workspace.status()["index"]["running"] == 0)
            assert seeker.holes_s() == [], seeker.seen
            daemon.saw("delete.waits")
            workspace.in_step()


def test_the_next_daemon_makes_a_delete_that_waited_at_the_stop(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_delay=4 * INDEX_S) as workspace:
        workspace.write("old.md", "the word is quagga")
        workspace.write("other.md", "the word is okapi")
        assert workspace.syncd("reconcile", "--wait", "30").code == 0
        with seeking(workspace, "quagga") as seeker:
            until(lambda: seeker.last)
            with workspace.daemon("-v") as daemon:
                daemon.saw("pass.done", scope="all")
                (workspace.docs / "old.md").rename(workspace.docs / "new.md")
                daemon.saw("delete.waits")
                daemon.stop()
            assert set(workspace.remote.marks()) == {"old.md", "new.md", "other.md"}
            with workspace.daemon():
                until(lambda: seeker.last == {"new.md"})
        assert seeker.holes_s() == [], seeker.seen
