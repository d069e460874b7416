"""Bulk requests to their end: halved when too large, searched for what is refused, repeated for what failed."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar

from syncd.cloudflare.kv_bulk import VALUE_LIMIT, BulkBody, Pair
from syncd.cloudflare.kv_models import BulkResult
from syncd.core.errors import Halt, Park, Retry, SyncdError, TooMuch, Unreachable
from syncd.core.model import Delete, Put
from syncd.core.unexpected import unexpected_error
from syncd.targets.base import Done

BULK_PAIRS = 1000
"""Pairs of one bulk write. The API takes 10,000, but wrangler had time-outs at 5,000 (workers-sdk#7021)."""
BULK_BYTES = 90_000_000
"""Bytes of one bulk body; the API takes 100 MB, of what its own count may differ from ours."""
BULK_VALUE = VALUE_LIMIT // 4 * 3
"""Bytes of a value in a bulk body: by the API's schema its base64 may not be longer than a value (KV API)."""
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


@dataclass(frozen=True, slots=True)
class Job:
    """A value to write, but for the value: under which name, what is reported of it, and what goes with it.

    ttl: s, None for ever.
    """

    action: Put | Delete
    name: str
    done: Done
    marks: dict[str, Any]
    ttl: int | None


@dataclass(frozen=True, slots=True)
class Jobs:
    """A body under construction, and the job of each of its names."""

    body: BulkBody = field(default_factory=lambda: BulkBody(BULK_PAIRS, BULK_BYTES))
    of: dict[str, Job] = field(default_factory=dict)

    def add(self, job: Job, pair: Pair) -> bool:
        """Take a pair in, if it fits in beside the others and its name does not stand here already."""
        if not self.body.add(pair):
            return False
        self.of[job.name] = job
        return True

    def take(self, others: "Jobs") -> "Jobs":
        """Take in what fits of others; return the rest."""
        rest = Jobs()
        for pair in others.body.pairs:
            job = others.of[pair.key]
            if not self.add(job, pair):
                rest.add(job, pair)
        return rest


D = TypeVar("D", bound=Divisible)
Send = Callable[[D], Awaitable[BulkResult]]
Sleep = Callable[[float], Awaitable[None]]


class Unstored(Retry):
    """The remote named the key as unsuccessful."""


async def in_parts(whole: D, send: Send[D], sleep: Sleep, tries: int = TRIES) -> dict[str, SyncdError]:
    """Send all of it and return key -> error of what could not be done. Raises Halt and Unreachable only.

    tries: how often what the remote names as unsuccessful is sent, a second apart.
    """
    failed: dict[str, SyncdError] = {}
    waiting = [whole] if whole.keys else []
    while waiting:
        part = waiting.pop()
        try:
            left = await _insist(part, send, sleep, tries)
        except (Halt, Unreachable):
            raise
        except Exception as error:
            # Too much at once, or refused for the sake of one entry: which one, two halves will show.
            if len(part.keys) > 1 and (isinstance(error, Park) or not isinstance(error, SyncdError)):
                waiting += part.halves()
            elif isinstance(error, TooMuch):
                raise AssertionError("one entry is never too much") from error
            else:
                why = error if isinstance(error, SyncdError) else unexpected_error(error, part.keys[0])
                failed |= dict.fromkeys(part.keys, why)
        else:
            failed |= {key: Unstored("the remote did not store it in all places") for key in left}
    return failed


async def _insist(part: D, send: Send[D], sleep: Sleep, tries: int) -> tuple[str, ...]:
    """Send until the remote names no unsuccessful key of ours; return those it still names in the end."""
    for attempt in range(tries):
        if attempt:
            await sleep(TRY_AGAIN_S)
        unsuccessful = (await send(part)).unsuccessful_keys
        part = part.only(unsuccessful)
        if not part.keys:
            return ()
    return part.keys
