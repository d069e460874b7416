"""Metadata filters in the syntax of Vectorize: {"folder": "docs/", "timestamp": {"$gte": 1700000000000}}."""

import operator
from collections.abc import Callable, Mapping
from typing import Any

Scalar = str | int | float | bool | None
Filter = Callable[[Mapping[str, Any]], bool]

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "$lt": operator.lt,
    "$lte": operator.le,
    "$gt": operator.gt,
    "$gte": operator.ge,
}


def compile_filter(expression: Any) -> Filter:
    """The filter as a predicate on metadata; all conditions must hold. ValueError says what is wrong with it.

    A field that is absent is equal to nothing: only $ne and $nin hold for it.
    """
    if not isinstance(expression, dict):
        raise ValueError("a filter must be a JSON object")  # noqa: TRY004 - one error for all that is wrong with it
    tests = [test for field, condition in expression.items() for test in _tests(str(field).lower(), condition)]
    return lambda metadata: all(test(metadata) for test in tests)


def _tests(field: str, condition: Any) -> list[Filter]:
    if not field or field.startswith("$") or '"' in field:
        raise ValueError(f"{field!r} is no field name")
    if not isinstance(condition, dict):
        condition = {"$eq": condition}
    if not condition:
        raise ValueError(f"the condition on {field} is empty")
    return [_test(field, name, operand) for name, operand in condition.items()]


def _test(field: str, name: str, operand: Any) -> Filter:
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
        raise ValueError(f"{name} is no operator")
    if not isinstance(operand, (str, int, float)) or isinstance(operand, bool):
        raise ValueError(f"{name} on {field} needs a number or a text")  # noqa: TRY004 - as above
    compare = _ORDER[name]
    return lambda metadata: _ordered(metadata.get(field), operand) and compare(metadata[field], operand)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _equal(value: Any, operand: Scalar) -> bool:
    # In Python True == 1; in JSON they differ.
    return isinstance(value, bool) is isinstance(operand, bool) and value == operand


def _ordered(value: Any, operand: str | float) -> bool:
    if isinstance(operand, str):
        return isinstance(value, str)
    return isinstance(value, (int, float)) and not isinstance(value, bool)
