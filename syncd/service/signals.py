"""Ends every command soon after SIGINT or SIGTERM, also as PID 1 and while the main thread hangs in a call.

A process with PID 1 gets no signal for which it has no handler, and Python runs a handler only when the main thread
returns from its current call. So the handlers are installed at the start, and a thread reads the signals from a pipe.
"""

import _thread
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

GRACE_S = 4.0
"""The process exits this long after a signal, even if a call still hangs, for example on a dead network mount."""
PRINT_S = 0.5
"""Maximum seconds that the last message of such an exit takes."""
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal has arrived. This is no KeyboardInterrupt, because some libraries handle that exception."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _State:
    """The signals of this process."""

    def __init__(self) -> None:
        self.installed = False
        self.received: list[int] = []
        self.raised: Interrupted | None = None
        self.action: Callable[[int], object] | None = None
        self.print_line: Callable[[str], object] = lambda _: None
        self.describe: Callable[[], str] = lambda: "nothing was changed"
        self.exit_codes: dict[int, int] = {}
        self.acted = threading.Lock()
        self.reported = threading.Lock()


_state = _State()


def install(print_line: Callable[[str], object]) -> None:
    """Install the handlers. Call it in the main thread. print_line: prints the message of an interruption."""
    if _state.installed:
        return
    _state.installed, _state.print_line = True, print_line
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _on_signal)
    threading.Thread(target=_watch, args=(reader,), name="syncd-signals", daemon=True).start()
    sys.unraisablehook = _keep_quiet(sys.unraisablehook)


def _keep_quiet(report_other: Callable[[Any], object]) -> Callable[[Any], None]:
    """Return a hook that prints no traceback if Interrupted was raised where no code can catch it.

    Finalizers and callbacks of weak references are such places. The thread then ends the process after GRACE_S.
    """

    def hook(unraisable: Any) -> None:
        if not isinstance(unraisable.exc_value, Interrupted):
            report_other(unraisable)

    return hook


def describe_with(describe: Callable[[], str]) -> None:
    """Set the function that describes the work done before a signal. It is called in another thread."""
    _state.describe = describe


def end_cleanly_on_sigterm() -> None:
    """Make SIGTERM a clean end, for commands that work until they are stopped."""
    _state.exit_codes = {signal.SIGTERM: 0}


@contextmanager
def calling(action: Callable[[int], object]) -> Iterator[None]:
    """Within the block, the first signal calls `action`, in any thread, and does not raise Interrupted."""
    before, _state.action = _state.action, action
    try:
        yield
    finally:
        _state.action = before


def received() -> int | None:
    """Return the first signal that arrived, None if none has."""
    return _state.received[0] if _state.received else None


@contextmanager
def unconverted() -> Iterator[None]:
    """Raise Interrupted again if the block made another exception from it.

    pydantic and Python 3.11 do so while they define a class, as during an import or the load of the config.
    """
    try:
        yield
    except Exception as error:
        if _state.raised:
            raise _state.raised from error
        raise


def report(number: int) -> int:
    """Print the work done before the signal, at the first call only. Return the exit code."""
    if _state.reported.acquire(blocking=False):
        _state.print_line(f"interrupted by {signal.Signals(number).name}; {_state.describe()}")
    return exit_code(number)


def exit_code(number: int) -> int:
    """Return the exit code of a process that a signal ends."""
    return _state.exit_codes.get(number, 128 + number)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    _state.received.append(number)
    if len(_state.received) > 1:
        # The thread handles a second signal.
        return
    if not _call_action(number):
        _state.raised = Interrupted(number)
        raise _state.raised


def _call_action(number: int) -> bool:
    """Call the action of the first signal once, from the handler or the thread. Return whether an action is set."""
    action = _state.action
    if action is None:
        return False
    if _state.acted.acquire(blocking=False):
        # The event loop that the action calls may be closed already.
        with suppress(RuntimeError):
            action(number)
    return True


def _watch(reader: int) -> None:
    """End the process GRACE_S after the first signal, and at once after a second one."""
    number = _read_signal(reader, None)
    if number is not None:
        # An event loop that has just begun to wait would not notice the call of the handler.
        _call_action(number)
        _read_signal(reader, time.monotonic() + GRACE_S)
        # The stream of the message may hang too, or another thread may hold its lock.
        printed = threading.Event()

        def print_report() -> None:
            report(number)
            printed.set()

        # Without memory, Thread.start may wait forever for its thread.
        with suppress(RuntimeError):
            _thread.start_new_thread(print_report, ())
        printed.wait(PRINT_S)
        os._exit(exit_code(number))


def _read_signal(reader: int, end: float | None) -> int | None:
    """Wait for SIGINT or SIGTERM, until a time if one is given. Return the number of the signal."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while True:
        left_s = None if end is None else end - time.monotonic()
        if left_s is not None and left_s <= 0:
            return None
        if poll.poll(None if left_s is None else left_s * 1000):
            for number in os.read(reader, 1):
                if number in SIGNALS:
                    return number
