"""watchdog's inotify backend, with the holes of 7.1 closed. Linux only, and the only module that knows its insides.

What is overridden: `InotifyFD.handle_event` (overflow, a reader that cannot die), `InotifyFD.add_callback` (refused and
unwanted watches), `EventEmitter.queue_event` (watches left behind by a directory that was moved out).
"""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog
from watchdog.events import DirDeletedEvent, FileSystemEvent
from watchdog.observers.api import BaseObserver, EventQueue, ObservedWatch
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
"""How long an emitter holds everything back for the second half of a move; watchdog waits 0.5 s. The kernel queues the
halves together, and a pair that is missed is a removal and a creation, which hint the same places."""

_PROBE_PATH: Final = b"/proc/self/fdinfo"
"""A directory that is no mirror's: a watch put on it and taken off again sends one event through the kernel's queue."""


class Descriptor(InotifyFD):
    """One inotify descriptor and the thread that reads it.

    on_overflow: events were lost, or the books are wrong; this descriptor is of no more use. on_refused: the kernel
    has no watch left for that path. wanted: whether a directory is to be watched. All are called from any thread.
    """

    def __init__(
        self, on_overflow: Callable[[], None], on_refused: Callable[[str], None], wanted: Callable[[str, str], bool]
    ) -> None:
        super().__init__()
        self._on_overflow = on_overflow
        self._on_refused = on_refused
        self._wanted = wanted
        self._probe: tuple[WatchDescriptor, threading.Event] | None = None

    def handle_event(self, event: InotifyEvent) -> None:
        """Reads one event. watchdog's own answer to an overflow re-adds every watch on this descriptor, whose
        thousands of IN_IGNORED overflow it again (above 16,000 directories for ever), so it never gets to see one.
        """
        if event.is_queue_overflow:
            self.distrust()
            return
        if event.is_ignored and self._probe is not None and event.wd == self._probe[0]:
            self._probe[1].set()
        try:
            super().handle_event(event)
        except Exception:  # noqa: BLE001  # books that do not add up must not end the reader
            _log.exception("watch.reader_failed", inotify_event=repr(event))
            self.distrust()

    def distrust(self) -> None:
        """Says that events were lost. A closed descriptor has only its own IN_IGNORED left to lose."""
        if not self._closed:
            self._on_overflow()

    def add_callback(self, path: bytes, mask: Mask, callback: WatchCallback, id_: CallbackId) -> WatchDescriptor:
        """Watches path. watchdog swallows the OSError below a root, and takes EACCES for a watch numbered -1; a
        directory that came back has its old watch still, which is no cause for a warning.
        """
        root = os.fsdecode(callback.path) if isinstance(callback, InotifyWatchGroup) else ""
        if not self._wanted(root, os.fsdecode(path)):
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
        """Sends one event through the kernel; answered is set when the reader meets it, or if none can be sent.

        Sends nothing while another thread holds the lock: the caller must not wait for one that may be stuck.
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
    """One root's events."""

    def __init__(
        self,
        event_queue: EventQueue,
        watch: ObservedWatch,
        *,
        timeout: float,
        event_filter: list[type[FileSystemEvent]] | None,
        descriptor: Descriptor,
    ) -> None:
        super().__init__(event_queue, watch, timeout=timeout, event_filter=event_filter, inotify_fd=descriptor)
        self._descriptor = descriptor

    def on_thread_start(self) -> None:
        """Sets the watches; OSError when the root itself cannot be watched."""
        super().on_thread_start()
        if self._inotify is not None:
            self._inotify._move_event_grouper._queue.delay = _MOVE_PAIRING_S  # noqa: SLF001

    def queue_event(self, event: FileSystemEvent) -> None:
        """A directory that was moved out keeps its watches and would report under its old path for ever."""
        if isinstance(event, DirDeletedEvent):
            try:
                self._prune(os.fsencode(event.src_path))
            except Exception:  # noqa: BLE001  # nor the emitter
                _log.exception("watch.prune_failed", path=event.src_path)
                self._descriptor.distrust()
        super().queue_event(event)

    @property
    def holds_root(self) -> bool:
        """False once the root was deleted, unmounted or replaced: nothing below it is heard of any more."""
        group = self._inotify
        return (
            group is not None and self.is_alive() and os.fsencode(self.watch.path) in group._active_callbacks_by_path  # noqa: SLF001
        )

    def complete(self) -> None:
        """Watches the directories that are wanted since a handler was added; the others keep their watch."""
        group = self._inotify
        if group is not None:
            with group._lock:  # noqa: SLF001
                group._add_all_callbacks(group.path)  # noqa: SLF001

    def _prune(self, gone: bytes) -> None:
        group = self._inotify
        if group is None or gone == os.fsencode(self.watch.path):
            return
        below = gone + b"/"
        with group._lock:  # noqa: SLF001
            by_watch, by_path = group._active_callbacks_by_watch, group._active_callbacks_by_path  # noqa: SLF001
            stale = [wd for wd, path in by_watch.items() if path == gone or path.startswith(below)]
            for path in [path for path in by_path if path == gone or path.startswith(below)]:
                # A path whose watch has moved on to another one.
                if by_watch.get(by_path[path]) != path:
                    del by_path[path]
            for wd in stale:
                # Two watches may claim one path; removal expects each to be found under its own.
                by_path[by_watch[wd]] = wd
                group._remove_callbacks([wd])  # noqa: SLF001
            place = Path(os.fsdecode(gone))
            if stale and place.is_dir() and not place.is_symlink():
                # Already another directory of that name. The hint that follows covers what it held before this.
                group._add_all_callbacks(gone)  # noqa: SLF001


class InotifyObserver(BaseObserver):
    """watchdog's InotifyObserver over a `Descriptor` of its own. OSError (EMFILE) when there is none to be had."""

    def __init__(
        self, on_overflow: Callable[[], None], on_refused: Callable[[str], None], wanted: Callable[[str, str], bool]
    ) -> None:
        self.descriptor = Descriptor(on_overflow, on_refused, wanted)
        self.descriptor.start()
        super().__init__(Emitter, descriptor=self.descriptor)

    def on_thread_stop(self) -> None:
        """Closes the descriptor first: taking off its watches fills its queue, which is no overflow to answer."""
        self.descriptor.stop()
        super().on_thread_stop()
        self.descriptor.join()
