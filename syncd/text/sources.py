"""What a metadata field can be made of, by the names that the settings give them. PURE."""

FRONT = "front:"
"""Stands before the name of a field of the front matter."""
SOURCES = ("title", "description", "modified", "folder")


def is_source(text: str) -> bool:
    """Whether this is the name of a source."""
    return text in SOURCES or (text.startswith(FRONT) and text.removeprefix(FRONT).strip() != "")
