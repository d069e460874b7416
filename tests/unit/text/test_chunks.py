"""Properties of the chunks of any text. The tables for Markdown are in test_sections.py."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncd.text.chunks import Chunk, TextKind, chunks, is_blank

KINDS: tuple[TextKind, ...] = ("markdown", "text")
LISTED = (
    "# A|## B ##|### C|Title\n===|Sub\n---|```|~~~~|```sh\ncode\n```|- item|  - ```|| |    indented|| a | b ||<!-- c|"
    "-->|> quote|One. Two! Three?|日本。語|e\u0301e\u0301|👩\u200d👩\u200d👧|<pre>|</pre>|---|+++|#|# ![](x)|\t\t"
)
LINES = [*LISTED.split("|"), "x" * 90]
texts = st.one_of(
    st.text(), st.lists(st.one_of(st.sampled_from(LINES), st.text(max_size=9)), max_size=40).map("\n".join)
)
kinds = st.sampled_from(KINDS)


def bare(text: str) -> str:
    return "".join(text.split())


def of(text: str, size: int, overlap: int = 0) -> list[str]:
    return [chunk.text for chunk in chunks(text, "text", size, overlap)]


# A line before the text, so that the text has no front matter.
@given(texts.map("\n{}".format), kinds, st.integers(1, 120))
@example("\n# H\n\n" + "x" * 300, "markdown", 1)
def test_only_white_space_is_lost(text: str, kind: TextKind, size: int) -> None:
    assert "".join(bare(chunk.text) for chunk in chunks(text, kind, size, 0)) == bare(text)


@given(texts, kinds, st.integers(1, 120), st.integers(0, 59))
def test_no_chunk_is_blank_or_too_long_and_every_run_gives_the_same(
    text: str, kind: TextKind, size: int, overlap: int
) -> None:
    overlap = min(overlap, (size - 1) // 2)
    found = chunks(text, kind, size, overlap)
    assert all(chunk.text.strip() and len(chunk.text) <= size for chunk in found)
    assert found == chunks(text, kind, size, overlap)
    assert is_blank(text, kind) == (not found)


@given(
    st.lists(st.sampled_from((" ", ". ", "\n", "\n\n", "\n# ", "\n\n## ", "\n- ")), max_size=80),
    kinds,
    st.integers(20, 90),
)
def test_a_chunk_repeats_the_end_of_the_one_before_in_its_section_only(
    joints: list[str], kind: TextKind, size: int
) -> None:
    # No word occurs twice, so each chunk has one place in the text.
    text = "".join(f"w{number:03}{joint}" for number, joint in enumerate([*joints, ""]))
    overlap = size // 3
    before = Chunk("", "")
    taken = 0
    for chunk in chunks(text, kind, size, overlap):
        begin = bare(text).index(bare(chunk.text))
        shared = bare(text)[begin:taken]
        assert len(shared) <= overlap
        assert shared == "" or before.heading == chunk.heading
        assert bare(before.text).endswith(shared)
        assert begin + len(bare(chunk.text)) > taken >= begin
        taken = begin + len(bare(chunk.text))
        before = chunk
    assert taken == len(bare(text))


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("", 10, []),
        (" \n\t\n", 10, []),
        ("one\n\ntwo", 8, ["one\n\ntwo"]),
        ("one\n\ntwo", 7, ["one", "two"]),
        ("\n\n  one\n\n\n", 9, ["  one"]),
        ("def f():\n    return 1", 12, ["def f():", "    return 1"]),
        ("one two three", 8, ["one two", "three"]),
        ("abcdefgh", 3, ["abc", "def", "gh"]),
        ("abe\u0301fgh", 3, ["ab", "e\u0301f", "gh"]),
        ("ab👩\u200d👧cd", 4, ["ab", "👩\u200d👧c", "d"]),
        ("a" + "\u0301" * 40, 20, ["a" + "\u0301" * 19, "\u0301" * 20, "\u0301"]),
        ("日本語。中文。", 4, ["日本語。", "中文。"]),
    ],
)
def test_text_is_cut_at_the_best_border_that_fits(text: str, size: int, expected: list[str]) -> None:
    assert of(text, size) == expected


def test_an_overlap_begins_at_a_sentence_or_else_at_a_word() -> None:
    text = "Alpha beta gamma. Delta epsilon.\n\nZeta eta theta iota kappa lambda."
    assert of(text, 60, 20) == [
        "Alpha beta gamma. Delta epsilon.",
        "Delta epsilon.\n\nZeta eta theta iota kappa lambda.",
    ]
    assert of("a" * 30, 20, 9) == ["a" * 11, "a" * 11, "a" * 8], "no word begins here, so nothing is repeated"


@pytest.mark.parametrize(
    ("size", "overlap", "good"), [(1, 0, True), (0, 0, False), (10, 4, True), (10, 5, False), (9, -1, False)]
)
def test_an_overlap_is_less_than_half_of_the_size(size: int, overlap: int, good: bool) -> None:
    if good:
        assert bare("".join(of("abc", size, overlap)))
    else:
        with pytest.raises(ValueError, match="less than half"):
            of("abc", size, overlap)


def test_a_text_has_no_headings() -> None:
    assert chunks("# include <x>\n# b", "text", 100, 0) == [Chunk("# include <x>\n# b", "")]


def paragraph(rng: random.Random) -> str:
    words = ("".join(rng.choices("abcdefghij", k=rng.randint(2, 9))) for _ in range(rng.randint(5, 80)))
    return " ".join(words).capitalize() + "."


def edits(rng: random.Random, paragraphs: list[str]) -> Iterator[list[str]]:
    for place in range(0, len(paragraphs), 2):
        old = paragraphs[place]
        for new in ([], ["Short."], [old + " And more."], [paragraph(rng)], [old, paragraph(rng)]):
            yield paragraphs[:place] + new + paragraphs[place + 1 :]


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_of_one_paragraph_changes_few_chunks(kind: TextKind) -> None:
    rng = random.Random(7)
    paragraphs = [paragraph(rng) for _ in range(200)]
    before = {chunk.text for chunk in chunks("\n\n".join(paragraphs), kind, 1000, 100)}
    assert len(before) > 60
    changed = [
        sum(chunk.text not in before for chunk in chunks("\n\n".join(edited), kind, 1000, 100))
        for edited in edits(rng, paragraphs)
    ]
    assert sum(changed) / len(changed) < 2
    assert sum(count <= 3 for count in changed) > 0.9 * len(changed)
    assert max(changed) <= 10, "the later borders are the same again"


HALF = 500_000
PATHOLOGICAL = {
    "one line": "x" * HALF,
    "hashes": "#" * HALF,
    "line feeds": "\n" * HALF,
    "fence": "```" * (HALF // 3),
    "fences": "```\n" * (HALF // 4),
    "longer fences": "\n".join("`" * length for length in range(3, 1000)),
    "quotes": "> " * (HALF // 2),
    "deep list": "\n".join(" " * depth + "- a" for depth in range(1000)),
    "items": "- " * (HALF // 2),
    "full stops": "." * HALF,
    "blanks": "a" + " " * HALF + "b",
    "blank lines of blanks": "a\n " * (HALF // 3),
    "comments": "<!--\n" * (HALF // 5),
    "brackets in a heading": "# " + "[" * HALF,
    "stars in a heading": "# " + "*" * HALF,
    "accents": "\u0301" * HALF,
    "joiners": "\u200d" * HALF,
    "underlines": "a\n-\n" * (HALF // 40),
    "dashes": "---\n" * (HALF // 4),
    "open front matter": "---\na: b\n" + "x: y\n" * (HALF // 5),
}


@pytest.mark.timeout(10)  # each takes under half a second, and much longer if it is quadratic
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_half_a_megabyte_of_anything_is_cut_in_linear_time(name: str, kind: TextKind) -> None:
    text = "\n" + PATHOLOGICAL[name] if name == "dashes" else PATHOLOGICAL[name]
    assert "".join(bare(chunk.text) for chunk in chunks(text, kind, 1000, 0)) == bare(text)
