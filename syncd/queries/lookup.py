"""Finds the file or directory of a mirror that a path or key of the command line names."""

import difflib
import os
import posixpath
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from syncd.config.file import at_home
from syncd.config.schema import Config, MirrorConfig
from syncd.core.errors import ConfigError
from syncd.core.keys import from_os, name_fault, normal, shown, shown_path, spellings, to_os
from syncd.core.model import Item, Problem
from syncd.local.walk import Tree
from syncd.state.db import open_state_to_read
from syncd.state.deletions import last_delete
from syncd.state.history import PROBLEM, History
from syncd.state.journal import Journal
from syncd.sync.guard import protect_look


@contextmanager
def state_of(config: Config, name: str, tree: Tree) -> Iterator[sqlite3.Connection | None]:
    """Yield the state file, None if there is none. Protect the same directories of `tree` as a pass of the mirror."""
    db = open_state_to_read(config.state_dir)
    with closing(db) if db else nullcontext():
        if db:
            protect_look(tree, db, name)
        yield db


@dataclass(frozen=True, slots=True)
class Found:
    """A file or directory of a mirror. path: relative to the root, "" for the root itself."""

    mirror: str
    path: str
    kind: Literal["file", "directory"]


class Lookup:
    """Searches one mirror for a name: its folder, its state file and its delete log. Sends no request.

    tree: the folder of the mirror.
    """

    def __init__(self, config: Config, name: str, tree: Tree) -> None:
        self._config = config
        self._name = name
        self._tree = tree
        self._prefix = config.mirrors[name].key_prefix

    def find(self, text: str) -> Found | None:
        """Return the file or directory of a key or a path relative to the root, None if the mirror does not hold it.

        text: the name, or its form with backslash escapes, as commands print it.
        """
        for name in spellings(text):
            path = posixpath.normpath(name)
            if path.startswith(("/", "..")) or "\0" in path:
                continue
            path = "" if path == "." else path
            paths = [path.removeprefix(self._prefix), path] if path.startswith(self._prefix) else [path]
            for candidate in dict.fromkeys(paths):
                if found := self.find_path(candidate):
                    return found
        return None

    def find_path(self, path: str) -> Found | None:
        """Return the file or directory at a path relative to the root, None if the mirror does not hold it."""
        real = self._tree.root / to_os(path)
        key = self._prefix + normal(path)
        # A name that cannot be a key is only in the folder, and not in the state file or the delete log.
        has_no_key = name_fault(path) is not None
        db = None if has_no_key else open_state_to_read(self._config.state_dir)
        with closing(db) if db else nullcontext():
            if self._is_directory(real, path, Journal(db, self._name) if db else None):
                return Found(self._name, path, "directory")
            known = os.path.lexists(real) or (not has_no_key and isinstance(self._tree.look(key), Item | Problem))
            known = known or (db is not None and self._remembers(db, key))
        if known or (not has_no_key and last_delete(self._config.state_dir, self._name, key)):
            return Found(self._name, path, "file")
        return None

    def _is_directory(self, real: Path, path: str, journal: Journal | None) -> bool:
        # A link to a directory is not walked, so it is a file that is not mirrored.
        here = os.path.isdir(real) and not os.path.islink(real)  # noqa: PTH112, PTH114 - without permission: False
        return not path or here or bool(journal and journal.count_below(f"{self._prefix}{normal(path)}/"))

    def _remembers(self, db: sqlite3.Connection, key: str) -> bool:
        """Return whether the state file has a record, an action or a problem of a key.

        A problem of a file without a key has the escaped name of the file, which may look like another key.
        """
        journal = Journal(db, self._name)
        acted = any(action.action != PROBLEM for action in History(db, self._name).of(key))
        return bool(journal.get(key) or acted or ("\\" not in key and journal.problems.get(shown(key))))

    def folder(self, text: str) -> str:
        """Return the path of a directory, "" for the root. Raises ConfigError if there is none."""
        found = self.find(text)
        if found and found.kind == "directory":
            return found.path
        above = posixpath.dirname(text.strip("/"))
        with suppress(OSError):
            folders = [path.name for path in (self._tree.root / to_os(above)).iterdir() if path.is_dir()]
            if near := difflib.get_close_matches(posixpath.basename(text.strip("/")), folders, n=1):
                nearest = posixpath.join(above, from_os(near[0]))
                raise ConfigError(f"{self._name} has no folder {shown(text)}; did you mean {shown(nearest)}?")
        raise ConfigError(f"{self._name} has no folder {shown(text)}; name one below {shown_path(self._tree.root)}")


# -- a text that may be a path of this machine


def mirrors_containing(config: Config, path: str, *, from_here: bool = True) -> Iterator[tuple[str, str]]:
    """Yield each mirror whose folder is or contains a path, and the path relative to the folder ("" for the folder).

    from_here: whether a relative path starts at the current directory. Otherwise no folder contains it.
    """
    if not from_here and not os.path.isabs(path):  # noqa: PTH117
        return
    given = at_home(Path(to_os(path)))
    absolute = Path(os.path.abspath(given))  # noqa: PTH100 - removes ".." without following links
    candidates = absolute, _real(given.parent) / absolute.name
    for name, section in config.mirrors.items():
        roots = section.path, _real(section.path)
        inside = (place.relative_to(root) for place in candidates for root in roots if place.is_relative_to(root))
        if (found := next(inside, None)) is not None:
            yield name, "" if found == Path() else from_os(found.as_posix())


def _real(path: Path) -> Path:
    """Return a path without links. `Path.resolve` raises an error for a loop of links."""
    return Path(os.path.realpath(path))


def folder_key(config: Config, name: str, folder: str, tree: Tree, *, from_here: bool = True) -> str:
    """Return the beginning of the keys in a folder of a mirror.

    folder: its path relative to the root, or its path on this machine. tree: the files of the mirror. from_here:
    whether a relative path may start at the current directory. Raises ConfigError if there is no such folder.
    """
    lookup = Lookup(config, name, tree)
    inside = dict(mirrors_containing(config, folder, from_here=from_here)).get(name)
    found = lookup.find_path(inside) if inside is not None else None
    path = found.path if found and found.kind == "directory" else lookup.folder(folder)
    return config.mirrors[name].key_prefix + normal(f"{path}/" if path else "")


def find_all(
    config: Config,
    names: Sequence[str],
    text: str,
    tree_of: Callable[[MirrorConfig], Tree],
    *,
    from_here: bool = True,
) -> list[Found]:
    """Return the file or directory of a path or key in each mirror that holds it. Raises ConfigError if none holds it.

    tree_of: returns the folder of a mirror. from_here: whether a relative path may start at the current directory.
    """
    paths = dict(mirrors_containing(config, text, from_here=from_here))
    found = []
    for name in names:
        lookup = Lookup(config, name, tree_of(config.mirrors[name]))
        by_path = lookup.find_path(paths[name]) if name in paths else None
        if match := by_path or lookup.find(text):
            found.append(match)
    if found:
        return found
    # No mirror knows the path, but `explain` can still name the rule for such a file.
    if places := [Found(name, path, "file") for name, path in paths.items() if name in names]:
        return places
    if len(names) == 1 and not os.path.isabs(text) and ".." not in text.split("/"):  # noqa: PTH117
        return [Found(names[0], os.path.normpath(text), "file")]
    raise ConfigError(
        f"{shown(text)} is in no mirrored folder and is no key; the mirrored folders are: {folders_of(config, names)}"
    )


def folders_of(config: Config, names: Sequence[str]) -> str:
    """Return the folders of some mirrors for a message."""
    return ", ".join(shown_path(config.mirrors[name].path) for name in names)
