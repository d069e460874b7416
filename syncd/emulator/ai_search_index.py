"""The result of indexing a file: its chunks or an error, and its metadata. Pure functions."""

import json
import re
from typing import Annotated, Any, NamedTuple

from pydantic import Field, RootModel

from syncd.emulator.ai_search_files import BINARY_TYPES
from syncd.emulator.filters import cut_text, has_type
from syncd.emulator.requests import compact_json, validate

MAX_METADATA_SIZE = 10 * 1024
"""Bytes of an item's metadata as compact JSON, the system's own fields included."""

_PIECE = re.compile(r".{1,1000}(?:\n[ \t\r]*\n\s*|\Z)|.{500,999} |.{1,1000}", re.DOTALL)
"""A chunk: paragraphs of up to 1,000 characters together. A longer paragraph is split at a space."""

_HEADING = re.compile(r"#{1,6}(\s|$)")
_MARKDOWN = (".md", ".mdx", ".markdown", ".mdoc")


class IndexedChunk(NamedTuple):
    """A piece of a file: data[start_byte:end_byte]."""

    start_byte: int
    end_byte: int
    text: str


class IndexingResult(NamedTuple):
    """The chunks of a file, or one of the service's error values."""

    chunks: list[IndexedChunk]
    error: str | None


def index_content(key: str, data: bytes) -> IndexingResult:
    """Split the content into chunks. A file without text ends in file_content_empty.

    Pictures, PDF and office files are accepted without reading their content: they have no chunks.
    """
    name = key.lower()
    if not data.strip():
        return IndexingResult([], "file_content_empty")
    if name.endswith(BINARY_TYPES):
        return IndexingResult([], None)
    text = data.decode("utf-8", "surrogateescape")
    if name.endswith(_MARKDOWN) and all(_HEADING.match(line) for line in text.splitlines() if line.strip()):
        return IndexingResult([], "file_content_empty")
    return IndexingResult(_chunks(text), None)


def _chunks(text: str) -> list[IndexedChunk]:
    """Return the chunks. Every byte belongs to exactly one chunk, so the offsets follow from the lengths."""
    chunks = []
    position = 0
    for piece in _PIECE.findall(text):
        raw = piece.encode("utf-8", "surrogateescape")
        chunks.append(IndexedChunk(position, position + len(raw), raw.decode("utf-8", "replace")))
        position += len(raw)
    return chunks


SYSTEM_FIELDS = frozenset({"timestamp", "folder", "filename"})


class ItemMetadata(NamedTuple):
    """shown: all fields. filterable: the fields that filters see, cut like filters see them. warnings: as answered."""

    shown: dict[str, Any]
    filterable: dict[str, Any]
    warnings: list[dict[str, str]]


def schema_of(settings: dict[str, Any]) -> dict[str, str]:
    """Return the custom_metadata in the settings of an instance as lower-case name -> data type."""
    return {field["field_name"].lower(): field["data_type"] for field in settings.get("custom_metadata") or []}


class _CustomMetadata(RootModel[dict[Annotated[str, Field(min_length=1)], str | bool | int | float]]):
    """The custom metadata of an upload."""


def read_custom_metadata(text: str, accepted: str, schema: dict[str, str]) -> dict[str, Any]:
    """Parse the `metadata` part of an upload; "" has no fields. accepted: the option `metadata`.

    ValueError unless it is an object of texts, numbers and booleans, and unless the option accepts it.
    """
    fields = validate(_CustomMetadata, (text or "{}").encode(), refuse=ValueError).root
    for name, field in fields.items():
        if name.lower() in SYSTEM_FIELDS:
            raise ValueError(f"{name!r} is reserved")
        if accepted == "refuse":
            raise ValueError("this instance accepts no metadata")
        if accepted == "texts" and not isinstance(field, str):
            raise ValueError("this instance accepts texts only")
        if accepted == "declared" and name.lower() not in schema:
            raise ValueError("this instance accepts declared fields only")
    return {name.lower(): field for name, field in fields.items()}


def build_metadata(key: str, seconds: float, custom: dict[str, Any], schema: dict[str, str]) -> ItemMetadata:
    """Return the metadata of an item written at `seconds`. ValueError if it exceeds the limit of the service."""
    folder, slash, filename = key.rpartition("/")
    system = {"filename": filename, "folder": folder + slash, "timestamp": round(seconds * 1000)}
    shown = system | custom
    if len(compact_json(shown).encode()) > MAX_METADATA_SIZE:
        raise ValueError(f"metadata is over {MAX_METADATA_SIZE} bytes")
    filterable: dict[str, Any] = dict(system)
    warnings = []
    for name, value in custom.items():
        expected = schema.get(name)
        if expected is None:
            warnings.append({"code": "custom_metadata_field_not_filterable", "field": name})
        elif not has_type(value, expected):
            warnings.append({"code": "custom_metadata_value_not_indexed", "field": name, "expected_type": expected})
        else:
            filterable[name] = value
    return ItemMetadata(shown, {name: cut_text(value) for name, value in filterable.items()}, warnings)


def cited_item(key: str, metadata: str) -> dict[str, Any]:
    """Return the fields of an item that an answer shows beside its chunks."""
    fields = json.loads(metadata)
    return {"key": key, "timestamp": fields["timestamp"], "metadata": fields}
