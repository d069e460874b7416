"""Keeps one mirror in step: one serial loop that decides when to make a pass, and over which keys.

The worker holds an object for each duty: the reaction to errors, the state that is shown, and the polls of the index.
"""

import asyncio
import contextlib
import math
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace

import structlog

from syncd.cloudflare.gate import Gate
from syncd.core.errors import Brake, PlanChanged, Retry, StateDamaged, StateHalt, SyncdError, is_shortage
from syncd.core.keys import normal
from syncd.core.model import Hint
from syncd.core.requests import reporting_to
from syncd.service.error_policy import ErrorPolicy
from syncd.state.directory import FILE_NAME, directory_of, writable
from syncd.state.queue import Dirty
from syncd.sync.index import IndexFollowup
from syncd.sync.mirror import Hooks, Mirror, PassOptions, Result, Scope
from syncd.sync.mirror_status import MirrorStatus, Pace
from syncd.sync.observe import ScopeTooLarge
from syncd.sync.once import Report
from syncd.sync.reconcile import reconcile

log = structlog.get_logger()

STALL_S = 900.0
"""A loop counts as stuck if it has neither finished a step nor waited for its next one for so long."""
PENDING_PAUSE_S = 0.05
"""Seconds between two breaks of a long pass for changed keys. Keys whose deletes are refused stay due."""
POLL_SHARE = 0.03
"""Minimum share of the budget for a poll of the index, which takes about 25 requests after a long pass."""
LONGEST_WAIT_S = 5.0
"""Maximum seconds that one request of a pass waits because the remote asks it alone to wait. Edits wait with it."""
FOLDER_PAUSE_S = 10.0
"""Minimum seconds between two full passes of a halted mirror whose folder changes."""


@dataclass(frozen=True, slots=True)
class RequestedPass:
    """A pass that a person asked for. make: makes it. everything: it is a full pass. report: gets its result."""

    make: Callable[[], Awaitable[Report]]
    everything: bool
    report: asyncio.Future[Report]

    def fail(self, error: BaseException) -> None:
        """Pass the error to the caller that waits for the report, if it still waits."""
        if isinstance(error, asyncio.CancelledError):
            self.report.cancel()
        elif not self.report.done():
            self.report.set_exception(error)


class MirrorWorker:
    """The loop of one mirror. interval: seconds between full passes.

    full_at: the time of the next full pass, math.inf if none is planned. All times are of the clock of the event loop.
    The class has more than twelve methods, because each step of the loop can change the time of the next full pass.
    """

    def __init__(self, mirror: Mirror, interval: float, gate: Gate) -> None:
        self.mirror = mirror
        self._clock = asyncio.get_running_loop().time
        self.status = MirrorStatus(mirror)
        self.policy = ErrorPolicy(interval, refused=mirror.absences.count() > 0)
        self.full_at = math.inf
        self.index = IndexFollowup(mirror, self._clock)
        self._interval = interval
        self._gate = gate
        self._pace = Pace(mirror.target.requests, gate.seconds_for, gate.own_time)
        self._wake = asyncio.Event()
        self._moved_at = self._clock()
        self._options = PassOptions(delete_after=mirror.settings.delete_after)
        self._result: Result | None = None
        self._requested: deque[RequestedPass] = deque()
        self._pending_from = 0.0

    # -- called by others

    def hint(self, hints: Iterable[Hint]) -> None:
        """Mark where something happened. A hint on the whole root plans a full pass."""
        keys = []
        prefix = self.mirror.policy.prefix
        for hint in hints:
            if not hint.path:
                self.request_full(max(self._clock(), self.policy.hints_at))
                continue
            path, subtree = self.mirror.settings.rules.path_to_observe(hint.path, subtree=hint.subtree)
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

    async def run_requested(self, make: Callable[[], Awaitable[Report]], *, everything: bool = True) -> Report:
        """Let the loop make a pass that a person asked for, as soon as its present pass is over. Return its report.

        everything: it is a full pass. Raises the errors of `make`, and CancelledError if the loop ends before.
        """
        requested = RequestedPass(make, everything, asyncio.get_running_loop().create_future())
        self._requested.append(requested)
        self._wake.set()
        return await requested.report

    def state_changed(self) -> None:
        """Check for due keys after another process has written to the state file."""
        self.index.make_due()
        if self.policy.halted_by_target and self.mirror.journal.reindexing.requested():
            # A person has asked to try refused files again.
            self.request_full()
        self._wake.set()

    def is_alive(self) -> bool:
        """Return whether the loop has moved lately, or waits for the rate limits."""
        return self._clock() - self._moved_at < STALL_S or self._gate.held_s() > 0 or self._gate.waiting_s > 0

    async def run(self) -> None:
        """Serve the mirror until cancelled."""
        try:
            await self._run()
        finally:
            for requested in self._requested:
                requested.report.cancel()

    async def _run(self) -> None:
        while True:
            self._moved_at = self._clock()
            await self._sleep()
            self._moved_at = self._clock()
            try:
                with writable(directory_of(self.mirror.db) / FILE_NAME), reporting_to(self.status.contact):
                    await self._serve()
            except (StateDamaged, sqlite3.Error):
                # The daemon replaces a damaged file for all mirrors.
                raise
            except SyncdError as error:
                self._on_error(error)
            except (Exception, asyncio.CancelledError) as error:
                # A cancellation that was not requested comes from a task that was awaited.
                if isinstance(error, asyncio.CancelledError) and is_cancelled():
                    raise
                if is_shortage(error):
                    self._on_error(SyncdError(f"{error}; raise the limits of open files, threads or memory"))
                    continue
                log.exception("mirror.failed", mirror=self.mirror.name)
                self._on_error(SyncdError(f"unexpected {type(error).__name__}; the log has the traceback: report it"))

    # -- the loop

    async def _sleep(self) -> None:
        """Wait until something is due and the pause after a failure is over."""
        while not self._requested:
            self._wake.clear()
            now, keys_at = self._clock(), math.inf
            if self.policy.serves_keys and (wait := self.mirror.queue.next_due(self.mirror.now())) is not None:
                keys_at = now + wait
            index_at = self.index.due_at if self.policy.serves_keys else math.inf
            wait = max(min(self.full_at, keys_at, index_at), self.policy.retry_at) - now
            if wait <= 0:
                return
            # Each wake-up shows `is_alive` that the loop works. No wait_for: in Python 3.11 it swallows a cancellation
            # that arrives together with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(wait, STALL_S / 2)):
                    await self._wake.wait()
            self._moved_at = self._clock()

    async def _serve(self) -> None:
        """Do the due work: a requested pass, a full pass, a pass over single keys, a poll of the index."""
        if self._requested:
            await self._serve_requested(self._requested.popleft())
            return
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
            await self._poll_index()

    async def _serve_requested(self, requested: RequestedPass) -> None:
        """Make a pass that a person asked for. A full pass counts as one of this loop."""
        before = self.status.shown.state, self.status.shown.detail
        self.status.start_pass()
        try:
            report = await requested.make()
        except BaseException as error:
            requested.fail(error)
            if not isinstance(error, SyncdError):
                raise
            # The pass could not be made. This does not change the state of the mirror.
            self.status.set(*before)
            return
        if not requested.report.done():
            requested.report.set_result(report)
        if isinstance(report.error, PlanChanged):
            self.status.set(*before)
            return
        if requested.everything:
            self.full_at = math.inf
        if report.error:
            self._on_error(report.error)
            return
        was_halted = not self.policy.serves_keys
        halt = self.policy.on_success(everything=requested.everything)
        self.index.start_over(keep_pauses=False)
        self.status.set("halted" if halt else "idle", halt)
        if requested.everything:
            self.request_full(self._clock() + self._interval)
        elif was_halted:
            # The queue does not contain all keys that the halt delayed.
            self.request_full()

    async def _pass(self, scope: Scope) -> bool:
        """Make a pass. Return whether it held deletes back."""
        is_halted = self.status.shown.state == "halted"
        self.status.start_pass(hidden=self.policy.hides_progress(halted=is_halted, acted=False))
        # The rows of a partial pass stay due until its end, so serving pending rows meanwhile would serve them twice.
        hooks = Hooks(on_progress=self._on_progress, longest_wait_s=LONGEST_WAIT_S)
        if scope.everything:
            hooks = replace(hooks, serve_pending=self._serve_pending, has_pending=self._has_pending, bulk=True)
        try:
            result = await reconcile(self.mirror, scope, self._options, hooks)
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
        self._moved_at = self._clock()
        self._result = result
        is_halted = self.status.shown.state == "halted"
        hidden = self.policy.hides_progress(halted=is_halted, acted=result.done.total() > 0)
        self.status.update_pass(result, self._pace.look(result), hidden=hidden)

    def _has_pending(self) -> bool:
        """Return whether changed keys are due while a full pass is under way. It is called before every upload."""
        return self._clock() >= self._pending_from and self.mirror.queue.has_due(self.mirror.now())

    async def _serve_pending(self) -> None:
        """Serve settled keys and poll the index while a full pass is under way."""
        rows: list[Dirty] = self.mirror.queue.settled(self.mirror.now())
        self._pending_from = self._clock() + PENDING_PAUSE_S
        if rows:
            try:
                result = await reconcile(self.mirror, Scope(rows), self._options, Hooks(longest_wait_s=LONGEST_WAIT_S))
            except ScopeTooLarge:
                self.request_full()
            except Brake as error:
                # The present or next full pass decides about the deletes of all keys together.
                log.info("delete.refused", mirror=self.mirror.name, why=str(error))
                self.request_full(self._clock() + FOLDER_PAUSE_S)
            else:
                result.tables.drop()
        self.index.expect()
        try:
            # The pass needs the second half of the budget.
            await self._poll_index(least_left=0.5)
        except Retry as error:
            # The full pass goes on. It fails by itself if the remote is out of reach.
            log.info("index.look_failed", mirror=self.mirror.name, why=str(error))

    async def _poll_index(self, least_left: float = POLL_SHARE) -> None:
        """Poll the index if it is time, unless less than this share of the budget is left for more urgent requests."""
        if self._gate.share_left < least_left:
            self.index.postpone()
        else:
            await self.index.run()

    def _on_error(self, error: SyncdError) -> None:
        now = self._clock()
        response = self.policy.on_error(error, now, self.mirror.chance())
        if response.state == "degraded":
            pause = round(response.full_at - now, 1)
            log.warning("mirror.degraded", mirror=self.mirror.name, why=str(error), retry_s=pause)
        elif response.log:
            log.error("mirror.halted", mirror=self.mirror.name, why=str(error))
        self.status.set(response.state, str(error), retry_at=response.full_at)
        self.request_full(response.full_at)


def is_cancelled() -> bool:
    """Return whether the cancellation of the current task was requested."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
