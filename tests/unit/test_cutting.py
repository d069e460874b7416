"""Where a text is cut, by examples and by chance."""

import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.parts import Kind
from syncd.text.cutting import cut

KINDS = st.sampled_from(get_args(Kind))
MARKS = ["# One\n", "## Two\n", "```\n", "\n\n", "\n", "<h2>", "<section>", "<script>", "</script>", "<!--", "-->"]
MARKS += ["é", "\u2028", "word ", "𝄞", "---\n", "{", ",", "\r\n", "\x85", "à\n", "===\n"]
TEXTS = st.lists(st.one_of(st.sampled_from(MARKS), st.text(max_size=20)), max_size=120).map("".join)


def parts(data: bytes, kind: Kind, limit: int) -> list[bytes]:
    found, place = [], 0
    for size in cut(data, kind, limit):
        found.append(data[place : place + size])
        place += size
    assert place == len(data)
    return found


def prose(seed: int, sections: int = 120) -> str:
    chance = random.Random(seed)
    words = ["".join(chance.choices("abcdefgé", k=chance.randint(2, 9))) for _ in range(500)]

    def line(count: int) -> str:
        return " ".join(chance.choices(words, k=count))

    def section() -> str:
        body = "\n\n".join("\n".join(line(9) for _ in range(chance.randint(1, 4))) for _ in range(3))
        return f"{'#' * chance.randint(1, 3)} {line(3)}\n\n{body}\n\n"

    return "".join(section() for _ in range(sections))


@given(TEXTS, KINDS, st.integers(64, 400))
def test_parts_together_are_the_text_and_each_is_text_within_the_limit(text: str, kind: Kind, limit: int) -> None:
    data = text.encode("utf-8", "replace")
    found = parts(data, kind, limit)
    assert b"".join(found) == data
    assert all(0 < len(part) <= limit for part in found)
    assert "".join(part.decode() for part in found) == data.decode()
    assert found == parts(data, kind, limit)


@given(st.text(alphabet="aé𝄞", min_size=1, max_size=300), st.integers(4, 20))
def test_a_word_that_never_ends_is_cut_between_characters(text: str, limit: int) -> None:
    found = parts(text.encode(), "text", limit)
    assert "".join(part.decode() for part in found) == text
    assert all(0 < len(part) <= limit for part in found)


@pytest.mark.parametrize(("size", "number"), [(999, 1), (1000, 1), (1001, 2)])
def test_only_what_is_over_the_limit_is_cut(size: int, number: int) -> None:
    assert len(cut((b"word " * 300)[:size], "text", 1000)) == number


def test_nothing_has_no_parts() -> None:
    assert cut(b"", "text", 100) == []


def test_markdown_is_cut_at_its_highest_headings() -> None:
    text = "".join(f"# Chapter {n}\n\n" + f"## Section\n\n{'some words ' * 20}\n\n" * 3 for n in range(4))
    found = parts(text.encode(), "markdown", 900)
    assert [part[:11] for part in found] == [b"# Chapter %d" % n for n in range(4)]


def test_a_fenced_block_stays_whole_if_there_is_another_place() -> None:
    code = "```\n" + "# no heading\n\n" * 30 + "```\n"
    text = "prose\n\n" * 40 + code + "\n" + "prose again\n\n" * 30
    assert any(code.encode().rstrip() in part for part in parts(text.encode(), "markdown", 600))


def test_html_is_cut_before_sections_and_headings_but_not_in_a_script() -> None:
    script = "<script>" + "if (a<b) '<section>';\n" * 20 + "</script>"
    text = "".join(f"<section id={n}><h2>Title</h2><p>{'word ' * 60}</p></section>" for n in range(6)) + script
    found = parts(text.encode(), "html", 700)
    assert len(found) > 2
    assert all(part.startswith((b"<section id=", b"<script>")) for part in found)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_an_edit_changes_the_parts_next_to_it_and_no_others(kind: Kind) -> None:
    chance = random.Random(kind)
    changed = []
    for seed in range(40):
        text = prose(seed)
        before = set(parts(text.encode(), kind, 2000))
        place = chance.randrange(len(text))
        edits = (
            text[:place] + "xyz" + text[place + 3 :],
            text[:place] + "Some new words here. " + text[place:],
            text[:place] + text[place + 40 :],
        )
        changed += [len(set(parts(edited.encode(), kind, 2000)) - before) for edited in edits]
    assert max(changed) <= 4
    assert sum(changed) / len(changed) < 1.5


def test_what_is_put_before_or_behind_leaves_the_rest_as_it_is() -> None:
    text = prose(7)
    before = set(parts(text.encode(), "markdown", 2000))
    longer = parts(("# New\n\nnew words\n\n" + text + "# End\n\nlast words\n").encode(), "markdown", 2000)
    assert len([part for part in longer if part not in before]) <= 4
