"""The generated files: the reference, the man pages, and whether they are fresh."""

import shutil
import subprocess
from pathlib import Path

import pytest

from generate.files import files
from tests.skips import NotHere

ROOT = Path(__file__).parents[2]
FILES = files()
MAN_PAGES = [name for name in FILES if name.startswith("docs/man/")]


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_what_the_program_says(name: str) -> None:
    found = (ROOT / name).read_text(encoding="utf-8") if (ROOT / name).exists() else ""
    assert found == FILES[name], f"{name} is out of date; run: make generate"


@pytest.mark.parametrize("name", MAN_PAGES)
def test_a_man_page_is_free_of_warnings(name: str) -> None:
    if not shutil.which("mandoc"):
        raise NotHere("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", ROOT / name], capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr).replace(str(ROOT), "") == ""
