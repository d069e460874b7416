"""explain, ls and search take paths, keys and folders in every form in which a person has them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.harness import Ended, Workspace, open_workspace

WIKI = """
[mirrors.wiki]
path = "{}/wiki"
key_prefix = "w/"
[mirrors.wiki.target]
type = "ai-search"
instance = "docs"
create = true
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    with open_workspace(tmp_path_factory.mktemp("explain")) as workspace:
        (workspace.path / "wiki").mkdir()
        workspace.configure(mirror='exclude = ["drafts/"]', more=WIKI.format(workspace.path))
        (workspace.path / "wiki/guides").mkdir()
        (workspace.path / "wiki/guides/a.md").write_text("wiki")
        for name in ("guides/a.md", "guides/b.md", "drafts/c.md", "zero\u200bwidth.md", "~d.md", "top.md"):
            workspace.write(name, f"text of {name}")
        workspace.write("guides/empty.bin", b"")
        assert workspace.syncd("reconcile").code in (0, 1)
        yield workspace


def mirrors(answer: Ended) -> list[str]:
    return [line.split()[1].rstrip(":") for line in answer.out.splitlines() if line.startswith("mirror ")]


def test_a_file_is_shown_for_every_mirror_that_holds_it(workspace: Workspace) -> None:
    assert mirrors(workspace.syncd("explain", "guides/a.md")) == ["docs", "wiki"]
    assert mirrors(workspace.syncd("explain", "guides/a.md", "-m", "wiki")) == ["wiki"]
    assert mirrors(workspace.syncd("explain", "w/guides/a.md")) == ["wiki"]
    assert mirrors(workspace.syncd("explain", "guides/b.md")) == ["docs"]


@pytest.mark.parametrize(
    "form", ["docs/top.md", "./docs/top.md", "{0}/docs/top.md", "top.md", "./top.md", "docs/../docs/top.md"]
)
def test_a_path_may_be_relative_absolute_or_a_key(workspace: Workspace, form: str) -> None:
    seen = workspace.syncd("explain", form.format(workspace.path))
    assert seen.code == 0
    assert mirrors(seen) == ["docs"]
    assert "key        top.md" in seen.out
    assert "uploaded or adopted" in seen.out


def test_a_key_is_taken_as_any_command_shows_it(workspace: Workspace) -> None:
    listed = workspace.syncd("ls", "docs").out
    shown = next(line.split("  ")[0] for line in listed.splitlines() if "zero" in line)
    assert shown == "zero\\u200bwidth.md"
    assert "uploaded or adopted" in workspace.syncd("explain", shown).out
    assert "uploaded or adopted" in workspace.syncd("explain", "~d.md").out


def test_a_name_that_is_not_utf_8_is_taken_as_a_problem_shows_it(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        (workspace.docs / b"caf\xe9.md".decode("utf-8", "surrogateescape")).write_text("x")
        assert workspace.syncd("reconcile").code == 1
        seen = workspace.syncd("explain", "caf\\xe9.md")
        assert (seen.code, "not sent: invalid_key" in seen.out) == (0, True)


def test_a_key_is_taken_as_a_terminal_without_unicode_shows_it(tmp_path: Path) -> None:
    with open_workspace(tmp_path) as workspace:
        workspace.write("grüße-日本.md")
        assert workspace.syncd("reconcile").code == 0
        assert "uploaded or adopted" in workspace.syncd("explain", "gr\\xfc\\xdfe-\\u65e5\\u672c.md").out


def test_a_directory_is_summed_up_with_a_command_that_lists_it(workspace: Workspace) -> None:
    seen = workspace.syncd("explain", "docs/guides").out
    assert "files      2 to mirror, 1 with a problem" in seen
    assert "entries    2 in the target" in seen
    assert "problem    guides/empty.bin: " in seen
    listing = next(line for line in seen.splitlines() if line.startswith("all ")).split()[2:]
    listed = workspace.syncd(*listing)
    assert (listed.code, listed.err) == (0, "")
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == [
        "guides/a.md",
        "guides/b.md",
        "guides/empty.bin",
    ]
    assert "rule       left out by" in workspace.syncd("explain", "drafts", "-m", "docs").out
    assert "directory  the whole folder" in workspace.syncd("explain", "docs").out
    assert mirrors(workspace.syncd("explain", "guides")) == ["docs", "wiki"]


def test_what_no_mirror_holds_is_named_with_the_folders(workspace: Workspace) -> None:
    for name in ("/etc/hosts", "../hosts", "nowhere/x.md"):
        seen = workspace.syncd("explain", name)
        assert (seen.code, "the mirrored folders are: " in seen.err) == (2, True)
    assert "there is no such file" in workspace.syncd("explain", "docs/none.md").out
    assert "left out by" in workspace.syncd("explain", "docs/drafts/none.md").out


def test_search_takes_several_words_and_refuses_an_unknown_folder(workspace: Workspace) -> None:
    found = workspace.syncd("search", "text", "of", "top", "-m", "docs", "--json").json()
    assert found["query"] == "text of top"
    below = workspace.syncd("search", "text", "-m", "docs", "--folder", "guides/", "--json").json()
    assert {hit["key"].partition("/")[0] for hit in below["hits"]} == {"guides"}
    for folder in ("guides", "./guides", "docs/guides", f"{workspace.docs}/guides"):
        assert workspace.syncd("search", "text", "-m", "docs", "--folder", folder, "--json").json() == below
    wrong = workspace.syncd("search", "text", "-m", "docs", "--folder", "giudes")
    assert (wrong.code, "docs has no folder giudes; did you mean guides?" in wrong.err) == (2, True)
    assert "name one below" in workspace.syncd("ls", "docs", "--folder", "xyz").err
