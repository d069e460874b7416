"""Converts documents to Markdown, with kreuzberg except for notebooks (docs/decisions/0060-documents-to-text.md).

Only a process of `converter` imports this module, for its first document.
"""

import kreuzberg

from syncd.text.notebook_text import markdown as notebook_markdown

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
"""The type of each ending. The bytes do not decide, because any archive could be in a file."""
_CONFIG = kreuzberg.ExtractionConfig(
    output_format="markdown",
    # A cache would be a directory of files beside the state directory.
    use_cache=False,
    enable_quality_processing=False,
)
# The type stub of the package lacks this setting.
setattr(_CONFIG, "disable_ocr", True)  # noqa: B010


def markdown(name: str, data: bytes) -> bytes:
    """Return a document as Markdown in UTF-8. name: its file name. Raises an exception of any kind."""
    ending = "." + name.rpartition(".")[2].lower()
    if ending == ".ipynb":
        # kreuzberg 4.10 joins the lines of a cell, and decodes UTF-8 as Latin-1.
        return notebook_markdown(data)
    text = kreuzberg.extract_bytes_sync(data, TYPES[ending], config=_CONFIG).content.strip()
    return (text + "\n").encode("utf-8", "replace") if text else b""
