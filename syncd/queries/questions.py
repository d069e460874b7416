"""Finds the mirror and the key that each question to a search expects."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from syncd.config.schema import Config, MirrorConfig
from syncd.core.errors import ConfigError
from syncd.core.keys import normal, shown, to_os
from syncd.queries.lookup import folders_of, mirrors_containing
from syncd.queries.question_file import QuestionFile
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
        if not _is_utf8(query):
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
        raise ConfigError(f"{shown(text)}: lies in no folder that is verified; they are: {folders}{more}")
    name, inside = found
    section = config.mirrors[name]
    is_folder = text.endswith("/") or _exists(section, inside, Path.is_dir)
    return name, section.key_prefix + normal(inside) + ("/" if is_folder else "")


def _place(config: Config, names: Sequence[str], text: str) -> tuple[str, str] | None:
    """Return the mirror that a text means, and the path in its folder. A path that exists wins."""
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
    """Return whether a path is in the folder of a mirror, in the given or in the normal form of its characters."""
    with suppress(OSError):
        return any(test(section.path / to_os(each)) for each in (path, normal(path)))
    return False


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
