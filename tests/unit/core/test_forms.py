"""The form in which a file is sent: patterns, names, checksums and the files of one name."""

import pytest

from syncd.core.model import Problem, ProblemKind
from syncd.core.names import (
    CONVERTIBLE,
    MAX_SOURCE,
    NO_FORMS,
    Forms,
    converter_of,
    full_key,
    keys_of,
    neighbours,
    remote_name,
    same_source,
    shown_checksum,
)
from syncd.core.plain_text import over_limit
from syncd.core.problems import Limits

FORMS = Forms(("*.pptx", "books/", "!books/*.txt"), ("*.ts", "LICENSE", "docs/*.org"), "p/", "kreuzberg-1.2")


@pytest.mark.parametrize(
    ("key", "form", "name"),
    [
        ("p/a.pptx", "convert", "p/a.pptx.md"),
        ("p/deep/er/a.pptx", "convert", "p/deep/er/a.pptx.md"),
        ("p/books/b.epub", "convert", "p/books/b.epub.md"),
        ("p/books/b.txt", None, "p/books/b.txt"),
        ("p/src/a.ts", "text", "p/src/a.ts.txt"),
        ("p/LICENSE", "text", "p/LICENSE.txt"),
        ("p/sub/LICENSE", "text", "p/sub/LICENSE.txt"),
        ("p/docs/x.org", "text", "p/docs/x.org.txt"),
        ("p/x.org", None, "p/x.org"),
        ("p/A.PPTX", None, "p/A.PPTX"),
        ("other/a.pptx", None, "other/a.pptx"),
    ],
)
def test_patterns_work_as_in_include(key: str, form: str | None, name: str) -> None:
    assert FORMS.of(key) == form
    assert FORMS.name(key) == name
    assert NO_FORMS.name(key) == key


def test_convert_has_priority() -> None:
    assert Forms(("*.org",), ("*.org",)).of("a.org") == "convert"


def test_checksums_name_the_source_and_the_converter() -> None:
    assert FORMS.checksum("p/a.pptx", "00") == "00+kreuzberg-1.2"
    assert FORMS.checksum("p/a.ts", "00") == "00+text"
    assert FORMS.checksum("p/a.md", "00") == "00"
    assert [converter_of(text) for text in ("00+kreuzberg-1.2", "00+text", "00")] == ["kreuzberg-1.2", None, None]
    assert shown_checksum("00+kreuzberg-1.2") == "00 (sha-256 of the file), converted by kreuzberg-1.2"
    assert shown_checksum("00+text") == "00 (sha-256 of the file), sent as text"
    assert shown_checksum("00") == "00 (sha-256)"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("00", "00", True),
        ("00+k-1", "00+k-2", True),
        ("00+k-1", "00+other-1", True),
        ("00+k-1+cpu", "00+k-2+cpu", True),
        ("00+k-1+cpu", "01+k-1+cpu", False),
        ("00+k-1", "01+k-1", False),
        ("00", "00+k-1", False),
        ("00", "00+text", False),
        ("00+text", "00+k-1", False),
        ("00", None, False),
        (None, None, False),
    ],
)
def test_two_versions_of_the_converter_prove_the_same_source(one: str | None, other: str | None, same: bool) -> None:
    assert same_source(one, other) is same
    assert same_source(other, one) is same


def test_files_of_one_name_are_rivals() -> None:
    assert list(FORMS.rivals("p/a.ts")) == ["p/a.ts.txt"]
    assert list(FORMS.rivals("p/a.ts.txt")) == ["p/a.ts"]
    assert list(FORMS.rivals("p/a.pptx.md")) == ["p/a.pptx"]
    assert list(FORMS.rivals("p/a.md")) == []
    assert list(FORMS.rivals("p/a.pptx.txt")) == []
    chain = Forms((), ("*.ts", "*.txt"))
    assert list(chain.rivals("a.ts")) == [], "a.ts.txt is sent as a.ts.txt.txt"
    assert list(Forms((), ("*.ts",), renames=False).rivals("a.ts")) == []
    assert list(keys_of("a.ts.txt")) == ["a.ts.txt", "a.ts"]
    assert list(neighbours("a.md")) == ["a", "a.md.md", "a.md.txt"]


@pytest.mark.parametrize("suffix", ["", ".md", ".txt"])
@pytest.mark.parametrize("length", [64, 400])
def test_metadata_prove_the_key_of_a_mapped_name(suffix: str, length: int) -> None:
    key = "folder/" + "long-name-" * 20 + ".pptx"
    name = remote_name(key + suffix, length)
    assert full_key(name, key) == key
    assert full_key(name, key + "x") == name
    assert full_key("another.md", key) == "another.md"


LIMITS = Limits(
    20,
    1000,
    extensions=frozenset({".md", ".txt"}),
    forms=Forms(("*.pptx", "*.xyz"), ("*.ts",)),
    most_file_size=1000,
)
NOT_CONVERTED = (
    "syncd cannot convert this type of file to Markdown; leave its pattern out of convert (as_text sends text files)"
)
TEXT_TOO_LARGE = "1001 B is over the target's 1000 B; make the file smaller, or leave it out with exclude"


@pytest.mark.parametrize(
    ("key", "size", "kind", "message"),
    [
        ("a.pptx", 5000, None, ""),
        ("a.pptx", MAX_SOURCE, None, ""),
        (
            "a.pptx",
            MAX_SOURCE + 2**20,
            "too_large",
            "33 MiB is over the 32 MiB of a file to convert; make the file smaller, or leave it out with exclude",
        ),
        ("a.pptx", 0, "empty", "the file is empty, so there is nothing to index"),
        ("a.ts", 1000, None, ""),
        ("a.ts", 1001, "too_large", TEXT_TOO_LARGE),
        ("a.ts", 0, None, ""),
        ("a.xyz", 10, "unsupported_type", NOT_CONVERTED),
        ("a.bin", 10, "unsupported_type", "the target does not index this type of file"),
        (
            "TALK.DOCX",
            10,
            "unsupported_type",
            "the target does not index this type of file; name it in convert to send its text",
        ),
        ("x" * 12 + ".pptx", 10, None, ""),  # 20 characters with .md
        (
            "x" * 13 + ".pptx",
            10,
            "key_too_long",
            'the name has 21 characters, the target takes 20; shorten it, or set long_names = "shorten"',
        ),
    ],
)
def test_limits_concern_the_entry_and_not_the_source(
    key: str, size: int, kind: ProblemKind | None, message: str
) -> None:
    assert LIMITS.refuse(key, size) == (Problem(key, kind, message) if kind else None)


def test_a_file_to_convert_has_a_limit_of_its_own() -> None:
    over = LIMITS.refuse("a.pptx", MAX_SOURCE + 1)
    assert over
    assert over.kind == "too_large"
    assert (LIMITS.size_limit("a.pptx"), LIMITS.size_limit("a.ts")) == (MAX_SOURCE, 1000)


@pytest.mark.parametrize(
    ("size", "kind", "message"),
    [
        (0, "empty", "its conversion gives no text, so there is nothing to index"),
        (1, None, ""),
        (1000, None, ""),
        (1001, "too_large", f"after its conversion, {TEXT_TOO_LARGE}"),
    ],
)
def test_the_text_of_a_converted_file_has_the_limits_of_an_entry(
    size: int, kind: ProblemKind | None, message: str
) -> None:
    assert LIMITS.refuse_converted("a.pptx", size) == (Problem("a.pptx", kind, message) if kind else None)


@pytest.mark.parametrize(
    ("large", "size", "message"),
    [
        (".md", 101, "after its conversion, {}; make the file smaller, or leave it out with exclude"),
        (".md", 100, None),
        (".pptx", 100, "after its conversion, {} for this type of file; split it"),
        (".pptx", 10, None),
    ],
)
def test_the_limit_of_a_converted_file_is_that_of_its_text(large: str, size: int, message: str | None) -> None:
    limits = Limits(
        max_file_size=100,
        most_file_size=100,
        small_file_size=10,
        large_extensions=frozenset({large}),
        small_remedy="split it",
        forms=Forms(("*.pptx",)),
    )
    found = limits.refuse_converted("a.pptx", size)
    over = over_limit(size, 100 if large == ".md" else 10)
    assert found == (message and Problem("a.pptx", "too_large", message.format(over)))


def test_each_convertible_ending_has_a_type() -> None:
    types = pytest.importorskip("syncd.text.document_text", reason="kreuzberg is not installed").TYPES
    assert {*types, ".ipynb"} == CONVERTIBLE
