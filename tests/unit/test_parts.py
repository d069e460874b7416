"""The names of parts, and what may be cut into some."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd import parts
from syncd.model import Problem
from syncd.parts import MOST, TOO_MANY, WHOLE_LIMIT, Naming, by_file, kind_of, numbered, unfit
from syncd.state.cuts import CutFile, Cuts, cut_open
from syncd.state.db import open_state

NAMES = st.text(alphabet="ab.~01é", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))
SPLIT = Naming("p/", split=True)


@pytest.mark.parametrize(
    ("file", "part"),
    [
        ("guide.md", "guide~001.md"),
        ("a.b/README", "a.b/README~001"),
        (".gitignore", "~001.gitignore"),
        ("a.tar.txt", "a.tar~001.txt"),
        ("odd.", "odd~001."),
    ],
)
def test_a_part_is_called_like_its_file(file: str, part: str) -> None:
    assert SPLIT.part("p/" + file, 1) == "p/" + part
    assert SPLIT.of("p/" + part) == ("p/" + file, 1)


@pytest.mark.parametrize(
    "key", ["a.md", "a~1.md", "a~0001.md", "a~000.md", "a.md~001", "~001", "a~\u0660\u0660\u0661.md", "x~001.d/a.md"]
)
def test_other_keys_are_files_of_their_own(key: str) -> None:
    assert SPLIT.of("p/" + key) == ("p/" + key, 0)


@given(NAMES, st.integers(1, MOST))
def test_a_parts_key_leads_to_its_file_and_lies_in_its_span(name: str, number: int) -> None:
    part = SPLIT.part("p/" + name, number)
    after, upto = SPLIT.span("p/" + name)
    assert SPLIT.of(part) == ("p/" + name, number)
    assert after < part < upto
    assert Naming("p/").of(part) == (part, 0)


def test_what_is_cut_is_known_by_its_name() -> None:
    found = [kind_of(key) for key in ("a.md", "a.HTML", "a.py", "Makefile", "a.pdf", "a.png", "a.docx")]
    assert found == ["markdown", "html", "text", "text", None, None, None]


@pytest.mark.parametrize(
    ("size", "limit", "fits"),
    [
        (WHOLE_LIMIT, 1 << 20, True),
        (WHOLE_LIMIT + 1, 1 << 20, False),
        (64 * MOST, 64, True),
        (64 * MOST + 1, 64, False),
        (100, 64, True),
        (100, 63, False),
    ],
)
def test_there_is_a_limit_to_what_is_cut(size: int, limit: int, fits: bool) -> None:
    assert (unfit("a.md", size, limit) is None) == fits


@pytest.mark.parametrize(("number", "refusal"), [(MOST - 1, None), (MOST, None), (MOST + 1, TOO_MANY)])
def test_more_parts_than_three_digits_count_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, refusal: str | None
) -> None:
    (tmp_path / "a").write_bytes(b"x" * number)
    monkeypatch.setattr("syncd.state.cuts.cut", lambda data, *_: [1] * len(data))
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    found = cut_open(descriptor, "text", 100)
    os.close(descriptor)
    assert (found.refusal, len(found)) == (refusal, 0 if refusal else number)


@pytest.mark.parametrize("data", [b"\xff" * 100, "é".encode()[:1] + b"a", b"a\0b", b"text \xc3"])
def test_what_is_no_text_is_not_cut(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    assert cut_open(descriptor, "text", 100).refusal == parts.NOT_TEXT
    os.close(descriptor)


def test_how_a_file_is_cut_outlives_the_process_unless_it_was_young(tmp_path: Path) -> None:
    db = open_state(tmp_path)
    cuts = Cuts(SPLIT, db, "docs")
    row = (100).to_bytes(4, "big") + b"d" * 32
    old, young = CutFile("way", (100, 1, 2, 3), row), CutFile("way", (100, 1, 2, 4), row, None, young=True)
    cuts.keep("p/old.md", "old.md", old)
    cuts.keep("p/young.md", "young.md", young)
    assert cuts.get("young.md", "way", young.seen) == young
    cuts.save(whole=False)
    again = Cuts(SPLIT, db, "docs")
    assert again.get("old.md", "way", old.seen) == old
    assert again.get("young.md", "way", young.seen) is None
    assert again.get("old.md", "other way", old.seen) is None
    assert again.get("old.md", "way", (100, 1, 2, 9)) is None
    cuts.begin()
    assert cuts.get("young.md", "way", young.seen) is None
    cuts.save(whole=True)
    assert Cuts(SPLIT, db, "docs").get("old.md", "way", old.seen) is None
    db.close()


def test_problems_of_parts_are_told_once_by_file() -> None:
    found = [Problem(f"p/a~00{number}.md", "failed", "why") for number in (1, 2, 3)] + [
        Problem("p/b.md", "failed", "no")
    ]
    assert by_file(found, SPLIT) == [
        Problem("p/a.md", "failed", "parts 1, 2 and 1 more: why"),
        Problem("p/b.md", "failed", "no"),
    ]
    assert by_file(found, Naming("p/")) == found
    assert [numbered([2]), numbered([2, 4])] == ["part 2", "parts 2 and 4"]
