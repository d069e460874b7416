import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syncd.core.globs import BadPattern, LastMatch, PatternList, lines_of, parse
from syncd.core.rules import IgnoreFile, Rules

PIECES = [
    *["a", "b", "ab", "A", "-", "#", "!", " ", "\\ ", "/", "/", "*", "**", "***", "?", "\\a", "\\*", "\\#", "\\!"],
    *["[ab]", "[!a]", "[^b]", "[a-b]", "[]a]", "[a\\]]", "[a-]", "[--b]", "[[:a]", "[a/b]", "[a", "\\", "[[:foo:]]"],
    *["[[:alpha:]]", "[[:digit:][:upper:]b]", "[![:punct:]]", "[[:space:]]"],
]
LINES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
NAMES = st.sampled_from(["a", "b", "ab", "ba", "aab", "A", "-", "*", "]", "a b", "a ", "!a", "#a", " a", "1"])
PATHS = st.lists(NAMES, min_size=1, max_size=5).map("/".join)


def _readable(lines: list[str]) -> list[str]:
    """Lines that are no pattern stand as comments: git does not heed them, syncd refuses the file for them."""
    kept = []
    for line in lines:
        try:
            parse(1, line)
        except BadPattern:
            kept.append("#")
        else:
            kept.append(line)
    return kept


@pytest.fixture(scope="module")
def repository() -> Path:
    if not shutil.which("git"):
        pytest.skip("git is not on this machine, so there is nothing to compare with")
    made = Path(tempfile.mkdtemp())
    subprocess.run(["git", "init", "-q", made], check=True)
    return made


def _ignored_by_git(repository: Path, paths: list[str]) -> set[str]:
    found = subprocess.run(
        ["git", "-C", repository, "check-ignore", "--no-index", "-z", "--stdin"],
        input="\0".join(paths) + "\0",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull},
    )
    assert found.returncode in (0, 1), found.stderr
    return {path for path in found.stdout.split("\0") if path}


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(LINES, min_size=1, max_size=4),
    st.lists(LINES, max_size=2),
    st.sampled_from(["\n", "\r\n"]),
    st.lists(PATHS.filter("a".__ne__), min_size=5, max_size=30, unique=True),
)
def test_patterns_exclude_the_same_paths_as_git(
    repository: Path, top: list[str], deeper: list[str], end: str, paths: list[str]
) -> None:
    (repository / "a").mkdir(exist_ok=True)
    (repository / ".gitignore").write_bytes(end.join(top).encode())
    (repository / "a/.gitignore").write_bytes(end.join(deeper).encode())
    ignores = [
        IgnoreFile.parse(folder, end.join(_readable(lines)), ".gitignore")
        for folder, lines in (("", top), ("a/", deeper))
    ]
    mine = {path for path in paths if ".gitignore line" in (Rules().excluded_deep(path, ignores) or "")}
    built_in = {path for path in paths if "built-in" in (Rules().excluded_deep(path) or "")}
    assert mine == _ignored_by_git(repository, paths) - built_in


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a\r\nb\rc\nd", ["a", "b", "c", "d"]),
        ("a  \n  \n#c\n\\#d", ["a", "\\#d"]),
        ("a\\ \nb\\  \nc\\\\ ", ["a\\ ", "b\\ ", "c\\\\"]),
        ("a\u2028b\nc\u0085", None),
    ],
)
def test_lines_end_and_trailing_spaces_go_as_in_git(text: str, kept: list[str] | None) -> None:
    if kept is None:
        with pytest.raises(BadPattern, match=r"line 2 .*control character"):
            PatternList.of(lines_of(text))
        return
    assert [each.text for each in PatternList.of(lines_of(text)).patterns] == kept


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("!", "names nothing"),
        ("/", "names nothing"),
        ("a//b", "empty name"),
        ("[a", "not closed"),
        ("[[:foo:]]", "no class"),
        ("[b-a]", "empty"),
        ("a\\", "ends with a backslash"),
        ("a\t", "control character"),
        ("a\udcff", "not UTF-8"),
    ],
)
def test_a_line_that_is_no_pattern_says_which_and_why(line: str, why: str) -> None:
    with pytest.raises(BadPattern, match=rf"^line 2 .*{re.escape(why)}") as caught:
        PatternList.of(lines_of(f"fine\n{line}\n"))
    assert why in caught.value.why
    assert "line 2" not in caught.value.why


@pytest.mark.parametrize(
    ("bracket", "characters"),
    [
        ("[abc]", "abc"),
        ("[a-c]", "abc"),
        ("[b-b]", "b"),
        ("[a-c-e-g]", "abc-efg"),
        ("[a-c-]", "abc-"),
        ("[a-c--e]", "-0123456789X[\\]^_`abcde"),
        ("[-a]", "-a"),
        ("[a\\-c]", "a-c"),
        ("[+-\\-]", "+,-"),
        ("[\\]a]", "]a"),
        ("[]a]", "]a"),
        ("[]-a]", "]^_`a"),
        ("[\\\\a]", "\\a"),
        ("[[:digit:]-a]", "0123456789-a"),
        ("[[]", "["),
        ("[^a-z]", "^"),
        ("[!a-z^]", ""),
    ],
)
def test_a_bracket_matches_these_characters(bracket: str, characters: str) -> None:
    rules = Rules(exclude=(f"{bracket}x",))
    candidates = "0123456789abcdefgX+,-]^_`[\\" if bracket[1] not in "^!" else "abcz^"
    assert {each for each in candidates if rules.excluded(f"{each}x")} == set(characters)


@pytest.mark.parametrize(
    ("path", "matches"),
    [("a/b/c/d", True), ("a/x/b/c/x/d", True), ("a/x/b/x/c/d", False), ("a/b/d", False), ("b/c/d", False)],
)
def test_names_between_two_double_stars_are_adjacent(path: str, *, matches: bool) -> None:
    assert (Rules(exclude=("a/**/b/c/**/d",)).excluded(path) is not None) == matches


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*.md", "a.md"),
        ("*.md", ".md"),
        ("*.tar.gz", "a.tar.gz"),
        ("*~", "a~"),
        ("*_old", "a.md_old"),
        ("*a.md", "ba.md"),
    ],
)
def test_a_star_before_any_ending_matches_the_names_with_this_ending(pattern: str, name: str) -> None:
    rules = Rules(exclude=(pattern,))
    for folder in ("", "docs/"):
        assert rules.excluded(folder + name) == f"exclude: {pattern}"
        assert rules.excluded(f"{folder}{name}x") is None


def test_a_star_below_a_directory_does_not_match_the_directory_itself() -> None:
    rules = Rules(exclude=("docs/*", "!docs/man"))
    assert rules.excluded("docs/") is None
    assert rules.excluded_deep("docs/man/syncd.1") is None
    assert rules.excluded_deep("docs/design.md") == "exclude: docs/*"


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*a" * 30 + "b", "a" * 250),
        ("*a*" * 30 + "b", "a" * 250),
        ("*[ab]" * 30 + "c", "a" * 250),
        ("*?" * 30 + "b", "a" * 250),
        ("x/" + "**/a/" * 20 + "b", "x/" + "a/" * 2000 + "a"),
        ("x/" + "**/*a*a*/" * 20 + "b", "x/" + "aaaaaaaa/" * 400 + "a"),
        ("**/" + "*a" * 12 + "b/**", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/" * 100 + "a"),
    ],
)
def test_no_pattern_takes_long(pattern: str, path: str) -> None:
    rules = Rules(exclude=(pattern,), include=(pattern,))
    before = time.process_time()
    assert rules.excluded(path) == "include: no pattern takes it"
    assert time.process_time() - before < 2.0, "a pattern that backtracks takes years"


@given(st.lists(LINES, min_size=1, max_size=4), PATHS, st.booleans())
def test_no_pattern_matches_a_path_that_the_quick_test_denies(lines: list[str], path: str, directory: bool) -> None:
    patterns = PatternList.of(enumerate(_readable(lines), 1))
    path += "/" * directory
    name = path.rstrip("/").rpartition("/")[0]
    start = len(name) + 1 if name else 0
    matches = any(each.matcher.fullmatch(path, 0 if each.anchored else start) for each in patterns.patterns)
    assert patterns.may_match(path, path[start:], 0) or not matches
    assert (patterns.verdict(path) is not None) == matches


@pytest.mark.parametrize("line", ["Secret.MD", "*.Md", "/Docs/*.md", "s?cret.md"])
@pytest.mark.parametrize("ignore_case", [False, True])
def test_case_matters_unless_it_is_ignored(line: str, *, ignore_case: bool) -> None:
    patterns = PatternList.of([(7, line)], ignore_case=ignore_case)
    expected = LastMatch(positive=True, pattern=line.lower(), number=7) if ignore_case else None
    assert patterns.verdict("DOCS/SECRET.MD") == expected
