"""All commands on a Vectorize mirror, with the real program and the stand-in."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ACCOUNT, Ended, open_workspace
from tests.e2e.harness_mcp import inner_agent
from tests.e2e.harness_vectorize import SMALL, VectorIndex

LARGE, M3 = "@cf/baai/bge-large-en-v1.5", "@cf/baai/bge-m3"
"""Two models of 1,024 dimensions."""
ANCHORS = "# Mooring\n\n## Anchors\n\nHow to drop an anchor in shallow water.\n"
ENGINES = "# Engines\n\nWhich diesel fuel an engine burns.\n"
LAG_S = 0.3


def guide(sections: int, **changed: str) -> str:
    """Return a Markdown file. changed: words of single sections, by "s" and their number."""
    words = (changed.get(f"s{number}", f"matter {number}") for number in range(sections))
    return "# Guide\n\n" + "".join(f"## Part {at}\n\nWhat to know of {word}.\n\n" for at, word in enumerate(words))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[VectorIndex]:
    """Yield an index that does not exist yet, and a folder with three files of text and two without."""
    with open_workspace(tmp_path, mutation_lag=LAG_S) as workspace:
        made = VectorIndex(workspace)
        workspace.write("guide.md", guide(12))
        workspace.write("sea/anchors.md", ANCHORS)
        workspace.write("sea/engines.txt", ENGINES)
        workspace.write("empty.md", "")
        workspace.write("picture.png", b"\x89PNG")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def synced(index: VectorIndex) -> VectorIndex:
    """Yield the same index after a first pass."""
    assert index.workspace.syncd("reconcile", "--wait").code == 0
    assert index.ids() == index.expected()
    index.workspace.remote.forget_requests()
    return index


def pass_result(index: VectorIndex, *options: str, code: int = 0) -> Any:
    """Return the result of a pass for the mirror."""
    seen = index.workspace.syncd("reconcile", "--json", *options)
    assert seen.code == code, seen.err
    result = seen.json()
    assert result["exit_code"] == code
    return result["mirrors"]["docs"]


def check_pass_and_index(index: VectorIndex, **done: int) -> None:
    """Check the counts of a pass, and wait until the index has the vectors of the folder."""
    assert pass_result(index)["result"] == {"put": 0, "delete": 0, "failed": 0, **done}
    index.in_step()


def check_output(seen: Ended, *words: str) -> None:
    assert all(word in seen.out for word in words), seen.out


def test_init_writes_a_config_that_passes_check_and_creates_the_index(index: VectorIndex) -> None:
    workspace = index.workspace
    workspace.config.unlink()
    env = {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_BASE_URL": workspace.server.base_url}
    env |= {"SYNCD_STATE_DIR": str(workspace.state)}
    without_token = {**env, "CLOUDFLARE_API_TOKEN": None}
    seen = workspace.syncd("init", str(workspace.docs), "--target", "vectorize:docs", env=without_token)
    assert seen.code == 0
    check_output(seen, "Account / Vectorize: Edit and Account / Workers AI: Read")
    before = workspace.syncd("check", env=env)
    assert before.code == 0
    check_output(before, "vectorize:docs is not there yet", "the first reconcile makes it", "3 files to mirror")
    assert workspace.remote.counted()["changing"] == 0
    assert workspace.syncd("reconcile", "--wait", env=env).code == 0
    after = workspace.syncd("check", env=env)
    assert after.code == 0
    check_output(after, "ok    docs: target", f"({len(index.ids())} vectors)")


@pytest.mark.slow
def test_without_the_extra_html_waits_and_other_files_are_uploaded(index: VectorIndex, tmp_path: Path) -> None:
    workspace = index.workspace
    workspace.write("page.html", "<h1>Sails</h1><p>How to furl a sail.")
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['markdownify'] = None")

    def without_extra(*arguments: str) -> tuple[int, str]:
        process = workspace.really(*arguments, env={"PYTHONPATH": str(tmp_path)})
        out, _ = process.communicate(timeout=60)
        return process.returncode, out.decode()

    code, out = without_extra("check")
    assert (code, "HTML files that cannot be converted: 1;" in out, "pip install 'syncd[vectorize]'" in out) == (
        0,
        True,
        True,
    )
    code, out = without_extra("reconcile", "--json")
    report = json.loads(out)["mirrors"]["docs"]
    assert (code, report["result"]) == (1, {"put": 3, "delete": 0, "failed": 1})
    (problem,) = [problem for problem in report["problems"] if problem["key"] == "page.html"]
    assert (problem["kind"], "pip install 'syncd[vectorize]'" in problem["message"]) == ("failed", True)
    assert "HTML files that" not in workspace.syncd("check").out
    assert pass_result(index)["result"] == {"put": 1, "delete": 0, "failed": 0}


def test_a_dry_run_forecasts_and_sends_nothing_that_changes_anything(index: VectorIndex) -> None:
    result = pass_result(index, "-n")
    assert (result["dry_run"], result["plan"]["put"]) == (True, 3)
    assert {action["reason"] for action in result["actions"]} == {"new"}
    assert result["forecast"]["requests"] > 0
    assert "outcome" not in result["actions"][0]
    counted = index.workspace.remote.counted()
    assert (counted["changing"], counted["embedded_texts"], index.ids()) == (0, 0, [])


def test_the_first_and_the_second_pass_report_as_in_the_contract(index: VectorIndex) -> None:
    result = pass_result(index, "--wait")
    assert (result["dry_run"], result["complete"]) == (False, True)
    assert result["plan"] == {"put": 3, "delete": 0, "adopt": 0, "forget": 0, "unchanged": 0}
    assert {(action["action"], action["outcome"]) for action in result["actions"]} == {("put", "done")}
    kinds = {problem["key"]: problem["kind"] for problem in result["problems"]}
    assert kinds == {"empty.md": "empty", "picture.png": "unsupported_type"}
    assert result["result"] == {"put": 3, "delete": 0, "failed": 0}
    assert index.ids() == index.expected()
    index.workspace.remote.forget_requests()
    assert pass_result(index)["plan"] == {"put": 0, "delete": 0, "adopt": 0, "forget": 0, "unchanged": 3}
    counted = index.workspace.remote.counted()
    assert (counted["total"], counted["changing"], counted["embedded_texts"]) == (1, 0, 0)


def test_ls_and_status_show_the_entries(synced: VectorIndex) -> None:
    workspace = synced.workspace
    status = workspace.status()
    assert (status["state"], status["target"]) == ("idle", "vectorize:docs")
    assert status["items"] == {"synced": 3, "pending": 0, "failed": 0, "rejected": 2}
    assert status["index"]["completed"] == 3
    rows = {row["key"]: row for row in workspace.syncd("ls", "--json").json()["items"]}
    assert (rows["guide.md"]["state"], rows["guide.md"]["index"]) == ("synced", "completed")
    assert rows["picture.png"]["state"] == "rejected: unsupported_type"
    remote = {row["key"]: row for row in workspace.syncd("ls", "--remote", "--json").json()["items"]}
    assert set(remote) == {"guide.md", "sea/anchors.md", "sea/engines.txt"}
    assert {row["owner"] for row in remote.values()} == {"docs"}
    seen = workspace.syncd("explain", str(workspace.docs / "guide.md"))
    check_output(seen, "docs: ", "vectorize:docs", "index      completed", remote["guide.md"]["ref"])
    for command in (("ls",), ("ls", "--remote"), ("status",)):
        assert workspace.syncd(*command).code == 0
    assert workspace.remote.counted()["changing"] == 0


def test_explain_shows_what_the_next_pass_does_with_a_file(synced: VectorIndex) -> None:
    workspace = synced.workspace
    workspace.write("latin.txt", "café".encode("latin-1"))
    assert pass_result(synced)["result"]["put"] == 0
    check_output(
        workspace.syncd("explain", str(workspace.docs / "latin.txt")), "next       nothing until the file changes"
    )
    workspace.write("latin.txt", "café")
    check_output(workspace.syncd("explain", str(workspace.docs / "latin.txt")), "next       the next pass sends it")
    workspace.write("guide.md", guide(11))
    check_output(workspace.syncd("explain", "guide.md"), "has changed since it was sent", "next")


def test_search_finds_the_file_and_its_heading(synced: VectorIndex) -> None:
    workspace = synced.workspace
    hits = workspace.syncd("search", "drop an anchor in shallow water", "--json").json()["hits"]
    assert (hits[0]["key"], hits[0]["heading"]) == ("sea/anchors.md", "Mooring > Anchors")
    assert hits[0]["path"] == str(workspace.docs / "sea/anchors.md")
    plain = workspace.syncd("search", "diesel engine", "--json").json()["hits"][0]
    assert (plain["key"], plain["heading"]) == ("sea/engines.txt", None)
    check_output(workspace.syncd("search", "diesel engine", "--limit", "1"), "sea/engines.txt")


async def test_an_agent_gets_the_headings(synced: VectorIndex) -> None:
    async with inner_agent(synced.workspace) as it:
        [hit] = (await it.ask("search", query="drop an anchor in shallow water", limit=1, folder="sea"))["hits"]
        assert (hit["key"], hit["heading"], hit["freshness"]) == ("sea/anchors.md", "Mooring > Anchors", "current")


def test_verify_compares_the_metadata_of_the_vectors(synced: VectorIndex) -> None:
    workspace = synced.workspace
    for options in ((), ("--deep",)):
        seen = workspace.syncd("verify", *options)
        assert seen.code == 0, seen.err
        check_output(seen, "3 keys compared", "no difference")
    check_output(workspace.syncd("verify", "--deep"), "with the metadata of each vector")
    synced.drop(synced.expected()[0])
    workspace.write("guide.md", guide(11))
    (workspace.docs / "sea/engines.txt").unlink()
    workspace.write("new.md", "# New\n\nUnseen.\n")
    for options in ((), ("--deep",)):
        seen = workspace.syncd("verify", "--json", *options)
        found = {found["key"]: found["difference"] for found in seen.json()["mirrors"]["docs"]["differences"]}
        assert seen.code == 6
        assert found.items() >= {"guide.md": "changed", "sea/engines.txt": "extra", "new.md": "missing"}.items()


def test_pull_reports_in_one_line_that_there_are_no_files(synced: VectorIndex) -> None:
    out = synced.workspace.path / "out"
    seen = synced.workspace.syncd("pull", str(out))
    assert (seen.code, seen.out, seen.err.count("\n"), out.exists()) == (2, "", 1, False)
    assert "pieces of text" in seen.err


@pytest.mark.slow
def test_edits_renames_and_deletes_give_exact_ids(synced: VectorIndex) -> None:
    workspace = synced.workspace
    workspace.write("guide.md", guide(12, s5="something else"))
    check_pass_and_index(synced, put=1)
    assert 1 <= synced.embedded() <= 2
    workspace.remote.forget_requests()
    (workspace.docs / "guide.md").rename(workspace.docs / "sea/manual.md")
    check_pass_and_index(synced, put=1, delete=1)
    assert synced.embedded() == 0
    workspace.write("sea/manual.md", guide(3, s5="something else"))
    check_pass_and_index(synced, put=1)
    assert synced.embedded() == 0
    workspace.write("sea/manual.md", "\n")
    result = pass_result(synced)
    assert result["result"]["put"] == 0
    assert {problem["key"]: problem["kind"] for problem in result["problems"]}["sea/manual.md"] == "empty"
    (workspace.docs / "sea/manual.md").unlink()
    (workspace.docs / "sea/anchors.md").unlink()
    check_pass_and_index(synced, delete=2)
    assert pass_result(synced)["actions"] == []


def test_a_lost_state_directory_causes_no_embedding(synced: VectorIndex) -> None:
    for file in synced.workspace.state.glob("state.db*"):
        file.unlink()
    assert pass_result(synced)["plan"]["adopt"] == 3
    counted = synced.workspace.remote.counted()
    assert (counted["embedded_texts"], counted["changing"]) == (0, 0)


@pytest.mark.slow
def test_another_model_exits_3_and_names_force_which_embeds_all_files_again(index: VectorIndex) -> None:
    workspace = index.workspace
    index.make(1024)
    index.use(LARGE)
    assert workspace.syncd("reconcile", "--wait").code == 0
    before = index.ids()
    assert before == index.expected()
    index.use(M3)
    for options in (("-n",), ()):
        seen = workspace.syncd("reconcile", *options)
        assert (seen.code, "3 files" in seen.err, "--force" in seen.err) == (3, True, True)
        assert seen.out.startswith("docs → vectorize:docs: stopped, nothing done")
    assert workspace.status()["state"] == "halted"
    seen = workspace.syncd("verify")
    assert (seen.code, seen.out, "--force" in seen.err) == (3, "docs: not compared\n", True)
    assert index.ids() == before
    assert pass_result(index, "--force", "-n")["plan"]["put"] == 3
    assert index.ids() == before
    assert pass_result(index, "--force", "--wait")["result"]["put"] == 3
    assert index.ids() == index.expected()
    assert not set(before) & set(index.ids())
    assert pass_result(index)["actions"] == []


def test_a_model_of_other_dimensions_exits_3_before_anything_is_written(index: VectorIndex) -> None:
    index.make(768)
    seen = index.workspace.syncd("reconcile")
    assert (seen.code, "384" in seen.err, "768" in seen.err, index.ids()) == (3, True, True, [])
    seen = index.workspace.syncd("check")
    assert (seen.code, "FAIL  docs: target" in seen.out) == (3, True)


@pytest.mark.slow
def test_the_daemon_follows_an_edit_and_ends_on_sigterm(index: VectorIndex) -> None:
    workspace = index.workspace
    with workspace.daemon() as daemon:
        index.in_step()
        workspace.write("sea/anchors.md", ANCHORS + "\n## Chains\n\nAs long as the water is deep, five times.\n")
        daemon.saw("put.done", key="sea/anchors.md", count=2)
        index.in_step()
        (workspace.docs / "guide.md").unlink()
        index.in_step()
        daemon.saw("index.done", key="sea/anchors.md")
        code, seconds = daemon.stop(signal.SIGTERM)
        assert (code, seconds < 5) == (0, True)
    index.use(SMALL)
    assert pass_result(index)["actions"] == []
