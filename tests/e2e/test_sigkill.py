"""After a SIGKILL the next pass completes the work, and uploads again only the files that were in flight."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from syncd.state.caches import CREDENTIALS_WORKED
from syncd.state.db import Meta
from syncd.state.directory import FILE_NAME
from tests.e2e.harness import files_of, open_workspace, until

FILES = 60
TRANSFERS = 4
UPLOAD = "POST /accounts/{account_id}/ai-search/namespaces/{name}/instances/{id}/items"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("on_existing", ["overwrite", "conflict"])
def test_the_next_pass_completes_a_killed_one(tmp_path: Path, on_existing: str, seed: int) -> None:
    with open_workspace(tmp_path, on_existing=on_existing, latency=0.005) as workspace:
        workspace.configure(cloudflare=f"transfers = {TRANSFERS}")
        for number in range(FILES):
            workspace.write(f"part{number % 7}/file{number}.md", f"text of file {number}")
        # At most four requests come before the first upload. They list, and create the instance.
        enough = random.Random(f"{on_existing} {seed}").randrange(2, FILES)
        process = workspace.start("reconcile")
        until(lambda: workspace.server.requests.total >= enough or not process.process.is_alive())
        process.kill()
        until(_is_steady(lambda: len(workspace.remote.items())), "the stand-in finishes its work")
        stored = len(workspace.remote.items())
        workspace.remote.forget_requests()

        seen = workspace.syncd("reconcile", "--json")

        uploads = workspace.remote.counted()["routes"].get(UPLOAD, 0)
        assert (seen.code, seen.err) == (0, "")
        assert workspace.remote.files() == files_of(workspace.docs)
        assert uploads <= FILES - stored + TRANSFERS
        workspace.nothing_left_to_do()


def test_a_killed_daemon_knows_that_its_token_has_worked(tmp_path: Path) -> None:
    """A token that has worked is tried again for minutes before its refusal halts the mirror."""
    with open_workspace(tmp_path) as workspace, ExitStack() as stack:
        daemon = stack.enter_context(workspace.daemon())
        daemon.saw("pass.done")

        def stored() -> object:
            with closing(sqlite3.connect(workspace.state / FILE_NAME)) as db:
                found = Meta(db, "").get(CREDENTIALS_WORKED)
                return isinstance(found, dict) and found["kinds"]

        until(stored, "the kinds of requests that worked are stored while the daemon runs", within_s=10)
        stack.pop_all()
        daemon.kill()
        assert stored()


def _is_steady(count: Callable[[], int]) -> Callable[[], bool]:
    """Return a function that is true when two calls in a row have the same count."""
    seen = [-1]

    def same() -> bool:
        seen.append(count())
        return seen[-1] == seen[-2]

    return same
