"""Reading JSON objects of the remote: what is required is checked, what is optional is tolerated.

Whatever they hold, a text that comes out of here can be encoded and a number fits in 64 bits.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from syncd.errors import Retry

CURSOR_LIMIT = 8000
"""Longest cursor, characters: an address of more than some 8 kB is refused by most servers."""
DEPTH_LIMIT = 16
"""How deep lists and objects of metadata may lie in each other."""
NAMED = 80
"""Characters of a broken name that an error shows."""


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
        if encodable(value) != value:
            said = f"{self._what} has a {name!r} that is no Unicode text: {encodable(value)[:NAMED]!r}"
            raise Retry(f"unexpected answer: {said}", ambiguous=True)
        return value

    def any(self, name: str) -> Any:
        """Whatever stands there, unchecked; None when absent."""
        return self._object.get(name)

    def opt_text(self, name: str) -> str | None:
        value = self._object.get(name)
        return encodable(value) if isinstance(value, str) else None

    def cursor(self, name: str) -> str | None:
        """The cursor of the next page; None for none. Raises Retry for one that fits in no address."""
        value = self.opt_text(name)
        if value and len(value) > CURSOR_LIMIT:
            raise Retry(f"unexpected answer: {self._what} has a cursor of {len(value)} characters", ambiguous=True)
        return value or None

    def opt_number(self, name: str) -> float | None:
        value = self._object.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        # Compared first, as a whole number of 400 digits is no float. Larger ones a float would not keep.
        return float(value) if -(2**53) <= value <= 2**53 else None

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
        return {encodable(key): tame(each) for key, each in value.items()} if isinstance(value, dict) else {}

    def said_map(self, name: str) -> Mapping[str, Any] | None:
        """An object; None when the remote does not speak of it, which is not the same as an empty one."""
        return self.opt_map(name) if name in self._object else None

    def opt_list(self, name: str) -> list[Any]:
        """A list; [] when absent."""
        value = self._object.get(name)
        return value if isinstance(value, list) else []


def encodable(text: str) -> str:
    """The text itself; backslash-escaped where it holds half of a surrogate pair, which no database or file takes."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def tame(value: Any, depth: int = DEPTH_LIMIT) -> Any:
    """Any JSON without what would break whoever keeps or prints it: None in the place of what is too deep or large."""
    match value:
        case str():
            return encodable(value)
        case bool() | None:
            return value
        case int() | float():
            return value if -(2**63) <= value < 2**63 else None
        case dict() if depth:
            return {encodable(key): tame(each, depth - 1) for key, each in value.items()}
        case list() if depth:
            return [tame(each, depth - 1) for each in value]
        case _:
            return None


class Rows(NamedTuple):
    """The rows of one page that can be read, and what is wrong with the others."""

    good: list[Any]
    faults: tuple[str, ...]


def sound(value: object, what: str, parse: Callable[[Fields], object]) -> Rows:
    """Read a required list; a row that cannot be read is a fault of its own, and keeps no other from being read."""
    good, faults = [], []
    for row in elements(value, what):
        try:
            good.append(parse(Fields(row, what)))
        except Retry as error:
            faults.append(str(error).removeprefix("unexpected answer: "))
    return Rows(good, tuple(faults))


def rows(value: object, what: str) -> list[Fields]:
    """The objects of a required list."""
    return [Fields(row, what) for row in elements(value, what)]


def elements(value: object, what: str) -> list[Any]:
    """A required list, its elements unchecked."""
    if not isinstance(value, list):
        raise Retry(f"unexpected answer: the list of {what}s is no list", ambiguous=True)
    return value
