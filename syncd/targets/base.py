"""What every target offers to reconcile, and what it is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from syncd.core.errors import ConfigError, SyncdError
from syncd.core.limits import Limits
from syncd.core.model import Content, Delete, Entry, IndexStatus, Put, Stored

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """The action succeeded; `stored` is given for a put. unchanged: the remote had these bytes, nothing was sent."""

    stored: Stored | None = None
    unchanged: bool = False


Outcome = Done | SyncdError
Fetched = bytes | SyncdError | None
"""The bytes of an entry; None: it is gone meanwhile; an error: this one cannot be read, the others can."""
Read = Callable[[Sequence[Put]], Awaitable[Sequence[Content | SyncdError]]]
"""Reads the file of each put once. Returns a content or an error for each put, in the same order.

Errors: `FileChanged` if the file changed while it was read, `Park` if it cannot be read or sent, or `Deferred`. The
target reports an error as the outcome of the put.
"""
Report = Callable[[Mapping[Put | Delete, Outcome]], None]
"""Records outcomes, all of one call in one transaction."""


@dataclass(frozen=True, slots=True)
class Removed:
    """An entry, or a part of one, that a target takes away beside what it was told to delete.

    kind: "replaced", "remainder" (of a put that failed) or "misnamed" (stored under another name than its own). why: in
    words, without an end.
    """

    key: str
    ref: str
    kind: str
    why: str


Noted = Callable[[Removed], None]
Noting = Callable[[Sequence[Removed]], AbstractContextManager[Noted]]
"""Opens the log of deletes for what is about to be taken away; what is entered is told to the function it gives.
Raises StateHalt before anything is taken away if there is no room for it."""


@contextmanager
def unnoted(removed: Sequence[Removed]) -> Iterator[Noted]:
    """Enter nothing: for a target that belongs to no mirror."""
    del removed
    yield lambda _: None


async def read_one(read: Read, put: Put) -> Content:
    """Read the file of one put. Raises the error that `read` returns."""
    [found] = await read([put])
    if isinstance(found, SyncdError):
        raise found
    return found


@dataclass(frozen=True, slots=True)
class Hit:
    """One piece of text that a search found, and the key it belongs to.

    score: 0 to 1, best first. heading: what the text stands under, title: what its file is called, if the target knows.
    """

    key: str
    score: float
    text: str
    heading: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """What could be better about a remote store, and how to mend it."""

    message: str
    remedy: str


class Store(Protocol):
    """A remote store of entries.

    The failure of one item is an outcome. Methods raise only errors that stop every item (Halt, Unreachable).
    unreadable_rows: messages about rows of the last listing that the target cannot decode.
    """

    limits: Limits

    @property
    def unreadable_rows(self) -> Sequence[str]: ...

    def log_removals(self, noting: Noting) -> None:
        """Set the log for entries that the target deletes in addition to the deletes of a plan."""
        ...

    def entries(self) -> AsyncIterator[Entry]:
        """Yield every entry under the mirror's prefix, of any owner and in any order."""
        ...

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Return one entry by ref, else by key, without a listing. None: the entry does not exist."""
        ...

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """Return the sha-256 of the stored content by any evidence, if necessary by a download. None: no such entry.

        content: the local file, by which the target recognises a checksum of the remote. A text that is no sha-256
        means that the stored content equals no file, such as one half of a content.
        """
        ...

    def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Yield the stored bytes of each entry once, in any order, and hold only a few of them at a time."""
        ...

    async def apply(self, batch: Sequence[Put | Delete], read: Read, report: Report) -> None:
        """Apply a batch, and report the outcome of each action exactly once, except after a cancellation."""
        ...

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """Estimate the requests for so many actions. size: bytes of the puts, None if it is unknown."""
        ...

    async def aclose(self) -> None:
        """Release the resources of the target, except for the transport, which targets share."""
        ...


@runtime_checkable
class Indexed(Protocol):
    """A target that indexes stored entries later than it stores them."""

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Mapping[str, Entry | None]:
        """Return the present entries of these refs, None for a deleted entry. A ref without certain answer is absent.

        fresh: the refs of recent writes, which a listing may not show yet.
        """
        ...

    async def why(self, ref: str) -> str | None:
        """Return the remote's own reason for a failed indexing, in one line. None: the remote gives no reason."""
        ...

    async def reindex(self, key: str, ref: str) -> IndexStatus:
        """Index the stored bytes of an entry again, without an upload. Raises NotFound if the entry does not exist."""
        ...

    async def counts(self) -> dict[IndexStatus, int] | None:
        """Return the number of entries of each index status, of all owners. None: the remote does not give numbers."""
        ...


@runtime_checkable
class Searchable(Protocol):
    """A target with a search."""

    async def search(self, query: str, limit: int, folder: str = "") -> Sequence[Hit]:
        """Return at most `limit` hits. folder: "" or the start of their keys, which ends with "/"."""
        ...


class Managed(Protocol):
    """A target whose remote store syncd can check and create."""

    async def check(self) -> str:
        """Return one line that confirms the remote store. Raises Halt with the remedy if syncd cannot use the store."""
        ...

    async def advice(self) -> Sequence[Advice]:
        """Return possible improvements that are no errors."""
        ...

    async def create(self) -> None:
        """Create the remote store if it does not exist."""
        ...


class Target(Store, Managed, Protocol):
    """A target of a mirror. It may also be Indexed, Ordered or Searchable."""


class Newest(NamedTuple):
    """One row of the newest entries, whoever's.

    made: when it came to be, seconds since the epoch by the remote's clock, None if it does not say. there: it is an
    entry of the kind that we write, and stays.
    """

    entry: Entry
    made: float | None
    there: bool = True


class NewestPage(NamedTuple):
    """Some rows, the latest changed first. total: of all there are when this page was made; None: it does not say."""

    rows: Sequence[Newest]
    total: int | None


class Landmark(NamedTuple):
    """What a listing came to. rows: of everybody, outside of the prefix too. newest: the latest `made` of them, 0 if
    there is none, None if one does not say.
    """

    rows: int
    newest: float | None


@runtime_checkable
class Ordered(Indexed, Protocol):
    """A target that lists the latest changes first: see sync/audit.py.

    landmark: of the last `entries`, None if the listing may have missed rows.
    """

    @property
    def landmark(self) -> Landmark | None: ...

    def newest(self) -> AsyncIterator[NewestPage]:
        """Yield all rows page by page, the latest change first."""
        ...


def searchable(target: Store) -> Searchable:
    """Return the target for a search. Raises ConfigError if the target has no search."""
    if not isinstance(target, Searchable):
        raise ConfigError("Workers KV has no search; ask a mirror of AI Search or Vectorize instead")
    return target


@asynccontextmanager
async def crew() -> AsyncIterator[asyncio.TaskGroup]:
    """A group of tasks. The first error ends the rest and is raised as it is, not within a group."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as errors:
        # Before Python 3.13 the group leaves its own request to cancel behind. asyncio.timeout of 3.11.2 and older
        # takes it for one from outside: each later wait that runs out would end the daemon.
        while task and task.cancelling() > before:
            task.uncancel()
        raise errors.exceptions[0] from None


async def each(items: Sequence[T], work: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """Await `work` for every item, at most `concurrency` at a time. The first error ends the rest and is raised."""
    waiting = iter(items)

    async def worker() -> None:
        for item in waiting:
            await work(item)

    async with crew() as group:
        for _ in range(min(concurrency, len(items))):
            group.create_task(worker())
