"""Converts Jupyter notebooks to Markdown: their cells, and the text that the code cells gave.

Only a process of `converter` imports this module.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

_TERMINAL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LANGUAGE = re.compile(r"[\w+#.-]{1,30}")


def markdown(data: bytes) -> bytes:
    """Return a notebook of version 3 or 4 as Markdown in UTF-8. Raises ValueError if it is none."""
    notebook = json.loads(data)
    if not isinstance(notebook, dict) or notebook.keys().isdisjoint(("cells", "worksheets")):
        raise ValueError("it is JSON without cells")
    # Version 3 has its cells in worksheets.
    sheets = [notebook, *map(_dict, _list(notebook.get("worksheets")))]
    cells = [cell for sheet in sheets for cell in _list(sheet.get("cells"))]
    metadata = _dict(notebook.get("metadata"))
    spoken = _dict(metadata.get("language_info")).get("name") or _dict(metadata.get("kernelspec")).get("language")
    language = spoken if isinstance(spoken, str) and _LANGUAGE.fullmatch(spoken) else ""
    parts = (part.strip("\n") for cell in cells for part in _parts(_dict(cell), language))
    text = "\n\n".join(part for part in parts if part.strip())
    return (text + "\n").encode("utf-8", "replace") if text else b""


def _parts(cell: dict[str, Any], language: str) -> Iterator[str]:
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
    if not text.strip():
        return ""
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text)), 3)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def _text(value: object) -> str:
    return "".join(each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
