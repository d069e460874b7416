"""One watchdog observer for all mirrors, and its handlers. It is rebuilt after a loss of events.

All mirrors share one observer because Linux permits 128 inotify instances for each user by default.
"""

import contextlib
import errno
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

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
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, EventEmitter, ObservedWatch

from syncd.core.keys import from_os
from syncd.core.model import EVERYTHING, Hint
from syncd.local.read import Identity, root_identity
from syncd.watch.polling import Ignore

_log = structlog.get_logger()

_BUSY_LIMIT_S: Final = 600.0
"""Maximum seconds of one change of watches, enough for ten million directories. No probe is answered during it."""

_REST_FACTOR: Final = 10.0
"""The pause after a rebuild is this multiple of its duration, so that rebuilds take at most a tenth of the time."""


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
"""The events that syncd requests. It leaves out opens and reads: its own hashing would cause them, and the walk that
sets the watches would overflow the queue. It requests changes of attributes, because one may make a file readable."""


class RootHandler(FileSystemEventHandler):
    """Converts the events below one root into hints for one mirror.

    It never raises, because an exception would end the dispatcher of all mirrors.

    put: receives the hints in any thread. refuse: called when the kernel refuses a watch below this root.
    """

    def __init__(
        self, root: str, put: Callable[[Hint], None], refuse: Callable[[], None], ignore: Ignore | None
    ) -> None:
        self.root = root
        self._prefix = root.rstrip("/") + "/"
        self.put = put
        self.refuse = refuse
        self._ignore = ignore

    def dispatch(self, event: FileSystemEvent) -> None:
        """Put a hint for each path of an event."""
        try:
            # watchdog makes a synthetic event from the event of a directory, and the hint for the directory covers its
            # subtree.
            if not event.is_synthetic:
                # The new path comes first. Otherwise a pass between both hints would delete the entry of the old path
                # before the upload of the new one, and a search would find neither.
                self._hint(event.dest_path, directory=event.is_directory)
                self._hint(event.src_path, directory=event.is_directory)
        except Exception:  # noqa: BLE001 - an exception must not reach the dispatcher
            _log.exception("watch.handler_failed", root=self.root)
            self.put(EVERYTHING)

    def ignores(self, path: str, *, directory: bool) -> bool:
        """Return whether the mirror ignores an absolute path below the root."""
        if self._ignore is None or path == self.root:
            return False
        return self._ignore(self._relative(path) + ("/" if directory else ""))

    def _hint(self, path: str | bytes, *, directory: bool) -> None:
        absolute = os.fsdecode(path)
        if absolute == self.root:
            self.put(EVERYTHING)
        elif absolute.startswith(self._prefix) and not self.ignores(absolute, directory=directory):
            self.put(Hint(self._relative(absolute), subtree=directory))

    def _relative(self, path: str) -> str:
        return from_os(path.removeprefix(self._prefix))


class _Probe(FileSystemEventHandler):
    """A probe of the threads: an event through the queue of the dispatcher, and an event through the kernel.

    sent_at: seconds of the monotonic clock. reader, dispatcher: set by the thread that has answered.
    """

    def __init__(self, sent_at: float) -> None:
        self.sent_at = sent_at
        self.reader = threading.Event()
        self.dispatcher = threading.Event()

    @property
    def answered(self) -> bool:
        return self.reader.is_set() and self.dispatcher.is_set()

    def dispatch(self, event: FileSystemEvent) -> None:
        del event
        self.dispatcher.set()


class _Watch(NamedTuple):
    """The watch of a root. identity: of the root when the watch was set."""

    observed: ObservedWatch
    identity: Identity | None


class KernelWatch:
    """Attaches roots to the observer. All methods are thread-safe, and all except `alive` block.

    rest_s: minimum seconds between two rebuilds. patience_s: seconds without an answer to a probe after which the
    threads count as stuck. The class has more than twelve methods, because one lock guards the observer together with
    the roots that are attached to it.
    """

    def __init__(self, *, rest_s: float, patience_s: float) -> None:
        self._rest_s = rest_s
        self._patience_s = patience_s
        self._lock = threading.RLock()
        self._handlers: list[RootHandler] = []
        self._watches: dict[str, _Watch] = {}
        self._observer: BaseObserver | None = None
        self._probe: _Probe | None = None
        self._busy_since: float | None = None
        self._overflowed = False
        self._rebuild_at = -math.inf
        self._stopped = False
        self.overflows = 0

    def attach(self, handler: RootHandler) -> None:
        """Watch the root of a handler and everything below it. Raises OSError if the kernel refuses."""
        with self._lock, self._busy():
            if self._stopped:
                raise OSError(errno.ECANCELED, "the watcher was stopped")
            if self._observer is None:
                self._observer = self._new_observer()
            self._handlers.append(handler)
            try:
                self._add(handler)
            except OSError:
                self._handlers.remove(handler)
                raise

    def detach(self, handler: RootHandler) -> None:
        """Stop watching for a handler. Other handlers of the same root continue."""
        with self._lock, self._busy():
            if handler not in self._handlers:
                return
            self._handlers.remove(handler)
            watch = self._watches.get(handler.root)
            if watch is None or self._observer is None:
                return
            if any(other.root == handler.root for other in self._handlers):
                self._observer.remove_handler_for_watch(handler, watch.observed)
            else:
                del self._watches[handler.root]
                self._observer.unschedule(watch.observed)

    def holds(self, handler: RootHandler) -> bool:
        """Return whether events of the root still arrive. False after the root was deleted or unmounted."""
        with self._lock:
            emitter = self._emitter(handler.root)
            return emitter is not None and bool(getattr(emitter, "holds_root", emitter.is_alive()))

    def rebuild_after_loss(self) -> None:
        """Replace an observer that has lost events, unless the last rebuild was a short time ago."""
        with self._lock:
            started = time.monotonic()
            if not self._overflowed or self._stopped or started < self._rebuild_at:
                return
            self._overflowed = False
            with self._busy():
                self._rebuild()
            ended = time.monotonic()
            self._rebuild_at = ended + max(self._rest_s, (ended - started) * _REST_FACTOR)

    def alive(self) -> bool:
        """Return whether the threads run and answered the last probe, and send the next probe."""
        now, observer, busy_since = time.monotonic(), self._observer, self._busy_since
        if busy_since is not None:
            return now - busy_since < _BUSY_LIMIT_S
        if observer is None or self._overflowed:
            return True
        if not _running(observer):
            return False
        probe = self._probe
        if probe is None or probe.answered:
            self._probe = probe = self._send_probe(observer)
        if not probe.reader.is_set():
            _probe_reader(observer, probe.reader)
        return now - probe.sent_at < self._patience_s

    def stop(self) -> None:
        """Stop all threads."""
        with self._lock:
            self._stopped = True
            self._handlers.clear()
            self._drop_observer()

    def _add(self, handler: RootHandler) -> None:
        """Add a handler to the watch of its root. Sets a new watch if the root was replaced."""
        watch, emitter = self._watches.get(handler.root), self._emitter(handler.root)
        if watch is None or watch.identity != root_identity(Path(handler.root)) or not self.holds(handler):
            self._set_watch(handler.root)
            for other in self._handlers:
                if other.root == handler.root and other is not handler:
                    other.put(EVERYTHING)
        elif self._observer is not None:
            self._observer.add_handler_for_watch(handler, watch.observed)
            # A directory that all earlier handlers ignore has no watch yet, so `complete` sets it.
            getattr(emitter, "complete", lambda: None)()

    def _set_watch(self, root: str) -> None:
        """Set a new watch for all handlers of a root."""
        if self._observer is None:
            return
        old = self._watches.pop(root, None)
        if old is not None:
            self._observer.unschedule(old.observed)
        identity = root_identity(Path(root))
        for handler in [handler for handler in self._handlers if handler.root == root]:
            observed = self._observer.schedule(handler, root, recursive=True, event_filter=EVENTS)
            self._watches[root] = _Watch(observed, identity)

    def _emitter(self, root: str) -> EventEmitter | None:
        watch = self._watches.get(root)
        if watch is None or self._observer is None:
            return None
        return next((emitter for emitter in self._observer.emitters if emitter.watch == watch.observed), None)

    def _rebuild(self) -> None:
        # The old watches are removed first, because old and new watches together may exceed the limit. The hint
        # EVERYTHING covers the changes in between.
        self._drop_observer()
        try:
            self._observer = self._new_observer()
        except OSError as error:
            _log.warning("watch.rebuild_failed", error=str(error))
        for root in dict.fromkeys(handler.root for handler in self._handlers):
            try:
                self._set_watch(root)
            except OSError as error:
                _log.warning("watch.root_failed", root=root, error=str(error))
        for handler in self._handlers:
            handler.put(EVERYTHING)
        _log.info("watch.rebuilt", roots=len(self._watches))

    def _drop_observer(self) -> None:
        observer, self._observer, self._probe = self._observer, None, None
        self._watches.clear()
        if observer is not None:
            observer.stop()
            observer.join()

    def _new_observer(self) -> BaseObserver:
        if sys.platform == "linux":
            from syncd.watch.inotify import Descriptor, InotifyObserver

            observer: BaseObserver = InotifyObserver(Descriptor(self._on_overflow, self._on_refused, self._is_wanted))
        else:
            observer = Observer()
        observer.start()
        return observer

    def _send_probe(self, observer: BaseObserver) -> _Probe:
        probe = _Probe(time.monotonic())
        watch = ObservedWatch(os.devnull, recursive=False)
        # add_handler_for_watch would wait for a lock that a stuck dispatcher holds.
        observer._handlers[watch] = {probe}  # noqa: SLF001
        observer.event_queue.put((FileSystemEvent(str(probe.sent_at)), watch))
        return probe

    def _on_overflow(self) -> None:
        if not self._overflowed:
            self._overflowed = True
            self.overflows += 1
            _log.warning("watch.overflow", count=self.overflows)

    def _on_refused(self, path: str) -> None:
        for handler in tuple(self._handlers):
            if path == handler.root or path.startswith(handler.root.rstrip("/") + "/"):
                handler.refuse()

    def _is_wanted(self, root: str, path: str) -> bool:
        """Return whether a handler of the root does not ignore a directory."""
        handlers = [handler for handler in tuple(self._handlers) if handler.root == root]
        return not handlers or not all(handler.ignores(path, directory=True) for handler in handlers)

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        """Note for `alive` that watches are changed within the block, so that no thread answers a probe."""
        self._busy_since = time.monotonic()
        try:
            yield
        finally:
            self._probe = self._busy_since = None


def _probe_reader(observer: BaseObserver, answered: threading.Event) -> None:
    descriptor = getattr(observer, "descriptor", None)
    if descriptor is None:
        answered.set()
    else:
        descriptor.probe(answered)


def _running(observer: BaseObserver) -> bool:
    descriptor = getattr(observer, "descriptor", None)
    if not observer.is_alive() or (descriptor is not None and not descriptor.is_alive()):
        return False
    # An emitter that was stopped belongs to a root that does not exist any more.
    return all(emitter.is_alive() or not emitter.should_keep_running() for emitter in tuple(observer.emitters))
