"""The generated files: the reference, the man pages, and whether they are fresh."""

import shutil
import subprocess
from pathlib import Path

import pytest

from generate.exit_codes import EXIT_MEANINGS
from generate.files import files
from generate.settings import every_model, settings
from syncd.core import errors
from tests.skips import NotHere

ROOT = Path(__file__).parents[2]
MAN_PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs/man").iterdir())


def test_the_files_are_what_the_program_says() -> None:
    """Check all files in one test. Making them takes seconds, so the import of the tests does not."""
    for name, text in files().items():
        found = (ROOT / name).read_text(encoding="utf-8") if (ROOT / name).exists() else ""
        assert found == text, f"{name} is out of date; run: make generate"


@pytest.mark.parametrize("name", MAN_PAGES)
def test_a_man_page_is_free_of_warnings(name: str) -> None:
    if not shutil.which("mandoc"):
        raise NotHere("mandoc is not installed")
    done = subprocess.run(["mandoc", "-T", "lint", ROOT / name], capture_output=True, text=True, check=False)
    assert (done.stdout + done.stderr).replace(str(ROOT), "") == ""


def test_every_setting_has_a_description_and_a_number_has_a_unit() -> None:
    for model in every_model():
        for setting in settings(model):
            assert setting.description.endswith("."), f"{model.__name__}.{setting.name}"
            assert (setting.unit == "") == (setting.kind not in ("integer", "number")) or setting.name in (
                "quota",
                "max_delete",
            ), f"{model.__name__}.{setting.name}: add a line Unit"
            assert (
                setting.example
                or setting.default is not None
                or setting.table
                or setting.kind
                in (
                    "true or false",
                    "table",
                )
                or setting.choices
            ), f"{model.__name__}.{setting.name}: add a line Example"


def test_every_exit_code_has_a_meaning() -> None:
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_") and isinstance(value, int)}
    assert codes == EXIT_MEANINGS.keys()
