"""Search hits for people."""

from pathlib import Path
from typing import Any

import pytest

from syncd.cli.items import print_hits, words_pattern


def hit(key: str, path: Path | None, text: str, heading: str = "") -> dict[str, Any]:
    return {"key": key, "score": 0.876, "heading": heading, "text": text} | ({"path": str(path)} if path else {})


@pytest.mark.parametrize(
    ("query", "text", "marked"),
    [
        ("rotate the a", "Rotate all rotated a, the", ["Rotate", "rotate", "a", "the"]),
        ("token", "mytoken tokens", ["token"]),
        ("a.b*", "axb a.b", ["a", "b"]),
        ("東京", "大東京都", ["東京"]),
        ("ab", "abc ab", ["ab"]),
        ("abc", "abcd", ["abc"]),
    ],
)
def test_the_words_of_the_query_are_found(query: str, text: str, marked: list[str]) -> None:
    words = words_pattern(query)
    assert words is not None
    assert words.findall(text) == marked


def test_a_query_without_words_marks_nothing() -> None:
    assert words_pattern("?! …") is None


def test_a_hit_shows_score_key_file_and_text_and_no_colour_in_a_pipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / ("long " * 30) / "a.md"
    there.parent.mkdir()
    there.write_text("x")
    hits = [
        hit("p/a.md", there, "before\n" * 50 + "the [token] is here " + "after " * 50, "Token"),
        hit("p/gone\x1b.md", tmp_path / "gone.md", "text"),
        hit("c.md", None, "of the demo"),
    ]
    print_hits(hits, "token")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["0.88  p/a.md  (Token)", f"      {there}"]
    assert lines[2].startswith("      …")
    assert "the [token] is here" in lines[2]
    assert lines[3:6] == ["0.88  p/gone\\x1b.md", f"      {tmp_path / 'gone.md'}  (no such file here)", "      text"]
    assert lines[6:] == ["0.88  c.md", "      of the demo"]


def test_a_search_without_hits_prints_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_hits([], "x")
    assert capsys.readouterr().out == "nothing found for 'x'\n"


def test_the_title_stands_in_for_a_heading(capsys: pytest.CaptureFixture[str]) -> None:
    found = hit("a.md", None, "text") | {"title": "The handbook\x1b"}
    print_hits([found], "x")
    assert capsys.readouterr().out.splitlines()[0] == "0.88  a.md  (The handbook\\x1b)"
