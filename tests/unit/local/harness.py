"""Small trees for the tests of the walk."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from syncd.core.model import Excluded, Item, Problem
from syncd.core.problems import Limits
from syncd.core.rules import Rules
from syncd.local.walk import Tree

NFC, NFD = "caf\u00e9", "cafe\u0301"
NOBODY = 65534


def tree(root: Path, *, prefix: str = "", exclude: tuple[str, ...] = (), limit: int = 1000) -> Tree:
    return Tree(root, Rules(exclude=exclude), Limits(max_file_size=limit), prefix)


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path, encoding="utf-8", errors="surrogateescape")


def keys(found: Tree, under: str = "") -> list[str]:
    return [each.key for each in found.walk(under) if isinstance(each, Item)]


def kinds(found: Tree, under: str = "") -> dict[str, str]:
    return {each.key: each.kind for each in found.walk(under) if isinstance(each, Problem)}


def looked(found: Tree, key: str) -> str:
    local = found.look(key)
    match local:
        case None:
            return "nothing"
        case Item():
            return "file"
        case Excluded():
            return "excluded"
    return local.kind


@contextmanager
def as_nobody() -> Iterator[None]:
    """Run as another user if the tests run as root, because root may read every file."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def shared_folder() -> Iterator[Path]:
    """Create a directory that every user may enter. The one of pytest is private."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)
        for folder, _, _ in os.walk(made):
            Path(folder).chmod(0o755)
