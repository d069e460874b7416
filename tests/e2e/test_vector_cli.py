"""A folder as vectors, as people and scripts meet it: the whole story through the real program, over the stand-in."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ACCOUNT, Ended, open_room
from tests.e2e.harness_vectorize import SMALL, VectorIndex

LARGE, M3 = "@cf/baai/bge-large-en-v1.5", "@cf/baai/bge-m3"
"""Two models of 1,024 dimensions."""
ANCHORS = "# Mooring\n\n## Anchors\n\nHow to drop an anchor in shallow water.\n"
ENGINES = "# Engines\n\nWhich diesel fuel an engine burns.\n"
LAG_S = 0.3


def guide(sections: int, **changed: str) -> str:
    """A Markdown file; changed: words of single sections, by "s" and their number."""
    words = (changed.get(f"s{number}", f"matter {number}") for number in range(sections))
    return "# Guide\n\n" + "".join(f"## Part {at}\n\nWhat to know of {word}.\n\n" for at, word in enumerate(words))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[VectorIndex]:
    """Three files to mirror, and two that hold no text; nothing is in the account yet."""
    with open_room(tmp_path, mutation_lag=LAG_S) as room:
        made = VectorIndex(room)
        room.write("guide.md", guide(12))
        room.write("sea/anchors.md", ANCHORS)
        room.write("sea/engines.txt", ENGINES)
        room.write("empty.md", "")
        room.write("picture.png", b"\x89PNG")
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def synced(index: VectorIndex) -> VectorIndex:
    """The same after a first pass."""
    assert index.room.syncd("reconcile", "--wait").code == 0
    assert index.ids() == index.expected()
    index.room.remote.forget_requests()
    return index


def passed(index: VectorIndex, *options: str, code: int = 0) -> Any:
    """The mirror's part of what a pass says."""
    seen = index.room.syncd("reconcile", "--json", *options)
    assert seen.code == code, seen.err
    told = seen.json()
    assert told["exit_code"] == code
    return told["mirrors"]["docs"]


def followed_by_the_index(index: VectorIndex, **done: int) -> None:
    """A pass does so much, and soon the index holds what the folder gives."""
    assert passed(index)["result"] == {"put": 0, "delete": 0, "failed": 0, **done}
    index.in_step()


def said(seen: Ended, *words: str) -> None:
    assert all(word in seen.out for word in words), seen.out


def test_init_writes_a_config_that_checks_and_makes_the_index(index: VectorIndex) -> None:
    room = index.room
    room.config.unlink()
    env = {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_BASE_URL": room.server.base_url}
    env |= {"SYNCD_STATE_DIR": str(room.state)}
    seen = room.syncd("init", str(room.docs), "--target", "vectorize:docs", env=env)
    assert seen.code == 0
    said(seen, "Account / Vectorize: Edit and Account / Workers AI: Read")
    before = room.syncd("check", env=env)
    assert before.code == 0
    said(before, "vectorize:docs is not there yet", "the first reconcile makes it", "3 files to mirror")
    assert room.remote.counted()["changing"] == 0
    assert room.syncd("reconcile", "--wait", env=env).code == 0
    after = room.syncd("check", env=env)
    assert after.code == 0
    said(after, "ok    docs: target", f"({len(index.ids())} vectors)")


def test_without_the_extra_html_waits_and_other_files_go_up(index: VectorIndex, tmp_path: Path) -> None:
    room = index.room
    room.write("page.html", "<h1>Sails</h1><p>How to furl a sail.")
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['markdownify'] = None")

    def without_extra(*arguments: str) -> tuple[int, str]:
        process = room.really(*arguments, env={"PYTHONPATH": str(tmp_path)})
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
    (problem,) = [each for each in report["problems"] if each["key"] == "page.html"]
    assert (problem["kind"], "pip install 'syncd[vectorize]'" in problem["message"]) == ("failed", True)
    assert "HTML files that" not in room.syncd("check").out
    assert passed(index)["result"] == {"put": 1, "delete": 0, "failed": 0}


def test_a_dry_run_forecasts_and_sends_nothing_that_changes_anything(index: VectorIndex) -> None:
    told = passed(index, "-n")
    assert (told["dry_run"], told["plan"]["put"]) == (True, 3)
    assert {action["reason"] for action in told["actions"]} == {"new"}
    assert told["forecast"]["requests"] > 0
    assert "outcome" not in told["actions"][0]
    counted = index.room.remote.counted()
    assert (counted["changing"], counted["embedded_texts"], index.ids()) == (0, 0, [])


def test_a_first_pass_and_the_next_say_what_the_contract_says(index: VectorIndex) -> None:
    told = passed(index, "--wait")
    assert (told["dry_run"], told["complete"]) == (False, True)
    assert told["plan"] == {"put": 3, "delete": 0, "adopt": 0, "forget": 0, "unchanged": 0}
    assert {(each["action"], each["outcome"]) for each in told["actions"]} == {("put", "done")}
    kinds = {each["key"]: each["kind"] for each in told["problems"]}
    assert kinds == {"empty.md": "empty", "picture.png": "unsupported_type"}
    assert told["result"] == {"put": 3, "delete": 0, "failed": 0}
    assert index.ids() == index.expected()
    index.room.remote.forget_requests()
    assert passed(index)["plan"] == {"put": 0, "delete": 0, "adopt": 0, "forget": 0, "unchanged": 3}
    counted = index.room.remote.counted()
    assert (counted["total"], counted["changing"], counted["embedded_texts"]) == (1, 0, 0)


def test_what_is_there_is_shown(synced: VectorIndex) -> None:
    room = synced.room
    status = room.status()
    assert (status["state"], status["target"]) == ("idle", "vectorize:docs")
    assert status["items"] == {"synced": 3, "pending": 0, "failed": 0, "rejected": 2}
    assert status["index"]["completed"] == 3
    rows = {row["key"]: row for row in room.syncd("ls", "--json").json()["items"]}
    assert (rows["guide.md"]["state"], rows["guide.md"]["index"]) == ("synced", "completed")
    assert rows["picture.png"]["state"] == "rejected: unsupported_type"
    remote = {row["key"]: row for row in room.syncd("ls", "--remote", "--json").json()["items"]}
    assert set(remote) == {"guide.md", "sea/anchors.md", "sea/engines.txt"}
    assert {row["owner"] for row in remote.values()} == {"docs"}
    seen = room.syncd("explain", str(room.docs / "guide.md"))
    said(seen, "docs: ", "vectorize:docs", "index      completed", remote["guide.md"]["ref"])
    for command in (("ls",), ("ls", "--remote"), ("status",)):
        assert room.syncd(*command).code == 0
    assert room.remote.counted()["changing"] == 0


def test_explain_says_what_the_next_pass_makes_of_a_file(synced: VectorIndex) -> None:
    room = synced.room
    room.write("latin.txt", "café".encode("latin-1"))
    assert passed(synced)["result"]["put"] == 0
    said(room.syncd("explain", str(room.docs / "latin.txt")), "next       nothing until the file changes")
    room.write("latin.txt", "café")
    said(room.syncd("explain", str(room.docs / "latin.txt")), "next       the next pass sends it")
    room.write("guide.md", guide(11))
    said(room.syncd("explain", "guide.md"), "has changed since it was sent", "next")


def test_search_finds_the_file_and_its_heading(synced: VectorIndex) -> None:
    room = synced.room
    hits = room.syncd("search", "drop an anchor in shallow water", "--json").json()["hits"]
    assert (hits[0]["key"], hits[0]["heading"]) == ("sea/anchors.md", "Mooring > Anchors")
    assert hits[0]["path"] == str(room.docs / "sea/anchors.md")
    said(room.syncd("search", "diesel engine", "--limit", "1"), "sea/engines.txt")


def test_verify_compares_with_what_the_vectors_say_of_their_file(synced: VectorIndex) -> None:
    room = synced.room
    for options in ((), ("--deep",)):
        seen = room.syncd("verify", *options)
        assert seen.code == 0, seen.err
        said(seen, "3 keys compared", "no difference")
    said(room.syncd("verify", "--deep"), "with what each vector says of its file")
    synced.drop(synced.expected()[0])
    room.write("guide.md", guide(11))
    (room.docs / "sea/engines.txt").unlink()
    room.write("new.md", "# New\n\nUnseen.\n")
    for options in ((), ("--deep",)):
        seen = room.syncd("verify", "--json", *options)
        found = {each["key"]: each["difference"] for each in seen.json()["mirrors"]["docs"]["differences"]}
        assert seen.code == 6
        assert found.items() >= {"guide.md": "changed", "sea/engines.txt": "extra", "new.md": "missing"}.items()


def test_pull_says_in_one_line_that_there_are_no_files(synced: VectorIndex) -> None:
    out = synced.room.path / "out"
    seen = synced.room.syncd("pull", str(out))
    assert (seen.code, seen.out, seen.err.count("\n"), out.exists()) == (2, "", 1, False)
    assert "pieces of text" in seen.err


def test_edits_renames_and_deletes_are_followed_to_the_very_id(synced: VectorIndex) -> None:
    room = synced.room
    room.write("guide.md", guide(12, s5="something else"))
    followed_by_the_index(synced, put=1)
    assert 1 <= synced.embedded() <= 2
    room.remote.forget_requests()
    (room.docs / "guide.md").rename(room.docs / "sea/manual.md")
    followed_by_the_index(synced, put=1, delete=1)
    assert synced.embedded() == 0
    room.write("sea/manual.md", guide(3, s5="something else"))
    followed_by_the_index(synced, put=1)
    assert synced.embedded() == 0
    room.write("sea/manual.md", "\n")
    told = passed(synced)
    assert told["result"]["put"] == 0
    assert {each["key"]: each["kind"] for each in told["problems"]}["sea/manual.md"] == "empty"
    (room.docs / "sea/manual.md").unlink()
    (room.docs / "sea/anchors.md").unlink()
    followed_by_the_index(synced, delete=2)
    assert passed(synced)["actions"] == []


def test_a_lost_state_directory_costs_no_embedding(synced: VectorIndex) -> None:
    for file in synced.room.state.glob("state.db*"):
        file.unlink()
    assert passed(synced)["plan"]["adopt"] == 3
    counted = synced.room.remote.counted()
    assert (counted["embedded_texts"], counted["changing"]) == (0, 0)


def test_another_model_is_3_and_names_force_which_embeds_all_again(index: VectorIndex) -> None:
    room = index.room
    index.make(1024)
    index.use(LARGE)
    assert room.syncd("reconcile", "--wait").code == 0
    before = index.ids()
    assert before == index.expected()
    index.use(M3)
    for options in (("-n",), ()):
        seen = room.syncd("reconcile", *options)
        assert (seen.code, "3 files" in seen.err, "--force" in seen.err) == (3, True, True)
        assert seen.out.startswith("docs → vectorize:docs: stopped, nothing done")
    assert room.status()["state"] == "halted"
    seen = room.syncd("verify")
    assert (seen.code, seen.out, "--force" in seen.err) == (3, "docs: not compared\n", True)
    assert index.ids() == before
    assert passed(index, "--force", "-n")["plan"]["put"] == 3
    assert index.ids() == before
    assert passed(index, "--force", "--wait")["result"]["put"] == 3
    assert index.ids() == index.expected()
    assert not set(before) & set(index.ids())
    assert passed(index)["actions"] == []


def test_a_model_of_other_dimensions_is_3_before_anything_is_written(index: VectorIndex) -> None:
    index.make(768)
    seen = index.room.syncd("reconcile")
    assert (seen.code, "384" in seen.err, "768" in seen.err, index.ids()) == (3, True, True, [])
    seen = index.room.syncd("check")
    assert (seen.code, "FAIL  docs: target" in seen.out) == (3, True)


def test_the_daemon_follows_an_edit_and_ends_on_sigterm(index: VectorIndex) -> None:
    room = index.room
    with room.daemon() as daemon:
        index.in_step()
        room.write("sea/anchors.md", ANCHORS + "\n## Chains\n\nAs long as the water is deep, five times.\n")
        daemon.saw("put.done", key="sea/anchors.md", count=2)
        index.in_step()
        (room.docs / "guide.md").unlink()
        index.in_step()
        daemon.saw("index.done", key="sea/anchors.md")
        code, seconds = daemon.stop(signal.SIGTERM)
        assert (code, seconds < 5) == (0, True)
    index.use(SMALL)
    assert passed(index)["actions"] == []
