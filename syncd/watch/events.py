"""From watchdog events to hints."""

import os
from collections.abc import Callable
from typing import Final

import structlog
from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileAttribEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)

from syncd.core.os_names import from_os
from syncd.watch.hints import EVERYTHING, Hint
from syncd.watch.polling import Ignore

_log = structlog.get_logger()

EVENTS: Final[list[type[FileSystemEvent]]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileClosedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileAttribEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]
"""All that is asked of the kernel. Opens and reads are not: our own hashing would wake us, and the walk that sets the
watches would overflow the queue by itself. Attributes are, because a chmod makes an unreadable file readable."""


class RootHandler(FileSystemEventHandler):
    """Turns the events below one root into hints for one mirror. It only enqueues and never raises: an exception
    here would end the dispatcher of all mirrors.

    put: takes the hints, from any thread. refuse: called when the kernel refuses a watch below this root.
    """

    def __init__(
        self, root: str, put: Callable[[Hint], None], refuse: Callable[[], None], ignore: Ignore | None = None
    ) -> None:
        self.root = root
        self.put = put
        self.refuse = refuse
        self._ignore = ignore

    def dispatch(self, event: FileSystemEvent) -> None:
        """Enqueues a hint for every place the event names."""
        try:
            # Synthetic events only spell out a directory event that has already put its subtree in doubt.
            if not event.is_synthetic:
                # The new place first: the loop may wake between the two, and a delete that is planned alone has nothing
                # to wait for, so that a search would find neither.
                self._hint(event.dest_path, directory=event.is_directory)
                self._hint(event.src_path, directory=event.is_directory)
        except Exception:  # noqa: BLE001  # whatever it is, it must not reach the dispatcher
            _log.exception("watch.handler_failed", root=self.root)
            self.put(EVERYTHING)

    def ignores(self, path: str, *, directory: bool) -> bool:
        """Whether an absolute path below the root is one this mirror does not want to hear of."""
        if self._ignore is None or path == self.root:
            return False
        return self._ignore(self._relative(path) + ("/" if directory else ""))

    def _hint(self, path: str | bytes, *, directory: bool) -> None:
        absolute = os.fsdecode(path)
        if absolute == self.root:
            self.put(EVERYTHING)
        elif absolute.startswith(self._prefix) and not self.ignores(absolute, directory=directory):
            self.put(Hint(self._relative(absolute), subtree=directory))

    @property
    def _prefix(self) -> str:
        return self.root if self.root.endswith("/") else self.root + "/"

    def _relative(self, path: str) -> str:
        return from_os(path.removeprefix(self._prefix))
