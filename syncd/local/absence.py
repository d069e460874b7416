"""Why a file may be missing without being deleted: a mount that is gone or hides it, a folder that holds nothing."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from syncd.core.keys import normal
from syncd.core.model import Problem
from syncd.core.os_names import from_os
from syncd.core.rules import IgnoreFile, Rules
from syncd.local.files import entries


@dataclass(slots=True)
class Protected:
    """The directories ("a/b/") whose missing files are not gone, each with the problem that it is.

    closed: what was mounted there is not, so they are not gone into. covered: a mount came over them. withheld: those
    of `covered` of which a file was missed in this pass.
    """

    closed: Mapping[str, Problem] = field(default_factory=dict)
    covered: Mapping[str, Problem] = field(default_factory=dict)
    withheld: set[str] = field(default_factory=set)

    def closes(self, path: str) -> Problem | None:
        """Return the problem of a path in, or a directory that is, a closed directory."""
        place = _place(self.closed, path)
        return self.closed[place] if place else None

    def hides(self, path: str) -> Problem | None:
        """Return the problem of a file that is missing in a covered directory."""
        place = _place(self.covered, path)
        if place is None:
            return None
        self.withheld.add(place)
        return self.covered[place]

    def problems(self) -> list[Problem]:
        """What is to be said after a walk: the outermost closed directories, and the covered ones that miss files."""
        outer = [each for each in self.closed if not any(each != o and each.startswith(o) for o in self.closed)]
        return [*(self.closed[each] for each in outer), *(self.covered[each] for each in sorted(self.withheld))]


def _place(places: Iterable[str], path: str) -> str | None:
    return next((place for place in places if path.startswith(place)), None) if places else None


def holds_any(
    folders: Iterable[str],
    above: list[IgnoreFile],
    rules: Rules,
    ignore_files: Callable[[list[str]], list[IgnoreFile]],
    open_folder: Callable[[str], AbstractContextManager[int]],
) -> bool:
    """True if the rules take a file below one of the directories. Stops at the first. May raise OSError."""
    waiting = [(folder, above) for folder in folders]
    while waiting:
        folder, ignores = waiting.pop()
        ignores = ignores + ignore_files([folder])
        with open_folder(folder) as descriptor, entries(descriptor) as listed:
            for entry in listed:
                below = folder + from_os(entry.name) + ("/" if entry.is_dir(follow_symlinks=False) else "")
                if rules.excluded(normal(below), ignores):
                    continue
                if entry.is_file(follow_symlinks=False) or (rules.links and entry.is_symlink()):
                    return True
                if below.endswith("/"):
                    waiting.append((below, ignores))
    return False
