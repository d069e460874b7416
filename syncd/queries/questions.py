"""The questions to a search. A question is a query, the file or folder that it should find, and optionally an answer.

The questions come from options, or from a file (JSON Lines or CSV in UTF-8). All faults of a file are reported at once.
"""

import csv
import difflib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from syncd.config.schema import Config, MirrorConfig
from syncd.core.errors import ConfigError, ConfigFaults
from syncd.core.keys import name_fault, normal, shown, shown_path, to_os
from syncd.queries.lookup import folders_of, mirrors_containing
from syncd.queries.retrieval import Question

MirrorQuestions = dict[str, list[Question]]
"""The questions to each mirror."""


def questions_of_file(config: Config, names: Sequence[str], path: Path) -> MirrorQuestions:
    """Return the questions of a file to each mirror.

    names: the mirrors that may be asked; empty: all. Raises ConfigFaults with a line for each fault.
    """
    file, questions = QuestionFile(path), MirrorQuestions()
    for row in file.rows:
        try:
            name, key = _expected(config, names, row.expect)
        except ConfigError as error:
            file.fault(row.line, f"expect {error}")
        else:
            questions.setdefault(name, []).append(Question(row.query, key, row.answer))
    file.check()
    return questions


def questions_of_options(
    config: Config, names: Sequence[str], queries: Sequence[str], files: Sequence[str]
) -> MirrorQuestions:
    """Return the questions to each mirror. The first query expects the first file, and so on.

    names: the mirrors that may be asked; empty: all. Raises ConfigError.
    """
    if len(queries) != len(files):
        raise ConfigError(
            f"{len(queries)} --query and {len(files)} --expect; each question needs the file it should find:"
            " --query Q --expect FILE"
        )
    questions = MirrorQuestions()
    for query, file in zip(queries, files, strict=True):
        if not query.strip():
            raise ConfigError("a --query is empty; ask for something")
        if shown(query) != query:
            raise ConfigError("a --query is not valid UTF-8; write it in the encoding of this shell")
        try:
            name, key = _expected(config, names, file)
        except ConfigError as error:
            raise ConfigError(f"--expect {error}") from error
        questions.setdefault(name, []).append(Question(query, key))
    return questions


def _expected(config: Config, names: Sequence[str], text: str) -> tuple[str, str]:
    """Return the mirror and the key that a text names, or the start of the keys if the text names a folder.

    The text is a path of this machine, a path relative to the folder of the only mirror, or a key. names: the mirrors
    that may be asked; empty: all that have a search, if any has one.
    """
    names = names or [name for name in config.mirrors if config.mirrors[name].target.type != "kv"]
    names = names or list(config.mirrors)
    found = _place(config, names, text)
    if not found:
        more = "; name its mirror, too" if len(names) > 1 else ""
        folders = folders_of(config, names)
        raise ConfigError(
            f"{shown(text)}: lies in no folder of a mirror that is asked; the folders are: {folders}{more}"
        )
    name, inside = found
    section = config.mirrors[name]
    is_folder = text.endswith("/") or _exists(section, inside, Path.is_dir)
    return name, section.key_prefix + normal(inside) + ("/" if is_folder else "")


def _place(config: Config, names: Sequence[str], text: str) -> tuple[str, str] | None:
    """Return the mirror that a text means, and the path in its folder. A path of an existing file has precedence."""
    places = mirrors_containing(config, text)
    found = next(((name, inside) for name, inside in places if inside and name in names), None)
    path = Path(to_os(text))
    if len(names) != 1 or path.is_absolute() or ".." in path.parts or path == Path():
        return found
    section = config.mirrors[names[0]]
    if found and (_exists(section, found[1]) or not _exists(section, text)):
        return found
    inside, prefix = normal(path.as_posix()), section.key_prefix
    is_key = bool(prefix) and inside.startswith(prefix) and not _exists(section, text)
    return names[0], inside.removeprefix(prefix) if is_key else inside


def _exists(section: MirrorConfig, path: str, test: Callable[[Path], bool] = Path.exists) -> bool:
    """Return whether a path is in the folder of a mirror, in the given spelling or in NFC."""
    with suppress(OSError):
        return any(test(section.path / to_os(spelling)) for spelling in (path, normal(path)))
    return False


# -- the file

MOST_BYTES = 16 * 1024 * 1024
MOST_QUESTIONS = 10_000
"""Maximum bytes of a file, and maximum questions in it (our own limits)."""
FAULTS_SHOWN = 20
"""Maximum faults of a file that an error lists (our own limit)."""
FIELDS = ("query", "expect", "answer")
_REQUIRED = ("query", "expect")


@dataclass(frozen=True, slots=True)
class Row:
    """One question of a file. line: its first line, from 1. expect: the file or folder, as written in the file."""

    line: int
    query: str
    expect: str
    answer: str = ""


class QuestionFile:
    """The questions of a file, and its faults. The whole file is read, even if a line has a fault."""

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
            row = fields if isinstance(fields, str) else _row(line, fields)
            if isinstance(row, str):
                self.fault(line, row)
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
        """Return the text of the file without its byte order mark. None: it is not UTF-8, and a fault was added."""
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


def _row(line: int, fields: dict[str, object]) -> Row | str:
    """Return the question of a line, or its fault."""
    if unknown := [name for name in fields if name not in FIELDS]:
        return _unknown(unknown[0])
    values = {name: value for name, value in fields.items() if value is not None}
    texts = {name: value for name, value in values.items() if isinstance(value, str)}
    for name in values:
        if name not in texts:
            return f"{name} should be a text in quotes"
        if shown(texts[name]) != texts[name]:
            return f"{name} holds half of a surrogate pair; write the character itself"
    for name in _REQUIRED:
        if not texts.get(name, "").strip():
            return f"{name} is missing or empty"
    fault = name_fault(texts["expect"])
    return f"expect: {fault}" if fault else Row(line, **texts)


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
    return f"{wanted}; one column is there twice" if len(set(header)) < len(header) else None


_PARSERS: dict[str, Callable[[str], _Parsed]] = {".jsonl": _json_lines, ".ndjson": _json_lines, ".csv": _csv}
"""The format of a file by its suffix."""
