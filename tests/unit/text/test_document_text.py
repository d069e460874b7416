"""Documents are converted in the process of the converter, and hostile ones end nothing else."""

import importlib.util
import json
from collections.abc import Callable, Iterator

import pytest

from syncd.core.errors import Park, Retry
from syncd.core.model import Content
from syncd.core.names import Forms
from syncd.core.problems import Limits
from syncd.text import converter as conversion
from syncd.text.converter import Converter
from syncd.text.document_text import notebook_markdown as notebook
from tests.skips import NotHere
from tests.unit.text.documents_harness import docx, eml, epub, ipynb, odt, paragraph, pptx, rtf


@pytest.fixture(scope="module")
def shared() -> Iterator[Converter]:
    if importlib.util.find_spec("kreuzberg") is None:
        raise NotHere("kreuzberg is not installed; it is in requirements-dev.txt")
    converter = Converter()
    yield converter
    converter.close()


DOCUMENTS = {
    "a.docx": docx(paragraph("Grüße aus Köln")),
    "a.pptx": pptx("Grüße aus Köln", "zweite"),
    "a.epub": epub("<h1>Kapitel</h1><p>Grüße aus Köln</p>"),
    "a.odt": odt("Grüße aus Köln"),
    "a.eml": eml("Plan", "Grüße aus Köln"),
    "a.rtf": rtf("Gr\\'fc\\'dfe aus K\\'f6ln"),
    "a.ipynb": ipynb({"cell_type": "markdown", "source": ["Grüße ", "aus Köln"]}),
    "A.DOCX": docx(paragraph("Grüße aus Köln")),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_text_of_a_document_is_there(shared: Converter, name: str) -> None:
    text = shared.document(name, DOCUMENTS[name])
    assert "Grüße aus Köln" in text.decode()
    assert shared.document(name, DOCUMENTS[name]) == text, "the same bytes give the same text"


def test_structure_becomes_markdown(shared: Converter) -> None:
    assert "# Kapitel\n" in shared.document("a.epub", DOCUMENTS["a.epub"]).decode()
    assert "zweite" in shared.document("a.pptx", DOCUMENTS["a.pptx"]).decode()
    assert "**Subject**: Plan" in shared.document("a.eml", DOCUMENTS["a.eml"]).decode()


ENTITIES = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
# Functions, because every worker of the tests imports this module, and the large documents take a second.
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.docx": (lambda: b"", "refused"),
    "random.pptx": (lambda: bytes(range(256)) * 400, "refused"),
    "half.docx": (lambda: DOCUMENTS["a.docx"][: len(DOCUMENTS["a.docx"]) // 2], "refused"),
    "other.docx": (lambda: DOCUMENTS["a.rtf"], "refused"),
    "bomb.docx": (lambda: docx(paragraph("a" * 150_000_000)), "refused"),
    "memory.docx": (lambda: docx(paragraph("a" * 50) * 1_000_000), "too_large"),
    "deep.epub": (lambda: epub("<div>" * 1_000_000), "refused"),
    "deep.ipynb": (lambda: b'{"cells":' + b"[" * 500_000 + b"]" * 500_000 + b"}", "refused"),
    "no.ipynb": (lambda: b"[1, 2]", "refused"),
    "long.ipynb": (lambda: ipynb({"cell_type": "raw", "source": "x" * 34_000_000}), "too_large"),
    "text.doc": (lambda: b"hello", "refused"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_its_own_problem(shared: Converter, name: str) -> None:
    make, kind = HOSTILE[name]
    with pytest.raises(Park) as caught:
        shared.document(name, make())
    assert caught.value.kind == kind, str(caught.value)
    assert "or exclude it" in str(caught.value)
    assert str(caught.value).count("ParsingError: ") <= 1
    assert b"K\xc3\xb6ln" in shared.document("a.odt", DOCUMENTS["a.odt"]), "the next document is converted"


def test_external_and_multiplied_entities_stay_empty(shared: Converter) -> None:
    doctype = f'<!DOCTYPE d [<!ENTITY e0 "aaaaaaaaaa">{ENTITIES}<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    text = shared.document("laughs.docx", docx(paragraph("before &e9; &x; after"), doctype))
    assert b"before" in text
    assert b"root:" not in text
    assert len(text) < 1000


def test_a_document_over_the_wall_limit_is_tried_again() -> None:
    if importlib.util.find_spec("kreuzberg") is None:
        raise NotHere("kreuzberg is not installed; it is in requirements-dev.txt")
    converter = Converter(wall_s=0.05)
    with pytest.raises(Retry, match="too long"):
        converter.document("a.docx", docx(paragraph("a" * 50) * 200_000))
    converter.close()


# -- notebooks


def test_cells_and_outputs_of_a_notebook() -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "\n", "text"]},
        {
            "cell_type": "code",
            "source": "print('``` é')",
            "outputs": [
                {"output_type": "stream", "text": ["\x1b[31mred\x1b[0m\n"]},
                {"output_type": "execute_result", "data": {"text/plain": ["42"], "image/png": "AAAA"}},
                {"output_type": "display_data", "data": {"image/png": "AAAA"}},
                {"output_type": "error", "ename": "ValueError", "evalue": "bad"},
            ],
        },
        {"cell_type": "code", "source": "", "outputs": []},
    ]
    assert notebook(ipynb(*cells)).decode() == (
        "# Title\n\ntext\n\n````python\nprint('``` é')\n````\n\n"
        "```\nred\n```\n\n```\n42\n```\n\n```\nValueError: bad\n```\n"
    )


def test_a_notebook_of_version_3() -> None:
    cells = [{"cell_type": "heading", "level": 2, "source": "Part"}, {"cell_type": "code", "input": ["x = 1"]}]
    old = {"worksheets": [{"cells": cells}], "metadata": {}, "nbformat": 3}
    assert notebook(json.dumps(old).encode()) == b"## Part\n\n```\nx = 1\n```\n"


@pytest.mark.parametrize("cells", [[], [1, None, "x"], [{"source": 5}], [{"cell_type": "code", "outputs": [3]}]])
def test_a_notebook_without_text_is_empty(cells: list[object]) -> None:
    assert notebook(ipynb(*cells)) == b""


# -- the content that is sent

LIMITS = Limits(forms=Forms(("*.docx",), ("*.ts",), "", "x-1"), max_file_size=100, most_file_size=100)


def test_only_files_to_convert_are_converted() -> None:
    content = Content(b"let x", "00+text", suffix=".txt")
    assert conversion.converted("a.ts", content, LIMITS) is content


@pytest.mark.parametrize("data", [b"", b"let x", "wörter".encode("latin-1"), "wörter".encode("utf-16")])
def test_text_of_any_encoding_is_sent_as_text(data: bytes) -> None:
    content = Content(data, "00+text", suffix=".txt")
    assert conversion.converted("a.ts", content, LIMITS) is content


@pytest.mark.parametrize("data", [b"G\x40\x00\x10\x00\x00\xb0\r" * 100, b"\xff\xfe\x00\xd8\x00\xd8"])
def test_a_video_is_not_sent_as_text(data: bytes) -> None:
    with pytest.raises(Park, match=r"named in as_text, but it .* save it as UTF-8 to send it") as raised:
        conversion.converted("a.ts", Content(data, "00+text", suffix=".txt"), LIMITS)
    assert raised.value.kind == "unsupported_type"


@pytest.fixture
def unknown_version() -> Iterator[None]:
    """The version of the converter is looked up again in the test, and after it."""
    conversion.converter_version.cache_clear()
    yield
    conversion.converter_version.cache_clear()


@pytest.mark.usefixtures("unknown_version")
def test_without_the_extra_a_file_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "PACKAGE", "no-such-package")
    assert conversion.converter_name() == "no-such-package-missing"
    with pytest.raises(Retry, match=r"pip install 'syncd\[convert\]'"):
        conversion.converted("a.docx", Content(b"x", "00+x-1"), LIMITS)


@pytest.mark.usefixtures("unknown_version")
def test_the_converter_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(conversion, "PACKAGE", "asked-once")

    def version(name: str) -> str:
        asked.append(name)
        return "1.0"

    monkeypatch.setattr(conversion, "version", version)
    assert {conversion.converter_name() for _ in range(3)} == {"asked-once-1.0"}
    assert asked == ["asked-once"]


def test_the_limits_of_the_target_concern_the_text(shared: Converter) -> None:
    del shared
    small = conversion.converted("a.docx", Content(docx(paragraph("hello")), "00+x-1", suffix=".md"), LIMITS)
    assert (small.data, small.checksum, small.suffix) == (b"hello\n", "00+x-1", ".md")
    with pytest.raises(Park) as large:
        conversion.converted("a.docx", Content(docx(paragraph("a" * 101)), "00+x-1"), LIMITS)
    assert large.value.kind == "too_large"
    with pytest.raises(Park) as none:
        conversion.converted("a.docx", Content(docx(""), "00+x-1"), LIMITS)
    assert none.value.kind == "empty"
    conversion.converter.close()
