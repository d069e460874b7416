"""Many items in one request: cut in halves until it shows which of them is refused."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

from syncd.core.errors import Halt, Park, SyncdError, Unreachable

T = TypeVar("T")
R = TypeVar("R")


async def by_halves(
    items: Sequence[T], send: Callable[[Sequence[T]], Awaitable[R]]
) -> AsyncIterator[tuple[Sequence[T], R | SyncdError]]:
    """Send all items, and yield what came of each part of them. Raises Halt and Unreachable only.

    What is refused, or too much, is sent again in two halves, until it shows which single item it is refused for.
    """
    waiting = [items] if items else []
    while waiting:
        part = waiting.pop()
        try:
            answer = await send(part)
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            if len(part) > 1 and isinstance(error, Park):
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
            else:
                yield part, error
        else:
            yield part, answer
