"""What is known of a file that is in parts: what it is as a whole, then part by part."""

from collections.abc import Iterator, Sequence

from syncd.model import Item
from syncd.paths import shown
from syncd.state.families import is_up
from syncd.state.journal import Journal
from syncd.state.queue import Queue
from syncd.targets.base import megabytes


def file_facts(items: Sequence[Item], limit: int) -> Iterator[tuple[str, str]]:
    """Yield (name, value) pairs on a file from its parts as they are now."""
    size = sum(item.size for item in items)
    yield "rule", f"taken, in {len(items)} parts: the file is over the target's {megabytes(limit)}"
    yield "size", megabytes(size)


def part_facts(items: Sequence[Item], journal: Journal, queue: Queue) -> Iterator[tuple[str, str]]:
    """Yield (name, value) pairs on each part, from what the state file knows."""
    problems = {problem.key: problem for problem in journal.problems()}
    for item in items:
        record = journal.get(item.key)
        words = [shown(item.key), megabytes(item.size)]
        if record is None:
            words.append("never uploaded")
        else:
            words += [f"remote id {record.ref}", record.status or "stored"]
            words += [] if is_up(journal, item) else ["changed since, the next pass sends it"]
        if problem := problems.get(shown(item.key)):
            words.append(f"{problem.kind}: {problem.message}")
        if queue.next_try(item.key) is not None:
            words.append("waits to be tried again" if queue.attempts(item.key) else "waits")
        yield "part", ", ".join(words)
