"""`retry` indexes entries with index errors again, without an upload, with and without a daemon."""

from pathlib import Path

import pytest

from tests.e2e.harness import Workspace, open_workspace

ITEM = "/accounts/{account_id}/ai-search/namespaces/{name}/instances/{id}/items"


def routes(workspace: Workspace) -> dict[str, int]:
    """Return the number of requests by route."""
    numbers: dict[str, int] = workspace.remote.counted()["routes"]
    return numbers


@pytest.mark.parametrize("index_delay", [0.0, 0.1])
def test_an_entry_with_an_index_error_is_reindexed_without_an_upload(tmp_path: Path, index_delay: float) -> None:
    with open_workspace(tmp_path, fail_index="bad", index_delay=index_delay) as workspace:
        workspace.write("bad.md")
        workspace.write("good.md")
        first = workspace.syncd("reconcile", "--wait", "--json")
        assert [problem["kind"] for problem in first.json()["mirrors"]["docs"]["problems"]] == ["index_error"]
        assert first.code == 1
        workspace.remote.forget_requests()
        retried = workspace.syncd("retry", "bad.md")
        assert (retried.code, retried.out) == (0, "1 item to try again\n")
        assert routes(workspace)[f"PATCH {ITEM}/{{item_id}}"] == 1
        assert f"POST {ITEM}" not in routes(workspace)
        after = workspace.syncd("reconcile", "--wait", "--json")
        assert [problem["kind"] for problem in after.json()["mirrors"]["docs"]["problems"]] == ["index_error"]


@pytest.mark.slow
def test_a_running_daemon_retries_and_reports_the_error_again(tmp_path: Path) -> None:
    with open_workspace(tmp_path, fail_index="bad", index_delay=0.1) as workspace:
        workspace.write("bad.md")
        with workspace.daemon() as daemon:
            daemon.saw("index.failed", key="bad.md")
            workspace.remote.forget_requests()
            retried = workspace.syncd("retry")
            assert (retried.code, retried.out) == (0, "1 item to try again\n")
            daemon.saw("index.again", key="bad.md")
            daemon.saw("index.failed", key="bad.md", count=2)
            assert routes(workspace)[f"PATCH {ITEM}/{{item_id}}"] == 1
            assert f"POST {ITEM}" not in routes(workspace)
            assert [problem["kind"] for problem in workspace.status()["problems"]] == ["index_error"]


def test_without_problems_retry_makes_no_request(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        retried = workspace.syncd("retry")
        assert (retried.code, retried.out) == (0, "0 items to try again\n")
        retried = workspace.syncd("retry", "nope.md")
        assert (retried.code, retried.out) == (0, "0 items to try again\n")
        assert "nope.md: nothing to try again; see: syncd explain nope.md\n" in retried.err
        assert workspace.remote.counted()["total"] == 0
