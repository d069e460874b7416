"""Converts notebooks to Markdown, and other documents with kreuzberg (docs/decisions/0060-documents-to-text.md).

Only a process of `converter` imports this module, for its first document.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

_OFFICE = "application/vnd.openxmlformats-officedocument"
_OPEN = "application/vnd.oasis.opendocument"
TYPES = {
    ".doc": "application/msword",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".docm": "application/vnd.ms-word.document.macroEnabled.12",
    ".eml": "message/rfc822",
    ".epub": "application/epub+zip",
    ".odt": f"{_OPEN}.text",
    ".ods": f"{_OPEN}.spreadsheet",
    ".pdf": "application/pdf",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".pptm": "application/vnd.ms-powerpoint.presentation.macroEnabled.12",
    ".ppsx": f"{_OFFICE}.presentationml.slideshow",
    ".rtf": "application/rtf",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
}
"""Ending of the name -> content type. The content cannot show the type, because many types are zip archives."""
_TERMINAL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LANGUAGE = re.compile(r"[\w+#.-]{1,30}")


def markdown(name: str, data: bytes) -> bytes:
    """Return a document as Markdown in UTF-8. name: its file name.

    Raises ValueError for data that is no notebook. kreuzberg may raise an exception of any type.
    """
    ending = "." + name.rpartition(".")[2].lower()
    if ending == ".ipynb":
        # kreuzberg 4.10 joins the lines of a cell, and decodes UTF-8 as Latin-1.
        return notebook_markdown(data)
    import kreuzberg

    # A cache would be a directory of files beside the state directory.
    config = kreuzberg.ExtractionConfig(output_format="markdown", use_cache=False, enable_quality_processing=False)
    # The type annotations of the package lack this setting.
    setattr(config, "disable_ocr", True)  # noqa: B010
    text = kreuzberg.extract_bytes_sync(data, TYPES[ending], config=config).content.strip()
    return (text + "\n").encode("utf-8", "replace") if text else b""


# -- notebooks


def notebook_markdown(data: bytes) -> bytes:
    """Return a notebook of version 3 or 4 as Markdown in UTF-8. Raises ValueError if the data is no notebook."""
    notebook = json.loads(data)
    if not isinstance(notebook, dict) or notebook.keys().isdisjoint(("cells", "worksheets")):
        raise ValueError("it is JSON without cells")
    # In version 3, the cells are in worksheets.
    sheets = [notebook, *map(_dict, _list(notebook.get("worksheets")))]
    cells = [cell for sheet in sheets for cell in _list(sheet.get("cells"))]
    metadata = _dict(notebook.get("metadata"))
    given = _dict(metadata.get("language_info")).get("name") or _dict(metadata.get("kernelspec")).get("language")
    language = given if isinstance(given, str) and _LANGUAGE.fullmatch(given) else ""
    parts = (part.strip("\n") for cell in cells for part in _parts(_dict(cell), language))
    text = "\n\n".join(part for part in parts if part.strip())
    return (text + "\n").encode("utf-8", "replace") if text else b""


def _parts(cell: dict[str, Any], language: str) -> Iterator[str]:
    """Yield the source of a cell and its outputs as Markdown."""
    source = _text(cell.get("source", cell.get("input")))
    match cell.get("cell_type"):
        case "code":
            yield _fenced(source, language)
            for output in _list(cell.get("outputs")):
                yield _fenced(_output(_dict(output)), "")
        case "heading":
            level = cell.get("level")
            yield f"{'#' * (level if isinstance(level, int) and 1 <= level <= 6 else 1)} {source}"
        case _:
            yield source


def _output(output: dict[str, Any]) -> str:
    """Return the plain text of an output, "" for an image."""
    data = _dict(output.get("data"))
    text = _text(output.get("text")) or _text(data.get("text/markdown") or data.get("text/plain"))
    if not text and output.get("output_type") in ("error", "pyerr"):
        text = f"{_text(output.get('ename'))}: {_text(output.get('evalue'))}"
    return _TERMINAL.sub("", text)


def _fenced(text: str, language: str) -> str:
    """Return a text as a fenced block, "" for a blank text."""
    if not text.strip():
        return ""
    fence = "`" * max((len(run) + 1 for run in re.findall(r"```+", text)), default=3)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def _text(value: object) -> str:
    """Return a text, or the text of a list of lines, "" for any other value."""
    lines = value if isinstance(value, list) else [value]
    return "".join(line for line in lines if isinstance(line, str))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
