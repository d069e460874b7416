"""multipart/form-data as the service's runtime (workerd) reads it: backslashes escape, percent signs do not."""

import re
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

_PARAMETER = re.compile(rb';\s*([\w*]+)\s*=\s*(?:"((?:\\.|[^"\\])*)"|([^\s;]*))', re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\])')


@dataclass
class Part:
    """One part of a form. filename: None if the part is a plain field."""

    name: str = ""
    filename: str | None = None
    data: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """The content as UTF-8; what is not is replaced."""
        return self.data.decode(errors="replace")


def parse(content_type: str, body: bytes) -> dict[str, Part]:
    """The parts by name; of several with one name the last. ValueError if the body is no multipart form."""
    boundary = _parameters(content_type.encode("latin-1", "replace")).get("boundary")
    if not content_type.lower().startswith("multipart/form-data") or not boundary:
        raise ValueError("the body is no multipart/form-data")
    collector = _Collector()
    try:
        parser = MultipartParser(
            boundary.encode(),
            {
                "on_part_begin": collector.begin,
                "on_header_field": collector.header_name,
                "on_header_value": collector.header_value,
                "on_header_end": collector.header_end,
                "on_part_data": collector.content,
            },
        )
        parser.write(body)
        parser.finalize()
    except FormParserError as broken:
        raise ValueError(str(broken)) from broken
    return {part.name: part for part in collector.parts}


class _Collector:
    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._name = b""
        self._value = b""

    def begin(self) -> None:
        self.parts.append(Part())

    def header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            parameters = _parameters(self._value)
            self.parts[-1].name = parameters.get("name", "")
            self.parts[-1].filename = parameters.get("filename")
        self._name = self._value = b""

    def content(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]


def _parameters(header: bytes) -> dict[str, str]:
    found = {}
    for match in _PARAMETER.finditer(header):
        quoted = match[2] is not None
        text = (match[2] if quoted else match[3]).decode(errors="replace")
        if quoted:
            text = _ESCAPED.sub(r"\1", text)
        found[match[1].decode().lower()] = text
    return found
