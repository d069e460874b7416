"""Hints and the inbox they wait in until the loop takes them."""

import asyncio
import threading
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Hint:
    """A place to look at again; says nothing about what is there now.

    path: relative to the root, parts joined by "/", as `paths.from_os` gives it (surrogates are possible); "" is the
    root itself. subtree: everything below path is in doubt, not only path.
    """

    path: str
    subtree: bool


EVERYTHING: Final = Hint("", subtree=True)
"""The whole root is in doubt: make a full pass."""


class Inbox:
    """Holds each mirror's hints, without repeats, until the loop takes them. `put` is for any thread, the rest for
    the loop's own.

    limit: hints kept for one mirror (10,000 are about 2 MB); one more and they become `EVERYTHING`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int = 10_000) -> None:
        self._loop = loop
        self._limit = limit
        self._lock = threading.Lock()
        self._hints: dict[str, dict[Hint, None]] = {}
        self._waking = False
        self._filled = asyncio.Event()

    def put(self, mirror: str, hint: Hint) -> None:
        """Leaves a hint for mirror. Never blocks on the consumer and never raises."""
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
                # The loop is closed: nobody is left who could look, and the next start makes a full pass.
                return

    def drain(self) -> dict[str, list[Hint]]:
        """All hints by mirror, in the order they came; {} when there are none. They are the caller's now."""
        with self._lock:
            taken, self._hints = self._hints, {}
        return {mirror: list(held) for mirror, held in taken.items()}

    async def get_batch(self) -> dict[str, list[Hint]]:
        """Waits until there is a hint, then `drain`s."""
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
