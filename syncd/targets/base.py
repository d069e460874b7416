"""The protocols of a target, the values that they exchange, and helpers for many requests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from syncd.core.errors import ConfigError, Halt, Park, SyncdError, Unreachable
from syncd.core.model import Content, Delete, Entry, IndexStatus, Put, Stored
from syncd.core.probe_answers import ProbeAnswers
from syncd.core.problems import Limits
from syncd.core.requests import current_priority, requests_at

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Done:
    """The action succeeded.

    stored: the facts about the entry, for a put only. unchanged: the remote already had these bytes.
    """

    stored: Stored | None = None
    unchanged: bool = False


Outcome = Done | SyncdError
Fetched = bytes | SyncdError | None
"""The bytes of an entry, None if the entry no longer exists, or the error that concerns this entry alone."""
ReadContents = Callable[[Sequence[Put]], Awaitable[Sequence[Content | SyncdError]]]
"""Reads the file of each put once. Returns a content or an error for each put, in the same order.

Errors: `FileChanged` if the file changed while it was read, `Park` if it cannot be read or sent, or `Deferred`. The
target reports an error as the outcome of the put.
"""
ReportOutcomes = Callable[[Mapping[Put | Delete, Outcome]], None]
"""Records the outcomes of one call in one transaction."""


@dataclass(frozen=True, slots=True)
class Removed:
    """An entry, or a part of one, that a target deletes in addition to the deletes of a plan.

    kind: "replaced", "remainder" (of a failed put), "misnamed" (the remote stored a put under a wrong name) or
    "leftover" (of a probe).
    why: the reason, as part of a sentence without a full stop.
    """

    key: str
    ref: str
    kind: str
    why: str


LogRemoval = Callable[[Removed], None]
OpenRemovalLog = Callable[[Sequence[Removed]], AbstractContextManager[LogRemoval]]
"""Opens the log of deletes for the given removals and returns the function that records each of them.

Raises StateHalt before anything is deleted, if the disk has no room for the log.
"""


@contextmanager
def no_removal_log(removed: Sequence[Removed]) -> Iterator[LogRemoval]:
    """Log nothing, for a target that only searches."""
    del removed
    yield lambda _: None


@dataclass(frozen=True, slots=True)
class MirrorRecords:
    """The records of a mirror that its target uses.

    recorded: the keys of the journal. walked: the keys of the folder, a slow walk. open_log: opens the log for entries
    that the target deletes in addition to the deletes of a plan.
    """

    recorded: Callable[[], Iterable[str]] = tuple
    walked: Callable[[], Iterable[str]] = tuple
    open_log: OpenRemovalLog = no_removal_log


@dataclass(frozen=True, slots=True)
class WritePolicy:
    """The marks of the entries that a mirror writes, and the entries that it may replace.

    takeover: the mirror may replace entries of other owners. fields: the source of each metadata field besides the
    marks (see text/documents.py).
    """

    owner: str
    prefix: str = ""
    takeover: bool = False
    fields: Mapping[str, str] = field(default_factory=dict)


async def read_one(read: ReadContents, put: Put) -> Content:
    """Read the file of one put. Raises the error that `read` returns."""
    [content] = await read([put])
    if isinstance(content, SyncdError):
        raise content
    return content


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk of text that a search found.

    key: the key of its file. score: 0 to 1, 1 is the best. heading: the headings above the text. title: the title of
    its file. heading and title are "" if the target does not know them.
    """

    key: str
    score: float
    text: str
    heading: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Advice:
    """A remark about a remote store. remedy: the way to improve it, None if it is as it should be.

    about: the subject, such as settings.
    """

    message: str
    remedy: str | None
    about: str = "metadata"


@dataclass(frozen=True, slots=True)
class Usage:
    """The use of one kind of thing, such as instances, whose number a plan limits.

    what: the kind, in the plural. used: None if the number is unknown. free, paid: the most on each plan, None for no
    limit. to_come: the number that the next pass adds. per: each new file, or each put, of the pass adds one more.
    of_account: a number of the whole account, which is reported once for all mirrors of a kind.
    """

    what: str
    used: int | None
    free: int | None
    paid: int | None
    to_come: int = 0
    per: Literal["file", "put"] | None = None
    of_account: bool = False


class Store(Protocol):
    """A remote store of entries.

    The failure of one item is an outcome. Methods raise only errors that stop every item (Halt, Unreachable).
    unreadable_rows: messages about rows of the last listing that the target cannot decode.
    """

    @property
    def limits(self) -> Limits: ...

    @property
    def unreadable_rows(self) -> Sequence[str]: ...

    def entries(self) -> AsyncIterator[Entry]:
        """Yield every entry under the mirror's prefix, of any owner and in any order."""
        ...

    async def confirm(self, key: str, ref: str | None) -> Entry | None:
        """Return one entry by ref, else by key, without a listing. None: the entry does not exist."""
        ...

    async def checksum(self, entry: Entry, content: Content | None) -> str | None:
        """Return the sha-256 of the stored content by any evidence, if necessary by a download. None: no entry found.

        content: the local file, by which the target recognises a checksum of the remote. A text that is no sha-256
        means that the stored content equals no file, such as one half of a content.
        """
        ...

    def fetch(self, entries: Sequence[Entry]) -> AsyncIterator[tuple[Entry, Fetched]]:
        """Yield the stored bytes of each entry once, in any order, and hold only a few of them at a time."""
        ...

    async def apply(self, batch: Sequence[Put | Delete], read: ReadContents, report: ReportOutcomes) -> None:
        """Apply a batch, and report the outcome of each action exactly once, except after a cancellation."""
        ...

    def requests(self, puts: int, deletes: int, size: int | None = None) -> int:
        """Estimate the requests for so many actions. size: bytes of the puts, None if it is unknown."""
        ...


@runtime_checkable
class Indexed(Protocol):
    """A target that indexes stored entries later than it stores them."""

    async def statuses(self, refs: frozenset[str], fresh: frozenset[str] = frozenset()) -> Mapping[str, Entry | None]:
        """Return the present entries of these refs, None for a deleted entry.

        A ref is left out if its entry is uncertain.

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

    async def search(
        self, query: str, limit: int, folder: str = "", filters: Mapping[str, Any] | None = None
    ) -> Sequence[Hit]:
        """Return at most `limit` hits. folder: the beginning of their keys: a folder and "/", a prefix, or "".

        filters: conditions on metadata, in the syntax of Vectorize, which AI Search shares.
        """
        ...


class Managed(Protocol):
    """A target whose remote store syncd can check and create."""

    async def usage(self, *, account: bool) -> Sequence[Usage]:
        """Return how much of the plan's ceilings is used, also of a store that does not exist yet.

        account: whether to count the stores of the account, too. They are always counted if the store is missing.
        """
        ...

    async def check(self) -> str:
        """Return one line that confirms the remote store. Raises Halt with the remedy if syncd cannot use the store."""
        ...

    async def advice(self) -> Sequence[Advice]:
        """Return possible improvements, which are no errors, and the settings that are as in the config."""
        ...

    async def create(self) -> None:
        """Create the remote store if it does not exist."""
        ...


class Target(Store, Managed, Protocol):
    """A target of a mirror. It may also be Indexed, Ordered or Searchable."""


class Newest(NamedTuple):
    """One row of a listing that begins with the latest change. The entry may belong to any owner.

    created_at: the creation time by the remote's clock, seconds since the epoch, None if the remote does not give it.
    present: False for an entry that is being deleted, or that is not an uploaded one.
    """

    entry: Entry
    created_at: float | None
    present: bool = True


class NewestPage(NamedTuple):
    """One page of rows. total: the number of all rows at the time of the page, None if the remote does not give it."""

    rows: Sequence[Newest]
    total: int | None


class Landmark(NamedTuple):
    """The summary of a complete listing.

    rows: the number of rows of all owners and prefixes. newest: the latest `created_at` of the rows, 0 without rows,
    None if a row has none.
    """

    rows: int
    newest: float | None


@runtime_checkable
class Ordered(Indexed, Protocol):
    """A target that lists the latest changes first (see sync/audit.py).

    landmark: the summary of the last `entries`, None if that listing may have missed rows.
    """

    @property
    def landmark(self) -> Landmark | None: ...

    def newest(self) -> AsyncIterator[NewestPage]:
        """Yield all rows page by page, the latest change first."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """The findings of a probe.

    requests: its number of requests. removed: the throw-away items of earlier probes that it deleted. notes: the
    reasons why answers are still unknown. seconds: its duration.
    """

    answers: ProbeAnswers
    requests: int
    removed: int = 0
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


@runtime_checkable
class Probed(Protocol):
    """A target with answers that are undocumented, so that a probe can find them out."""

    async def probe(self) -> Probe:
        """Learn how the remote answers, with throw-away items. Raises Halt or Unreachable if it does not answer."""
        ...

    async def remove_leftovers(self, now: float) -> int:
        """Delete throw-away items of killed probes that the last listing showed. Return their number.

        now: seconds since the epoch. An item that a probe may need right now stays.
        """
        ...


def searchable(target: Store) -> Searchable:
    """Return the target for a search. Raises ConfigError if the target has no search."""
    if not isinstance(target, Searchable):
        raise ConfigError("Workers KV has no search; ask a mirror of AI Search or Vectorize instead")
    return target


# -- many requests


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a group of tasks. The first error cancels the other tasks and is raised itself, not within a group."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except ExceptionGroup as errors:
        # Before Python 3.13 the group does not withdraw its own request to cancel. asyncio.timeout of Python 3.11.2
        # and older takes that request for one from outside, so every later timeout would end the daemon.
        while task and task.cancelling() > before:
            task.uncancel()
        raise errors.exceptions[0] from None


async def for_each(items: Sequence[T], work: Callable[[T], Awaitable[None]], concurrency: int) -> None:
    """Await `work` for every item, at most `concurrency` at a time. Raises the first error and cancels the others."""
    waiting = iter(items)

    async def worker() -> None:
        priority = current_priority()
        for item in waiting:
            # A request that changes the remote may change the priority, which concerns its own item only.
            with requests_at(priority):
                await work(item)

    async with task_group() as group:
        for _ in range(min(concurrency, len(items))):
            group.create_task(worker())


def in_groups(items: Iterable[T], size_of: Callable[[T], int], most: int, most_size: int) -> Iterator[list[T]]:
    """Yield groups of at most `most` items whose sizes are at most `most_size` together. A larger item comes alone."""
    group: list[T] = []
    size = 0
    for item in items:
        if group and (len(group) == most or size + size_of(item) > most_size):
            yield group
            group, size = [], 0
        group.append(item)
        size += size_of(item)
    if group:
        yield group


async def in_halves(
    items: Sequence[T],
    send: Callable[[Sequence[T]], Awaitable[R]],
    *,
    refused: type[Park] = Park,
    unexpected: Callable[[Exception, T], SyncdError] | None = None,
) -> AsyncIterator[tuple[Sequence[T], R | SyncdError]]:
    """Send all items, and yield each part with its answer or its error. Raises Halt and Unreachable.

    A part that fails with `refused` is sent again in two halves, until the error concerns a single item. unexpected:
    makes the error of a single item from an exception of another kind; None: such an exception is raised at once.
    """
    waiting = [items] if items else []
    while waiting:
        part = waiting.pop()
        try:
            answer = await send(part)
        except (Halt, Unreachable):
            raise
        except Exception as error:
            known = isinstance(error, SyncdError)
            if not known and unexpected is None:
                raise
            if len(part) > 1 and (isinstance(error, refused) or not known):
                middle = len(part) // 2
                waiting += [part[middle:], part[:middle]]
            elif isinstance(error, SyncdError):
                yield part, error
            elif unexpected is not None:
                yield part, unexpected(error, part[0])
        else:
            yield part, answer
