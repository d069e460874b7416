"""The form in which a file is sent: patterns, names, checksums and the files of one name."""

import pytest

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


def test_limits_concern_the_entry_and_not_the_source() -> None:
    limits = Limits(
        20,
        1000,
        extensions=frozenset({".md", ".txt"}),
        forms=Forms(("*.pptx", "*.xyz"), ("*.ts",)),
        most_file_size=1000,
    )

    def kind(key: str, size: int) -> str | None:
        problem = limits.refuse(key, size)
        return problem.kind if problem else None

    assert kind("a.pptx", 5000) is None
    assert kind("a.pptx", MAX_SOURCE) is None
    assert kind("a.pptx", MAX_SOURCE + 1) == "too_large"
    assert kind("a.pptx", 0) == "empty"
    assert kind("a.ts", 1000) is None
    assert kind("a.ts", 1001) == "too_large"
    assert kind("a.xyz", 10) == "unsupported_type"
    assert kind("a.bin", 10) == "unsupported_type"
    assert kind("x" * 12 + ".pptx", 10) is None, "20 characters with .md"
    assert kind("x" * 13 + ".pptx", 10) == "key_too_long"
    assert limits.refuse_converted("a.pptx", 1000) is None
    over, none = limits.refuse_converted("a.pptx", 1001), limits.refuse_converted("a.pptx", 0)
    assert over
    assert (over.key, over.kind) == ("a.pptx", "too_large")
    assert none
    assert none.kind == "empty"


def test_each_convertible_ending_has_a_type() -> None:
    types = pytest.importorskip("syncd.text.document_text", reason="kreuzberg is not installed").TYPES
    assert {*types, ".ipynb"} == CONVERTIBLE


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("TALK.PPTX", "the target does not index this type of file; name it in convert to send its text"),
        ("app.exe", "the target does not index this type of file"),
    ],
)
def test_a_type_that_could_be_converted_is_named_as_such(key: str, told: str) -> None:
    limits = Limits(extensions=frozenset({".md"}), forms=Forms(("*.pptx",), (), "", "x-1"))
    problem = limits.refuse(key, 1)
    assert problem
    assert (problem.kind, problem.message) == ("unsupported_type", told)
