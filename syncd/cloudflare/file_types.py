"""The file types that AI Search takes, and the largest file of each.

The content type of a file follows from its extension ("supported file types" of the documentation). It is undocumented
whether the service uses the content type or the extension, so an upload has the correct value of both. The limits are
those of "AI Search: limits and pricing", October 2026.
"""

from collections.abc import Mapping
from typing import NamedTuple

MIB = 1024 * 1024
MAX_FILE_SIZE = 4 * MIB
"""Maximum bytes of a file, unless its type has a higher limit."""
MAX_LARGE_FILE_SIZE = 10 * MIB
"""Maximum bytes of a file of plain text or code, and of a PDF in an instance with use_ocr."""

_TEXT = "text/plain"

PLAIN: Mapping[str, str] = {
    **dict.fromkeys((".txt", ".rst", ".log", ".ini", ".conf", ".env", ".properties"), _TEXT),
    **dict.fromkeys((".gitignore", ".editorconfig", ".dart", ".el", ".swift"), _TEXT),
    ".log.gz": "application/gzip",
    ".toml": "application/toml",
    **dict.fromkeys((".markdown", ".md", ".mdx", ".mdoc"), "text/markdown"),
    **dict.fromkeys((".tex", ".latex"), "application/x-tex"),
    ".sh": "application/x-sh",
    ".bat": "application/x-msdos-batch",
    ".ps1": "text/x-powershell",
    ".sgml": "text/sgml",
    ".json": "application/json",
    ".sql": "application/sql",
    **dict.fromkeys((".yaml", ".yml"), "application/x-yaml"),
    ".css": "text/css",
    ".js": "application/javascript",
    ".php": "application/x-httpd-php",
    ".py": "text/x-python",
    ".rb": "text/x-ruby",
    ".java": "text/x-java-source",
    **dict.fromkeys((".c", ".h"), "text/x-c"),
    **dict.fromkeys((".cpp", ".cxx", ".hpp"), "text/x-c++"),
    ".go": "text/x-go",
    ".rs": "text/x-rust",
}
"""Text and code, indexed as it is: extension -> content type."""

RICH: Mapping[str, str] = {
    ".pdf": "application/pdf",
    **dict.fromkeys((".jpeg", ".jpg"), "image/jpeg"),
    ".png": "image/png",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    **dict.fromkeys((".html", ".htm"), "text/html"),
    ".xml": "application/xml",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
    ".xlsb": "application/vnd.ms-excel.sheet.binary.macroenabled.12",
    **dict.fromkeys((".xls", ".et"), "application/vnd.ms-excel"),
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".csv": "text/csv",
    ".numbers": "application/vnd.apple.numbers",
}
"""Converted to Markdown before indexing: extension -> content type."""

_WEB = (".html", ".htm", ".xml", ".svg", ".csv")
_IMAGES = (".jpeg", ".jpg", ".png", ".webp", ".gif", ".bmp")
_PACKED = (".log.gz",)
_OCR = (".pdf",)


class TypeGroup(NamedTuple):
    """File types with the same limits.

    max_size: maximum bytes of a file in an instance without use_ocr. max_size_ocr: the same for one with use_ocr.
    """

    name: str
    max_size: int
    max_size_ocr: int
    extensions: tuple[str, ...]


GROUPS = (
    TypeGroup(
        "plain text and code",
        *(MAX_LARGE_FILE_SIZE, MAX_LARGE_FILE_SIZE),
        tuple(extension for extension in PLAIN if extension not in _PACKED),
    ),
    # It is unknown whether the service counts the packed or the unpacked bytes.
    TypeGroup("packed logs", MAX_FILE_SIZE, MAX_FILE_SIZE, _PACKED),
    TypeGroup("PDF", MAX_FILE_SIZE, MAX_LARGE_FILE_SIZE, _OCR),
    # The documentation lists these text formats as formats that the service converts to Markdown.
    TypeGroup("web pages and data", MAX_FILE_SIZE, MAX_FILE_SIZE, _WEB),
    TypeGroup("images", MAX_FILE_SIZE, MAX_FILE_SIZE, _IMAGES),
    TypeGroup(
        "office documents",
        *(MAX_FILE_SIZE, MAX_FILE_SIZE),
        tuple(extension for extension in RICH if extension not in (*_OCR, *_WEB, *_IMAGES)),
    ),
)
"""All types, by their limits."""

LARGE = frozenset(extension for group in GROUPS if group.max_size > MAX_FILE_SIZE for extension in group.extensions)
"""Extensions of the files that may be larger than MAX_FILE_SIZE in every instance."""
LARGE_WITH_OCR = frozenset(_OCR)
"""Extensions of the files that may be larger than MAX_FILE_SIZE in an instance with use_ocr only."""
SUPPORTED: frozenset[str] = frozenset(PLAIN) | frozenset(RICH)


def extension(key: str) -> str:
    """Return the extension that decides the type, in lower case: ".md", ".log.gz", ".gitignore"; "" without a dot."""
    name = key.rpartition("/")[2].lower()
    if name.endswith(".log.gz"):
        return ".log.gz"
    _, dot, last = name.rpartition(".")
    return dot + last if dot and last else ""


def content_type(key: str) -> str | None:
    """Return the content type to send for this key, None if AI Search does not take files of this type."""
    suffix = extension(key)
    return PLAIN.get(suffix) or RICH.get(suffix)
