"""From a file to the values of its metadata."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.core.model import Content, is_field_source
from syncd.text.documents import (
    FRONT_MATTER_LIMIT,
    META_LIMIT,
    VALUE_BYTES,
    VALUE_LENGTH,
    describe,
    read_html_head,
    read_markdown_head,
)

ALL = {"title": "title", "description": "description", "modified": "modified", "folder": "folder"}


def value_of(text: str | None, source: str, key: str = "docs/guide.md") -> str | None:
    return describe({"x": source}, key, content(text or ""))[0].get("x")


def content(text: str, mtime_ns: int | None = None) -> Content:
    return Content(text.encode(), "", mtime_ns)


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("---\ntitle: From front\n---\n# Heading", "a.md", "From front"),
        ("---\ntitle:\n---\n# Heading", "a.md", "Heading"),
        ("## Small\n# Big *one*", "a.md", "Big one"),
        ("## Small\n### Smaller", "a.md", "Small"),
        ("no heading", "a/the guide.md", "the guide"),
        ("---\ntitle: T", "a.md", "a"),
        ("", "a.b.md", "a.b"),
        ("# not read", "notes.txt", "notes"),
        ("<title> A\n page </title><h1>H</h1>", "a.html", "A page"),
        ("<title></title><h1>The <b>first</b></h1><h1>other</h1>", "a.html", "The first"),
        ("<p>nothing</p>", "a.html", "a"),
        (None, "scan.pdf", "scan"),
        (None, ".gitignore", ".gitignore"),
        (None, "docs/README", "README"),
    ],
)
def test_a_title_is_in_the_file_or_is_its_name(text: str | None, key: str, expected: str) -> None:
    assert value_of(text, "title", key) == expected


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("---\ndescription: 'Short: it'\n---\nlong", "a.md", "Short: it"),
        ("---\ndescription: >-\n  Two\n  lines\n---\n", "a.md", "Two lines"),
        ('+++\ndescription = """\nTwo\nlines"""\n+++\n', "a.md", "Two lines"),
        ("# H\n\nA first paragraph.", "a.md", None),
        ('<meta name="Description" content="Of a page">', "a.html", "Of a page"),
        ("<p>text</p>", "a.html", None),
        (None, "a.pdf", None),
    ],
)
def test_a_description_is_written_in_the_file_or_absent(text: str | None, key: str, expected: str | None) -> None:
    assert value_of(text, "description", key) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("section: Guides", "Guides"),
        ("Section: Guides", "Guides"),
        ("section: no", "no"),
        ("section: 1.10", "1.10"),
        ("section: 2024-01-01", "2024-01-01"),
        ("section: [a, 'b, c', 3]", "a, b, c, 3"),
        ("section:\n- a\n- b", "a, b"),
        ("section: [[a], b]", "b"),
        ("section: {a: b}", None),
        ("section: ~", None),
        ("section: null", None),
        ("section:", None),
        ('section: "a\\0b\\ud800"', "a b"),
        ("section: a # why", "a"),
        ("other: a", None),
    ],
)
def test_any_field_of_yaml_is_a_text_as_it_is_written(written: str, expected: str | None) -> None:
    assert value_of(f"---\n{written}\n---\ntext", "front: Section") == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('section = "Guides"', "Guides"),
        ("section = true", "true"),
        ("section = 1.5", "1.5"),
        ("section = 2024-01-01T10:00:00Z", "2024-01-01 10:00:00+00:00"),
        ('section = ["a", 3]', "a, 3"),
        ("[section]\na = 1", None),
    ],
)
def test_any_field_of_toml_is_a_text(written: str, expected: str | None) -> None:
    assert value_of(f"+++\n{written}\n+++\ntext", "front:section") == expected


@pytest.mark.parametrize(
    "inside",
    ["a: b: c", "a: [", "a: !!python/object:os.system x\n? [b]\n: c\n'", "a: b\n---\nc: d", "a: *nowhere"],
)
def test_front_matter_that_cannot_be_read_has_no_fields_and_a_fault(inside: str) -> None:
    text = f"---\na: 1\n{inside}\n---\n# H\n"
    fields, fault = describe({"t": "title", "a": "front:a"}, "x.md", content(text))
    assert fields == {"t": "H"} or inside.startswith("a: b\n---")
    assert fault or inside.startswith("a: b\n---")


def test_every_tag_of_yaml_gives_text() -> None:
    read_head = read_markdown_head('---\na: !!python/object/apply:os.system ["exit 1"]\nb: !!int "7"\n---\n')
    assert (read_head.fields, read_head.fault) == ({"a": "exit 1", "b": "7"}, None)


@pytest.mark.parametrize(("size", "read"), [(-1, True), (0, True), (1, False)])
def test_front_matter_has_a_limit(size: int, read: bool) -> None:
    head = "a: b\n#"
    read_head = read_markdown_head(f"---\n{head}{'x' * (FRONT_MATTER_LIMIT + size - len(head) - 1)}\n---\n# H")
    assert (read_head.fields == {"a": "b"}) is read
    assert (read_head.fault is None) is read


@pytest.mark.parametrize("bomb", ["[" * 9000, "{" * 9000, "? " * 7000, "&a [" + "*a," * 4000 + "]", "'" * 15000])
def test_hostile_front_matter_is_only_a_fault(bomb: str) -> None:
    read_head = read_markdown_head(f"---\na: b\nc: {bomb}\n---\n# H")
    assert read_head.fault or read_head.fields["a"] == "b"


@pytest.mark.parametrize(("count", "taken"), [(49, 49), (50, 50), (51, 50)])
def test_a_list_has_a_limit(count: int, taken: int) -> None:
    read_head = read_markdown_head(f"---\na: [{', '.join('x' * count)}]\n---\n")
    assert read_head.fields["a"].count("x") == taken


@pytest.mark.parametrize("rejects", [False, True])
def test_a_page_keeps_its_fields_before_a_part_that_the_parser_rejects(
    monkeypatch: pytest.MonkeyPatch, *, rejects: bool
) -> None:
    """The parsers of some versions of Python raise an error for an unknown declaration."""

    def raising(*_: object) -> int:
        raise AssertionError("unknown status keyword")

    if rejects:
        monkeypatch.setattr(HTMLParser, "parse_html_declaration", raising)
    assert read_html_head("<title>T</title><![x b]>").fields["title"] == "T"


@pytest.mark.parametrize(("count", "known"), [(META_LIMIT, True), (META_LIMIT + 1, False)])
def test_meta_tags_have_a_limit(count: int, known: bool) -> None:
    page = read_html_head("".join(f'<meta name="n{at}" content="{at}">' for at in range(1, count + 1)))
    assert (f"n{count}" in page.fields) is known


@pytest.mark.parametrize(
    ("mtime_ns", "expected"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000_999_999_999, "2023-11-14T22:13:20Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (2**63 - 1, "2262-04-11T23:47:16Z"),
        (10**21, None),
        (None, None),
    ],
)
def test_a_time_is_in_utc_and_absent_if_no_calendar_has_it(mtime_ns: int | None, expected: str | None) -> None:
    assert describe({"m": "modified"}, "a.md", content("", mtime_ns))[0].get("m") == expected


@pytest.mark.parametrize(("key", "expected"), [("a/b/c.md", "a/b/"), ("c.md", None)])
def test_a_folder_is_the_key_up_to_its_last_slash(key: str, expected: str | None) -> None:
    assert value_of("", "folder", key) == expected


@pytest.mark.parametrize("length", [VALUE_LENGTH - 1, VALUE_LENGTH, VALUE_LENGTH + 1])
def test_a_value_is_cut_to_characters(length: int) -> None:
    assert len(value_of("# H", "title", "x" * length + ".md") or "") == 1
    assert len(value_of("", "title", "x" * length + ".md") or "") == min(length, VALUE_LENGTH)


@pytest.mark.parametrize("count", [VALUE_BYTES // 4 - 1, VALUE_BYTES // 4, VALUE_BYTES // 4 + 1])
def test_a_value_is_cut_to_bytes(count: int) -> None:
    assert value_of("", "title", "\U0001f600" * count + ".md") == "\U0001f600" * min(count, VALUE_BYTES // 4)


@given(st.text(), st.sampled_from(["a.md", "a.html", "a.txt"]))
def test_every_value_of_any_file_is_one_line_of_text(text: str, key: str) -> None:
    for front in ("", "---\n", "---\na: b\n", "+++\n"):
        fields, _ = describe(ALL, key, content(front + text + ("\n---\n" if front else ""), 0))
        for value in fields.values():
            assert value
            assert value == " ".join(value.split())
            assert len(value.encode()) <= VALUE_BYTES


@pytest.mark.parametrize(
    ("source", "known"),
    [("title", True), ("front:a", True), ("front:", False), ("front: ", False), ("Title", False), ("size", False)],
)
def test_sources_have_names(source: str, known: bool) -> None:
    assert is_field_source(source) is known
