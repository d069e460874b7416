"""The reader of code blocks: it runs what a page says, in order, and compares what a page shows."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.e2e import merge_toml
from tests.e2e.docs_pages import blocks, loose_commands, outputs, script, unseen


def run(page: str, folder: Path) -> tuple[int, dict[int, str]]:
    text = script(list(blocks(page)), [sys.executable, merge_toml.__file__])
    ended = subprocess.run(
        ["bash", "-c", text],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return ended.returncode, outputs(ended.stdout)


def test_the_blocks_of_a_page_share_one_shell(tmp_path: Path) -> None:
    code, printed = run("```sh\nA=1\ncd /\n```\n\n1. More:\n\n   ```sh\n   echo $A $PWD\n   ```\n", tmp_path)
    assert (code, printed[1]) == (0, "1 /\n")


def test_a_skipped_block_does_not_run(tmp_path: Path) -> None:
    assert run("<!-- test: skip: why -->\n```sh\nfalse\n```\n", tmp_path) == (0, {0: ""})


def test_a_failed_command_ends_the_page(tmp_path: Path) -> None:
    code, printed = run("```sh\nfalse\n```\n```sh\necho no\n```\n", tmp_path)
    assert (code, list(printed)) == (1, [0])


@pytest.mark.parametrize(("said", "code"), [("1", 0), ("2", 99)])
def test_an_expected_exit_code_is_compared(said: str, code: int, tmp_path: Path) -> None:
    assert run(f"<!-- test: exit {said} -->\n```sh\nfalse\n```\n", tmp_path)[0] == code


@pytest.mark.parametrize("how", ["", " > own.log &"])
def test_a_command_in_the_background_is_awaited_and_stopped(how: str, tmp_path: Path) -> None:
    page = (
        f"<!-- test: background ready -->\n```sh\nsh -c 'echo ready; exec sleep 60'{how}\n```\n"
        "```sh\nkill -0 $!\n```\n"
        "<!-- test: run kill $! -->\n"
    )
    code, printed = run(page, tmp_path)
    assert (code, printed[0]) == (0, "ready\n")


def test_a_background_command_that_ends_too_early_fails(tmp_path: Path) -> None:
    code, printed = run("<!-- test: background ready -->\n```sh\nsh -c 'echo broken'\n```\n", tmp_path)
    assert (code, printed[0]) == (98, "broken\n")


def test_files_are_written_appended_and_merged(tmp_path: Path) -> None:
    page = "".join(
        f"<!-- test: {kind} a.toml -->\n```toml\n{text}\n```\n"
        for kind, text in [
            ("write", '[a]\nx = 1\ny = ["é", true]'),
            ("append", "[b.c]\nz = 1.5"),
            ("merge", "[a]\nx = 2\n[b.d]\nw = 'q\"'"),
        ]
    )
    assert run(page, tmp_path)[0] == 0
    assert tomllib.loads((tmp_path / "a.toml").read_text()) == {
        "a": {"x": 2, "y": ["é", True]},
        "b": {"c": {"z": 1.5}, "d": {"w": 'q"'}},
    }


@pytest.mark.parametrize(
    "page",
    [
        "```\nsyncd status\n```\n",
        "```bash\nsyncd status\n```\n",
        "<!-- test: skip -->\n```sh\nx\n```\n",
        "<!-- test: skpi: why -->\n```sh\nx\n```\n",
        "<!-- test: skip: why -->\ntext\n",
    ],
)
def test_a_block_that_nothing_explains_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="line"):
        list(blocks(page))


def test_commands_that_only_an_indent_marks_are_found() -> None:
    page = "    syncd status\n\n```sh\nif true; then\n    syncd status\nfi\n```\n"
    assert loose_commands(page) == ["    syncd status"]


@pytest.mark.parametrize(
    ("shown", "output", "missed"),
    [
        ("a 12 s\nb", "a  3.5 s\nb\n", None),
        ("id 0123456789ab", "id 11112222333c", None),
        ("a\n…", "a\nb\nc", None),
        ("…\nc", "a\nb\nc", None),
        ("a … c", "a b c", None),
        ("a", "a\nb", "b"),
        ("a\nb", "a", "b"),
        ("a\nc", "a\nb\nc", "c"),
        ("…\nd", "a\nb", "d"),
        ("put", "delete", "put"),
    ],
)
def test_the_output_that_a_page_shows_is_compared(shown: str, output: str, missed: str | None) -> None:
    assert unseen(shown, output) == missed
