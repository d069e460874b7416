"""The commands over an index that leaves files out, is full, or is paused."""

import signal
from pathlib import Path

import pytest

from tests.e2e.harness import TOKEN, open_workspace, until


def test_a_skipped_file_is_named_everywhere_and_makes_the_exit_code_1(tmp_path: Path) -> None:
    with open_workspace(tmp_path, skip_index=r"big\.md$") as workspace:
        workspace.write("big.md")
        workspace.write("good.md")
        waited = workspace.syncd("reconcile", "--wait", "20", "--json")
        assert (waited.code, waited.json()["exit_code"]) == (1, 1)
        [problem] = waited.json()["mirrors"]["docs"]["problems"]
        assert (problem["key"], problem["kind"]) == ("big.md", "skipped")
        assert "the service skipped it" in problem["message"]
        status = workspace.status()
        assert (status["index"]["skipped"], status["searchable"]) == (1, 1)
        assert [problem["kind"] for problem in status["problems"]] == ["skipped"]
        assert "skipped" in workspace.syncd("status").out
        assert "skipped" in workspace.syncd("ls").out
        explained = workspace.syncd("explain", "big.md").out
        assert "the service leaves it out of the index" in explained
        assert "the service skipped it" in explained
        assert workspace.syncd("reconcile").code == 1, "it is still no searchable file"


def test_a_quota_is_named_with_the_time_of_the_next_try(tmp_path: Path) -> None:
    with open_workspace(tmp_path, index_error=("a=workers_ai_free_allocation_exceeded",)) as workspace:
        workspace.write("a.md")
        assert workspace.syncd("reconcile", "--wait", "2").code == 1
        explained = workspace.syncd("explain", "a.md").out
        assert "with ever longer pauses" in explained
        [line] = [line for line in explained.splitlines() if line.startswith("next try")]
        assert line.endswith("of the indexing")


@pytest.mark.parametrize("error", ["ai_search_is_full", "hybrid_search_is_full"])
def test_a_full_instance_halts_with_advice_and_is_left_alone(tmp_path: Path, error: str) -> None:
    with open_workspace(tmp_path, index_error=(f"late={error}",)) as workspace:
        workspace.write("early.md")
        assert workspace.syncd("reconcile", "--wait", "20").code == 0
        workspace.write("late.md")
        halted = workspace.syncd("reconcile", "--wait", "20")
        assert halted.code == 3
        for words in (error, "higher limit", "syncd retry"):
            assert words in halted.err
        status = workspace.status()
        assert (status["state"], error in status["detail"]) == ("halted", True)
        workspace.write("later.md")
        workspace.remote.forget_requests()
        assert workspace.syncd("reconcile").code == 3
        assert workspace.remote.counted()["changing"] == 0
        assert workspace.syncd("reconcile", "--dry-run").code in (0, 1)


def test_a_paused_instance_is_noticed_and_goes_on_when_it_is_resumed(tmp_path: Path) -> None:
    with open_workspace(tmp_path, token=TOKEN) as workspace:
        workspace.write("a.md")
        assert workspace.syncd("reconcile", "--wait", "20").code == 0
        workspace.remote.instance(paused=True)
        checked = workspace.syncd("check")
        assert checked.code == 3
        assert "the AI Search instance is paused" in checked.out
        assert "resume it" in checked.out
        workspace.write("b.md")
        assert workspace.syncd("reconcile").code == 3
        assert workspace.status()["state"] == "halted"
        assert "paused" in workspace.status()["detail"]
        workspace.remote.forget_requests()
        assert workspace.syncd("reconcile").code == 3
        counted = workspace.remote.counted()
        assert (counted["total"], counted["changing"]) == (1, 0)
        workspace.remote.instance(paused=False)
        assert workspace.syncd("reconcile", "--wait", "20").code == 0
        assert workspace.syncd("check").code == 0
        assert set(workspace.remote.files()) == {"a.md", "b.md"}


def test_a_daemon_shows_the_pause_and_goes_on_afterwards(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md")
        with workspace.daemon() as daemon:
            workspace.in_step()
            workspace.remote.instance(paused=True)
            workspace.write("b.md")
            until(lambda: workspace.status()["state"] == "halted", daemon.text)
            assert "resume it" in workspace.status()["detail"]
            workspace.remote.instance(paused=False)
            # The daemon looks by itself after five minutes at the latest, see tests/unit/service/test_worker.py.
            daemon.send(signal.SIGHUP)
            until(lambda: set(workspace.remote.files()) == {"a.md", "b.md"}, daemon.text)
            until(lambda: workspace.status()["state"] == "idle", daemon.text)
