"""Markdown by its headings: which lines are headings, the text of a section, and the cuts of a long section."""

import pytest

from syncd.text.chunks import chunks
from syncd.text.sections import HEADING_LIMIT, first_heading


def of(text: str, size: int = 1000, overlap: int = 0) -> list[tuple[str, str]]:
    return [(chunk.heading, chunk.text) for chunk in chunks(text, "markdown", size, overlap)]


def headings(text: str) -> list[str]:
    return [heading for heading, _ in of(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("intro\n\n# A\na\n", [("", "intro"), ("A", "# A\na")]),
        ("# A\na\n## B\nb\n# C\nc", [("A", "# A\na"), ("A > B", "## B\nb"), ("C", "# C\nc")]),
        ("# A\na\n### C\nc", [("A", "# A\na"), ("A > C", "### C\nc")]),
        ("### C\nc\n# A\na", [("C", "### C\nc"), ("A", "# A\na")]),
        ("# A\n\n## B\n\nb", [("A > B", "# A\n\n## B\n\nb")]),
        ("# A\n## B\n### C\nc\n## D\nd", [("A > B > C", "# A\n## B\n### C\nc"), ("A > D", "## D\nd")]),
        ("# A\n# B\nb", [("A", "# A"), ("B", "# B\nb")]),
        ("A\n===\na\n\nB\n---\nb", [("A", "A\n===\na"), ("A > B", "B\n---\nb")]),
        ("two\nlines\n=\na", [("two lines", "two\nlines\n=\na")]),
        ("# A ##\na", [("A", "# A ##\na")]),
        ("# C#\na", [("C#", "# C#\na")]),
        ("   # A\na", [("A", "   # A\na")]),
    ],
)
def test_a_section_is_a_chunk_under_its_headings(text: str, expected: list[tuple[str, str]]) -> None:
    assert of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "    # indented",
        "#hashtag",
        "####### seven",
        "#",
        "text # not at the start",
        "```\n# code\n```",
        "~~~\n# code\n```\n# code\n~~~",
        "````\n```\n# code\n````",
        "   ```\n   # code\n   ```",
        "- ```sh\n  # code\n  ```",
        "1. a\n\n   - ```sh\n     x\n# code is over\n".replace("# code", "code"),
        "```\n# never closed",
        "<!--\n# hidden\n-->",
        "<pre>\n# shell\n</pre>",
        "> # quoted",
        "- item\n---\ntext",
        "| a |\n---\ntext",
        "text\n\n---\n\ntext",
        "***\n---",
        "one\ntwo\nthree\nfour\nfive\n---",
    ],
)
def test_a_line_that_only_looks_like_a_heading_is_none(text: str) -> None:
    assert of(text) == [("", text.rstrip())]


@pytest.mark.parametrize(
    "text",
    [
        "```\ncode\n```\n# A\na",
        "```\ncode\n`````\n# A\na",
        "``` inline ``` code\n# A\na",
        "- ```sh\n  x\n  ```\n# A\na",
        "- ```sh\n  never closed\n\n# A\na",
        "<!-- one line -->\n# A\na",
        "text <!-- within\n# A\na",
    ],
)
def test_a_heading_after_code_or_a_comment_is_found(text: str) -> None:
    assert headings(text) == ["", "A"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("`code` and ``a ` b``", "code and a ` b"),
        ("**bold** *em* __bold__ _em_ ~~old~~", "bold em bold em old"),
        ("snake_case_name", "snake_case_name"),
        ('[text](http://x "t") [ref][1] ![alt](x.png)', "text ref alt"),
        ("<https://x.y> <kbd>Ctrl</kbd>", "https://x.y Ctrl"),
        (r"1\. a \* b", "1. a * b"),
        ("Install {#install}", "Install"),
        ("a   b", "a b"),
        ("x" * HEADING_LIMIT, "x" * HEADING_LIMIT),
        ("x" * (HEADING_LIMIT + 1), "x" * (HEADING_LIMIT - 1) + "…"),
    ],
)
def test_the_path_shows_headings_without_markup(line: str, expected: str) -> None:
    assert headings(f"# {line}\ntext") == [expected]


@pytest.mark.parametrize(
    ("text", "expected", "rest"),
    [
        ("---\ntitle: T\n---\n# H\na", "H", "# H\na"),
        ("---\ntitle: 'T: x'\nb: c\n---\na", None, "a"),
        ("---\n# c\ntitle: T\n...\na", None, "a"),
        ('+++\ntitle = "T"\n+++\na', None, "a"),
        ("---\n---\na", None, "a"),
        ("---\ntitle: >\n  long\n---\na", None, "a"),
        ("---\ntitle: T\n", None, "---\ntitle: T"),
        ("---\n\ntext: not front matter\n\n---\na", None, "---\n\ntext: not front matter\n\n---\na"),
        ("\n---\ntitle: T\n---\na", "title: T", "---\ntitle: T\n---\na"),
        ("## Two\n# One\n# Other", "One", None),
        ("## Two\n### Three\na", "Two", None),
    ],
)
def test_front_matter_is_no_text_and_has_no_heading(text: str, expected: str | None, rest: str | None) -> None:
    assert first_heading(text) == expected
    if rest is not None:
        assert "\n".join(piece for _, piece in of(text)) == rest


def test_a_long_section_is_cut_at_paragraphs_and_only_the_first_piece_has_the_heading() -> None:
    text = "# A\n\n" + "\n\n".join(letter * 30 for letter in "bcde")
    found = of(text, 70)
    assert {heading for heading, _ in found} == {"A"}
    assert found[0][1].startswith("# A\n\nbbb")
    assert all(set(piece.replace("# A", "").split("\n\n")) <= {"", *(x * 30 for x in "bcde")} for _, piece in found)


def test_prose_is_cut_at_sentences_and_rows_at_lines() -> None:
    assert of("One two\nthree. Four five\nsix.", 18) == [("", "One two\nthree."), ("", "Four five\nsix.")]
    rows = [f"| row {number}. x | y |" for number in range(4)]
    assert [piece for _, piece in of("\n".join(rows), 20)] == rows
    items = [f"- item {number}. Long" for number in range(4)]
    assert [piece for _, piece in of("\n".join(items), 20)] == items


def test_code_stays_whole_if_it_fits_and_is_cut_at_lines_otherwise() -> None:
    code = "```\none. two\n\nthree\n```"
    assert [piece for _, piece in of(f"text before the code\n\n{code}\n\ntext behind the code", 25)] == [
        "text before the code",
        code,
        "text behind the code",
    ]
    lines = "\n".join(["```", *(f"line {number} of the code" for number in range(9)), "```"])
    found = [piece for _, piece in of(lines, 50)]
    assert "\n".join(found) == lines
    assert len(found) > 3


def test_a_heading_is_never_a_chunk_of_its_own_above_a_block_that_fills_a_chunk() -> None:
    found = of("# Heading\n\n" + "```\n" + "code line\n" * 9 + "```\n\nlast", 100)
    assert found[0][1].startswith("# Heading\n\n```\ncode line\n")
    assert of("# A\n## B\n" + "word " * 50, 100)[0][1].startswith("# A\n## B\nword word")


def test_overlap_does_not_cross_a_heading() -> None:
    text = "# A\n\n" + "Alpha beta gamma. " * 20 + "\n\n# B\n\n" + "Delta epsilon zeta. " * 20
    for heading, piece in of(text, 100, 40):
        assert ("Alpha" in piece) == (heading == "A")
        assert ("Delta" in piece) == (heading == "B")


def test_an_edit_changes_the_chunks_of_its_section_only() -> None:
    sections = [f"## S{number}\n\n" + f"Words of {number}. " * 40 for number in range(20)]
    before = {piece for _, piece in of("\n\n".join(sections), 300, 50)}
    sections[9] = "## S9\n\nAnother text."
    changed = [chunk for chunk in of("\n\n".join(sections), 300, 50) if chunk[1] not in before]
    assert changed == [("S9", "## S9\n\nAnother text.")]
