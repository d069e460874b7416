"""A JSON array taken apart while it arrives, so that a body of 100 MB is never held as a whole. PURE."""

import re
from collections.abc import Iterator

_STRUCTURE = re.compile(rb'["\[\]{},]')
# Possessive: what a string swallowed is never given back, so a long one costs no memory.
_WITHIN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)


class Elements:
    """Cuts the bytes of one JSON array into the texts of its elements.

    Only the outermost brackets and commas are looked at: whether an element is JSON is for its reader to find out.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._depth = 0
        self._in_string = False
        self._after_backslash = False
        self._found = 0
        self._closed = False

    def feed(self, data: bytes) -> Iterator[str]:
        """The elements that end within `data`. ValueError if this cannot be an array any more."""
        start = position = 0
        while position < len(data):
            if self._in_string:
                position = self._leave_string(data, position)
                continue
            match = _STRUCTURE.search(data, position)
            if match is None:
                break
            position = match.end()
            if self._cuts(match[0]):
                self._pending += data[start : match.start()]
                start = position
                yield from self._take(match[0])
        self._pending += data[start:]

    def close(self) -> None:
        """To be called at the end of the body; ValueError if the array was not complete or something follows it."""
        if not self._closed or self._pending.strip():
            raise ValueError("the body is no JSON array")

    def _leave_string(self, data: bytes, position: int) -> int:
        """The position after the string, or the end of the data if it goes on."""
        if self._after_backslash:
            self._after_backslash = False
            position += 1
        match = _WITHIN_STRING.match(data, position)
        end = position if match is None else match.end()
        if end < len(data):
            self._after_backslash = data[end : end + 1] == b"\\"
            self._in_string = self._after_backslash
        return end + 1

    def _cuts(self, mark: bytes) -> bool:
        """Whether the mark begins or ends the array, or parts two elements."""
        if mark == b'"':
            self._in_string = True
            return False
        if mark in b"[{":
            self._depth += 1
            return self._depth == 1
        if mark in b"]}":
            self._depth -= 1
            return self._depth <= 0
        return self._depth == 1

    def _take(self, mark: bytes) -> Iterator[str]:
        text = self._pending.decode()
        self._pending.clear()
        if mark in b"[{":
            if mark != b"[" or text.strip() or self._closed:
                raise ValueError("the body is no JSON array")
            return
        if self._closed or (mark != b"," and (mark != b"]" or self._depth < 0)):
            raise ValueError("the body is no JSON array")
        self._closed = mark == b"]"
        if mark == b"," or self._found or text.strip():
            self._found += 1
            yield text
