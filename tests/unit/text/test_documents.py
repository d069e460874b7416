"""From bytes and a name to a text: kinds, encodings, HTML."""

import codecs
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from syncd.core.errors import Park
from syncd.text.chunks import chunks
from syncd.text.documents import HTML, MARKDOWN, PLAIN, SUPPORTED, Document, ending, read_document
from syncd.text.html_text import markdown


def html(page: str) -> str:
    return read_document("a.html", page.encode()).text


def test_every_ending_is_lower_case_has_a_dot_and_one_kind() -> None:
    assert all(suffix.startswith(".") and suffix == suffix.lower() and suffix.count(".") == 1 for suffix in SUPPORTED)
    assert len(SUPPORTED) == len(MARKDOWN) + len(HTML) + len(PLAIN)
    assert not {".pdf", ".png", ".docx", ".zip", ".svg", ""} & SUPPORTED


@pytest.mark.parametrize(
    ("key", "expected"), [("a/B.MD", ".md"), ("a.d/b", ""), ("a.", ""), (".env", ".env"), ("a.tar.gz", ".gz"), ("", "")]
)
def test_the_last_dot_of_the_name_begins_the_ending(key: str, expected: str) -> None:
    assert ending(key) == expected


@pytest.mark.parametrize(
    ("key", "kind"),
    [("a.md", "markdown"), ("a.MDX", "markdown"), ("a.py", "text"), ("a", "text"), ("a.htm", "markdown")],
)
def test_the_kind_of_a_text_follows_from_its_name(key: str, kind: str) -> None:
    assert read_document(key, b"x").kind == kind


@pytest.mark.parametrize(
    "data",
    [
        "ä\nb\nc".encode(),
        "ä\r\nb\rc".encode(),
        codecs.BOM_UTF8 + "ä\nb\nc".encode(),
        "ä\nb\nc".encode("utf-16"),
        codecs.BOM_UTF16_BE + "ä\nb\nc".encode("utf-16-be"),
        "ä\r\nb\nc".encode("utf-32"),
        codecs.BOM_UTF32_BE + "ä\nb\nc".encode("utf-32-be"),
    ],
)
def test_unicode_with_a_mark_is_read_and_line_ends_become_line_feeds(data: bytes) -> None:
    assert read_document("a.txt", data) == Document("ä\nb\nc", "text")


@pytest.mark.parametrize(
    "data", [b"a\0b", "ä".encode("latin-1"), b"\x89PNG\r\n", codecs.BOM_UTF16_LE + b"a", "a".encode("utf-16-le")]
)
def test_a_file_that_is_no_text_is_parked(data: bytes) -> None:
    with pytest.raises(Park, match="not UTF-8 text; save it as UTF-8") as caught:
        read_document("a.txt", data)
    assert caught.value.kind == "unsupported_type"


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("a.txt", b""),
        ("a.txt", b" \r\n\t"),
        ("a.txt", codecs.BOM_UTF8),
        ("a.md", b"---\ntitle: x\n---\n"),
        ("a.html", b"<html><head><style>x</style></head><body><script>y</script></body></html>"),
    ],
)
def test_a_file_without_text_is_parked_as_empty(key: str, data: bytes) -> None:
    with pytest.raises(Park, match="no text to embed") as caught:
        read_document(key, data)
    assert caught.value.kind == "empty"


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<h1>A</h1><p>b <b>c</b> d_e*f", "# A\n\nb **c** d_e*f"),
        ("<title>T</title><p>b", "# T\n\nb"),
        ("<title>T</title><h1>A</h1>b", "# A\n\nb"),
        ("<h2>A <code>x</code></h2>b", "## A `x`\n\nb"),
        ("a<script>s</script><style>s</style><nav>n</nav><template>t</template><p hidden>h</p><!-- c --><?p i?>", "a"),
        ("<ul><li>a<li>b</ul><p>c<p>d", "* a\n* b\n\nc\n\nd"),
        ("<table><tr><th>A<th>B<tr><td>1<td>2</table>", "| A | B |\n| --- | --- |\n| 1 | 2 |"),
        ("<pre># c\n```\nx\n</pre>", "````\n# c\n```\nx\n````"),
        ("<p># a</p><p>```</p><p>a # b</p>", "\\# a\n\n\\```\n\na # b"),
        ("<?xml version='1.0'?><!DOCTYPE html><html><p>a &amp; b &lt;c&gt;</html>", "a & b <c>"),
        ("a < b", "a < b"),
        ("a<b", "a"),
        ("x.html", "x.html"),
    ],
)
def test_html_becomes_markdown(page: str, expected: str) -> None:
    assert html(page).strip() == expected


def test_the_headings_of_html_are_the_headings_of_its_chunks() -> None:
    read = read_document("a.html", b"<title>Site</title><h2>Install</h2><p>Text</p><h3>Linux</h3><pre># apt</pre>")
    assert [chunk.heading for chunk in chunks(read.text, read.kind, 1000, 0)] == [
        "Site > Install",
        "Site > Install > Linux",
    ]


@pytest.mark.parametrize("tag", ["div", "ul><li", "blockquote", "table><tr><td", "b", "h1"])
def test_a_page_nested_ten_thousand_deep_is_flattened(tag: str) -> None:
    read = html(f"<{tag}>" * 10_000 + "<h2>Deep</h2>tail<script>no</script>")
    assert "Deep" in read
    assert "tail" in read
    assert "no" not in read
    assert tag == "h1" or "\n## Deep" in read or read.startswith("## Deep")


@pytest.mark.timeout(30)  # each takes under five seconds, and minutes if it is quadratic
@pytest.mark.parametrize(
    "page",
    [
        "x" + "<a " * 60_000,
        "x" + "<a b='" * 40_000,
        "x" + "<!--" * 60_000,
        "x" + "</" * 60_000,
        "<" * 200_000,
        "a" + " " * 400_000 + "b",
        "<pre>" + " \n" * 200_000 + "b</pre>",
        "<ol>" + "<li>x" * 30_000 + "</ol>",
        "<table><thead>" + "<tr><td>x" * 10_000,
        "<table>" + "<tbody><tr><td>x</tbody>" * 5_000,
        "<blockquote>" * 90 + "x<br>" * 20_000,
        "<p>x" * 30_000,
    ],
)
def test_a_hostile_page_is_converted_in_linear_time(page: str) -> None:
    assert html(page)


def rejecting(*_: object) -> int:
    """The parser of Python 3.11.7 raises this error at `<![x b`. The parser of 3.13.5 reads a comment."""
    raise AssertionError("unknown status keyword")


def test_html_that_the_parser_rejects_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HTMLParser, "parse_html_declaration", rejecting)
    with pytest.raises(ValueError, match="unknown status keyword"):
        markdown("a <![x b")


@pytest.mark.parametrize("tag", ["plaintext", "textarea", "xmp", "title", "style", "script", "iframe", "noembed", "p"])
def test_an_open_tag_adds_nothing_to_the_text(tag: str) -> None:
    """Newer parsers read to the end of the file in some of these."""
    read = html(f"<p>before</p><{tag}>after")
    assert "before" in read
    assert "template" not in read
    assert "<!--" not in read


def test_no_package_for_html_is_imported_for_other_files() -> None:
    program = (
        "import sys; from syncd.text import documents as d; d.read_document('a.md', b'x'); print('bs4' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
