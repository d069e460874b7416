"""Which files AI Search takes, by extension, and the content type of each (AI Search "supported file types").

Whether the service judges by extension or by content type is not documented, so both are right.
"""

from collections.abc import Mapping

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

SUPPORTED: frozenset[str] = frozenset(PLAIN) | frozenset(RICH)


def extension(key: str) -> str:
    """The extension that decides, lower case: ".md", ".log.gz", ".gitignore"; "" when the name has no dot."""
    name = key.rpartition("/")[2].lower()
    if name.endswith(".log.gz"):
        return ".log.gz"
    _, dot, last = name.rpartition(".")
    return dot + last if dot and last else ""


def content_type(key: str) -> str | None:
    """The content type to send for this key, or None when AI Search does not take its kind of file."""
    suffix = extension(key)
    return PLAIN.get(suffix) or RICH.get(suffix)
