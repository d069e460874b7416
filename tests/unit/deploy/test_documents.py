"""The documents name only files that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS += sorted((ROOT / "deploy").rglob("*.md"))
PLACES = (ROOT, ROOT / "syncd", ROOT / "tests")
"""A document may name a file relative to the repository, to the package or to the tests."""

PATH = re.compile(r"(?<![\w./-])(?:[\w.-]+/)+[\w-]+\.py\b")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")
PLACEHOLDER = "syncd/targets/NAME.py"


def missing_files(document: Path) -> Iterator[str]:
    """Yield the paths of modules and the relative links that lead nowhere."""
    text = document.read_text(encoding="utf-8")
    for path in PATH.findall(text):
        if path != PLACEHOLDER and not any((place / path).exists() for place in PLACES):
            yield path
    for link in LINK.findall(text):
        if not (document.parent / link).exists():
            yield link


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    assert list(missing_files(document)) == []


def test_a_missing_module_and_a_missing_link_are_found(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text(
        "`core/plan.py`, `core/gone.py`, [here](page.md), [gone](gone.md#part), [web](https://a.example/b)"
    )
    assert list(missing_files(document)) == ["core/gone.py", "gone.md"]
