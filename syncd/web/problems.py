"""The problems of a mirror as the page shows them: by kind, the worst kind first, and the files of a kind by pages."""

import re
from contextlib import closing
from typing import Any, get_args

from syncd.config.schema import Config
from syncd.core.model import HARMLESS, ProblemKind
from syncd.state.db import open_state_to_read
from syncd.state.journal import Journal

PAGE = 50
"""The largest number of files in one answer."""
TITLES: dict[ProblemKind, str] = {
    "failed": "Given up for now",
    "unreadable": "Cannot be read",
    "refused": "Refused by the remote",
    "index_error": "Stored, but could not be indexed",
    "skipped": "Stored, but left out by the index",
    "foreign": "The remote entry belongs to another owner",
    "key_collision": "Two files would have the same key",
    "invalid_key": "The name cannot be a key",
    "key_too_long": "The name is too long",
    "too_large": "Too large",
    "unsupported_type": "Type that is not indexed",
    "empty": "Empty",
}
"""The kinds, the worst first, and their headings."""
_COMMAND = re.compile(
    r"syncd (?:approve|check|explain|kv|ls|plan|reconcile|reload|retry|status|verify)\b(?: --[a-z-]+)*"
    # If the clause continues after a word, the word belongs to the sentence and not to the command.
    r"(?: (?:'[^']*'|[^\s;,`()…]+)(?=[;,`()…]|\s*$))?"
)
_PLAN = re.compile(r"syncd approve (\S+-[0-9a-f]{12})\b")


def count_problems(config: Config) -> dict[str, list[dict[str, Any]]]:
    """Return mirror -> the kinds of its problems with their numbers, the worst kind first."""
    db = open_state_to_read(config.state_dir)
    if db is None:
        return {}
    with closing(db):
        counts_by_mirror = {name: Journal(db, name).problems.counts() for name in config.mirrors}
    return {
        name: [
            {"kind": kind, "title": title, "count": counts[kind], "harmless": kind in HARMLESS}
            for kind, title in TITLES.items()
            if counts.get(kind)
        ]
        for name, counts in counts_by_mirror.items()
    }


def find_problems(config: Config, name: str, kind: str, text: str, offset: int, limit: int) -> dict[str, Any]:
    """Return one page of the problems of a kind whose key or message contains a text, and their number."""
    db = open_state_to_read(config.state_dir) if kind in get_args(ProblemKind) else None
    if db is None:
        return {"found": 0, "problems": []}
    with closing(db):
        problems, count = Journal(db, name).problems.find(kind, text, min(limit, PAGE), offset)
    rows = [
        {"key": problem.key, "message": problem.message, "remedies": remedies(problem.message)} for problem in problems
    ]
    return {"found": count, "problems": rows}


def remedies(detail: str) -> list[str]:
    """Return the commands that a message names."""
    return list(dict.fromkeys(command.rstrip(".:") for command in _COMMAND.findall(detail)))


def plan_of(detail: str) -> str | None:
    """Return the id of the plan that a message offers for approval."""
    command = _PLAN.search(detail)
    return command[1] if command else None
