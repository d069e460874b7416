"""Reading JSON objects of the remote: what is required is checked, what is optional is tolerated."""

import math
from collections.abc import Mapping
from typing import Any

from syncd.errors import Retry


class Fields:
    """One JSON object. Required fields raise Retry when absent or of another type; optional ones read as None.

    what: names the object in the error.
    """

    __slots__ = ("_object", "_what")

    def __init__(self, value: object, what: str) -> None:
        if not isinstance(value, dict):
            raise Retry(f"unexpected answer: {what} is no object", ambiguous=True)
        self._object: Mapping[str, Any] = value
        self._what = what

    def text(self, name: str) -> str:
        """A required text that is not empty."""
        value = self._object.get(name)
        if not isinstance(value, str) or not value:
            raise Retry(f"unexpected answer: {self._what} has no text {name!r}", ambiguous=True)
        return value

    def any(self, name: str) -> Any:
        """Whatever stands there, unchecked; None when absent."""
        return self._object.get(name)

    def opt_text(self, name: str) -> str | None:
        value = self._object.get(name)
        return value if isinstance(value, str) else None

    def opt_number(self, name: str) -> float | None:
        value = self._object.get(name)
        if value is None or isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return None
        return float(value)

    def opt_int(self, name: str) -> int | None:
        """A whole number; 3.0 counts as one, as the schema says number where it means a count."""
        value = self.opt_number(name)
        return int(value) if value is not None and value.is_integer() else None

    def opt_bool(self, name: str) -> bool | None:
        value = self._object.get(name)
        return value if isinstance(value, bool) else None

    def opt_map(self, name: str) -> Mapping[str, Any]:
        """An object; {} when absent."""
        value = self._object.get(name)
        return value if isinstance(value, dict) else {}

    def said_map(self, name: str) -> Mapping[str, Any] | None:
        """An object; None when the remote does not speak of it, which is not the same as an empty one."""
        return self.opt_map(name) if name in self._object else None

    def opt_list(self, name: str) -> list[Any]:
        """A list; [] when absent."""
        value = self._object.get(name)
        return value if isinstance(value, list) else []


def rows(value: object, what: str) -> list[Fields]:
    """The objects of a required list."""
    return [Fields(row, what) for row in elements(value, what)]


def elements(value: object, what: str) -> list[Any]:
    """A required list, its elements unchecked."""
    if not isinstance(value, list):
        raise Retry(f"unexpected answer: the list of {what}s is no list", ambiguous=True)
    return value
