"""The inotify backend of watchdog with corrections for version 7.1. Linux only.

No other module uses the internals of watchdog. The overridden methods are `InotifyFD.handle_event` (overflow, and a
reader that survives exceptions), `InotifyFD.add_callback` (refused and ignored watches), and `EventEmitter.queue_event`
(watches of a directory that was moved out of the root).
"""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from watchdog.events import DirDeletedEvent, FileSystemEvent
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyEmitter, InotifyWatchGroup
from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
    inotify_add_watch,
    inotify_rm_watch,
)

_log = structlog.get_logger()

_MOVE_PAIRING_S: Final = 0.02
"""Seconds for which an emitter delays events to pair both events of a move; watchdog waits 0.5 s. The kernel queues
both events together. An unpaired move counts as a removal and a creation, which give the same hints."""

_PROBE_PATH: Final = b"/proc/self/fdinfo"
"""A directory outside all mirrors. Adding and removing a watch on it sends one event through the kernel."""


class Descriptor(InotifyFD):
    """One inotify descriptor and the thread that reads it. Raises OSError (EMFILE) if no descriptor is available.

    on_overflow: called after a loss of events or an inconsistency; the descriptor must be replaced.
    on_refused: called with a path for which the kernel has no watch left.
    is_wanted: takes the root and the path of a directory, and returns whether to watch it.
    The threads of watchdog call these functions.
    """

    def __init__(
        self, on_overflow: Callable[[], None], on_refused: Callable[[str], None], is_wanted: Callable[[str, str], bool]
    ) -> None:
        super().__init__()
        self._on_overflow = on_overflow
        self._on_refused = on_refused
        self._is_wanted = is_wanted
        self._probe: tuple[WatchDescriptor, threading.Event] | None = None

    def handle_event(self, event: InotifyEvent) -> None:
        """Handle one event.

        watchdog must not see an overflow. It would set every watch of this descriptor again, and the IN_IGNORED events
        of the old watches would overflow the queue again; above 16,000 directories this never ends.
        """
        if event.is_queue_overflow:
            self.invalidate()
            return
        if event.is_ignored and self._probe is not None and event.wd == self._probe[0]:
            self._probe[1].set()
        try:
            super().handle_event(event)
        except Exception:  # noqa: BLE001 - an inconsistency must not end the reader
            _log.exception("watch.reader_failed", inotify_event=repr(event))
            self.invalidate()

    def invalidate(self) -> None:
        """Report a loss of events, unless the descriptor is closed."""
        if not self._closed:
            self._on_overflow()

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        """Watch a path. Raises OSError if the kernel refuses the watch or no mirror wants it.

        This method replaces the method of watchdog. That method ignores an OSError below a root, takes EACCES for a
        watch with the number -1, and warns about a directory that was moved back and still has its old watch.
        """
        root = os.fsdecode(callback.path) if isinstance(callback, InotifyWatchGroup) else ""
        if not self._is_wanted(root, os.fsdecode(path)):
            raise FileNotFoundError(errno.ENOENT, "not wanted", path)
        with self._lock:
            try:
                watch = self._get_or_create_watch(path, mask)
            except OSError as error:
                if error.errno in {errno.ENOSPC, errno.ENOMEM}:
                    self._on_refused(os.fsdecode(path))
                raise
            if watch.wd == -1:
                self._watch_for_wd.pop(watch.wd, None)
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            watch.callbacks[id_] = callback
            return watch.wd

    def probe(self, answered: threading.Event) -> None:
        """Send one event through the kernel. `answered` is set when the reader gets it, or if it cannot be sent.

        Sends nothing while another thread holds the lock, because the other thread may be stuck.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._probe = None
            number = WatchDescriptor(-1)
            if not self._closed:
                number = inotify_add_watch(self._inotify_fd, _PROBE_PATH, InotifyConstants.IN_DELETE_SELF)
            if number == -1:
                answered.set()
                return
            self._probe = (number, answered)
            inotify_rm_watch(self._inotify_fd, number)
        finally:
            self._lock.release()


class Emitter(InotifyEmitter):
    """Emits the events of one root."""

    _inotify_fd: Descriptor

    def on_thread_start(self) -> None:
        """Set the watches. Raises OSError if the root itself cannot be watched."""
        super().on_thread_start()
        if self._inotify is not None:
            self._inotify._move_event_grouper._queue.delay = _MOVE_PAIRING_S  # noqa: SLF001

    def queue_event(self, event: FileSystemEvent) -> None:
        """Queue an event. Removes the watches of a deleted or moved directory, which would report its old path."""
        if isinstance(event, DirDeletedEvent):
            try:
                self._prune(os.fsencode(event.src_path))
            except Exception:  # noqa: BLE001 - an inconsistency must not end the emitter
                _log.exception("watch.prune_failed", path=event.src_path)
                self._inotify_fd.invalidate()
        super().queue_event(event)

    @property
    def holds_root(self) -> bool:
        """Whether events below the root arrive. False after the root was deleted, unmounted or replaced."""
        group = self._inotify
        return (
            group is not None and self.is_alive() and os.fsencode(self.watch.path) in group._active_callbacks_by_path  # noqa: SLF001
        )

    def complete(self) -> None:
        """Set the missing watches after a handler was added."""
        group = self._inotify
        if group is not None:
            with group._lock:  # noqa: SLF001
                group._add_all_callbacks(group.path)  # noqa: SLF001

    def _prune(self, gone: bytes) -> None:
        """Remove the watches of a directory that is no longer at the path `gone`, and of everything below it."""
        group = self._inotify
        if group is None or gone == os.fsencode(self.watch.path):
            return
        below = gone + b"/"
        with group._lock:  # noqa: SLF001
            by_watch, by_path = group._active_callbacks_by_watch, group._active_callbacks_by_path  # noqa: SLF001
            stale = [wd for wd, path in by_watch.items() if path == gone or path.startswith(below)]
            for path in [path for path in by_path if path == gone or path.startswith(below)]:
                # The watch that is stored for this path belongs to another path now.
                if by_watch.get(by_path[path]) != path:
                    del by_path[path]
            for wd in stale:
                # Two watches may have one path. The removal expects each watch under its own path.
                by_path[by_watch[wd]] = wd
                group._remove_callbacks([wd])  # noqa: SLF001
            place = Path(os.fsdecode(gone))
            if stale and place.is_dir() and not place.is_symlink():
                # Another directory already has this name. The hint of the event covers its earlier content.
                group._add_all_callbacks(gone)  # noqa: SLF001


class InotifyObserver(BaseObserver):
    """The observer of watchdog over a `Descriptor`, which it starts and stops."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.descriptor.start()
        super().__init__(Emitter, inotify_fd=self.descriptor)

    def on_thread_stop(self) -> None:
        """Close the descriptor first. The removal of its watches may then overflow its queue without harm."""
        self.descriptor.stop()
        super().on_thread_stop()
        self.descriptor.join()
