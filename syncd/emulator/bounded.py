"""Searches with a regular expression that somebody typed, for at most a second: some take years on some keys."""

import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType

import structlog

log = structlog.get_logger()

LONGEST_S = 1.0


def found(expression: str, key: str) -> bool:
    """Return whether an expression is found in a key. One that takes too long is not, and is logged."""
    try:
        with _alarm(LONGEST_S):
            return _pattern(expression).search(key) is not None
    except TimeoutError:
        log.warning(
            "emulator.expression_slow", expression=expression, key=key, remedy="write it without nested repeats"
        )
        return False


@lru_cache(maxsize=8)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after so many seconds, but only in the main thread, where `syncd emulate` serves."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    others = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *others)
        signal.signal(signal.SIGALRM, before)
