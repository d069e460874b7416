"""An item's metadata: the system's fields, the declared ones and the rest. PURE."""

import json
from datetime import datetime
from typing import Any, NamedTuple

from syncd.emulator.envelope import read_json
from syncd.emulator.limits import FILTERABLE_BYTES, MAX_CUSTOM_FIELDS, MAX_METADATA_SIZE

RESERVED = frozenset({"timestamp", "folder", "filename"})
DATA_TYPES = ("text", "number", "boolean", "datetime")


class Metadata(NamedTuple):
    """shown: all fields. filterable: those that filters see, cut as filters see them. warnings: as in the answer."""

    shown: dict[str, Any]
    filterable: dict[str, Any]
    warnings: list[dict[str, str]]


def read_schema(declared: Any) -> dict[str, str]:
    """An instance's custom_metadata as name -> data type, names in lower case. ValueError if it cannot be one."""
    if not isinstance(declared, list) or len(declared) > MAX_CUSTOM_FIELDS:
        raise ValueError(f"custom_metadata must be a list of at most {MAX_CUSTOM_FIELDS} fields")
    schema: dict[str, str] = {}
    for field in declared:
        name = field.get("field_name") if isinstance(field, dict) else None
        if not isinstance(name, str) or not name or field.get("data_type") not in DATA_TYPES:
            raise ValueError(f"a custom_metadata field needs a field_name and a data_type of {', '.join(DATA_TYPES)}")
        if name.lower() in RESERVED or name.lower() in schema:
            raise ValueError(f"custom_metadata field {name} is reserved or there twice")
        schema[name.lower()] = field["data_type"]
    return schema


def read_custom(text: str) -> dict[str, Any]:
    """The `metadata` part of an upload. ValueError unless it is an object of texts, numbers and booleans."""
    value = read_json(text)
    if not isinstance(value, dict):
        raise ValueError("metadata must be a JSON object")  # noqa: TRY004 - one error for all that is wrong with it
    for name, field in value.items():
        if not name or name.lower() in RESERVED:
            raise ValueError(f"{name!r} is reserved")
        if not isinstance(field, (str, int, float, bool)):
            raise ValueError(f"{name} must be a text, a number or a boolean")  # noqa: TRY004 - as above
    return {name.lower(): field for name, field in value.items()}


def build(key: str, seconds: float, custom: dict[str, Any], schema: dict[str, str]) -> Metadata:
    """The metadata of an item written at `seconds`. ValueError if it is larger than the service stores."""
    folder, slash, filename = key.rpartition("/")
    system = {"filename": filename, "folder": folder + slash, "timestamp": round(seconds * 1000)}
    shown = system | custom
    if len(json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_METADATA_SIZE:
        raise ValueError(f"metadata is over {MAX_METADATA_SIZE} bytes")
    filterable: dict[str, Any] = dict(system)
    warnings = []
    for name, value in custom.items():
        expected = schema.get(name)
        if expected is None:
            warnings.append({"code": "custom_metadata_field_not_filterable", "field": name})
        elif not _fits(value, expected):
            warnings.append({"code": "custom_metadata_value_not_indexed", "field": name, "expected_type": expected})
        else:
            filterable[name] = value
    return Metadata(shown, {name: _cut(value) for name, value in filterable.items()}, warnings)


def _cut(value: Any) -> Any:
    return value.encode()[:FILTERABLE_BYTES].decode(errors="ignore") if isinstance(value, str) else value


def _fits(value: Any, data_type: str) -> bool:
    if data_type == "boolean":
        return isinstance(value, bool)
    if data_type == "text":
        return isinstance(value, str)
    if isinstance(value, str):
        return data_type == "datetime" and _is_date(value)
    return not isinstance(value, bool)


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
