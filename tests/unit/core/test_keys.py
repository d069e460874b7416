import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.keys import from_os, name_fault, normal, shown, spellings
from syncd.core.plain_text import printable
from syncd.core.rules import IgnoreFile, Rules

NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    "path",
    [
        ".git/",
        ".git",  # a worktree's file
        "vendor/lib/.git/",
        ".hg/",
        ".svn/",
        ".jj/",
        ".env",
        ".env.local",
        "web/.env.production",
        ".netrc",
        ".npmrc",
        ".pypirc",
        ".ssh/",
        ".gnupg/",
        "tls/server.pem",
        "tls/server.key",
        "store.p12",
        "store.pfx",
        "all.kdbx",
        "id_rsa",
        "id_rsa.pub",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        "notes/.a.md.swp",
        ".a.md.swo",
        ".a.md.swx",
        "4913",
        "a.md~",
        ".#lock",
        "#autosave#",
        ".DS_Store",
        "._resource",
        "Thumbs.db",
        "desktop.ini",
        "lost+found/",
        "__pycache__/",
        ".syncdignore",
        "sub/.syncdignore",
        "syncd.toml",
    ],
)
def test_the_built_in_list_excludes(path: str) -> None:
    rule = Rules().excluded(path)
    assert rule is not None
    assert rule.startswith("built-in exclude: ")


@pytest.mark.parametrize(
    "path",
    ["a.md", "docs/", ".env.example", "git", ".github/", ".gitignore", "environment", "key", "monkey.md", "a#b#.md"],
)
def test_the_built_in_list_includes(path: str) -> None:
    assert Rules().excluded(path) is None


@pytest.mark.parametrize(
    ("patterns", "path", "out"),
    [
        (["*.tmp"], "a/b.tmp", True),
        (["*.tmp"], "a/b.tmp.md", False),
        (["drafts/"], "drafts/", True),
        (["drafts/"], "a/drafts/", True),
        (["drafts/"], "drafts", False),  # a file of that name is no directory
        (["/drafts/"], "a/drafts/", False),
        (["a/*.md"], "a/b.md", True),
        (["a/*.md"], "a/c/b.md", False),
        (["a/**/z.md"], "a/b/c/z.md", True),
        (["a/**"], "a/b", True),
        (["?.md"], "a.md", True),
        (["?.md"], "ab.md", False),
        (["[ab].md"], "b.md", True),
        (["[!ab].md"], "b.md", False),
        (["# no pattern"], "# no pattern", False),
        (["\\#real"], "#real", True),
        (["\\!real"], "!real", True),
        (["*.md", "!keep.md"], "keep.md", False),
        (["!keep.md", "*.md"], "keep.md", True),
        (["!.env"], ".env", False),  # a person may overrule the built-in list
        (["a b.md"], "a b.md", True),
        (["trailing.md   "], "trailing.md", True),
        ([NFC], NFC, True),
        ([NFD], NFC, True),
    ],
)
def test_patterns_mean_what_they_mean_in_a_gitignore(patterns: list[str], path: str, out: bool) -> None:
    assert (Rules(exclude=tuple(patterns)).excluded(path) is not None) is out


def test_the_rule_that_excludes_a_path_is_named() -> None:
    assert Rules(exclude=("drafts/",)).excluded("drafts/") == "exclude: drafts/"
    ignore = IgnoreFile.parse("a/", "*.tmp\n")
    assert Rules().excluded("a/x.tmp", [ignore]) == "a/.syncdignore line 1: *.tmp"


@pytest.mark.parametrize(
    ("rules", "lines"),
    [
        (Rules(), None),
        (Rules(exclude=("/a/b.md", "drafts/")), None),
        (Rules(include=("*.txt",)), None),
        (Rules(), "b.md"),
    ],
)
def test_no_rule_excludes_a_path_that_the_quick_test_denies(rules: Rules, lines: str | None) -> None:
    ignores = [] if lines is None else [IgnoreFile.parse("a/", lines)]
    paths = ["a/b.md", "a/c.txt", "a/drafts/", "a/.env", "a/.env.example", "x/a/b.md"]
    left_out = [path for path in paths if rules.excluded(path, ignores)]
    assert "a/.env" in left_out
    assert set(left_out) <= {path for path in paths if rules.doubt(ignores)(path)}


def test_an_excluded_directory_excludes_its_content() -> None:
    rules = Rules(exclude=("drafts/", "!drafts/keep.md"))
    assert rules.excluded("drafts/keep.md") is None, "judged alone"
    assert rules.excluded_deep("drafts/keep.md") == "exclude: drafts/"
    assert rules.excluded_deep("a/drafts/b/c.md") == "exclude: drafts/"
    assert rules.excluded_deep("a/b/c.md") is None


def test_include_matches_files_only() -> None:
    rules = Rules(include=("*.md", "/img/**"))
    assert rules.excluded("a/b.md") is None
    assert rules.excluded("img/x.png") is None
    assert rules.excluded("a/img/x.png") == "include: no pattern takes it"
    assert rules.excluded("a/") is None
    assert rules.excluded_deep("a/b/x.png") == "include: no pattern takes it"


def test_an_excluded_path_stays_excluded_if_include_matches() -> None:
    rules = Rules(include=("*.md",), exclude=("drafts/",))
    assert rules.excluded_deep("drafts/a.md") == "exclude: drafts/"


def test_a_negation_in_an_ignore_file_does_not_overrule_include() -> None:
    ignore = IgnoreFile.parse("", "!x.png\n")
    assert Rules(include=("*.md",)).excluded("x.png", [ignore]) == "include: no pattern takes it"


def test_the_deepest_ignore_file_decides() -> None:
    above, below = IgnoreFile.parse("", "*.log\n"), IgnoreFile.parse("a/", "!keep.log\n")
    rules = Rules()
    assert rules.excluded("x.log", [above]) is not None
    assert rules.excluded("a/x.log", [above, below]) == ".syncdignore line 1: *.log"
    assert rules.excluded("a/keep.log", [above, below]) is None
    assert rules.excluded("b/keep.log", [above, below]) is not None, "a file speaks of its own folder only"


def test_an_ignore_file_overrules_the_config() -> None:
    ignore = IgnoreFile.parse("", "!a.tmp\n")
    rules = Rules(exclude=("*.tmp",))
    assert rules.excluded("a.tmp", [ignore]) is None
    assert rules.excluded("b.tmp", [ignore]) == "exclude: *.tmp"


def test_an_ignore_file_with_a_slash_is_anchored_to_its_folder() -> None:
    ignore = IgnoreFile.parse("a/", "/top.md\nsub/\n")
    rules = Rules()
    assert rules.excluded("a/top.md", [ignore]) is not None
    assert rules.excluded("a/b/top.md", [ignore]) is None
    assert rules.excluded("a/b/sub/", [ignore]) is not None


def test_an_ignore_file_does_not_judge_the_folder_it_lies_in() -> None:
    ignore = IgnoreFile.parse("a/", "*\n!x.md\n")
    rules = Rules()
    assert rules.excluded("a/", [ignore]) is None
    assert rules.excluded_deep("a/x.md", [ignore]) is None
    assert rules.excluded_deep("a/y.md", [ignore]) is not None


def test_a_line_that_is_no_pattern_is_named() -> None:
    with pytest.raises(ValueError, match="!"):
        IgnoreFile.parse("", "fine.md\n!\n")


def test_names_are_normalised_to_nfc() -> None:
    assert normal(NFD) == NFC
    assert normal(NFC) == NFC
    assert normal("plain") == "plain"


@given(st.text())
def test_normalising_twice_is_normalising_once(name: str) -> None:
    assert normal(normal(name)) == normal(name) == unicodedata.normalize("NFC", name)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("a b.md", None),
        ("\u00fc.md", None),
        ("100%.md", None),
        ("\u2028line separator", None),
        ("bad\udcff.md", "UTF-8"),
        ("new\nline", "control character"),
        ("tab\t", "control character"),
        ("nul\0", "control character"),
        ("del\x7f", "control character"),
        ("\u00fc\x1b[0m", "control character"),
        ("c1\x85", "control character"),
    ],
)
def test_invalid_names_have_a_fault(name: str, fault: str | None) -> None:
    found = name_fault(name)
    assert (found is None) == (fault is None)
    assert fault is None or (found is not None and fault in found and "rename" in found)


def test_names_that_are_not_utf_8_are_shown_escaped() -> None:
    assert shown("bad\udcff.md") == "bad\\xff.md"
    assert shown("fine \u00fc.md") == "fine \u00fc.md"


@given(st.binary(min_size=1))
def test_every_name_can_be_shown(raw: bytes) -> None:
    shown(raw.decode("utf-8", "surrogateescape")).encode()


@given(st.binary(max_size=12))
def test_a_shown_name_stands_for_the_name(data: bytes) -> None:
    name = from_os(data)
    assert name in spellings(shown(name))


@given(st.text(max_size=12).filter(lambda name: "\\" not in name))
def test_a_printed_name_stands_for_the_name(name: str) -> None:
    assert name in spellings(printable(name))


def test_a_name_without_escapes_stands_for_itself_alone() -> None:
    assert spellings("a b/ä.md") == ["a b/ä.md"]
    assert spellings("a\\x41")[0] == "a\\x41"
    assert spellings("\\Uffffffff") == ["\\Uffffffff"]
