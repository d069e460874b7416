"""Hints, and the inbox that holds them until the event loop takes them."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Hint:
    """A path to observe again. It does not say what happened there.

    path: relative to the root, as `keys.from_os` returns it (with surrogates for other bytes); "" is the root.
    subtree: whether to observe everything below the path too.
    """

    path: str
    subtree: bool


EVERYTHING: Final = Hint("", subtree=True)
"""The hint for a full pass."""


class Inbox:
    """Holds the hints of each mirror without duplicates. `put` is thread-safe; the other methods are for the loop.

    limit: most hints of one mirror (our own limit; 10,000 take about 2 MB). One more replaces them by `EVERYTHING`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int = 10_000) -> None:
        self._loop = loop
        self._limit = limit
        self._lock = threading.Lock()
        self._hints: dict[str, dict[Hint, None]] = {}
        self._waking = False
        self._filled = asyncio.Event()

    def put(self, mirror: str, hint: Hint) -> None:
        """Add a hint for a mirror. Never waits for the consumer, and never raises."""
        with self._lock:
            held = self._hints.setdefault(mirror, {})
            if EVERYTHING not in held:
                held[hint] = None
                if hint == EVERYTHING or len(held) > self._limit:
                    self._hints[mirror] = {EVERYTHING: None}
            wake = not self._waking
            self._waking = True
        if wake:
            try:
                self._loop.call_soon_threadsafe(self._wake)
            except RuntimeError:
                # The loop is closed. The next start makes a full pass.
                return

    def drain(self) -> dict[str, list[Hint]]:
        """Remove and return all hints by mirror, in the order of their arrival."""
        with self._lock:
            taken, self._hints = self._hints, {}
        return {mirror: list(held) for mirror, held in taken.items()}

    async def get_batch(self) -> dict[str, list[Hint]]:
        """Wait until there is a hint, then remove and return all hints."""
        while not (batch := self.drain()):
            self._filled.clear()
            with self._lock:
                empty = not self._hints
            if empty:
                await self._filled.wait()
        return batch

    def _wake(self) -> None:
        with self._lock:
            self._waking = False
        self._filled.set()
