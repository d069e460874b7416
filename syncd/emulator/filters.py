"""Metadata filters in the syntax of Vectorize, e.g. {"folder": "docs/", "timestamp": {"$gte": 1700000000000}}.

AI Search filters by fields, Vectorize by the properties that have a metadata index. Pure functions.
"""

import json
import operator
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from syncd.emulator.requests import compact_json

FILTERABLE_BYTES = 64
"""Filters see this many leading bytes of a text field."""

PROPERTY_NAME = r"^[^$\".][^\".]*(\.[^\".]+)*$"
"""The name of a metadata property in an index or a filter. A dot separates nested names."""

MAX_PROPERTY_LENGTH = 512
"""Characters of such a name."""

Scalar = str | int | float | bool | None
MetadataFilter = Callable[[Mapping[str, Any]], bool]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}


def compile_filter(expression: Any) -> MetadataFilter:
    """Return the filter as a predicate on metadata; all conditions must hold. Raises ValueError for a mistake.

    An absent field equals nothing: only $ne and $nin hold for it.
    """
    if not isinstance(expression, dict):
        raise ValueError("a filter must be a JSON object")  # noqa: TRY004 - callers catch one error for every mistake
    tests = [test for field, condition in expression.items() for test in _tests(field, condition)]
    return lambda metadata: all(test(metadata) for test in tests)


def _tests(field: str, condition: Any) -> list[MetadataFilter]:
    if len(field) > MAX_PROPERTY_LENGTH or re.search(PROPERTY_NAME, field) is None:
        raise ValueError(f"{field!r} is not a field name of 1 to {MAX_PROPERTY_LENGTH} characters")
    if not isinstance(condition, dict):
        condition = {"$eq": condition}
    if not condition:
        raise ValueError(f"the condition on {field} is empty")
    return [_test(field, name, operand) for name, operand in condition.items()]


def _test(field: str, name: str, operand: Any) -> MetadataFilter:
    if name in {"$in", "$nin"}:
        if not isinstance(operand, list) or not all(_is_scalar(value) for value in operand):
            raise ValueError(f"{name} on {field} needs a list of values")
        wanted = name == "$in"
        return lambda metadata: any(_equal(metadata.get(field), value) for value in operand) is wanted
    if not _is_scalar(operand):
        raise ValueError(f"{name} on {field} needs a single value")
    if name in {"$eq", "$ne"}:
        wanted = name == "$eq"
        return lambda metadata: _equal(metadata.get(field), operand) is wanted
    if name not in _ORDER:
        raise ValueError(f"{name} is not an operator")
    if not isinstance(operand, (str, int, float)) or isinstance(operand, bool):
        raise ValueError(f"{name} on {field} needs a number or a text")  # noqa: TRY004 - as above
    compare = _ORDER[name]
    return lambda metadata: _comparable(metadata.get(field), operand) and compare(metadata[field], operand)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _equal(value: Any, operand: Scalar) -> bool:
    # In Python True == 1; in JSON they differ.
    return isinstance(value, bool) is isinstance(operand, bool) and value == operand


def _comparable(value: Any, operand: str | float) -> bool:
    return has_type(value, "text" if isinstance(operand, str) else "number")


def cut_text(value: Any) -> Any:
    """Return the part of a text that filters see, and any other value unchanged."""
    return value.encode()[:FILTERABLE_BYTES].decode(errors="ignore") if isinstance(value, str) else value


def has_type(value: Any, name: str) -> bool:
    """Return whether the value has the type of a field: text or string, number, boolean, datetime (seconds or text)."""
    if name in {"text", "string"}:
        return isinstance(value, str)
    if name == "boolean":
        return isinstance(value, bool)
    if name == "datetime" and isinstance(value, str):
        return _is_date(value)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def indexed_properties(metadata: str | None, types: Mapping[str, str]) -> str:
    """Return {property: value} as JSON for each property that has an index and a value of its type.

    metadata: JSON text; types: property -> type of each metadata index. Texts are cut to the part that filters see.
    """
    if metadata is None or not types:
        return "{}"
    fields = json.loads(metadata)
    values = {name: _nested(fields, name) for name in types}
    return compact_json({name: cut_text(value) for name, value in values.items() if has_type(value, types[name])})


def _nested(fields: Any, name: str) -> Any:
    for part in name.split("."):
        fields = fields.get(part) if isinstance(fields, dict) else None
    return fields
