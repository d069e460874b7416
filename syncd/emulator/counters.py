"""How many requests were made, by endpoint: the measure by which a sync tool is judged."""

from collections import Counter
from typing import Any

_READING_POSTS = ("/search", "/chat/completions", "/bulk/get", "/query", "/get_by_ids")
_RUNNING = "/ai/run/"


class Requests:
    """Counts since the start or the last reset.

    routes: "METHOD template" -> number. total: all of them. changing: those that may alter something, i.e. POST, PUT,
    PATCH and DELETE but for searches, bulk reads and runs of a model. Refused requests count: they cost the caller just
    the same. embedded_texts: the texts that models made vectors of.
    """

    def __init__(self) -> None:
        self.routes: Counter[str] = Counter()
        self.total = 0
        self.changing = 0
        self.embedded_texts = 0

    def count(self, method: str, template: str) -> None:
        """Notes one request; `template` is the endpoint's path with its parameters in braces."""
        self.routes[f"{method} {template}"] += 1
        self.total += 1
        reading = template.endswith(_READING_POSTS) or _RUNNING in template
        if method in {"POST", "PUT", "PATCH", "DELETE"} and not reading:
            self.changing += 1

    def reset(self) -> None:
        """Back to zero."""
        self.routes.clear()
        self.total = self.changing = self.embedded_texts = 0

    def as_json(self) -> dict[str, Any]:
        """{"total", "changing", "embedded_texts", "routes"} for the wire."""
        return {
            "total": self.total,
            "changing": self.changing,
            "embedded_texts": self.embedded_texts,
            "routes": dict(self.routes),
        }
