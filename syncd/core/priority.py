"""The priority of the requests that the current task makes.

A context variable carries it, so that targets and clients need no parameter for it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Priority:
    """The priority of requests.

    bulk: the requests of a full pass of the daemon, which leave a part of the budget to edits.
    gives_way: returns whether the caller would rather be interrupted than wait for the budget. The gate then raises
    Deferred, until the task has changed something.
    left: returns the number of requests that the pass still needs. If all fit into the window, edits get less of it.
    """

    bulk: bool = False
    gives_way: Callable[[], bool] | None = None
    left: Callable[[], int] | None = None


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
    """Note that a request of the current task changes the remote: the requests that follow it give way no more."""
    if _current.get().gives_way:
        _current.set(replace(_current.get(), gives_way=None))
