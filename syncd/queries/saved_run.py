"""Keeps the results of a search in a file, and compares them with later ones."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from syncd.config.file import replace_file
from syncd.config.schema import Config
from syncd.core.errors import ConfigError
from syncd.core.keys import shown_path
from syncd.queries.retrieval import Measured, Measurement, QuestionId

MOST_BYTES = 64 * 1024 * 1024
"""The largest file that is read (our own limit)."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SavedQuestion(_Model):
    """The result of one question. expect: the path of a file, or of a folder with "/" at its end, in the mirror."""

    query: str
    expect: str
    rank: int | None = Field(ge=1)
    score: float | None
    answered: bool | None


class SavedMirror(_Model):
    """The results of one mirror."""

    target: str
    queries: list[SavedQuestion]

    @property
    def results(self) -> dict[QuestionId, Measured]:
        """The result of each question."""
        return {(saved.query, saved.expect): Measured(saved.rank, saved.answered) for saved in self.queries}


class SavedRun(_Model):
    """The results of one run. top: the number of hits that counted."""

    kind: Literal["syncd verify"] = "syncd verify"
    version: Literal[1] = 1
    time: str
    top: int = Field(ge=1)
    mirrors: dict[str, SavedMirror]

    def of(self, name: str, names: int) -> SavedMirror | None:
        """Return the results to compare a mirror with. names: the number of measured mirrors.

        A single mirror is compared with the only mirror of the file, also if that has another name.
        """
        if found := self.mirrors.get(name):
            return found
        return next(iter(self.mirrors.values())) if len(self.mirrors) == names == 1 else None


def saved_run_of(config: Config, searches: Mapping[str, Measurement], top: int, time: str) -> SavedRun:
    """Return the results of a complete run."""
    mirrors = {}
    for name, search in searches.items():
        prefix = config.mirrors[name].key_prefix
        queries = [
            SavedQuestion(
                query=answer.question.query,
                expect=answer.question.key.removeprefix(prefix),
                rank=answer.rank,
                score=answer.score,
                answered=answer.answered,
            )
            for answer in search.answers
        ]
        mirrors[name] = SavedMirror(target=config.mirrors[name].target.spec, queries=queries)
    return SavedRun(time=time, top=top, mirrors=mirrors)


# -- the file


def read_saved_run(path: Path, top: int) -> SavedRun:
    """Return the results of a file. Raises ConfigError if it holds no results, or results of another --top."""
    name = shown_path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"--against {name}: {error.strerror}; make it with --save") from error
    try:
        found = SavedRun.model_validate_json(data)
    except ValidationError:
        raise ConfigError(f"--against {name}: it holds no results of this version; make it with --save") from None
    if found.top != top:
        raise ConfigError(f"--against {name}: it was measured with --top {found.top}; use the same number")
    return found


class SavePlace:
    """The file that gets the results. It is checked before the first question is asked.

    It may be new, or an earlier result. Raises ConfigError for anything else.
    """

    def __init__(self, path: Path) -> None:
        self._name = shown_path(path)
        self._path = Path(os.path.realpath(path))
        try:
            if self._path.exists() or self._path.is_symlink():
                self._check_present()
            elif not os.access(self._path.parent, os.W_OK | os.X_OK):
                folder = shown_path(self._path.parent)
                raise ConfigError(f"--save {self._name}: {folder} is no folder that this user may write into")
        except OSError as error:
            raise self._failed(error) from error

    def _check_present(self) -> None:
        if stat.S_ISREG(self._path.stat().st_mode):
            with self._path.open("rb") as file, suppress(ValidationError):
                SavedRun.model_validate_json(file.read(MOST_BYTES + 1))
                return
        raise ConfigError(f"--save {self._name}: it holds something else than results of verify; name another file")

    def write(self, results: SavedRun) -> None:
        """Replace the file atomically. Raises ConfigError if it cannot be written."""
        try:
            replace_file(self._path, f"{results.model_dump_json(indent=1)}\n".encode())
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> ConfigError:
        return ConfigError(f"--save {self._name}: {error.strerror}; name a file that can be written")
