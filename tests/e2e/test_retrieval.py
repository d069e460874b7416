"""A file of questions measures what the search of a target finds."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Ended, Workspace, on_a_terminal, open_workspace, until
from tests.e2e.harness_vectorize import VectorIndex

TEXTS = {"coffee.md": "Brew for 30 seconds.", "sub/tyres.md": "Pump the tyres to 4 bar.", "roses.md": "Prune in March."}
QUESTIONS = [("brew", "coffee.md", "30 seconds"), ("tyres", "sub/", "5 bar"), ("prune", "coffee.md", "")]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """Yield a workspace with three files that are uploaded and indexed."""
    with open_workspace(tmp_path) as workspace:
        fill(workspace)
        yield workspace


def fill(workspace: Workspace) -> None:
    for name, text in TEXTS.items():
        workspace.write(name, text)
    seen = workspace.syncd("reconcile", "--wait")
    assert seen.code == 0, seen.err
    workspace.remote.forget_requests()


def questions(workspace: Workspace, *rows: tuple[str, str, str]) -> str:
    file = workspace.path / "questions.jsonl"
    fields = ("query", "expect", "answer")
    file.write_text("\n".join(json.dumps(dict(zip(fields, row, strict=True))) for row in rows or QUESTIONS))
    return str(file)


def ask(workspace: Workspace, *options: str, code: int = 6) -> Any:
    seen = workspace.syncd("verify", "--queries", questions(workspace), "--json", *options)
    assert seen.code == code, seen.err + seen.out
    assert seen.json()["exit_code"] == code
    return seen.json()["mirrors"]["docs"]


def test_the_figures_and_the_misses_are_printed(workspace: Workspace) -> None:
    seen = workspace.syncd("verify", "--queries", questions(workspace))
    lines = seen.out.splitlines()
    assert lines[0] == "docs: 2 of 3 questions found their file, hit@10 0.667, MRR 0.667, 1 of 2 answer texts found"
    assert lines[1].split("  ")[1:4] == ["no answer", "'tyres'", "sub/"]
    assert lines[1].endswith("rank 1, score 1.00, but no hit of this file contains the text '5 bar'")
    assert lines[2].startswith(
        "  not found  'prune'  coffee.md  it is in the index; the search ranks other text higher."
    )
    assert lines[2].endswith("Found instead: 1. roses.md (1.00)")
    assert (seen.code, len(lines), seen.err) == (6, 3, "")
    counted = workspace.remote.counted()
    assert (counted["changing"], counted["total"]) == (0, 3)


def test_the_json_has_the_figures(workspace: Workspace) -> None:
    found = ask(workspace)["retrieval"]
    assert found == {
        "top": 10,
        "questions": 3,
        "answered": 3,
        "found": 2,
        "failed": 0,
        "hit_rate": pytest.approx(2 / 3),
        "mrr": pytest.approx(2 / 3),
        "texts": 2,
        "texts_found": 1,
    }


@pytest.mark.parametrize(("share", "code"), [("0.66", 0), ("0.67", 6), ("0", 0), ("1", 6)])
def test_the_share_decides_the_exit_code(workspace: Workspace, share: str, code: int) -> None:
    ask(workspace, "--min-hit", share, code=code)


def test_results_are_saved_and_compared(workspace: Workspace) -> None:
    ask(workspace, "--save", "saved.json")
    workspace.write("coffee.md", "Prune and brew for 30 minutes.")
    workspace.syncd("reconcile", "--wait")
    compared = ask(workspace, "--against", "saved.json", "--save", "saved.json")["comparison"]
    assert [(changed["query"], changed["rank_before"]) for changed in compared["better"]] == [("prune", None)]
    assert [(changed["query"], changed["answered_before"], changed["answered"]) for changed in compared["worse"]] == [
        ("brew", True, False)
    ]
    assert (compared["same"], compared["new"], compared["removed"]) == (1, [], [])
    file = questions(workspace, *QUESTIONS[:2], ("march", "roses.md", ""))
    shown = workspace.syncd("verify", "--queries", file, "--against", "saved.json").out
    assert "  1 new, 1 removed, 2 as before" in shown
    assert "  new      'march'  roses.md" in shown
    assert "  removed  'prune'  coffee.md" in shown
    renamed = workspace.config.read_text().replace("mirrors.docs", "mirrors.other")
    workspace.config.write_text(renamed.replace('instance = "docs"', 'instance = "docs"\nmax_file_size = "1MiB"'))
    seen = workspace.syncd("verify", "--queries", file, "--against", "saved.json")
    assert "  1 new, 1 removed, 2 as before" in seen.out


def test_the_file_of_questions_is_not_overwritten(workspace: Workspace) -> None:
    file = questions(workspace)
    before = Path(file).read_bytes()
    seen = workspace.syncd("verify", "--queries", file, "--save", file)
    assert (seen.code, "something else than results" in seen.err) == (2, True)
    assert Path(file).read_bytes() == before
    assert workspace.remote.counted()["total"] == 0


def test_all_faults_are_named_before_anything_is_asked(workspace: Workspace) -> None:
    (workspace.path / "q.csv").write_text("query,expect\na,../x\n,coffee.md\nb,/etc/hosts\nc,coffee.md\n")
    seen = workspace.syncd("verify", "--queries", "q.csv")
    assert (seen.code, seen.out, workspace.remote.counted()["total"]) == (2, "", 0)
    lines = seen.err.splitlines()
    assert [line.split(": ")[1] for line in lines] == ["q.csv:2", "q.csv:3", "q.csv:4"]
    assert "query is missing or empty" in lines[1]


@pytest.mark.parametrize(
    "options",
    [
        ("--min-hit", "0.5"),
        ("--save", "x"),
        ("--against", "x"),
        ("--queries", "q.csv", "--query", "a"),
        ("--queries", "q.csv", "--min-hit", "nan"),
        ("--queries", "q.csv", "--min-hit", "1.1"),
    ],
)
def test_options_that_do_not_fit_are_usage_errors(workspace: Workspace, options: tuple[str, ...]) -> None:
    (workspace.path / "q.csv").write_text("query,expect\nbrew,coffee.md\n")
    seen = workspace.syncd("verify", *options)
    assert (seen.code, seen.out, "see: syncd verify --help" in seen.err) == (2, "", True)


def test_a_kv_mirror_has_no_search(workspace: Workspace) -> None:
    text = workspace.config.read_text().partition("[mirrors.docs.target]")[0]
    kv = '[mirrors.docs.target]\ntype = "kv"\nnamespace_title = "docs"\ncreate = true\n'
    workspace.config.write_text(text + kv)
    seen = workspace.syncd("verify", "--queries", questions(workspace))
    assert (seen.code, seen.out, "Workers KV has no search" in seen.err) == (2, "", True)


def test_of_two_mirrors_of_a_folder_the_one_with_a_search_is_asked(workspace: Workspace) -> None:
    kv = '[mirrors.docs.target]\ntype = "kv"\nnamespace_title = "docs"\ncreate = true\n'
    head, _, ai_search = workspace.config.read_text().partition("[mirrors.docs.target]")
    section = head[head.index("[mirrors.docs]") :].replace("mirrors.docs", "mirrors.found")
    workspace.config.write_text(f"{head}{kv}{section}[mirrors.found.target]{ai_search}")
    seen = workspace.syncd("verify", "--queries", questions(workspace), "--min-hit", "0.5")
    assert (seen.code, seen.out.startswith("found: 2 of 3 questions")) == (0, True), seen.err


def test_vectorize_is_asked(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        index = VectorIndex(workspace)
        try:
            fill(workspace)
        finally:
            index.close()
        found = ask(workspace, "--min-hit", "0.6", code=0)
        # The nearest texts of an index are always found.
        assert (found["retrieval"]["found"], found["retrieval"]["texts_found"]) == (3, 1)


@pytest.mark.slow
def test_a_search_that_fails_is_no_miss(tmp_path: Path) -> None:
    with open_workspace(tmp_path, fail_search=True) as workspace:
        fill(workspace)
        ended = workspace.syncd("verify", "--queries", questions(workspace), "--save", "saved.json")
        assert (ended.code, "not found" in ended.out) == (5, False)
        assert "the results are not saved, because 3 questions got no answer" in ended.err
        assert not (workspace.path / "saved.json").exists()


def test_refused_credentials_stop_with_3(tmp_path: Path) -> None:
    with open_workspace(tmp_path, token="another") as workspace:
        ended = workspace.syncd("verify", "--queries", questions(workspace))
        assert (ended.code, "authentication refused" in ended.err) == (3, True), ended.err
        assert workspace.remote.counted()["total"] <= len(QUESTIONS) + 2


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[Workspace, str]]:
    """Yield a workspace whose stand-in answers late, and a file of many questions."""
    with open_workspace(tmp_path, latency=0.2) as workspace:
        fill(workspace)
        yield workspace, questions(workspace, *[(f"brew {number}", "coffee.md", "") for number in range(200)])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("as_json", [False, True])
def test_an_interruption_prints_the_results_so_far(
    slow: tuple[Workspace, str], number: int, code: int, as_json: bool
) -> None:
    workspace, file = slow
    running = workspace.start("verify", "--queries", file, "--save", "saved.json", *(["--json"] if as_json else []))
    until(lambda: workspace.remote.counted()["total"] > 8)
    running.send(number)
    ended: Ended = running.ended()
    assert ended.code == code, ended.err
    assert " of 200 questions asked; nothing was changed\n" in ended.err
    if as_json:
        found = ended.json()["mirrors"]["docs"]["retrieval"]
        assert 4 <= found["answered"] == found["found"] < 200
        assert (found["questions"], ended.json()["exit_code"]) == (200, code)
    else:
        assert " of 200 questions asked, " in ended.out
        assert "hit@10 1.000, MRR 1.000" in ended.out
    assert not (workspace.path / "saved.json").exists()


@pytest.mark.slow
def test_progress_is_shown_on_a_terminal(slow: tuple[Workspace, str]) -> None:
    workspace, file = slow
    code, shown = on_a_terminal(workspace, "verify", "--queries", file, end_at=b"/200")
    assert (code, "docs: asking the search" in shown) == (130, True)


@pytest.mark.slow
def test_the_searches_keep_to_the_budget(workspace: Workspace) -> None:
    text = workspace.config.read_text().replace("tpslimit = 0\n", "tpslimit = 4\n")
    workspace.config.write_text(text)
    file = questions(workspace, *[(f"brew {number}", "coffee.md", "") for number in range(12)])
    running = workspace.start("verify", "--queries", file)
    _, seconds = running.ends()
    assert seconds > 1.5, "12 requests at 4 a second"
