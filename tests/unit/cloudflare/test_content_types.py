import pytest

from syncd.cloudflare.file_types import PLAIN, RICH, SUPPORTED, content_type, extension

DOCUMENTED_PLAIN = (
    ".txt .rst .log .log.gz .ini .conf .env .properties .gitignore .editorconfig .toml .markdown .md .mdx .mdoc .tex "
    ".latex .sh .bat .ps1 .sgml .json .sql .yaml .yml .css .js .php .py .rb .java .c .cpp .cxx .h .hpp .go .rs .swift "
    ".dart .el"
)
DOCUMENTED_RICH = (
    ".pdf .jpeg .jpg .png .webp .svg .gif .bmp .html .htm .xml .xlsx .xlsm .xlsb .xls .et .docx .ods .odt .csv .numbers"
)


def test_the_table_is_the_documented_one() -> None:
    assert set(PLAIN) == set(DOCUMENTED_PLAIN.split())
    assert set(RICH) == set(DOCUMENTED_RICH.split())
    assert set(PLAIN) | set(RICH) == SUPPORTED
    assert not set(PLAIN) & set(RICH)


@pytest.mark.parametrize("suffix", sorted(SUPPORTED))
def test_every_supported_extension_has_a_content_type(suffix: str) -> None:
    kind, _, name = (content_type(f"a/b{suffix}") or "").partition("/")
    assert kind
    assert name


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a/README.MD", "text/markdown"),
        ("x.pdf", "application/pdf"),
        ("dir.md/photo.JPG", "image/jpeg"),
        ("app.log.gz", "application/gzip"),
        (".gitignore", "text/plain"),
        ("sub/.env", "text/plain"),
        ("data.json", "application/json"),
        ("data.yml", "application/x-yaml"),
        ("main.py", "text/x-python"),
        ("app.gz", None),
        ("README", None),
        ("dir.md/README", None),
        ("slides.pptx", None),
        ("a.ts", None),
        ("a.md.bak", None),
        ("md", None),
        ("a.", None),
        (".", None),
        ("", None),
    ],
)
def test_the_extension_of_the_name_decides(key: str, expected: str | None) -> None:
    assert content_type(key) == expected


@pytest.mark.parametrize(
    ("key", "expected"), [("a", ""), ("a.", ""), ("a.B", ".b"), ("a.LOG.GZ", ".log.gz"), (".env", ".env")]
)
def test_an_extension_is_lower_case_and_may_be_the_whole_name(key: str, expected: str) -> None:
    assert extension(key) == expected
