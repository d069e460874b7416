"""Keeps one mirror in step: one serial loop that decides when to make a pass, and of which keys."""

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterable

import structlog

from syncd.cloudflare.gate import Gate
from syncd.core.errors import Brake, Retry, StateDamaged, StateHalt, SyncdError, Unexpected
from syncd.core.keys import normal
from syncd.core.model import Hint
from syncd.queries.forecast import per_second
from syncd.service.error_policy import ErrorPolicy
from syncd.service.mirror_status import MirrorStatus
from syncd.state.db import directory_of
from syncd.state.directory import FILE_NAME, writable
from syncd.state.queue import Dirty
from syncd.sync import index
from syncd.sync.mirror import Hooks, Mirror, PassOptions, Preemption, Result, Scope
from syncd.sync.observe import ScopeTooLarge
from syncd.sync.reconcile import reconcile

log = structlog.get_logger()

STALL_S = 900.0
"""A loop counts as stuck if it has neither finished a step nor waited for its next one for so long."""
PENDING_CHECK_S = 0.05
PENDING_CHECK_SHARE = 20
"""A long pass looks for pending changes after PENDING_CHECK_S, or this many times as long as the last look took."""
FOLDER_PAUSE_S = 10.0
"""Minimum seconds between two full passes of a halted mirror whose folder changes."""


def seconds_until_due(now: float, full_at: float, keys_at: float, index_at: float, retry_at: float) -> float:
    """Return how long the loop waits: until a full pass, keys or the index are due, but not before retry_at."""
    return max(min(full_at, keys_at, index_at), retry_at) - now


class PendingCheck:
    """Returns whether changes wait to be served. Cheap enough to be called before every upload."""

    def __init__(self, is_pending: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._is_pending = is_pending
        self._clock = clock
        self._pending = False
        self._next_at = 0.0

    def __call__(self) -> bool:
        """Return the last result, or look again after a while. A look takes long if many keys wait."""
        now = self._clock()
        if now >= self._next_at:
            self._pending = self._is_pending()
            ended = self._clock()
            self._next_at = ended + max(PENDING_CHECK_S, PENDING_CHECK_SHARE * (ended - now))
        return self._pending

    def reset(self) -> None:
        """Note that all changes are served."""
        self._pending, self._next_at = False, self._clock() + PENDING_CHECK_S


class IndexFollowup:
    """Polls the index for entries that are not searchable yet: soon after a pass, then less and less often.

    due_at: the time of the next poll, math.inf if every entry is searchable.
    """

    def __init__(self, mirror: Mirror, clock: Callable[[], float]) -> None:
        self._mirror = mirror
        self._clock = clock
        self._polls = 0
        self._poll_at = math.inf
        self._rest_until = 0.0

    @property
    def due_at(self) -> float:
        """The time of the next poll."""
        return max(self._poll_at, self._rest_until)

    def start_over(self, *, keep_pauses: bool) -> None:
        """Poll soon after a pass. keep_pauses: the pass wrote nothing, so a planned poll keeps its time."""
        if not keep_pauses or math.isinf(self._poll_at):
            self._polls = 0
            self._poll_at = self._clock() + index.pause_s(0)

    def expect(self) -> None:
        """Plan a poll within a minute, if none is planned."""
        if math.isinf(self._poll_at):
            self._poll_at = self._clock() + index.LONGEST_POLL_S

    def make_due(self) -> None:
        """Poll at once."""
        self._poll_at = self._rest_until = self._clock()

    async def run(self) -> None:
        """Poll if it is time, and plan the next poll. Polls take at most a tenth of the time."""
        began = self._clock()
        if began < self.due_at:
            return
        pause = await index.follow_up(self._mirror, index.pause_s(self._polls))
        now = self._clock()
        self._rest_until = now + index.rest_s(now - began)
        self._poll_at = math.inf if pause is None else now + pause
        self._polls += 1


class MirrorWorker:
    """The loop of one mirror. interval: seconds between full passes.

    full_at: the time of the next full pass, math.inf if none is planned. Its own clock is the loop's.
    """

    def __init__(self, mirror: Mirror, interval: float, gate: Gate) -> None:
        self.mirror = mirror
        self.status = MirrorStatus(mirror, per_second(gate.tpslimit, gate.transfers))
        halted = self.status.state == "halted"
        self.policy = ErrorPolicy(interval, halted=halted, refused=mirror.absences.count() > 0)
        self.full_at = math.inf
        self._clock = asyncio.get_running_loop().time
        self.index = IndexFollowup(mirror, self._clock)
        self._interval = interval
        self._gate = gate
        self._wake = asyncio.Event()
        self._moved_at = self._clock()
        self._options = PassOptions(delete_after=mirror.settings.delete_after)
        self._result: Result | None = None
        self._has_pending = PendingCheck(lambda: mirror.queue.next_due(mirror.now()) == 0.0, self._clock)

    # -- called by others

    def hint(self, hints: Iterable[Hint]) -> None:
        """Mark where something happened. A hint on the whole root plans a full pass."""
        keys = []
        prefix = self.mirror.policy.prefix
        for hint in hints:
            if not hint.path:
                self.request_full(max(self._clock(), self.policy.hints_at))
                continue
            path, subtree = self.mirror.settings.rules.taken_as(hint.path, subtree=hint.subtree)
            keys.append((prefix + path, subtree))
            # A change of the file or folder that a link leads to or through is a change of the link's file.
            keys += [(prefix + normal(link), False) for link in self.mirror.tree.links.at(hint.path)]
        if keys:
            try:
                with writable():
                    self.mirror.queue.mark(keys, self.mirror.now())
            except StateHalt:
                # A full pass finds the changes that cannot be marked.
                self.request_full()
            if self.policy.halted_by_folder:
                self.request_full(self._clock() + FOLDER_PAUSE_S)
        self._wake.set()

    def request_full(self, at: float | None = None) -> None:
        """Make a full pass at a time, or as soon as possible."""
        self.full_at = min(self.full_at, self._clock() if at is None else at)
        self._wake.set()

    def state_changed(self) -> None:
        """Check what is due, after another process has written to the state file."""
        self.index.make_due()
        self._wake.set()

    def is_alive(self) -> bool:
        """Return whether the loop has moved lately, or waits because the remote asked for it."""
        return self._clock() - self._moved_at < STALL_S or self._gate.held_s() > 0

    async def run(self) -> None:
        """Serve the mirror until cancelled."""
        while True:
            self._moved_at = self._clock()
            await self._sleep()
            self._moved_at = self._clock()
            try:
                with writable(directory_of(self.mirror.db) / FILE_NAME):
                    await self._serve()
            except (StateDamaged, sqlite3.Error):
                # The daemon replaces a damaged file for all mirrors.
                raise
            except SyncdError as error:
                self._on_error(error)
            except (Exception, asyncio.CancelledError) as error:
                # A cancellation that was not requested comes from a task that was awaited.
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                log.exception("mirror.failed", mirror=self.mirror.name)
                self._on_error(Unexpected(f"unexpected {type(error).__name__}; the log has the traceback: report it"))

    # -- the loop

    async def _sleep(self) -> None:
        """Wait until something is due and the pause after a failure is over."""
        while True:
            self._wake.clear()
            now, keys_at = self._clock(), math.inf
            if self.policy.serves_keys and (wait := self.mirror.queue.next_due(self.mirror.now())) is not None:
                keys_at = now + wait
            index_at = self.index.due_at if self.policy.serves_keys else math.inf
            wait = seconds_until_due(now, self.full_at, keys_at, index_at, self.policy.retry_at)
            if wait <= 0:
                return
            # Waking up now and then proves that the loop is alive. No wait_for: in Python 3.11 it swallows a
            # cancellation that arrives together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, STALL_S / 2)):
                    await self._wake.wait()
            self._moved_at = self._clock()

    async def _serve(self) -> None:
        """Do what is due: a full pass or a pass of single keys, and a poll of the index."""
        now = self._clock()
        if now >= self.full_at:
            self.full_at = math.inf
            held_back = await self._pass(Scope())
            settings = self.mirror.settings
            soon = min(max(settings.settle_max, settings.delete_after), self._interval)
            # Another full pass may have been requested for an earlier time meanwhile.
            self.request_full(self._clock() + (soon if held_back else self._interval))
        elif self.policy.serves_keys and (rows := self.mirror.queue.settled(self.mirror.now())):
            try:
                await self._pass(Scope(rows))
            except ScopeTooLarge:
                self.request_full(now)
        if self.policy.serves_keys:
            await self.index.run()

    async def _pass(self, scope: Scope) -> bool:
        """Make a pass. Return whether it held deletes back."""
        self.status.start_pass(self._clock(), hidden=self.policy.hides_progress(moved=False))
        # The rows of a partial pass stay due until its end, so serving pending rows meanwhile would serve them twice.
        preemption = Preemption(self._serve_pending, self._has_pending) if scope.everything else Preemption()
        try:
            result = await reconcile(self.mirror, scope, self._options, Hooks(preemption, self._on_progress))
        finally:
            if self._result:
                self._result.tables.drop()
                self._result = None
        halt = self.policy.on_success(everything=scope.everything)
        wrote_nothing = not scope.everything and result.waiting > 0 and not result.done.total()
        self.index.start_over(keep_pauses=wrote_nothing)
        self.status.set("halted" if halt else "idle", halt)
        return result.held_back

    def _on_progress(self, result: Result) -> None:
        """Show how much of the pass is left."""
        self._moved_at = self._clock()
        self._result = result
        moved = result.done.total() > 0
        self.policy.on_progress(moved=moved)
        self.status.update_pass(result, self._moved_at, hidden=self.policy.hides_progress(moved=moved))

    async def _serve_pending(self) -> None:
        """Serve settled keys and poll the index while a full pass is under way."""
        rows: list[Dirty] = self.mirror.queue.settled(self.mirror.now())
        self._has_pending.reset()
        if rows:
            try:
                result = await reconcile(self.mirror, Scope(rows), self._options)
            except ScopeTooLarge:
                self.request_full()
            except Brake as error:
                # The full pass under way, or the next one, judges the deletes of all keys together.
                log.info("delete.refused", mirror=self.mirror.name, why=str(error))
                self.request_full(self._clock() + FOLDER_PAUSE_S)
            else:
                result.tables.drop()
        self.index.expect()
        try:
            await self.index.run()
        except Retry as error:
            # The full pass goes on. It fails by itself if the remote is out of reach.
            log.info("index.look_failed", mirror=self.mirror.name, why=str(error))

    def _on_error(self, error: SyncdError) -> None:
        now = self._clock()
        response = self.policy.on_error(error, now, self.mirror.chance())
        if response.state == "degraded":
            pause = round(response.full_at - now, 1)
            log.warning("mirror.degraded", mirror=self.mirror.name, why=str(error), retry_s=pause)
        elif response.log:
            log.error("mirror.halted", mirror=self.mirror.name, why=str(error))
        self.status.set(response.state, str(error))
        self.request_full(response.full_at)


def _is_cancelled() -> bool:
    """Return whether the cancellation of the current task was requested."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
