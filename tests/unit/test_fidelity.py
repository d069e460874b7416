"""docs/fidelity.md names files that exist, and every row of a table of facts has its four columns."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLACES = (ROOT / "syncd", ROOT / "tests", ROOT)
_FILE = re.compile(r"`([\w./-]+\.\w+)`")
_HEADER = ("fact", "source", "where in the code", "test")


def _rows() -> list[tuple[str, ...]]:
    """Return the cells of each row of a table of facts."""
    rows: list[tuple[str, ...]] = []
    header: tuple[str, ...] | None = None
    for line in (ROOT / "docs" / "fidelity.md").read_text().splitlines():
        cells = tuple(cell.strip() for cell in line.strip("|").split("|")) if line.startswith("|") else ()
        if not cells:
            header = None
        elif header is None:
            header = cells
        elif header == _HEADER and set(line) - set("|-: "):
            rows.append(cells)
    return rows


ROWS = _rows()


def test_there_are_facts() -> None:
    assert len(ROWS) > 50


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_a_fact_has_a_source_a_place_and_a_test(row: tuple[str, ...]) -> None:
    assert len(row) == len(_HEADER), "a | within a cell is written \\|, or the row lacks a column"
    fact, source, where, test = row
    assert fact
    assert source
    for cell in (where, test):
        files = _FILE.findall(cell)
        assert files or "unknown" in cell
        missing = [file for file in files if not any((place / file).is_file() for place in PLACES)]
        assert not missing
