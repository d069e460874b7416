"""`check --probe` as a user runs it, against stand-ins of opposite manners, and the requests of the next pass."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from syncd.core.probe_answers import PROBE_STEM
from tests.e2e.harness import Workspace, open_workspace, until

OVERWRITE = {"on_existing": "overwrite", "checksum": "zero", "list_lag": 0}
CONFLICT = {"on_existing": "conflict", "checksum": "sha256", "list_lag": 1, "form_names": "percent"}
FILES = 5


def change(workspace: Workspace, text: str) -> int:
    """Change every file, make a pass, and return the number of its requests."""
    for number in range(FILES):
        workspace.write(f"{number}.md", f"{text} {number}")
    ended = workspace.syncd("reconcile", "--json")
    assert ended.code == 0, ended.err
    requests: int = ended.json()["mirrors"]["docs"]["requests"]
    return requests


def probed(workspace: Workspace, *arguments: str) -> dict[str, Any]:
    """Probe, and return the JSON of the mirror. The requests are counted by the stand-in."""
    workspace.remote.forget_requests()
    ended = workspace.syncd("check", "--probe", "--json", *arguments)
    assert ended.code == 0, ended.err
    answer: dict[str, Any] = ended.json()["mirrors"]["docs"]
    assert answer["requests"] == workspace.remote.counted()["total"] <= 10
    return answer


@pytest.mark.slow
@pytest.mark.parametrize(("manners", "saved_per_file"), [(OVERWRITE, 0), (CONFLICT, 1)], ids=["overwrite", "conflict"])
def test_the_next_pass_makes_no_request_that_the_probe_made_needless(
    tmp_path: Path, manners: dict[str, Any], saved_per_file: int
) -> None:
    with open_workspace(tmp_path, **manners) as workspace:
        change(workspace, "first")
        without = change(workspace, "second")
        answers = probed(workspace)["answers"]
        assert answers["existing"] == manners["on_existing"]
        assert answers["checksum"] == manners["checksum"]
        assert answers["names"] == manners.get("form_names", "backslash")
        workspace.remote.forget_requests()
        with_probe = change(workspace, "third")
        assert with_probe <= without - saved_per_file * FILES
        routes = workspace.remote.counted()["routes"]
        assert sum(number for route, number in routes.items() if route.startswith("POST ")) == FILES
        workspace.write('say "hello".md')
        assert workspace.syncd("reconcile").code == 0
        until(lambda: 'say "hello".md' in {row["key"] for row in workspace.remote.items()}, "the name is stored")


def test_a_running_daemon_goes_by_a_probe_that_is_made_meanwhile(tmp_path: Path) -> None:
    with open_workspace(tmp_path, on_existing="conflict") as workspace:
        workspace.write("a.md", "one")
        with workspace.daemon() as daemon:
            daemon.saw("pass.done")
            assert probed(workspace)["answers"]["existing"] == "conflict"
            workspace.remote.forget_requests()
            workspace.write("a.md", "two")
            workspace.in_step(very_bytes=False)
            routes = workspace.remote.counted()["routes"]
            assert sum(number for route, number in routes.items() if route.startswith("POST ")) == 1


def test_the_table_is_printed_and_check_alone_changes_nothing(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("a.md", "one")
        assert workspace.syncd("reconcile").code == 0
        before = workspace.remote.items()
        ended = workspace.syncd("check", "--probe", "-m", "docs")
        assert ended.code == 0
        assert "a second upload of a name" in ended.out
        assert "replaces the item" in ended.out
        assert workspace.remote.items() == before
        workspace.remote.forget_requests()
        checked = workspace.syncd("check")
        assert "docs: probe" in checked.out
        assert workspace.remote.counted()["changing"] == 0
        unknown = workspace.syncd("check", "--probe", "-m", "nobody", may=True)
        assert unknown.code == 2


@pytest.mark.slow
def test_what_a_killed_probe_leaves_is_removed_by_the_next_one(tmp_path: Path) -> None:
    with open_workspace(tmp_path, latency=0.3) as workspace:
        workspace.write("a.md", "one")
        assert workspace.syncd("reconcile").code == 0

        def left() -> list[str]:
            return [row["key"] for row in workspace.remote.items() if PROBE_STEM in row["key"]]

        running = workspace.start("check", "--probe")
        until(lambda: bool(left()), "the item is up")
        running.send(signal.SIGKILL)
        running.ends()
        names = left()
        assert names
        ended = workspace.syncd("check", "--probe", "--json")
        assert json.loads(ended.out)["mirrors"]["docs"]["removed"] == len(names)
        assert left() == []
        assert set(workspace.remote.files()) == {"a.md"}


def test_a_target_that_is_missing_is_named_and_nothing_is_learned(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(target="")
        (workspace.config).write_text(workspace.config.read_text().replace('instance = "docs"', 'instance = "other"'))
        ended = workspace.syncd("check", "--probe")
        assert ended.code == 3
        assert "nothing was learned" in ended.err


def test_workers_kv_and_vectorize_have_nothing_to_learn(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.configure(
            more=f'[mirrors.kv]\npath = "{workspace.docs}"\n[mirrors.kv.target]\ntype = "kv"\nnamespace_title = "docs"'
        )
        workspace.remote.forget_requests()
        ended = workspace.syncd("check", "--probe", "-m", "kv")
        assert (ended.code, ended.out) == (0, "kv: kv:docs: nothing to learn; its answers are documented\n")
        assert workspace.remote.counted()["total"] == 0


@pytest.mark.slow
def test_the_first_command_of_all_may_be_a_probe_and_its_leftovers_are_known_later(tmp_path: Path) -> None:
    with open_workspace(tmp_path, latency=0.3) as workspace:
        workspace.config.write_text(workspace.config.read_text().replace('owner = "docs"\n', ""))
        workspace.remote.create("docs")
        running = workspace.start("check", "--probe")
        until(lambda: bool(workspace.remote.items()), "the item is up")
        running.send(signal.SIGKILL)
        running.ends()
        workspace.write("a.md", "one")
        assert workspace.syncd("reconcile").code == 0
        left = [row for row in workspace.remote.items() if PROBE_STEM in row["key"]]
        [mine] = [row for row in workspace.remote.items() if row["key"] == "a.md"]
        assert {row["metadata"]["owner"] for row in left} == {mine["metadata"]["owner"]}
        assert workspace.syncd("check", "--probe").code == 0
        assert set(workspace.remote.files()) == {"a.md"}
