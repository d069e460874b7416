"""Symbolic links to files inside the folder: resolved by hand from the root's descriptor, never outside of it."""

import errno
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from syncd.core.keys import from_os, to_bytes

MAX_HOPS = 32
"""Links that one may lead through; the kernel follows 40."""
MAX_DEPTH = 64
"""Directories held open at a time."""
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY


class Place(NamedTuple):
    """Where a link ends: the open directory, the name in it, and its path below the root."""

    folder: int
    name: bytes
    path: str


class LinkEscapes(OSError):
    """The link leads out of the folder, round in circles, or through a directory that became a link."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.ELOOP, why)


@contextmanager
def resolve_link(root: Path, path: str, places: list[str]) -> Iterator[Place]:
    """Open what the link at `path` leads to, name by name, so that no swap in between leads elsewhere.

    places: gets every path below the root that was passed, the last one too. The directories in which the link lies
    must be real ones. Raises OSError; LinkEscapes if it does not end inside the folder.
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
    def __init__(self, root: Path) -> None:
        self._roots = [os.fsencode(root), os.fsencode(os.path.realpath(root))]
        self._open = [("", os.open(root, _DIRECTORY))]

    def close(self) -> None:
        for _, descriptor in self._open:
            os.close(descriptor)
        self._open = []

    def target(self, name: str) -> bytes | None:
        """What a link says; None of what is no link."""
        try:
            return os.readlink(to_bytes(name), dir_fd=self._open[-1][1])
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def enter(self, name: str) -> None:
        if len(self._open) > MAX_DEPTH:
            raise LinkEscapes("it lies too deep")
        path, above = self._open[-1]
        descriptor = os.open(to_bytes(name), _DIRECTORY | os.O_NOFOLLOW, dir_fd=above)
        self._open.append((f"{path}{name}/", descriptor))

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
                    raise LinkEscapes("it leads round in circles")
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
    """Which links lead through which places: a change there is one of the links. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, Sequence[str]] = {}
        self._through: dict[str, set[str]] = {}

    def note(self, link: str, places: Sequence[str]) -> None:
        """Remember what a link led through when it was looked at last."""
        with self._lock:
            for place in self._places.pop(link, ()):
                self._through[place].discard(link)
                if not self._through[place]:
                    del self._through[place]
            # The directories that were passed by ".." or lie above are places, too: one may be renamed.
            whole = {place[:end] for place in places for end in _ends(place)} - {link}
            self._places[link] = tuple(whole)
            for place in whole:
                self._through.setdefault(place, set()).add(link)

    def at(self, place: str) -> list[str]:
        """The links that lead through a place."""
        with self._lock:
            return sorted(self._through.get(place, ()))


def _ends(path: str) -> Iterator[int]:
    yield from (end for end, char in enumerate(path) if char == "/")
    yield len(path)
