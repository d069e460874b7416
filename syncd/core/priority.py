"""The priority of the requests that the current task makes.

A context variable carries it, so that targets and clients need no parameter for it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Priority:
    """The priority of requests.

    bulk: the requests of a full pass of the daemon, which leave a part of the budget to edits. gives_way: returns
    whether the gate should raise Deferred and not let the caller wait for the budget. After the task has changed
    something, the gate no longer asks. left: returns the number of requests that the pass still needs. If all of them
    fit into the window of the budget, a smaller part of the window is kept for edits. longest_wait_s: a request that
    the remote asks to wait longer, while other requests go on, is given up; its key is tried again at that time.
    """

    bulk: bool = False
    gives_way: Callable[[], bool] | None = None
    left: Callable[[], int] | None = None
    longest_wait_s: float = math.inf


_EDIT = Priority()
_current: ContextVar[Priority] = ContextVar("priority", default=_EDIT)


def current() -> Priority:
    """Return the priority of the current task."""
    return _current.get()


@contextmanager
def requests_at(priority: Priority) -> Iterator[None]:
    """Give the requests of this block, and of the tasks that it starts, a priority."""
    token = _current.set(priority)
    try:
        yield
    finally:
        _current.reset(token)


def has_changed_something() -> None:
    """Note that a request of the current task changes the remote. Later requests of the task do not give way."""
    if _current.get().gives_way:
        _current.set(replace(_current.get(), gives_way=None))
