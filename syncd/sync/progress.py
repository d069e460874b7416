"""The state of a pass that a command makes, stored for `status` during the pass and after an interruption."""

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from syncd.core.errors import StateHalt
from syncd.core.requests import Contact, Trouble, is_watched, reporting_to
from syncd.state.directory import writable
from syncd.state.history import State, keep_contact, set_state
from syncd.sync.mirror import Mirror, Result

PROGRESS_EVERY_S = 1.0
"""Seconds between two updates of the stored progress."""


class Progress:
    """Stores that a pass is under way, how many actions are left, and whether its requests succeed."""

    def __init__(self, mirror: Mirror, *, dry_run: bool) -> None:
        self._mirror = mirror
        self._dry_run = dry_run
        self._next_at = -math.inf
        self._left = 0
        self._trouble: Trouble | None = None

    def update(self, result: Result) -> None:
        """Store how many actions are left, at most once in PROGRESS_EVERY_S."""
        if time.monotonic() >= self._next_at:
            self.store(remaining(result))

    def store(self, left: int) -> None:
        """Store the number of actions that are left."""
        self._left = max(0, left)
        self._next_at = time.monotonic() + PROGRESS_EVERY_S
        self._store()

    async def follow(self, contact: Contact, clock: Callable[[], float]) -> None:
        """Store that requests do not succeed at present, and that they do again, until cancelled."""
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            if (trouble := contact.trouble()) != self._trouble:
                self._trouble = trouble
                next_at = trouble.next_at if trouble else None
                self._store(None if next_at is None else round(self._mirror.now() + next_at - clock()))

    def end(self, contact: Contact) -> None:
        """Store when the remote last answered."""
        self._trouble = None
        if not self._dry_run:
            with contextlib.suppress(StateHalt), writable():
                keep_contact(self._mirror.meta, contact.answered_at)

    def _store(self, next_try: float | None = None) -> None:
        if self._dry_run:
            return
        state: State = "degraded" if self._trouble else "syncing"
        reason = self._trouble.reason if self._trouble else None
        store_state(self._mirror, state, reason, remaining=self._left, next_try=next_try, under_way=True)


@asynccontextmanager
async def watched(mirror: Mirror, progress: Progress) -> AsyncIterator[None]:
    """Store the trouble that the requests of this block meet, unless the daemon shows it already."""
    if is_watched():
        yield
        return
    clock = asyncio.get_running_loop().time
    contact = Contact(clock, mirror.now)
    with reporting_to(contact):
        following = asyncio.create_task(progress.follow(contact, clock))
        try:
            yield
        finally:
            following.cancel()
            progress.end(contact)


def remaining(result: Result) -> int:
    """Return the number of planned actions that are not done."""
    return result.tables.plan.counts.total() - result.done.total()


def store_state(mirror: Mirror, state: State, message: str | None = None, **more: Any) -> None:
    """Store the state of a mirror, if the state file can be written. If it cannot, the report has the error."""
    with contextlib.suppress(StateHalt), writable():
        stored = mirror.journal.stored() if more.get("remaining") else None
        set_state(mirror.meta, state, message, since=mirror.now(), stored=stored, **more)
