"""Which paths a mirror takes: its patterns, the built-in list, and the ignore files in its folder. PURE."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from syncd.core.excludes import BUILTIN_EXCLUDES, IGNORE_FILE
from syncd.core.globs import Line, PatternList, lines_of
from syncd.core.keys import name_fault, normal

INCLUDE_ALL: tuple[str, ...] = ("**/*",)
GIT_IGNORE_FILE = ".gitignore"
DOTTED = "names that begin with .. are never taken"
"""Kubernetes keeps the files of a mounted ConfigMap in such directories, a new one for each change."""


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """The patterns of one ignore file. folder: the one it speaks of ("" or "a/b/"); name: of the file in it."""

    folder: str
    patterns: PatternList
    name: str = IGNORE_FILE

    @classmethod
    def parse(cls, folder: str, text: str, name: str = IGNORE_FILE) -> "IgnoreFile":
        """Read lines as git does. Raises BadPattern naming a line that can match nothing."""
        return cls(folder, _patterns(lines_of(text)), name)

    def verdict(self, path: str) -> tuple[bool, str] | None:
        """(left out?, the rule) for a path under `folder`, or None if no line speaks of it."""
        if not path.startswith(self.folder) or len(path) == len(self.folder):
            return None
        found = self.patterns.verdict(path, len(self.folder))
        return (found.out, f"{self.folder}{self.name} line {found.number}: {found.pattern}") if found else None


@dataclass(frozen=True)
class Rules:
    """A mirror's include and exclude patterns, and whether the .gitignore files of the folder count.

    links: whether links to files inside the folder are taken as those files.
    """

    include: tuple[str, ...] = INCLUDE_ALL
    exclude: tuple[str, ...] = ()
    gitignore: bool = True
    links: bool = False

    @property
    def ignore_files(self) -> tuple[str, ...]:
        """The names of the ignore files that count."""
        return (GIT_IGNORE_FILE, IGNORE_FILE) if self.gitignore else (IGNORE_FILE,)

    def excluded(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Return the rule that leaves `path` out (directories end with "/"), or None.

        The first of these that speaks of it has the word: the deepest .syncdignore, then those above it, `exclude`,
        the built-in list, the deepest .gitignore, then those above it. Of what they let in, files are taken that
        `include` takes. Does not look at the parents: see `excluded_deep`.
        """
        if path.startswith("..", path.rfind("/", 0, -1) + 1):
            return DOTTED
        left_out, rule = self._word(path, ignores) or (False, "")
        return rule if left_out else self.not_included(path)

    def doubt(self, ignores: Sequence[IgnoreFile] = ()) -> Callable[[str], bool]:
        """Return a quick test for many paths below all ignore files: what it denies, nothing leaves out."""
        if self.include != INCLUDE_ALL:
            return bool
        lists = [(_builtin().may_match, 0), *([(self._exclude.may_match, 0)] if self.exclude else [])]
        lists += [(each.patterns.may_match, len(each.folder)) for each in ignores if each.patterns.patterns]

        def quick(path: str) -> bool:
            name = path[path.rfind("/", 0, -1) + 1 :]
            if name.startswith(".."):
                return True
            for may_match, start in lists:  # noqa: SIM110 - a generator costs more than the test
                if may_match(path, name, start):
                    return True
            return False

        return quick

    def excluded_deep(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Like `excluded`, for a path whose parents have not been judged yet."""
        for end, char in enumerate(path):
            if char == "/" and end + 1 < len(path) and (rule := self.excluded(path[: end + 1], ignores)):
                return rule
        return self.excluded(path, ignores)

    def forbids(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Return the rule by which nothing at a place may be taken through a link, be it a file or a directory.

        Neither `include` nor a name that begins with ".." forbids: a link may lead through what is not taken itself.
        """
        ends = [end + 1 for end, char in enumerate(path) if char == "/"]
        for each in (*(path[:end] for end in ends), path, f"{path}/"):
            left_out, rule = self._word(each, ignores) or (False, "")
            if left_out:
                return rule
        return None

    def taken_by(self, path: str, ignores: Sequence[IgnoreFile] = ()) -> str | None:
        """Return the pattern that brings a file in which is not left out; None if nothing speaks of it."""
        if word := self._word(path, ignores):
            return word[1]
        return self._included_by(path) if self.include != INCLUDE_ALL else None

    def taken_as(self, path: str, *, subtree: bool) -> tuple[str, bool]:
        """Return the normal path to look at for a hint, and whether to look at all below it."""
        if name_fault(path):
            # Such a name has no key; the directory it lies in has one, and reports it.
            while path and name_fault(path):
                path = path.rpartition("/")[0]
            subtree = True
        elif path.rpartition("/")[2] in self.ignore_files:
            path, subtree = path.rpartition("/")[0], True
        return normal(path), subtree

    def _word(self, path: str, ignores: Sequence[IgnoreFile]) -> tuple[bool, str] | None:
        """Return (left out?, the rule) of the strongest list that speaks of a path."""
        ours = (each.verdict(path) for each in reversed(ignores) if each.name == IGNORE_FILE)
        if word := next(filter(None, ours), None):
            return word
        if found := self._exclude.verdict(path):
            return found.out, f"exclude: {found.pattern}"
        # What the list takes back, such as .env.example, it only does not leave out itself.
        if (found := _builtin().verdict(path)) and found.out:
            return True, f"built-in exclude: {BUILTIN_EXCLUDES[found.number - 1]}"
        git = (each.verdict(path) for each in reversed(ignores) if each.name != IGNORE_FILE)
        return next(filter(None, git), None)

    def not_included(self, path: str) -> str | None:
        """Return why `include` does not take a path, None if it does; directories are never judged by it."""
        if path.endswith("/") or self.include == INCLUDE_ALL or self._included_by(path):
            return None
        return "include: no pattern takes it"

    def _included_by(self, path: str) -> str | None:
        """Return the include pattern that takes a file: the word on itself, else on the nearest directory above."""
        while path:
            if found := self._include.verdict(path):
                return f"include: {found.pattern}" if found.out else None
            path = path[: path.rfind("/", 0, -1) + 1]
        return None

    @cached_property
    def _exclude(self) -> PatternList:
        return _patterns(enumerate(self.exclude, 1))

    @cached_property
    def _include(self) -> PatternList:
        return _patterns(enumerate(self.include, 1))


# Built at first use: commands that only read the config match no path.
@cache
def _builtin() -> PatternList:
    return PatternList.of(enumerate(BUILTIN_EXCLUDES, 1), ignore_case=True)


def _patterns(lines: Iterable[Line]) -> PatternList:
    return PatternList.of((number, normal(text)) for number, text in lines)
