"""How many requests were made, by endpoint: the measure by which a sync tool is judged."""

from collections import Counter
from typing import Any

_READING_POSTS = ("/search", "/chat/completions", "/bulk/get")


class Requests:
    """Counts since the start or the last reset.

    routes: "METHOD template" -> number. total: all of them. changing: those that may alter something, i.e. POST, PUT,
    PATCH and DELETE but for searches and bulk reads. Refused requests count: they cost the caller just the same.
    """

    def __init__(self) -> None:
        self.routes: Counter[str] = Counter()
        self.total = 0
        self.changing = 0

    def count(self, method: str, template: str) -> None:
        """Notes one request; `template` is the endpoint's path with its parameters in braces."""
        self.routes[f"{method} {template}"] += 1
        self.total += 1
        if method in {"POST", "PUT", "PATCH", "DELETE"} and not template.endswith(_READING_POSTS):
            self.changing += 1

    def reset(self) -> None:
        """Back to zero."""
        self.routes.clear()
        self.total = self.changing = 0

    def as_json(self) -> dict[str, Any]:
        """{"total", "changing", "routes"} for the wire."""
        return {"total": self.total, "changing": self.changing, "routes": dict(self.routes)}
