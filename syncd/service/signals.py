"""SIGINT and SIGTERM: every command ends soon after one, also as PID 1 and while its main thread hangs in a call.

A process with PID 1 gets no signal that it has no handler for, and Python runs a handler only when the main thread
comes back from what it called. So there are handlers from the start, and a thread that hears of signals by a pipe.
"""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

GRACE_S = 4.0
"""A signal ends every command within 5 s (contract). What hangs by then, as on a dead network mount, is left behind."""
SAY_S = 0.5
"""How long the last resort takes to say so."""
ENDING = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """One of the two signals has come. No KeyboardInterrupt: libraries have their own answers to that."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Process:
    """What this process knows of its signals; there is one for each process, as there is of them."""

    def __init__(self) -> None:
        self.caught = False
        self.received: list[int] = []
        self.act: Callable[[int], object] | None = None
        self.say: Callable[[str], object] = lambda _: None
        self.told: Callable[[], str] = lambda: "nothing was changed"
        self.codes: dict[int, int] = {}
        self.acted = threading.Lock()
        self.said = threading.Lock()


_process = _Process()


def catch(say: Callable[[str], object]) -> None:
    """Take both signals, for the main thread, once. say: writes the line that says what was done."""
    if _process.caught:
        return
    _process.caught, _process.say = True, say
    heard, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    for number in ENDING:
        signal.signal(number, _come)
    threading.Thread(target=_last_resort, args=(heard,), name="syncd-signals", daemon=True).start()


def tell(told: Callable[[], str]) -> None:
    """From now on, say this of what was done when a signal comes. It is called in another thread."""
    _process.told = told


def serve() -> None:
    """From now on, an end by SIGTERM is a clean one: what serves until it is stopped has done its work."""
    _process.codes = {signal.SIGTERM: 0}


@contextmanager
def acting(act: Callable[[int], object]) -> Iterator[None]:
    """Let a signal call `act` from any thread, in place of raising Interrupted."""
    before, _process.act = _process.act, act
    try:
        yield
    finally:
        _process.act = before


def received() -> int | None:
    """Return the signal that has come first, None if none has."""
    return _process.received[0] if _process.received else None


def ended(number: int) -> int:
    """Say once what was done, and return the exit code."""
    if _process.said.acquire(blocking=False):
        _process.say(f"interrupted by {signal.Signals(number).name}; {_process.told()}")
    return code(number)


def code(number: int) -> int:
    """Return the exit code of an end by a signal."""
    return _process.codes.get(number, 128 + number)


def _come(number: int, frame: FrameType | None) -> None:
    del frame
    _process.received.append(number)
    if len(_process.received) > 1:
        # The thread answers it: the first one is under way.
        return
    if not _acted(number):
        raise Interrupted(number)


def _acted(number: int) -> bool:
    """Call what acts on the first signal, if there is anything; from the handler or the thread, whichever is sooner."""
    act = _process.act
    if act is None:
        return False
    if _process.acted.acquire(blocking=False):
        # A loop that is closed has come to its end by itself.
        with suppress(RuntimeError):
            act(number)
    return True


def _last_resort(heard: int) -> None:
    """End the process some time after the first signal, and at once after a second one."""
    number = _next(heard, None)
    if number is not None:
        # A loop that had just gone to sleep would not see the handler's call before something else wakes it.
        _acted(number)
        _next(heard, time.monotonic() + GRACE_S)
        # The stream that it says it on may be what hangs, or be held by who does.
        saying = threading.Thread(target=ended, args=(number,), daemon=True)
        saying.start()
        saying.join(SAY_S)
        os._exit(code(number))


def _next(heard: int, end: float | None) -> int | None:
    """Wait for one of the two signals, until a moment if one is given."""
    waiting = select.poll()
    waiting.register(heard, select.POLLIN)
    while True:
        left_s = None if end is None else end - time.monotonic()
        if left_s is not None and left_s <= 0:
            return None
        if waiting.poll(None if left_s is None else left_s * 1000):
            for number in os.read(heard, 1):
                if number in ENDING:
                    return number
