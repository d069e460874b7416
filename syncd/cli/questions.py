"""`verify --query Q --expect FILE`: from the command line to questions, and how their answers are told."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syncd.cli.app import os_path
from syncd.cli.look import inside
from syncd.cli.out import table
from syncd.core.errors import ConfigError
from syncd.core.keys import normal
from syncd.core.os_names import shown_path
from syncd.queries.retrieval import Answer, Question

if TYPE_CHECKING:
    from syncd.config.schema import Config

SHOWN = 3
"""Hits named for people, of those that came instead."""
Questions = dict[str, list[Question]]


def questions_of(config: "Config", names: Sequence[str], queries: Sequence[str], files: Sequence[str]) -> Questions:
    """Return the questions to each mirror; with the number of a query goes the file of that number.

    names: the mirrors that may be asked; all, if none is named. Raises ConfigError.
    """
    if len(queries) != len(files):
        raise ConfigError(
            f"{len(queries)} --query and {len(files)} --expect; each question needs the file it should find:"
            " --query Q --expect FILE"
        )
    asked: Questions = {}
    for query, file in zip(queries, files, strict=True):
        if not query.strip():
            raise ConfigError("a --query is empty; ask for something")
        name, key = _key_of(config, names, file)
        asked.setdefault(name, []).append(Question(query, key))
    return asked


def _key_of(config: "Config", names: Sequence[str], file: str) -> tuple[str, str]:
    """The mirror and the key that FILE means: a file of a folder, a path in one, or a key."""
    possible = names or list(config.mirrors)
    found = inside(config, Path(file))
    if found and found[0] in possible:
        return found[0], config.mirrors[found[0]].key_prefix + normal(found[1])
    path = Path(file)
    if len(possible) != 1 or path.is_absolute() or ".." in path.parts or file in ("", "."):
        folders = ", ".join(shown_path(config.mirrors[name].path) for name in possible)
        more = "; name its mirror, too" if len(possible) > 1 else ""
        raise ConfigError(f"--expect {file}: lies in no folder that is verified; they are: {folders}{more}")
    section = config.mirrors[possible[0]]
    name = normal(path.as_posix())
    is_key = section.key_prefix and name.startswith(section.key_prefix) and not (section.path / os_path(file)).exists()
    return possible[0], name if is_key else section.key_prefix + name


def told(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """The answers for scripts."""
    return [
        {
            "query": answer.question.query,
            "expect": answer.question.key,
            "found": answer.rank is not None,
            "rank": answer.rank,
            "score": answer.score,
            "why": answer.why or None,
            "hits": [{"key": hit.key, "score": hit.score} for hit in answer.hits],
        }
        for answer in answers
    ]


def headline(answers: Sequence[Answer]) -> str:
    """How many questions found their file."""
    found = sum(answer.rank is not None for answer in answers)
    number = len(answers)
    return f"{found} of {number} question{'' if number == 1 else 's'} found {'its' if number == 1 else 'their'} file"


def show(answers: Sequence[Answer]) -> None:
    """Print the answers, and what came instead."""
    rows = []
    for answer in answers:
        if answer.rank is not None:
            rows.append(("  found", answer.question.key, f"rank {answer.rank}, score {answer.score:.2f}"))
        else:
            rows.append(("  not found", answer.question.key, f"{answer.why}. {_instead(answer)}"))
    table(("", "", "", ""), [(*row, repr(answer.question.query)) for row, answer in zip(rows, answers, strict=True)])


def _instead(answer: Answer) -> str:
    if not answer.hits:
        return "Nothing else was found either"
    best: dict[str, float] = {}
    for hit in answer.hits:
        best.setdefault(hit.key, hit.score)
    named = [f"{key} ({score:.2f})" for key, score in best.items()]
    return f"Instead came: {', '.join(named[:SHOWN])}{', …' if len(named) > SHOWN else ''}"
