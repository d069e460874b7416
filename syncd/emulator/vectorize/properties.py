"""What metadata indexes keep of a vector's metadata, and filters on that. PURE."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from syncd.emulator.filters import Filter, compile_filter
from syncd.emulator.limits import FILTERABLE_BYTES, MAX_PROPERTY_LENGTH

TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
}
"""The types of a metadata index, each with the values that it keeps."""

_MAX_FILTER_SIZE = 2048


def check_property(name: Any) -> None:
    """ValueError unless it can be the name of a property in an index or a filter; a dot parts the levels of nesting."""
    if not isinstance(name, str) or not 0 < len(name) <= MAX_PROPERTY_LENGTH:
        raise ValueError(f"a property's name has 1 to {MAX_PROPERTY_LENGTH} characters")
    if name.startswith("$") or '"' in name or "" in name.split("."):
        raise ValueError(f"{name!r} is no property's name")


def indexed_part(metadata: str | None, properties: Mapping[str, str]) -> str:
    """{property: value} as JSON for the properties that have an index and a value of its type; texts are cut as filters
    see them. metadata is JSON too.
    """
    if metadata is None or not properties:
        return "{}"
    fields = json.loads(metadata)
    found = {name: _find(fields, name) for name in properties}
    kept = {name: _cut(value) for name, value in found.items() if TYPES[properties[name]](value)}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def compile_indexed(expression: Any) -> Filter:
    """The filter of a query as a predicate on what `indexed_part` gave. ValueError says what is wrong with it.

    A property without an index has no value there: it is equal to nothing.
    """
    if not isinstance(expression, dict) or not expression:
        raise ValueError("a filter must be a JSON object, and not empty")
    if len(json.dumps(expression, ensure_ascii=False, separators=(",", ":")).encode()) >= _MAX_FILTER_SIZE:
        raise ValueError(f"a filter must be less than {_MAX_FILTER_SIZE} bytes")
    tests = {}
    for name, condition in expression.items():
        check_property(name)
        try:
            # One at a time, since compile_filter folds names to lower case, and these are case-sensitive.
            tests[name] = compile_filter({"value": condition})
        except ValueError as reason:
            raise ValueError(f"{name}: {reason}") from reason
    return lambda indexed: all(test({"value": indexed.get(name)}) for name, test in tests.items())


def _find(fields: Any, name: str) -> Any:
    for part in name.split("."):
        fields = fields.get(part) if isinstance(fields, dict) else None
    return fields


def _cut(value: Any) -> Any:
    return value.encode()[:FILTERABLE_BYTES].decode(errors="ignore") if isinstance(value, str) else value
