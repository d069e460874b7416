"""Reads a file of questions to a search: JSON Lines or CSV, in UTF-8. All faults are reported at once.

A question is a query, the file or folder that it should find, and optionally a text that should stand in the hit.
"""

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from syncd.core.errors import ConfigError, ConfigFaults
from syncd.core.keys import name_fault, shown_path

MOST_BYTES = 16 * 1024 * 1024
MOST_QUESTIONS = 10_000
"""The largest file, and the largest number of questions in it (our own limits)."""
FAULTS_SHOWN = 20
FIELDS = ("query", "expect", "answer")
_REQUIRED = ("query", "expect")


@dataclass(frozen=True, slots=True)
class Row:
    """One question of a file. line: where it begins, from 1. expect: the file or folder as it is written there."""

    line: int
    query: str
    expect: str
    answer: str = ""


class _FaultError(Exception):
    """A fault of one line of the file."""


class QuestionFile:
    """The rows of a file, and its faults. Adding a fault does not end the reading."""

    def __init__(self, path: Path) -> None:
        self._name = shown_path(path)
        self._faults: list[tuple[int, str]] = []
        self.rows = self._read(path)

    def fault(self, line: int, message: str) -> None:
        """Add a fault of a line."""
        self._faults.append((line, message))

    def check(self) -> None:
        """Raise ConfigFaults with all faults in the order of their lines, if there are any."""
        if not self._faults:
            return
        lines = [f"{self._name}:{line}: {message}" for line, message in sorted(self._faults)]
        more = len(lines) - FAULTS_SHOWN
        raise ConfigFaults(lines[:FAULTS_SHOWN] + ([f"{self._name}: … and {more} more lines"] if more > 0 else []))

    def _read(self, path: Path) -> list[Row]:
        parse = _PARSERS.get(path.suffix.lower())
        if parse is None:
            raise ConfigError(f"--queries {self._name}: its name should end in .jsonl or .csv")
        text = self._text(path)
        rows: list[Row] = []
        first: dict[tuple[str, str], int] = {}
        for line, fields in [] if text is None else parse(text):
            if isinstance(fields, str):
                self.fault(line, fields)
                continue
            try:
                row = _row(line, fields)
            except _FaultError as fault:
                self.fault(line, str(fault))
                continue
            if (before := first.setdefault((row.query, row.expect), line)) != line:
                self.fault(line, f"it repeats line {before}; remove one of them")
            rows.append(row)
        if not rows and not self._faults:
            raise ConfigError(f"--queries {self._name}: it holds no question")
        if len(rows) > MOST_QUESTIONS:
            raise ConfigError(f"--queries {self._name}: it holds more than {MOST_QUESTIONS:,} questions; split it")
        return rows

    def _text(self, path: Path) -> str | None:
        """Return the text of the file without its byte order mark, None with a fault."""
        try:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"--queries {self._name}: {error.strerror}; name a file of questions") from error
        if len(data) > MOST_BYTES:
            raise ConfigError(f"--queries {self._name}: it is larger than 16 MiB; split it")
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            self.fault(data.count(b"\n", 0, error.start) + 1, "it is not UTF-8 text; save the file as UTF-8")
            return None


_Parsed = Iterator[tuple[int, dict[str, object] | str]]
"""The line and the fields of each question, or the fault of the line."""


def _row(line: int, fields: dict[str, object]) -> Row:
    for name in fields:
        if name not in FIELDS:
            raise _FaultError(_unknown(name))
    values = {name: value for name, value in fields.items() if value is not None}
    for name, value in values.items():
        if not isinstance(value, str):
            raise _FaultError(f"{name} should be a text in quotes")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _FaultError(f"{name} holds half of a surrogate pair; write the character itself") from None
    for name in _REQUIRED:
        if not str(values.get(name, "")).strip():
            raise _FaultError(f"{name} is missing or empty")
    row = Row(line, **{name: str(value) for name, value in values.items()})
    if fault := name_fault(row.expect):
        raise _FaultError(f"expect: {fault}")
    return row


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, FIELDS, n=1)
    return f"unknown field {name!r}; " + (f"did you mean {near[0]}?" if near else f"there are: {', '.join(FIELDS)}")


def _json_lines(text: str) -> _Parsed:
    # Only "\n" ends a line: JSON may hold other line separators of Unicode.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            yield number, f"it is not JSON ({error.msg}, column {error.colno}); each line should be one object"
            continue
        except (ValueError, RecursionError):
            yield number, "it holds a number that is too long, or too many brackets; each line should be one object"
            continue
        if isinstance(found, dict):
            yield number, found
        else:
            yield number, 'it should be an object, such as {"query": "…", "expect": "guide.md"}'


def _csv(text: str) -> _Parsed:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            begin, line = line, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = [cell.strip().lower() for cell in cells]
                if fault := _header_fault(header):
                    yield begin, fault
                    return
            elif len(cells) != len(header):
                yield (
                    begin,
                    f"it should have {len(header)} columns, and has {len(cells)}; put a text with a comma in quotes",
                )
            else:
                yield begin, {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        yield line, f"it is not CSV ({error})"


def _header_fault(header: Sequence[str]) -> str | None:
    wanted = f"the first line should name the columns: {','.join(FIELDS)}"
    if len(header) == 1 and any(mark in header[0] for mark in ";\t"):
        return f"{wanted}; separate them by commas"
    if unknown := [name for name in header if name not in FIELDS]:
        return f"{wanted}; {_unknown(unknown[0])}"
    if missing := [name for name in _REQUIRED if name not in header]:
        return f"{wanted}; {missing[0]} is missing"
    return f"{wanted}; one is there twice" if len(set(header)) < len(header) else None


_PARSERS: dict[str, Callable[[str], _Parsed]] = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv}
"""The format of a file by its suffix."""
