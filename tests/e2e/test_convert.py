"""Real documents are converted by the real program, into each kind of target, and hostile ones stop nothing."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import ACCOUNT, Workspace, lose_state, open_workspace
from tests.e2e.syncd_child import child_without_converter
from tests.skips import NotHere
from tests.unit.text.documents_harness import docx, eml, epub, ipynb, paragraph, pptx, rtf

FORMS = (
    'convert = ["*.pptx", "*.epub", "*.ipynb", "*.docx", "*.rtf", "*.eml"]\n'
    'as_text = ["*.ts", "LICENSE"]\nowner = "docs"\nsettle = 0.05\n'
)
TARGETS = {
    "ai-search": 'type = "ai-search"\ninstance = "docs"\n',
    "kv": 'type = "kv"\nnamespace_title = "docs"\n',
    "vectorize": 'type = "vectorize"\nindex = "docs"\nmodel = "@cf/baai/bge-small-en-v1.5"\n',
}
DOCUMENTS = {
    "talk.pptx": pptx("The harbour opens at noon"),
    "deep/book.epub": epub("<h1>Harbour</h1><p>Ships wait for the tide</p>"),
    "lab.ipynb": ipynb({"cell_type": "markdown", "source": "Lanterns burn whale oil"}),
    "letter.rtf": rtf("Parrots speak at night"),
    "mail.eml": eml("Anchor", "The anchor is rusty"),
    "src/app.ts": b"export const tide = 3\n",
    "LICENSE": b"Permission is granted\n",
    "plain.md": b"# Plain\n\ntext\n",
}
# Functions, because every worker of the tests imports this module, and the large documents take a second.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "broken.pptx": (lambda: b"PK\x03\x04" + bytes(1000), "refused"),
    "bomb.docx": (lambda: docx(paragraph("a" * 150_000_000)), "refused"),
    "memory.docx": (lambda: docx(paragraph("a" * 50) * 1_000_000), "too_large"),
    "empty.docx": (lambda: docx(""), "empty"),
}


@pytest.fixture(params=TARGETS)
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    if importlib.util.find_spec("kreuzberg") is None:
        raise NotHere("kreuzberg is not installed; it is in requirements-dev.txt")
    with open_workspace(tmp_path) as workspace:
        configure(workspace, request.param)
        for name, data in DOCUMENTS.items():
            workspace.write(name, data)
        yield workspace


def configure(workspace: Workspace, target: str, forms: str = FORMS) -> None:
    workspace.config.write_text(
        f'state_dir = "{workspace.state}"\n[cloudflare]\naccount_id = "{ACCOUNT}"\nquota = ""\ntpslimit = 0\n'
        f'base_url = "{workspace.server.base_url}"\nretry_for = 5\n'
        f'[mirrors.docs]\npath = "{workspace.docs}"\n{forms}'
        f"[mirrors.docs.target]\n{TARGETS[target]}create = true\n"
    )


def reconciled(workspace: Workspace, *options: str, code: int = 0) -> Any:
    seen = workspace.syncd("reconcile", "--json", *options)
    assert seen.code == code, (seen.out, seen.err)
    return seen.json()["mirrors"]["docs"]


def test_a_folder_of_documents_is_in_step_and_stays_so(workspace: Workspace) -> None:
    assert reconciled(workspace)["result"]["put"] == len(DOCUMENTS)
    assert reconciled(workspace)["plan"]["unchanged"] == len(DOCUMENTS)
    listed = {row["key"] for row in workspace.syncd("ls", "--json").json()["items"]}
    assert listed == set(DOCUMENTS)
    remote = {row["key"] for row in workspace.syncd("ls", "--remote", "--json").json()["items"]}
    assert remote == set(DOCUMENTS)
    assert workspace.syncd("verify").code == 0
    assert workspace.syncd("verify", "--deep").code == 0
    lose_state(workspace.state)
    found = reconciled(workspace)
    assert (found["plan"]["put"], found["plan"]["adopt"]) == (0, len(DOCUMENTS))
    told = workspace.syncd("explain", "talk.pptx").out
    assert "converted to Markdown" in told
    assert "converted by kreuzberg-" in told
    assert "5 files to convert by kreuzberg-" in workspace.syncd("check").out


@pytest.mark.slow
def test_hostile_documents_are_problems_of_their_own(workspace: Workspace) -> None:
    for name, (make, _) in HOSTILE.items():
        workspace.write(name, make())
    first = reconciled(workspace, code=1)
    assert first["result"]["put"] == len(DOCUMENTS)
    kinds = {name: kind for name, (_, kind) in HOSTILE.items()}
    assert {problem["key"]: problem["kind"] for problem in first["problems"]} == kinds
    again = reconciled(workspace, code=1)
    assert again["result"] == {"put": 0, "delete": 0, "failed": 0}, "nothing is tried again"
    assert {problem["key"]: problem["kind"] for problem in again["problems"]} == kinds
    workspace.write("broken.pptx", pptx("mended"))
    assert reconciled(workspace, code=1)["result"]["put"] == 1


def test_search_and_pull_speak_of_the_file(workspace: Workspace, tmp_path: Path) -> None:
    reconciled(workspace, "--wait")
    text = workspace.config.read_text()
    if 'type = "kv"' not in text:
        hits = workspace.syncd("search", "harbour opens at noon", "--json").json()["hits"]
        assert hits[0]["key"] == "talk.pptx"
        assert hits[0]["path"] == str(workspace.docs / "talk.pptx")
    if 'type = "vectorize"' in text:
        return
    assert workspace.syncd("pull", str(tmp_path / "pulled")).code == 0
    pulled = {path.relative_to(tmp_path / "pulled").as_posix() for path in (tmp_path / "pulled").rglob("*.*")}
    assert pulled >= {"talk.pptx.md", "deep/book.epub.md", "src/app.ts", "plain.md"}
    assert (tmp_path / "pulled/src/app.ts").read_bytes() == DOCUMENTS["src/app.ts"]
    assert "harbour" in (tmp_path / "pulled/talk.pptx.md").read_text()
    assert not (tmp_path / "pulled/talk.pptx").exists()


def test_without_patterns_nothing_is_converted(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        for name, data in DOCUMENTS.items():
            workspace.write(name, data)
        seen = reconciled(workspace)
        assert seen["result"]["put"] == 1, "plain.md"
        assert {problem["kind"] for problem in seen["problems"]} == {"unsupported_type"}


def test_the_daemon_follows_documents_and_stops_at_once(workspace: Workspace) -> None:
    with workspace.daemon() as daemon:
        daemon.saw("pass.done", scope="all")
        workspace.write("new.pptx", pptx("Brand new"))
        daemon.saw("put.done", key="new.pptx")
        workspace.write("slow.docx", docx(paragraph("a" * 50) * 300_000))
        code, seconds = daemon.stop()
    assert (code, seconds < 5) == (0, True)


def test_without_the_extra_check_fails_and_a_pass_names_it(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        configure(workspace, "ai-search")
        workspace.write("talk.pptx", DOCUMENTS["talk.pptx"])
        workspace.write("plain.md", DOCUMENTS["plain.md"])
        ended = workspace.streamed("reconcile", "--json", program=child_without_converter)
        seen = ended.json()["mirrors"]["docs"]
        assert ended.code == 1
        assert seen["result"]["put"] == 1
        [problem] = seen["problems"]
        assert problem["kind"] == "failed"
        assert "pip install 'syncd[convert]'" in problem["message"]
        ended = workspace.streamed("check", program=child_without_converter)
        assert ended.code == 2, ended.out
        [line] = [line for line in ended.out.splitlines() if "docs: convert" in line]
        assert line.startswith("FAIL")
