"""The cache of search answers. The service is asked to use it unless the instance or the request turns it off.

Source: "AI Search: similarity cache". The measure of similarity is unknown; here two queries are similar if they have
the same words. An answer leaves the cache when one of its items changes or goes. A new item removes no answer, so an
answer may be stale.
"""

import re
from typing import Any

from syncd.emulator.ai_search_store import InstanceRow
from syncd.emulator.requests import Backend, compact_json

DEFAULT_TTL = 172_800
"""Seconds that an answer is kept, if the instance does not set cache_ttl."""

MAX_ANSWERS = 1000
"""Number of answers that the stand-in keeps; the oldest goes first."""

_WORD = re.compile(r"\w+")


class SearchCache:
    """Answers of all instances, in memory."""

    def __init__(self) -> None:
        self._answers: dict[tuple[Any, ...], tuple[float, dict[str, str], Any]] = {}

    def find(self, backend: Backend, instance: InstanceRow, query: str, options: Any) -> Any | None:
        """Return the kept answer to a similar query with the same options, or None."""
        key = _key(instance, query, options)
        if key not in self._answers:
            return None
        kept_until, versions, answer = self._answers[key]
        if kept_until > backend.clock() and versions == _versions(backend, versions):
            return answer
        del self._answers[key]
        return None

    def keep(self, backend: Backend, instance: InstanceRow, query: str, options: Any, answer: Any) -> None:
        """Keep the answer for the instance's cache_ttl. answer: a result with `chunks`."""
        while len(self._answers) >= MAX_ANSWERS:
            del self._answers[next(iter(self._answers))]
        items = {chunk["id"].rpartition("-")[0]: "" for chunk in answer["chunks"]}
        until = backend.clock() + instance.config.get("cache_ttl", DEFAULT_TTL)
        self._answers[_key(instance, query, options)] = (until, _versions(backend, items), answer)

    def purge(self, instance: InstanceRow) -> None:
        """Forget every answer of the instance."""
        for key in [key for key in self._answers if key[:2] == (instance.number, instance.created_at)]:
            del self._answers[key]


def _key(instance: InstanceRow, query: str, options: Any) -> tuple[Any, ...]:
    words = " ".join(sorted(set(_WORD.findall(query.lower()))))
    # A number is used again after the deletion of its instance.
    return instance.number, instance.created_at, words, compact_json(options)


def _versions(backend: Backend, items: dict[str, str]) -> dict[str, str]:
    """Return the present version of each item that still exists."""
    sql = "SELECT version FROM ai_items WHERE valid_to IS NULL AND id = ?"
    rows = {item: backend.store.one(sql, (item,)) for item in items}
    return {item: str(row["version"]) for item, row in rows.items() if row is not None}
