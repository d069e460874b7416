"""What `syncd retry` and the status page's button do: failed and rejected items are due now."""

from collections.abc import Collection

from syncd.state.journal import Journal
from syncd.state.queue import Queue


def try_again(journal: Journal, queue: Queue, keys: Collection[str] | None, now: float) -> int:
    """Make the failed and rejected items of a mirror (of `keys`, if any are given) due; return how many there are.

    An entry that could not be indexed is indexed again, without an upload. now: seconds since the epoch.
    """

    def meant(key: str) -> bool:
        return keys is None or key in keys

    problems = {problem.key: problem for problem in journal.problems.all() if meant(problem.key)}
    for key in problems:
        journal.problems.unpark(key)
    # A name that cannot be a key has no place in the queue; a renamed file is another one. What could not be indexed
    # and was thrown out for it can only be sent again.
    again = [
        key
        for key, problem in problems.items()
        if (journal.get(key) is None if problem.kind in ("index_error", "skipped") else problem.kind != "invalid_key")
    ]
    queue.make_due(again, now)
    return len(again) + journal.index.want_reindex(None if keys is None else meant)
