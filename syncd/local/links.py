"""Symbolic links to files inside the folder. Links are resolved name by name from the root, and never outside it."""

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from syncd.core.keys import from_os, to_bytes
from syncd.local.read import open_directory

MAX_HOPS = 32
"""Links in one chain (our own limit; the kernel follows 40)."""
MAX_DEPTH = 64
"""Directories that are open at the same time (our own limit)."""


class Place(NamedTuple):
    """The target of a link. folder: descriptor of its directory. name: its name there. path: below the root."""

    folder: int
    name: bytes
    path: str


class LinkEscapes(OSError):
    """The link leads out of the folder, in a circle, or through a directory that was replaced by a link."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.ELOOP, why)


@contextmanager
def resolve_link(root: Path, path: str, places: list[str]) -> Iterator[Place]:
    """Resolve the link at `path` name by name, so that a concurrent replacement cannot lead elsewhere.

    places: receives every path below the root that the link leads through, and its target. The directories above the
    link must not be links. Raises LinkEscapes if the link does not end inside the folder, and any other OSError.
    """
    walker = _Walker(root)
    try:
        *parents, name = path.split("/")
        for part in parents:
            if walker.target(part) is not None:
                raise LinkEscapes("a directory became a link")
            walker.enter(part)
        yield walker.follow(name, places)
    finally:
        walker.close()


class _Walker:
    """Walks from directory to directory below a root, and keeps the directories on its way open."""

    def __init__(self, root: Path) -> None:
        self._roots = [os.fsencode(root), os.fsencode(os.path.realpath(root))]
        self._open = [("", os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY))]

    def close(self) -> None:
        for _, descriptor in self._open:
            os.close(descriptor)
        self._open = []

    def target(self, name: str) -> bytes | None:
        """Return the target of a link. None: the name is no link."""
        try:
            return os.readlink(to_bytes(name), dir_fd=self._open[-1][1])
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def enter(self, name: str) -> None:
        if len(self._open) > MAX_DEPTH:
            raise LinkEscapes("it is nested too deeply")
        path, parent = self._open[-1]
        self._open.append((f"{path}{name}/", open_directory(name, parent)))

    def follow(self, name: str, places: list[str]) -> Place:
        waiting, hops = [name], 0
        while waiting:
            name = waiting.pop()
            if name == "..":
                self._leave()
                continue
            path, folder = self._open[-1]
            places.append(path + name)
            target = self.target(name)
            if target is not None:
                hops += 1
                if hops > MAX_HOPS:
                    raise LinkEscapes("it leads in a circle")
                waiting += reversed(self._parts(target))
            elif waiting:
                self.enter(name)
            else:
                return Place(folder, to_bytes(name), path + name)
        raise LinkEscapes("it leads to a directory")

    def _leave(self) -> None:
        if len(self._open) == 1:
            raise LinkEscapes("it leads out of the folder")
        os.close(self._open.pop()[1])

    def _parts(self, target: bytes) -> list[str]:
        if target.startswith(b"/"):
            inside = [target[len(root) :] for root in self._roots if target.startswith(root.rstrip(b"/") + b"/")]
            if not inside:
                raise LinkEscapes("it leads out of the folder")
            target = inside[0]
            while len(self._open) > 1:
                self._leave()
        return [from_os(part) for part in target.split(b"/") if part not in (b"", b".")]


class Links:
    """The paths that each link leads through. A change at such a path changes the link. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, Sequence[str]] = {}
        self._through: dict[str, set[str]] = {}

    def note(self, link: str, places: Sequence[str]) -> None:
        """Replace the paths that a link leads through. places: as `resolve_link` returns them."""
        with self._lock:
            for place in self._places.pop(link, ()):
                self._through[place].discard(link)
                if not self._through[place]:
                    del self._through[place]
            # The directories above each place count too, because one of them may be renamed.
            whole = {place[:end] for place in places for end in _ends(place)} - {link}
            self._places[link] = tuple(whole)
            for place in whole:
                self._through.setdefault(place, set()).add(link)

    def at(self, place: str) -> list[str]:
        """Return the links that lead through a path."""
        with self._lock:
            return sorted(self._through.get(place, ()))


def _ends(path: str) -> Iterator[int]:
    yield from (end for end, char in enumerate(path) if char == "/")
    yield len(path)
