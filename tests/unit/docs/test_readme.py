"""The README is short, and has the two commands that .ci/run and .ci/newcomer read. Commands of all pages suit zsh."""

import re

import pytest

from tests.unit.docs.messages import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_LINES = 150


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", ["demo", "test"])
def test_there_is_one_command_between_the_markers(name: str) -> None:
    [block] = re.findall(f"<!-- {name}-command -->\n(.*?)<!-- /{name}-command -->\n", README, re.DOTALL)
    lines = block.splitlines()
    # .ci/run takes the lines that are neither a comment nor a fence.
    assert [line for line in lines if not line.startswith(("<!--", "```"))] == [f"make {name}"]
    assert lines.count("```sh") == 1


def test_no_comment_stands_behind_a_command() -> None:
    """zsh, the shell of macOS, passes the words of such a comment to the command, if the line is typed or pasted."""
    found = []
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        for block in re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE):
            commands = re.sub(r"<<-?'?(\w+).*?^ *\1$", "", block, flags=re.DOTALL | re.MULTILINE)
            found += [(page.name, line) for line in commands.splitlines() if re.search(r"\S\s+#\s", line)]
    assert found == []
