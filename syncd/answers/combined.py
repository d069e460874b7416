"""The notation of `rclone check --combined`: one line for each file, with what a pass saw of it.

The lines wait in a temporary table, on disk, since problems of names that have no key come out of order.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from syncd.masks import printable
from syncd.mirror import Mirror
from syncd.model import HARMLESS, Adopt, Delete, Excluded, Forget, Item, Problem, Put
from syncd.paths import shown
from syncd.state.db import transaction
from syncd.sync.resolve import Resolved

_ADD = """
    INSERT INTO temp.combined VALUES (?, ?, ?) ON CONFLICT (mirror, path) DO UPDATE SET sign =
    CASE WHEN sign = excluded.sign THEN sign WHEN '!' IN (sign, excluded.sign) THEN '!' ELSE '*' END
"""
"""Of a file in parts the parts may have different signs; then the file is different."""
SAME, ONLY_TARGET, ONLY_FOLDER, DIFFERENT, ERROR = "=", "-", "+", "*", "!"


def sign(resolved: Resolved, is_left_out: Callable[[str], bool]) -> str | None:
    """Return the sign of a key, None if it has no line. is_left_out: whether the rules leave out what a key names.

    Asked only for entries without a file that the pass lets stand.
    """
    match resolved.decision:
        case Put():
            return DIFFERENT if resolved.triple.entry else ONLY_FOLDER
        case Delete():
            return ONLY_TARGET
        case Adopt():
            return SAME
        case Forget():
            return None
        case Problem() as problem:
            return _of_problem(problem, resolved)
        case None:
            return ERROR if resolved.again else _of_what_stays(resolved, is_left_out)


def _of_what_stays(resolved: Resolved, is_left_out: Callable[[str], bool]) -> str | None:
    match resolved.triple.local:
        case Item():
            return SAME
        case Problem():
            return ERROR
        case Excluded():
            return None
        case None:
            key, entry = resolved.triple.key, resolved.triple.entry
            return ONLY_TARGET if entry and not is_left_out(key) else None


def _of_problem(problem: Problem, resolved: Resolved) -> str | None:
    entry = resolved.triple.entry
    if isinstance(resolved.triple.local, Item) and problem.kind in ("foreign", "refused"):
        return DIFFERENT if entry else ONLY_FOLDER
    # What a target never takes is as good as left out, unless it has an entry of that name all the same.
    if problem.kind in HARMLESS:
        return DIFFERENT if entry else None
    return ERROR


class Combined:
    """The lines of one pass of a mirror, held until they are asked for."""

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._db = mirror.db
        self._db.execute(
            "CREATE TEMP TABLE IF NOT EXISTS combined ("
            "mirror TEXT NOT NULL, path TEXT NOT NULL, sign TEXT NOT NULL, PRIMARY KEY (mirror, path)) WITHOUT ROWID"
        )
        self.drop()

    def add(self, block: Sequence[Resolved]) -> None:
        """Take in what a pass saw of some keys."""
        rows = []
        for each in block:
            if found := sign(each, self._is_left_out):
                path = self._mirror.tree.names.file(each.triple.key).removeprefix(self._mirror.policy.prefix)
                rows.append((self._mirror.name, printable(shown(path)), found))
        with transaction(self._db):
            self._db.executemany(_ADD, rows)

    def lines(self, *, named: bool) -> Iterator[str]:
        """Yield the lines by path. named: each path begins with the mirror's name."""
        rows: Iterable[tuple[str, str]] = self._db.execute(
            "SELECT sign, path FROM temp.combined WHERE mirror = ? ORDER BY path", (self._mirror.name,)
        )
        before = f"{self._mirror.name}:" if named else ""
        return (f"{mark} {before}{path}\n" for mark, path in rows)

    def drop(self) -> None:
        """Let go of the lines."""
        self._db.execute("DELETE FROM temp.combined WHERE mirror = ?", (self._mirror.name,))

    def _is_left_out(self, key: str) -> bool:
        return isinstance(self._mirror.tree.look(key), Excluded)
