"""A thread that searches all the time, and records when a search returned nothing."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from tests.e2e.harness import ACCOUNT, TOKEN, Workspace

EVERY_S = 0.02


@dataclass(slots=True)
class Seeker:
    """The results of a repeated search for one word. seen: (seconds of a clock, keys), one pair for each change."""

    asked: int = 0
    seen: list[tuple[float, frozenset[str]]] = field(default_factory=list)

    @property
    def last(self) -> set[str]:
        """Return the keys of the last search."""
        return set(self.seen[-1][1]) if self.seen else set()

    def holes_s(self) -> list[float]:
        """Return the length of each period without a result, after the first result."""
        first = next((place for place, (_, keys) in enumerate(self.seen) if keys), len(self.seen))
        pairs = zip(self.seen[first:], self.seen[first + 1 :], strict=False)
        return [until - since for (since, keys), (until, _) in pairs if not keys]


@contextmanager
def seeking(workspace: Workspace, word: str, instance: str = "docs") -> Iterator[Seeker]:
    """Search for a word within the block."""
    seeker, over = Seeker(), threading.Event()
    url = f"{workspace.server.base_url}/accounts/{ACCOUNT}/ai-search/namespaces/default/instances/{instance}/search"

    body = {"query": word, "ai_search_options": {"cache": {"enabled": False}}}

    def work() -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {TOKEN}"}, verify=False) as client:
            while not over.wait(EVERY_S):
                answer = client.post(url, json=body).raise_for_status().json()
                keys = frozenset(chunk["item"]["key"] for chunk in answer["result"]["chunks"])
                seeker.asked += 1
                if not seeker.seen or seeker.seen[-1][1] != keys:
                    seeker.seen.append((time.monotonic(), keys))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seeker
    finally:
        over.set()
        thread.join()
