"""Bulk requests to their end: halved when too large, searched for what is refused, repeated for what failed."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from syncd.cloudflare.kv_values import BulkResult
from syncd.errors import Halt, Park, Retry, SyncdError, TooMuch, Unreachable

TRIES = 6
"""How often keys are sent that the remote names as unsuccessful; what is left then waits in the queue."""
TRY_AGAIN_S = 1.0
"""Between two of these: one write per second to one key (KV limits)."""


class Divisible(Protocol):
    """Many entries in one request."""

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in it."""
        ...

    def halves(self) -> tuple[Self, Self]:
        """Two of half the size."""
        ...

    def only(self, keys: Sequence[str]) -> Self:
        """One with the named keys alone."""
        ...


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys to delete: a bulk request without values."""

    keys: tuple[str, ...]

    def halves(self) -> tuple["Keys", "Keys"]:
        """Two of half the size."""
        middle = len(self.keys) // 2
        return Keys(self.keys[:middle]), Keys(self.keys[middle:])

    def only(self, keys: Sequence[str]) -> "Keys":
        """One with the named keys alone."""
        wanted = frozenset(keys)
        return Keys(tuple(key for key in self.keys if key in wanted))


D = TypeVar("D", bound=Divisible)
Send = Callable[[D], Awaitable[BulkResult]]
Sleep = Callable[[float], Awaitable[None]]


async def in_parts(whole: D, send: Send[D], sleep: Sleep) -> dict[str, SyncdError]:
    """Send all of it and return key -> error of what could not be done. Raises Halt and Unreachable only."""
    failed: dict[str, SyncdError] = {}
    waiting = [whole] if whole.keys else []
    while waiting:
        part = waiting.pop()
        try:
            left = await _insist(part, send, sleep)
        except (Halt, Unreachable):
            raise
        except SyncdError as error:
            # Too much at once, or refused for the sake of one entry: which one, two halves will show.
            if len(part.keys) > 1 and isinstance(error, Park):
                waiting += part.halves()
            elif isinstance(error, TooMuch):
                raise AssertionError("one entry is never too much") from error
            else:
                failed |= dict.fromkeys(part.keys, error)
        else:
            failed |= {key: Retry("the remote did not store it in all places") for key in left}
    return failed


async def _insist(part: D, send: Send[D], sleep: Sleep) -> tuple[str, ...]:
    """Send until the remote names no unsuccessful key of ours; return those it still names in the end."""
    for attempt in range(TRIES):
        if attempt:
            await sleep(TRY_AGAIN_S)
        unsuccessful = (await send(part)).unsuccessful_keys
        part = part.only(unsuccessful)
        if not part.keys:
            return ()
    return part.keys
